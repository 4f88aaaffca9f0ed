"""What is particular to the DendriticBERT recipe: sizes told truly, where dendrites grow, rates, controls, messages."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from pydantic import ValidationError
from safetensors.torch import save_file

from raysweep.problems import UserError
from raysweep.recipe import configure, find
from raysweep.trial import Report, Trial
from trainables import dendritic_bert
from trainables.parts import text_build
from trainables.parts.dendrites.layer import DendriticLayer
from trainables.parts.encoders import count
from trainables.parts.packed import pack

Flat = dict[str, Any]
TINY: Flat = {"data.train_rows": 64, "train.epochs": 3, "train.lr": 3e-3, "train.batch_size": 16}
DSN: Flat = TINY | {"encoder.layers": 0}
GROWING: Flat = {"dendrites.enabled": True, "dendrites.switch": "fixed", "dendrites.every": 1, "dendrites.max_tries": 9}
# The published bert-tiny: https://huggingface.co/prajjwal1/bert-tiny; its config.json names no architecture.
BERT_TINY = {
    "hidden_size": 128,
    "hidden_act": "gelu",
    "initializer_range": 0.02,
    "vocab_size": 30522,
    "hidden_dropout_prob": 0.1,
    "num_attention_heads": 2,
    "type_vocab_size": 2,
    "max_position_embeddings": 512,
    "num_hidden_layers": 2,
    "intermediate_size": 512,
    "attention_probs_dropout_prob": 0.1,
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def trial(tmp_path: Path, shared: Path) -> Any:
    def make(flat: Flat, **changes: Any) -> Trial:
        config = configure(find("dendritic_bert"), flat)
        return replace(Trial("t0000", config, 1, tmp_path, shared), **changes)

    return make


@pytest.fixture(scope="module")
def bert_tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the published bert-tiny's configuration, vocabulary size and file names; weights drawn here."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(BERT_TINY))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    rest = [f"[unused{number}]" for number in range(30522 - len(words))]
    (folder / "vocab.txt").write_text("\n".join([*words, *rest]) + "\n")
    model = transformers.BertModel(transformers.BertConfig(**BERT_TINY))
    save_file({f"bert.{name}": tensor for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    return str(folder)


def column(reports: list[Report], metric: str) -> list[float]:
    return [report.metrics[metric] for report in reports]


def model_of(trial: Trial) -> Any:
    return dendritic_bert.build(trial, text_build.new_encoder(trial.config, trial.seed))[0]


def test_the_published_sizes_are_told_as_they_are(bert_tiny: str, trial: Any) -> None:
    def first_report(flat: Flat) -> dict[str, float]:
        (report,) = dendritic_bert.train(trial({"encoder.name": bert_tiny, "train.epochs": 0, **flat}))
        return report.metrics

    whole = first_report({"model.pooling": "cls", "model.pooler": True})
    assert whole["size.parameters"] == 4_386_178
    assert whole["size.parameters"] - whole["size.without_embeddings"] == 3_972_864
    assert whole["size.reduction"] == whole["size.reduction_without_embeddings"] == 0
    dsn = first_report({"encoder.layers": 0})
    assert dsn["size.parameters"] == 3_973_122
    assert round(100 * dsn["size.reduction"], 1) == 9.4  # published: 88.9
    assert round(100 * dsn["size.reduction_without_embeddings"], 1) == 99.9
    assert dsn["size.bytes"] == 4 * 3_973_122
    assert dsn["size.bytes_reduction"] == dsn["size.reduction"]
    tied = first_report({"encoder.layers": 0, "embedding.kind": "tied", "embedding.rows": 1000})
    assert tied["size.bytes"] == 4 * tied["size.parameters"] + 4 * 30522  # which row each token has
    ranked = first_report({"encoder.layers": 0, "embedding.kind": "factorised", "embedding.rank": 32})
    assert dsn["size.parameters"] - ranked["size.parameters"] == 30522 * 128 - (30522 * 32 + 32 * 128)


def test_published_files_are_read_with_the_pooler_that_they_bring(bert_tiny: str, trial: Any) -> None:
    flat = {"encoder.name": bert_tiny, "model.pooling": "cls", "model.pooler": True}
    one, other = model_of(trial(flat)), model_of(trial(flat, seed=2))
    assert torch.equal(one.pooler.weight, other.pooler.weight)
    assert not torch.equal(one.head.classifier.weight, other.head.classifier.weight)


def test_the_seed_decides_a_pooler_that_the_files_lack(trial: Any) -> None:
    flat = {"model.pooling": "cls", "model.pooler": True}
    one, again, other = (model_of(trial(flat, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(one.pooler.weight, again.pooler.weight)
    assert not torch.equal(one.pooler.weight, other.pooler.weight)


@pytest.mark.parametrize(
    ("flat", "added"),
    [
        (DSN | {"model.hidden": 16, "dendrites.target": "hidden"}, 64 * 16 + 16 + 16),
        (DSN | {"dendrites.target": "classifier"}, 64 * 2 + 2 + 2),
        # The last is a whole layer: query, key, value, output; two of the feed-forward; and the classifier.
        (
            TINY | {"encoder.layers": 1, "dendrites.target": "all_linear"},
            4 * (64 * 64 + 128) + (64 * 256 + 512) + (256 * 64 + 128) + (64 * 2 + 4),
        ),
    ],
    ids=["hidden", "classifier", "all_linear"],
)
def test_dendrites_grow_where_they_are_told_to(flat: Flat, added: int, trial: Any) -> None:
    run = dendritic_bert.begin(trial(flat | GROWING | {"dendrites.max_dendrites": 2}))
    before = run.growth.parameters()
    assert run.growth.report(0.5) == "grown"
    assert run.growth.parameters() == before + added


def test_every_dendritic_layer_takes_part_in_every_pass(trial: Any) -> None:
    run = dendritic_bert.begin(trial(TINY | GROWING | {"dendrites.target": "all_linear", "encoder.layers": 2}))
    run.growth.report(0.5)
    layers = [part for part in run.model.modules() if isinstance(part, DendriticLayer)]
    assert len(layers) == 2 * 6 + 1
    called: list[Any] = []
    for layer in layers:
        layer.register_forward_hook(lambda layer, inputs, output: called.append((layer, output.shape)))
    for mode in (True, False):
        called.clear()
        with torch.inference_mode():
            run.model.train(mode)(pack(run.train.tokens, np.arange(4)))
        assert {id(layer) for layer, _ in called} == set(map(id, layers))
        assert {len(shape) for _, shape in called} == {2, 3}  # the classifier's rows, and tokens in their texts


def test_dendrites_in_the_layers_change_what_comes_out(trial: Any) -> None:
    run = dendritic_bert.begin(trial(TINY | GROWING | {"dendrites.target": "all_linear", "encoder.layers": 1}))
    texts = pack(run.select.tokens, np.arange(8))
    with torch.inference_mode():
        before = run.model.eval()(texts)
        run.growth.report(0.5)
        assert torch.equal(run.model.eval()(texts), before)  # a new dendrite has no effect yet
        for layer in run.model.modules():
            if isinstance(layer, DendriticLayer):
                layer.dendrites[0].top.fill_(0.5)
        after = run.model.eval()(texts)
        assert (after - before).abs().max() > 1e-3
        assert (run.growth.plain().eval()(texts) - after).abs().max() < 1e-6


def test_growth_really_happens_and_is_reported(trial: Any) -> None:
    flat = DSN | GROWING | {"model.hidden": 16, "train.epochs": 4, "train.lr": 1e-2, "dendrites.max_dendrites": 2}
    reports = list(dendritic_bert.train(trial(flat)))
    assert max(column(reports, "epoch.dendrites")) == 2
    for report in reports:
        kept = int(report.metrics["dendrites"])
        grown = kept * (64 * 16 + 2 * 16) + 16 * kept * (kept - 1) // 2
        assert report.metrics["size.without_embeddings"] == 64 * 16 + 16 + 16 * 2 + 2 + grown


def test_the_tracker_of_perforatedai_is_called_and_grows(trial: Any) -> None:
    pytest.importorskip("perforatedai")
    flat = DSN | GROWING | {"dendrites.backend": "perforatedai", "dendrites.every": 2, "train.epochs": 6}
    reports = list(dendritic_bert.train(trial(flat | {"model.hidden": 16, "train.lr": 1e-2})))
    assert max(column(reports, "epoch.dendrites")) >= 1
    assert max(column(reports, "dendrites")) >= 1
    plain = 64 * 16 + 16 + 16 * 2 + 2
    for report in reports:
        if report.metrics["dendrites"] == 1:
            assert report.metrics["size.without_embeddings"] == plain + 64 * 16 + 2 * 16


def test_perforatedai_grows_in_all_linear_layers(trial: Any) -> None:
    pytest.importorskip("perforatedai")
    flat = (
        TINY | GROWING | {"dendrites.backend": "perforatedai", "dendrites.every": 2, "dendrites.target": "all_linear"}
    )
    reports = list(dendritic_bert.train(trial(flat | {"encoder.layers": 1, "train.epochs": 4})))
    assert max(column(reports, "epoch.dendrites")) == 1


@pytest.mark.parametrize("dendrites", [1, 2, 5])
def test_the_control_has_as_many_parameters_as_the_dendrites(dendrites: int, trial: Any) -> None:
    run = dendritic_bert.begin(trial(DSN | GROWING | {"model.hidden": 16, "dendrites.max_dendrites": 9}))
    for score in range(dendrites):
        assert run.growth.report(float(score)) == "grown"
    matched = model_of(trial(DSN | {"model.hidden": 16, "model.matched_dendrites": dendrites}))
    assert abs(count(matched) - run.growth.parameters()) <= (64 + 1 + 2) / 2


def test_each_part_learns_at_its_own_rate(trial: Any) -> None:
    flat = TINY | GROWING | {"model.hidden": 8, "train.embeddings_lr_multiplier": 0.5, "train.head_lr_multiplier": 4.0}
    run = dendritic_bert.begin(trial(flat | {"dendrites.lr_multiplier": 3.0}))
    run.growth.report(0.5)
    run.optimizer = dendritic_bert.optimizer_after_growth(run)
    rates = {name: group["lr"] / 3e-3 for group in run.optimizer.param_groups for name in group["param_names"]}
    assert rates["encoder.embeddings.word_embeddings.weight"] == pytest.approx(0.5)
    assert rates["encoder.encoder.layer.0.output.dense.weight"] == pytest.approx(1.0)
    assert rates["head.classifier.weight"] == pytest.approx(4.0)
    assert rates["head.hidden.core.weight"] == pytest.approx(4.0)
    assert rates["head.hidden.dendrites.0.top"] == pytest.approx(12.0)


def test_a_frozen_table_stays_and_the_rest_learns(trial: Any) -> None:
    run = dendritic_bert.begin(trial(DSN | {"embedding.freeze": True}))
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    dendritic_bert.train_epoch(run)
    moved = {name for name, value in run.model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"head.classifier.weight", "head.classifier.bias"}


def test_without_layers_a_step_touches_the_rows_of_its_own_words_alone(trial: Any) -> None:
    run = dendritic_bert.begin(trial(DSN | {"data.train_rows": 8, "train.weight_decay": 0.1}))
    before = run.model.encoder.embeddings.word_embeddings.weight.detach().clone()
    dendritic_bert.train_epoch(run)
    moved = (run.model.encoder.embeddings.word_embeddings.weight != before).any(1).nonzero()[:, 0]
    assert set(moved.tolist()) == set(run.train.tokens.ids.tolist())


def test_micro_batches_make_the_same_step(trial: Any) -> None:
    flat = DSN | {"model.dropout": 0.0, "train.epochs": 1, "train.batch_size": 64, "embedding.freeze": True}
    whole, parts = (dendritic_bert.begin(trial(flat, accumulate=size)) for size in (1, 4))
    for run in (whole, parts):
        dendritic_bert.train_epoch(run)
    for name, weight in whole.model.state_dict().items():
        torch.testing.assert_close(weight, parts.model.state_dict()[name])


def test_the_rate_falls_when_the_score_stops_rising(trial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    flat = DSN | {"train.schedule": "plateau", "train.plateau_patience": 0, "train.epochs": 4}
    told = iter((0.5, 0.4, 0.3, 0.6))
    monkeypatch.setattr(dendritic_bert, "scores", lambda _: {"score": next(told)})
    seen: list[float] = []
    update = dendritic_bert.update
    monkeypatch.setattr(dendritic_bert, "update", lambda run, *rest: (seen.append(run.rate.factor), update(run, *rest)))
    list(dendritic_bert.train(trial(flat)))
    assert seen[::4] == [1.0, 1.0, 0.5, 0.25]


def test_patience_ends_a_plain_trial(trial: Any) -> None:
    reports = list(dendritic_bert.train(trial(DSN | {"train.lr": 1e-12, "train.epochs": 9, "train.patience": 2})))
    assert [report.step for report in reports] == [1, 2, 3]


@pytest.mark.parametrize(
    "task",
    ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli", "imdb", "snli", "ag_news", "trec"],
)
def test_every_task_learns_and_is_scored_by_its_own_metric(task: str, trial: Any) -> None:
    told = dendritic_bert.TASKS[task]  # type: ignore[index]
    job = trial(DSN | {"data.task": task, "train.epochs": 1})
    (report,) = dendritic_bert.train(job)
    assert report.metrics["epoch.score"] == report.metrics[f"epoch.{told.score}"]
    found = dendritic_bert.evaluate(job, report.state())
    assert found.statistic == told.score
    assert set(told.also) <= set(found.others)
    outputs = max(len(told.labels), 1)
    assert report.metrics["size.without_embeddings"] == 64 * outputs + outputs


def test_answers_are_scored_by_their_words_and_exactly(trial: Any) -> None:
    job = trial(TINY | {"data.task": "squad", "encoder.max_length": 48, "spans.stride": 8, "train.epochs": 1})
    (report,) = dendritic_bert.train(job)
    found = dendritic_bert.evaluate(job, report.state())
    assert found.statistic == "mean"
    assert report.metrics["epoch.score"] == report.metrics["epoch.f1"] >= report.metrics["epoch.exact_match"]
    assert set(found.others) == {"exact_match"}
    assert (found.predictions >= found.others["exact_match"].predictions).all()


WRONG = [
    ({"encoder.layers": 0, "model.pooling": "cls"}, "the first token alone is the same for every text"),
    ({"encoder.layers": 0, "model.pooling": "last"}, "a token that knows no other"),
    ({"model.pooler": True, "model.pooling": "mean+max"}, "gives twice that"),
    ({"dendrites.enabled": True}, "needs a hidden layer"),
    ({"dendrites.enabled": True, "dendrites.target": "all_linear", "encoder.layers": 0}, "needs layers"),
    ({"model.matched_dendrites": 2}, "hidden is 0"),
    ({"dendrites.enabled": True, "model.hidden": 8, "model.matched_dendrites": 2}, "a control without dendrites"),
    ({"data.task": "squad", "train.word_dropout": 0.1}, "would move the answers"),
    ({"data.task": "squad", "model.pooler": True}, "are not pooled"),
    ({"data.task": "stsb", "train.label_smoothing": 0.1}, "stsb has none"),
    ({"embedding.rank": 8}, "rank has no effect with kind 'full'"),
    ({"embedding.kind": "factorised"}, "needs rank"),
    ({"embedding.kind": "tied"}, "needs rows"),
    ({"embedding.rows": 8}, "rows has no effect with kind 'full'"),
]


@pytest.mark.parametrize(("flat", "message"), WRONG, ids=[message for _, message in WRONG])
def test_settings_that_do_not_go_together_are_refused(flat: Flat, message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("+", r"\+")):
        configure(find("dendritic_bert"), flat)


UNFIT = [
    ({"embedding.kind": "factorised", "embedding.rank": 64}, "embedding.rank is 64, but the word vectors have only 64"),
    ({"embedding.kind": "tied", "embedding.rows": 10**6}, "embedding.rows is 1000000, but the vocabulary has"),
    ({"embedding.kind": "pruned", "embedding.rows": 3}, "at least"),
    ({"data.task": "squad", "encoder.max_length": 16}, "spans.stride is 32, but windows of encoder.max_length 16"),
    ({"encoder.layers": 9}, "encoder.layers is 9, but 'embedded' allows at most 2"),
    ({"data.train_rows": 10**6}, "data.train_rows is 1000000"),
]


@pytest.mark.parametrize(("flat", "message"), UNFIT, ids=[message for _, message in UNFIT])
def test_what_the_machine_cannot_do_is_said_before_any_trial(flat: Flat, message: str) -> None:
    with pytest.raises(UserError, match=message):
        dendritic_bert.inspect(configure(find("dendritic_bert"), flat))


@pytest.fixture
def bare_encoder(tmp_path: Path) -> str:
    """An encoder of a kind that has neither pooler nor embeddings as wide as itself."""
    folder = tmp_path / "electra"
    source = text_build.load_encoder(text_build.EncoderSettings(), 0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ElectraConfig(vocab_size=len(source.tokenizer), embedding_size=8, **sizes)
    transformers.ElectraModel(config).save_pretrained(folder)
    source.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("flat", "message"),
    [
        ({"model.pooling": "cls", "model.pooler": True}, "of a kind without a pooler"),
        ({"encoder.layers": 0}, "needs embeddings as wide as the encoder"),
    ],
)
def test_encoders_that_lack_a_part_are_refused(flat: Flat, message: str, bare_encoder: str) -> None:
    with pytest.raises(UserError, match=message):
        dendritic_bert.inspect(configure(find("dendritic_bert"), {"encoder.name": bare_encoder, **flat}))
