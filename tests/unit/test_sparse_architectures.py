"""The whole way of SparseBERT on each kind of encoder: random weights, a few texts, heads and neurons really gone."""

from pathlib import Path

import numpy as np
import pytest

from raysweep.recipe import configure, find
from tests.text_models import byte_level, encoder_folder, opinions, trial_of
from trainables import sparse_bert
from trainables.parts import sparse_predictor
from trainables.parts.task_data import TaskDataSettings, read_examples

HALF = {"pruning.target": "heads+neurons+weights", "pruning.importance": "taylor", "pruning.scope": "global"}
BRIEF = {
    "data.train_rows": 32,
    "encoder.max_length": 24,
    "train.batch_size": 16,
    "train.epochs": 1,
    "dense.epochs": 0,
    "measure.repeats": 5,
    "measure.memory": False,
}
INNER = {"distilbert": "hidden_dim", "gpt2": "n_inner"}


PLAIN = ["bert", "distilbert", "roberta", "gpt_neox", "electra"]
CASES = [
    *((kind, "none") for kind in PLAIN),
    ("gpt2", "static_int8"),
    pytest.param("modernbert", "static_int8", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("kind", "quantise"), CASES)
def test_a_pruned_model_of_every_kind_is_served_as_it_was_scored(kind: str, quantise: str, tmp_path: Path) -> None:
    tokenizer = byte_level([row["sentence"] for row in opinions(40)]) if kind in ("roberta", "gpt2") else None
    sizes = {"num_attention_heads": 4, INNER.get(kind, "intermediate_size"): 24}
    name = encoder_folder(tmp_path / "encoder", kind, tokenizer, **sizes)
    config = configure(find("sparse_bert"), BRIEF | HALF | {"encoder.name": name, "quantise.kind": quantise})
    sparse_bert.inspect(config)
    trial = trial_of(tmp_path, config)
    *_, last = sparse_bert.train(trial)
    assert (last.metrics["sparsity.heads"], last.metrics["sparsity.neurons"]) == (0.5, 0.5)
    state = last.state()
    found = sparse_bert.evaluate(trial, state)
    card = sparse_bert.export(trial, state, tmp_path / "model")
    assert found.metrics["removal.difference"] < 1e-4
    assert card["nonzero"] < card["parameters"]
    answers = sparse_predictor.load(tmp_path / "model")(read_examples(TaskDataSettings(), "report").texts)
    assert np.array_equal(np.asarray(answers).argmax(1), found.predictions)
