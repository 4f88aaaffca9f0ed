"""A task's examples as a model takes them: targets, order of pairs, and pooled states that are stored once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysweep.trial import Trial
from tests.multitask_inputs import OTHERS, TEXTS, config_of, inputs_of, model_of, new_encoder
from tests.text_models import moved
from trainables.parts.batches import tokens_of
from trainables.parts.multitask import inputs as under_test
from trainables.parts.multitask.inputs import (
    all_inputs,
    batch_vectors,
    load_inputs,
    rested,
    sentence_vectors,
    stored_pools,
)
from trainables.parts.multitask.settings import VectorSettings

SHAPES: dict[str, dict[str, Any]] = {
    "mean": {},
    "max": {"kind": "max"},
    "gated": {"kind": "cls+mean", "combine": "gated"},
    "projected": {"kind": "cls+mean", "projection": 8, "activation": "tanh", "layer_norm": True},
}
EVERY = np.arange(len(TEXTS))


def all_vectors(model: Any, inputs: Any, rows: Any = EVERY) -> list[torch.Tensor]:
    return [side for side in batch_vectors(model, inputs, rows, "cpu") if side is not None]


@pytest.mark.parametrize(
    ("task", "loss", "kind", "expected"),
    [
        ("sst2", None, torch.int64, [0, 1, 0, 1, 0]),
        ("sst2", "binary", torch.float32, [0.0, 1.0, 0.0, 1.0, 0.0]),
        ("mnli", None, torch.int64, [0, 1, 2, 0, 1]),
        ("stsb", None, torch.float32, [0.0, 0.2, 0.4, 0.6, 0.8]),
        ("stsb", "squared", torch.float32, [0.0, 0.2, 0.4, 0.6, 0.8]),
    ],
)
def test_targets_are_what_the_loss_takes(tmp_path: Path, task: str, loss: Any, kind: Any, expected: Any) -> None:
    inputs = inputs_of(tmp_path, task, loss)
    assert inputs.targets.dtype == kind
    assert torch.equal(inputs.targets, torch.tensor(expected, dtype=kind))


@pytest.mark.parametrize("task", ["sst2", "mnli", "stsb"])
def test_each_text_is_tokenised_alone_first_ones_before_second_ones(tmp_path: Path, task: str) -> None:
    inputs, encoder = inputs_of(tmp_path, task), new_encoder()
    texts = [f"{text} 0" for text in (TEXTS if task == "sst2" else TEXTS + OTHERS)]
    alone = [tokens_of(encoder.tokenizer, [text], 32).ids.tolist() for text in texts]
    assert [ids.tolist() for ids in np.split(inputs.tokens.ids, inputs.tokens.starts[1:])] == alone
    assert inputs.tokens.types is None
    longest = (
        list(map(len, alone))
        if task == "sst2"
        else [max(map(len, pair)) for pair in zip(alone[:5], alone[5:], strict=True)]
    )
    assert inputs.lengths.tolist() == longest
    rows = np.array([3, 0])
    assert inputs.rows_of_texts(rows).tolist() == ([3, 0] if task == "sst2" else [3, 0, 8, 5])


def test_a_text_is_cut_at_what_the_encoder_takes(tmp_path: Path) -> None:
    config = config_of(tmp_path, sst2=None)
    assert load_inputs(config, "sst2", "train", new_encoder(max_length=6), "cpu").lengths.max() == 6


def test_every_split_has_its_own_texts_and_a_further_one_too(tmp_path: Path) -> None:
    splits: list[tuple[Any, str | None]] = [
        ("train", None), ("select", None), ("report", None), ("report", "validation_mismatched")
    ]  # fmt: skip
    found = [inputs_of(tmp_path, "mnli", None, split, also).examples.first[0] for split, also in splits]
    assert found == [f"the old dog {n}" for n in range(4)]


@pytest.mark.parametrize("task", ["sst2", "stsb"])
def test_pools_are_made_once_for_all_trials(tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, real = [], under_test.token_states
    monkeypatch.setattr(under_test, "token_states", lambda *given: calls.append(1) or real(*given))
    found = []
    for _ in range(2):
        inputs, encoder = inputs_of(tmp_path, task), new_encoder()
        encoder.model.train()  # whose dropout must not be in what is stored
        found.append(stored_pools(inputs, encoder, ("cls", "mean"), tmp_path / "shared", "cpu", size=3))
    batches = -(-len(inputs.tokens) // 3)
    assert len(calls) == batches, "the second trial asks the encoder for nothing"
    assert torch.equal(*found)
    (file,) = (tmp_path / "shared").glob("*.npy")
    stored = np.load(file)
    assert (stored.shape, stored.dtype) == ((len(inputs.tokens), 2 * encoder.hidden), np.float32)
    assert found[0].shape == (len(inputs.tokens), 2, encoder.hidden)
    encoder.model.eval()
    again = stored_pools(inputs, encoder, ("cls", "mean"), tmp_path / "elsewhere", "cpu")
    assert torch.allclose(found[0], again, atol=1e-5)


def test_what_a_trial_does_to_its_pools_reaches_no_other(tmp_path: Path) -> None:
    inputs = inputs_of(tmp_path, "sst2")
    pools = stored_pools(inputs, new_encoder(), ("mean",), tmp_path, "cpu")
    before = pools.clone()
    pools.zero_()
    assert torch.equal(stored_pools(inputs, new_encoder(), ("mean",), tmp_path, "cpu"), before)


def test_other_encoders_pools_and_texts_have_files_of_their_own(tmp_path: Path) -> None:
    inputs, shared = inputs_of(tmp_path, "sst2"), tmp_path / "shared"
    kinds: list[Any] = [("mean",), ("cls",), ("cls", "mean"), ("mean", "cls")]
    for kind in kinds:
        stored_pools(inputs, new_encoder(), kind, shared, "cpu")
    for encoder in (new_encoder(1), new_encoder(layers=1), new_encoder(max_length=20)):
        stored_pools(inputs, encoder, ("mean",), shared, "cpu")
    for split in ("select", "report"):
        stored_pools(inputs_of(tmp_path, "sst2", split=split), new_encoder(), ("mean",), shared, "cpu")
    swapped = replace(inputs, examples=inputs.examples.take(EVERY[::-1]))
    stored_pools(swapped, new_encoder(), ("mean",), shared, "cpu")
    assert len(list(shared.glob("*.npy"))) == len(kinds) + 3 + 2 + 1


@pytest.mark.parametrize("task", ["sst2", "stsb"])
@pytest.mark.parametrize("shape", SHAPES)
def test_vectors_of_stored_pools_are_those_through_the_encoder(tmp_path: Path, task: str, shape: str) -> None:
    inputs, encoder = inputs_of(tmp_path, task), new_encoder()
    model = model_of(inputs, encoder, **SHAPES[shape])
    names = model.vector_shape.pools
    kept = replace(inputs, pools=stored_pools(inputs, encoder, names, tmp_path, "cpu", size=2))
    through, stored = (all_vectors(model, one) for one in (inputs, kept))
    assert len(stored) == len(through) == (1 if task == "sst2" else 2)
    for one, other in zip(stored, through, strict=True):
        assert one.shape == (5, model.vector_shape.width)
        assert torch.allclose(one, other, atol=1e-5)
    moved(encoder.model)
    again, trained = (all_vectors(model, one) for one in (kept, inputs))
    assert all(torch.equal(one, other) for one, other in zip(again, stored, strict=True)), "what is stored is taken"
    assert not torch.allclose(trained[0], stored[0], atol=1e-3), "without it the encoder is asked"


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(st.integers(0, 4), min_size=1, max_size=7))
def test_vectors_come_in_the_order_of_the_rows(tmp_path_factory: pytest.TempPathFactory, rows: list[int]) -> None:
    inputs, encoder = inputs_of(tmp_path_factory.getbasetemp(), "stsb"), new_encoder()
    model = model_of(inputs, encoder)
    with torch.no_grad():
        sides = all_vectors(model, inputs, np.array(rows))
        texts = [f"{text} 0" for text in TEXTS], [f"{text} 0" for text in OTHERS]
        for side, own in zip(sides, texts, strict=True):
            alone = sentence_vectors(model.tower("stsb"), encoder, own, "cpu", size=1)
            assert np.abs(side.numpy() - alone[rows]).max() < 1e-5


def test_what_stands_behind_stored_pools_learns(tmp_path: Path) -> None:
    inputs, encoder = inputs_of(tmp_path, "stsb", "squared"), new_encoder()
    model = model_of(inputs, encoder, kind="cls+mean", projection=8)
    kept = replace(inputs, pools=stored_pools(inputs, encoder, ("cls", "mean"), tmp_path, "cpu"))
    model.answer("stsb", *batch_vectors(model, kept, EVERY, "cpu")).sum().backward()
    behind = [*model.tower("stsb").vector.parameters(), *model.heads.parameters()]
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in behind)
    assert all(weight.grad is None for weight in encoder.model.parameters())


def test_vectors_of_any_texts_are_without_dropout_and_gradient(tmp_path: Path) -> None:
    inputs, encoder = inputs_of(tmp_path, "sst2"), new_encoder()
    model = model_of(inputs, encoder, projection=8).train()
    one, other = (sentence_vectors(model.tower("sst2"), encoder, TEXTS, "cpu", size) for size in (2, 64))
    assert not model.tower("sst2").training
    assert (one.shape, one.dtype) == ((5, 8), np.float32)
    assert np.abs(one - other).max() < 1e-5


def trial_of(path: Path, **losses: Any) -> Trial:
    return Trial("t0000", config_of(path, **losses), 0, path, path / "shared")


@pytest.mark.parametrize("split", ["train", "select", "report"])
def test_a_split_of_every_task_is_loaded_by_its_name(tmp_path: Path, split: Any) -> None:
    trial, encoder = trial_of(tmp_path, stsb=None, sst2="binary"), new_encoder()
    found = all_inputs(trial, encoder, split)
    assert list(found) == ["stsb", "sst2"]
    for name, inputs in found.items():
        alone = load_inputs(trial.config, name, split, encoder, "cpu")
        assert (inputs.name, inputs.examples, inputs.pools) == (name, alone.examples, None)
        assert inputs.settings is trial.config.tasks[name]
        assert inputs.targets.equal(alone.targets)
    assert found["stsb"].examples.first[0] == f"the old dog {['train', 'select', 'report'].index(split)}"


@pytest.mark.parametrize("kind", ["mean", "cls+mean"])
def test_an_encoder_that_rests_gives_every_task_its_pools(tmp_path: Path, kind: Any) -> None:
    trial, encoder = trial_of(tmp_path, stsb=None, sst2=None), new_encoder()
    trial = replace(trial, config=trial.config.model_copy(update={"pooling": VectorSettings(kind=kind)}))
    loaded = all_inputs(trial, encoder, "train")
    found = rested(trial, encoder, loaded, resting=True)
    for name, inputs in found.items():
        assert inputs.pools is not None
        assert replace(inputs, pools=None) == loaded[name]
        expected = stored_pools(loaded[name], encoder, trial.config.pooling.pools, tmp_path / "elsewhere", "cpu")
        assert torch.equal(inputs.pools, expected)
    assert len(list(trial.shared.glob("*.npy"))) == 2
    again = rested(trial, encoder, found, resting=True)
    assert all(again[name].pools is inputs.pools for name, inputs in found.items()), "nothing is read twice"


def test_pools_of_an_encoder_that_learns_are_dropped(tmp_path: Path) -> None:
    trial, encoder = trial_of(tmp_path, stsb=None, sst2=None), new_encoder()
    loaded = all_inputs(trial, encoder, "train")
    assert rested(trial, encoder, loaded, resting=False) == loaded
    assert not trial.shared.exists(), "nothing is made for an encoder that learns"
    thawed = rested(trial, encoder, rested(trial, encoder, loaded, resting=True), resting=False)
    assert thawed == loaded
