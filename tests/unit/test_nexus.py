"""What is particular to the NEXUS recipe: which weights are kept, when a trial ends, sizes, controls, and messages."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from raysweep.problems import UserError
from raysweep.recipe import configure, find
from raysweep.trial import Report, Trial
from trainables import nexus
from trainables.parts.adapter import matched_width
from trainables.parts.encoders import load_encoder
from trainables.parts.pairs import all_rows, load_pairs, predict
from trainables.parts.progress import Kept, Progress, fresh, restored
from trainables.parts.scores import spearman

Flat = dict[str, Any]
TINY: Flat = {"data.train_rows": 48, "train.epochs": 3, "train.lr": 3e-3, "train.gap_rows": 16}
FROZEN: Flat = TINY | {"encoder.freeze": "all"}  # the adapter alone learns: milliseconds an epoch
GROWING: Flat = {"dendrites.enabled": True, "dendrites.switch": "fixed", "dendrites.every": 1, "dendrites.max_tries": 9}
H = 64  # width of the embedded encoder


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def trial(tmp_path: Path, shared: Path) -> Any:
    def make(flat: Flat, **changes: Any) -> Trial:
        config = configure(find("nexus"), flat)
        return replace(Trial("t0000", config, 1, tmp_path, shared), **changes)

    return make


def column(reports: list[Report], metric: str) -> list[float]:
    return [report.metrics[metric] for report in reports]


class ToyGrowth:
    """A growth that keeps a score that is higher by more than 0.1, and says what it is told to say."""

    dendrites = 0

    def __init__(self, *actions: str) -> None:
        self.best: float | None = None
        self._actions = iter(actions)

    def report(self, score: float) -> str:
        if self.best is None or score > self.best + 0.1:
            self.best = score
        action = next(self._actions, "go on")
        self.dendrites += action == "grown"
        return action

    def parameters(self) -> int:
        return 100 + 10 * self.dendrites


def test_progress_follows_what_the_growth_keeps() -> None:
    growth: Any = ToyGrowth("go on", "go on", "grown", "go on")
    progress = fresh(growth)
    actions = [progress.judge(growth, score) for score in (0.5, 0.55, 0.3, 0.7)]
    assert actions == ["go on", "go on", "grown", "go on"]
    assert progress.kept == Kept(0.7, 1, 110)
    assert progress.waited == 0
    assert restored(progress.state()) == progress


def test_sizes_are_those_of_the_kept_weights_not_of_what_grew_since() -> None:
    growth: Any = ToyGrowth("grown", "go on")
    progress = fresh(growth)
    progress.judge(growth, 0.5)
    assert growth.dendrites == 1
    assert progress.kept == Kept(0.5, 0, 100)


def test_until_a_growth_keeps_anything_the_weights_of_the_moment_count() -> None:
    growth: Any = ToyGrowth()
    growth.report = lambda score: "go on"  # as perforatedai at first
    progress = fresh(growth)
    for score in (0.6, 0.4):
        progress.judge(growth, score)
    assert progress.kept.score == 0.4


@pytest.mark.parametrize(
    ("waited", "gap", "patience", "max_gap", "enough"),
    [
        (2, 0.0, 2, 0.0, True),
        (1, 0.0, 2, 0.0, False),
        (9, 9.0, 0, 0.0, False),
        (0, 0.3, 0, 0.2, True),
        (0, 0.2, 0, 0.2, False),
    ],
)
def test_rules_that_end_a_trial(waited: int, gap: float, patience: int, max_gap: float, enough: bool) -> None:
    assert Progress(Kept(0.0, 0, 0), waited=waited).enough(patience, gap, max_gap) is enough


def test_the_score_reported_is_that_of_the_weights_kept(trial: Any) -> None:
    flat = TINY | {
        "train.epochs": 4,
        "train.lr": 0.02,
        "dendrites.threshold": 0.03,
    }  # restless, and kept with a threshold
    given = trial(flat)
    for report in nexus.train(given):
        state = report.state()
        encoder = load_encoder(given.config.encoder, given.seed)
        model = nexus.kept_model(given, state, encoder)
        select = load_pairs(given, encoder, "select")
        again = spearman(predict(model, select, all_rows(select), nexus.PREDICTED), select.scores)
        assert again == pytest.approx(report.metrics["select.spearman"], abs=1e-6)


def test_the_kept_score_never_falls(trial: Any) -> None:
    reports = list(nexus.train(trial(FROZEN | {"train.epochs": 8, "train.lr": 0.3, "dendrites.threshold": 0.0})))
    best = np.maximum.accumulate(column(reports, "epoch.spearman"))
    assert column(reports, "select.spearman") == pytest.approx(best)
    assert len(set(column(reports, "epoch.spearman"))) > 1


def test_training_lowers_the_loss(trial: Any) -> None:
    losses = column(list(nexus.train(trial(TINY))), "train.loss")
    assert losses[-1] < 0.8 * losses[0]


def test_no_epochs_report_the_model_as_it_starts(trial: Any) -> None:
    (report,) = nexus.train(trial(FROZEN | {"train.epochs": 0}))
    assert report.step == 0
    assert report.metrics["select.spearman"] == report.metrics["epoch.spearman"]
    assert list(nexus.train(trial(FROZEN | {"train.epochs": 0}, restored=report.state()))) == []
    again = nexus.evaluate(trial(FROZEN), report.state())
    assert again.metrics["report.spearman"] == spearman(again.predictions, again.targets)


def test_stored_embeddings_give_what_the_encoder_gives(trial: Any) -> None:
    untrained = TINY | {"train.epochs": 0, "adapter.compression": 0.5}
    (through,) = nexus.train(trial(untrained))
    (stored,) = nexus.train(trial(untrained | {"encoder.freeze": "all"}))
    for metric in ("select.spearman", "train.spearman", "size.parameters", "size.adapter_parameters"):
        assert stored.metrics[metric] == pytest.approx(through.metrics[metric], abs=1e-5), metric


def test_a_frozen_encoder_stays_as_it_was(trial: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    given = trial(FROZEN)
    *_, last = nexus.train(given)
    nexus.export(given, last.state(), tmp_path / "model")
    stored = load_file(tmp_path / "model/0_Transformer/model.safetensors")
    before = load_encoder(given.config.encoder, given.seed).model.state_dict()
    assert stored.keys() == before.keys()
    assert all(torch.equal(stored[name], before[name]) for name in stored)


def test_micro_batches_make_the_same_step(trial: Any) -> None:
    whole = list(nexus.train(trial(FROZEN)))
    for accumulate in (2, 5, 64):
        parts = list(nexus.train(trial(FROZEN, accumulate=accumulate)))
        assert column(parts, "train.loss") == pytest.approx(column(whole, "train.loss"), rel=1e-4)
        assert column(parts, "epoch.spearman") == pytest.approx(column(whole, "epoch.spearman"), abs=2e-3)


def test_micro_batches_are_no_larger_than_asked(trial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def noted(model: Any, pairs: Any, rows: Any) -> Any:
        sizes.append(len(rows))
        return cosines(model, pairs, rows)

    cosines = nexus.cosines
    monkeypatch.setattr(nexus, "cosines", noted)
    list(nexus.train(trial(FROZEN | {"train.epochs": 1, "train.batch_size": 20}, accumulate=4)))
    assert sorted(sizes, reverse=True) == [5] * 9 + [3]  # 48 rows: 20 + 20 + 8


def test_dendrites_grow_and_are_counted(trial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rising = iter(np.linspace(0.1, 0.9, 9).tolist())
    monkeypatch.setattr(nexus, "spearman", lambda predictions, targets: next(rising))
    reports = list(nexus.train(trial(FROZEN | GROWING | {"train.epochs": 4, "train.gap_rows": 0})))
    assert column(reports, "epoch.dendrites") == [1, 2, 2]  # the third growth is one more than max_dendrites: done
    assert column(reports, "dendrites") == [0, 1, 2]
    for report in reports:
        k = report.metrics["dendrites"]
        plain = H * H + H
        assert report.metrics["size.adapter_parameters"] == (k + 1) * plain + k * H + k * (k - 1) / 2 * H


def test_growth_ends_a_trial_only_when_it_is_done_and_plain_patience_does_not(trial: Any) -> None:
    hopeless = {"train.epochs": 12, "train.lr": 1e-9, "train.patience": 1, "dendrites.threshold": 0.5}
    plain = list(nexus.train(trial(FROZEN | hopeless)))
    assert [report.step for report in plain] == [1, 2]  # the second epoch is reported before the trial ends
    growing = {
        "dendrites.enabled": True,
        "dendrites.patience": 2,
        "dendrites.max_tries": 2,
        "dendrites.max_dendrites": 5,
    }
    dendritic = list(nexus.train(trial(FROZEN | hopeless | growing)))
    # The first is the best; 2 epochs of patience, then two growths in vain: a first score each, and 2 more of patience.
    assert [report.step for report in dendritic] == list(range(1, 10))
    assert dendritic[-1].metrics["epoch.dendrites"] == 0  # back at the best weights


def test_a_gap_ends_a_trial_with_its_report(trial: Any) -> None:
    eager = TINY | {"train.epochs": 9, "train.lr": 0.01, "train.max_overfit_gap": 0.05}
    reports = list(nexus.train(trial(eager)))
    assert reports[-1].metrics["train.gap"] > 0.05
    assert all(report.metrics["train.gap"] <= 0.05 for report in reports[:-1])
    assert len(reports) < 9
    last = reports[-1].metrics
    assert last["train.gap"] == pytest.approx(last["train.spearman"] - last["epoch.spearman"])


def test_the_sample_of_training_pairs_can_be_left_out(trial: Any) -> None:
    (report,) = nexus.train(trial(FROZEN | {"train.epochs": 1, "train.gap_rows": 0}))
    assert not {"train.spearman", "train.gap"} & set(report.metrics)


@pytest.mark.parametrize("dendrites", [1, 2])
def test_the_control_is_as_large_as_the_dendrites_it_stands_for(trial: Any, dendrites: int) -> None:
    (report,) = nexus.train(trial(FROZEN | {"train.epochs": 0, "adapter.matched_dendrites": dendrites}))
    grown = (dendrites + 1) * (H * H + H) + dendrites * H + dendrites * (dendrites - 1) // 2 * H
    assert abs(report.metrics["size.adapter_parameters"] - grown) <= (2 * H + 1) / 2
    assert matched_width(H, H, dendrites) > 0


def test_the_warm_up_is_of_the_whole_budget(trial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    monkeypatch.setattr(nexus.optim, "set_lr", lambda optimizer, lr: rates.append(lr))
    flat = {
        "train.epochs": 2,
        "train.batch_size": 12,
        "train.lr": 0.8,
        "train.schedule": "linear",
        "train.warmup_ratio": 0.5,
    }
    list(nexus.train(trial(FROZEN | flat)))
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.6, 0.4, 0.2])


def test_a_broken_model_is_seen_at_once(trial: Any) -> None:
    with np.errstate(all="ignore"):
        report = next(
            iter(nexus.train(trial(FROZEN | {"train.lr": 1.0, "train.weight_decay": 0.0, "adapter.noise_std": 1e38})))
        )
    assert not np.isfinite(list(report.metrics.values())).all()


def test_a_card_says_what_the_model_is(trial: Any, tmp_path: Path) -> None:
    given = trial(FROZEN | GROWING | {"train.epochs": 3, "adapter.compression": 0.25})
    *_, last = nexus.train(given)
    card = nexus.export(given, last.state(), tmp_path / "model")
    assert card["dendrites"] == last.metrics["dendrites"]
    assert card["adapter_parameters"] == last.metrics["size.adapter_parameters"]
    assert card["parameters"] == last.metrics["size.parameters"]
    assert (card["dimensions"], card["embedding_bytes"]) == (16, 64)
    assert card["sentence_transformer"] is (card["dendrites"] == 0)


@pytest.mark.parametrize(
    ("flat", "message"),
    [
        ({"adapter.compression": 0.5, "adapter.out_dim": 9}, "compression and out_dim both set the embedding's width"),
        ({"adapter.compression": 0.5, "adapter.residual": True}, "residual needs the encoder's width"),
        ({"train.max_overfit_gap": 0.1, "train.gap_rows": 0}, "max_overfit_gap needs the gap"),
        ({"dendrites.enabled": True, "adapter.matched_dendrites": 1}, "a control without dendrites"),
        ({"train.lr": "2e-5"}, "valid number"),
        ({"train.epoch": 3}, "not permitted"),
    ],
)
def test_settings_that_do_not_go_together(flat: Flat, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        configure(find("nexus"), flat)


def test_only_perforatedai_needs_a_process_of_its_own() -> None:
    def isolated(**dendrites: Any) -> bool:
        return nexus.Config.model_validate({"dendrites": dendrites}).isolated

    assert isolated(enabled=True, backend="perforatedai")
    assert not isolated(enabled=True)
    assert not isolated(backend="perforatedai")


@pytest.mark.parametrize(
    ("flat", "messages"),
    [
        ({"data.source": "/nowhere", "encoder.name": "/nothing"}, ["/nowhere", "/nothing"]),
        ({"adapter.out_dim": 9, "adapter.residual": True}, ["adapter.residual needs the encoder's width, 64"]),
        ({"adapter.init": "pca", "adapter.out_dim": 65}, ["pca can give 64 dimensions here, not 65"]),
        ({"adapter.init": "pca", "data.train_rows": 20}, ["pca can give 20 dimensions here, not 64"]),
    ],
)
def test_inspect_tells_all_that_is_wrong(flat: Flat, messages: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        nexus.inspect(configure(find("nexus"), flat))
    told = [str(problem) for problem in caught.value.problems]
    assert all(any(message in problem for problem in told) for message in messages), told


def test_inspect_gives_the_facts(trial: Any) -> None:
    facts = nexus.inspect(configure(find("nexus"), TINY))
    assert facts.synthetic
    assert facts.rows["train"] == 48
    assert set(facts.hashes) == {"train", "select", "report"}


def test_a_trial_given_up_leaves_nothing_open(trial: Any) -> None:
    reports: Iterator[Report] = nexus.train(trial(FROZEN))
    next(reports)
    reports.close()  # type: ignore[attr-defined]
    assert next(reports, None) is None
