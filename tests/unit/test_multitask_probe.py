"""The probe: cosines of known vectors beside the scores of pairs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from raysweep.problems import UserError
from raysweep.trial import Scored
from tests.multitask_models import config_of, new, trained, vectors_alone
from tests.task_folders import folder_of, write_jsonl
from trainables.parts.multitask import probe as under_test
from trainables.parts.multitask.settings import ProbeSettings
from trainables.parts.scores import spearman

ANGLES = [0.0, 60.0, 90.0, 180.0]  # degrees between the two vectors of a pair
COSINES = [1.0, 0.5, 0.0, -1.0]


def probe_of(path: Path, scores: Sequence[float]) -> ProbeSettings:
    """Pairs named by their angles, in select and report; there is no train."""
    rows = [
        {"sentence1": f"0 {row}", "sentence2": f"{angle} {row}", "score": score}
        for row, (angle, score) in enumerate(zip(ANGLES, scores, strict=True))
    ]
    source = folder_of(path, write_jsonl, validation=rows, test=rows[::-1])
    return ProbeSettings(source=source, enabled=True)


def vectors(texts: Sequence[str]) -> np.ndarray:
    """A vector at the angle that a text names, of a length that has no meaning."""
    angles = np.radians([float(text.split()[0]) for text in texts])
    lengths = np.arange(1, len(texts) + 1)
    return (np.stack([np.cos(angles), np.sin(angles)], axis=1) * lengths[:, None]).astype(np.float32)


class Probing:
    """The probe of a model with towers of two tasks, whose vectors are what a function makes of texts."""

    def __init__(self, patch: pytest.MonkeyPatch, *functions: Callable[[Any], np.ndarray]) -> None:
        self.model, self.encoder = new(config_of("mood", "topic", sharing="none" if len(functions) == 2 else "hard"))
        self.asked: list[list[str]] = []
        answers = dict(zip(self.model.towers.values(), functions, strict=True))

        def vectors_of(tower: Any, encoder: Any, texts: list[str], device: str) -> np.ndarray:
            assert (encoder, device) == (self.encoder, "cpu")
            self.asked.append(texts)
            return answers[tower](texts)

        patch.setattr(under_test, "sentence_vectors", vectors_of)

    def score(self, settings: ProbeSettings, split: Any = "select") -> Scored:
        return under_test.probe_score(settings, self.model, self.encoder, split, "cpu")


def test_pairs_are_scored_by_their_cosines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probing = Probing(monkeypatch, vectors)
    found = probing.score(probe_of(tmp_path, [1.0, 0.6, 0.5, 0.0]))
    assert probing.asked == [
        [*(f"0 {row}" for row in range(4)), *(f"{angle} {row}" for row, angle in enumerate(ANGLES))]
    ]
    assert found.statistic == "spearman"
    assert found.predictions == pytest.approx(COSINES, abs=1e-6)
    assert found.targets.tolist() == [1.0, 0.6, 0.5, 0.0]
    assert spearman(found.predictions, found.targets) == 1.0


def test_towers_of_their_own_give_the_mean_of_their_cosines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def halved(texts: Sequence[str]) -> np.ndarray:
        """At half the angle."""
        return vectors([f"{float(text.split()[0]) / 2} half" for text in texts])

    found = Probing(monkeypatch, vectors, halved).score(probe_of(tmp_path, [1.0, 0.6, 0.5, 0.0]))
    half = np.cos(np.radians(ANGLES) / 2)
    assert found.predictions == pytest.approx((np.array(COSINES) + half) / 2, abs=1e-6)


@pytest.mark.parametrize("sharing", ["hard", "none"])
def test_a_models_own_vectors_are_compared(tmp_path: Path, sharing: str) -> None:
    model, encoder = trained(config_of("mood", "topic", sharing=sharing, pooling={"projection": 4}))
    probe = probe_of(tmp_path, [1.0, 0.6, 0.5, 0.0])
    first, second = ([f"{angle} {row}" for row, angle in enumerate(angles)] for angles in ([0] * 4, ANGLES))
    sides = [[vectors_alone(model, encoder, task, side) for side in (first, second)] for task in ("mood", "topic")]
    cosines = [F.cosine_similarity(one.double(), other.double()) for one, other in sides]
    found = under_test.probe_score(probe, model.train(), encoder, "select", "cpu")
    assert found.predictions == pytest.approx(torch.stack(cosines).mean(0).numpy(), abs=1e-6)
    assert np.ptp(found.predictions) > 1e-4
    assert cosines[0].allclose(cosines[1]) == (sharing == "hard")


def test_report_has_pairs_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Probing(monkeypatch, vectors).score(probe_of(tmp_path, [1.0, 0.6, 0.5, 0.0]), "report")
    assert found.predictions == pytest.approx(COSINES[::-1], abs=1e-6)
    assert found.targets.tolist() == [0.0, 0.5, 0.6, 1.0]


def test_pairs_in_the_wrong_order_score_below_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Probing(monkeypatch, vectors).score(probe_of(tmp_path, [0.0, 0.5, 0.6, 1.0]))
    assert spearman(found.predictions, found.targets) == -1.0


def test_vectors_that_are_no_numbers_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probing = Probing(monkeypatch, vectors, lambda texts: vectors(texts) * np.nan)
    found = probing.score(probe_of(tmp_path, [1.0, 0.6, 0.5, 0.0]))
    assert np.isnan(spearman(found.predictions, found.targets))


def test_a_vector_of_zeros_is_like_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Probing(monkeypatch, lambda texts: vectors(texts) * 0).score(probe_of(tmp_path, [1.0, 0.6, 0.5, 0.0]))
    assert found.predictions.tolist() == [0.0] * 4


def test_pairs_that_cannot_be_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = probe_of(tmp_path, [1.0, 0.6, 0.5, 2.0])
    with pytest.raises(UserError, match=r"'score' is outside 0\.\.1 at row 4"):
        Probing(monkeypatch, vectors).score(probe)
