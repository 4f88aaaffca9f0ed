"""A model that goes through its stages: what each of them leaves, and what is kept in the end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from raysweep.engine import checkpoint
from tests.pruned_models import given_settings, loss_of, losses_of, text_model, texts
from trainables.parts.encoders import count
from trainables.parts.pipeline import Pipeline
from trainables.parts.pruning.session import Pruning
from trainables.parts.pruning.settings import RegulariserSettings
from trainables.parts.stages import stages_of
from trainables.parts.text_model import TextModel
from trainables.parts.weights import Weights, weights_of

STEPS = 3  # of an epoch
QUERY = "encoder.encoder.layer.0.attention.self.query.weight"


class Course:
    """A pipeline, and the training between its calls; the score of epoch n is the n-th of `told`."""

    def __init__(
        self,
        order: str = "prune finetune",
        epochs: tuple[int, int] = (2, 2),
        told: tuple[float, ...] = (),
        rewind: bool = False,
        freeze: str = "",
        patience: int = 0,
        quantise: Callable[[TextModel], tuple[float, dict[str, float]]] | None = None,
        **pruning: Any,
    ) -> None:
        self.model = text_model()
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(not freeze or freeze not in name)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05)
        self.told, self.after = iter(told), list[Weights]()
        settings = given_settings(**{"target": "weights", "epochs": epochs[0], **pruning})
        session = Pruning(settings, RegulariserSettings(), self.model, epochs[0] * STEPS, 7, losses_of(self.model))
        self.pipeline = Pipeline(
            self.model,
            stages_of(order, *epochs),
            lambda: 0.5,
            session if settings.on else None,
            self.untrained if rewind else None,
            quantise,
            patience,
        )

    def untrained(self) -> Weights:
        return {name: torch.full_like(weight, 0.25) for name, weight in weights_of(self.model).items()}

    def run(self, epochs: int = 99) -> "Course":
        """Until all stages are over, or for so many epochs."""
        if self.pipeline.progress.epoch == 0:
            self.pipeline.begin()
        for _ in range(epochs):
            if self.pipeline.stage is None:
                break
            self.epoch()
        return self

    def epoch(self) -> bool:
        for step in range(STEPS):
            torch.manual_seed(100 * self.pipeline.progress.epoch + step)
            loss = loss_of(self.model.eval(), step)
            loss.backward()  # type: ignore[no-untyped-call]
            self.pipeline.before_step(step, STEPS)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.pipeline.after_step()
        self.after.append(weights_of(self.model))
        return self.pipeline.trained(next(self.told, 0.5))


def zeros(model: TextModel) -> list[int]:
    """Of each matrix in the encoder's layers, in thousandths."""
    matrices = {name: value for name, value in model.named_parameters() if ".layer." in name and value.ndim == 2}
    return sorted({round(1000 * int((value == 0).sum()) / value.numel()) for value in matrices.values()})


def same(one: Weights, other: Weights) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_patience_ends_fine_tuning_but_not_the_stage_that_prunes() -> None:
    falling = tuple(0.9 - 0.1 * epoch for epoch in range(9))
    course = Course(epochs=(3, 5), told=falling, patience=1).run()
    assert course.pipeline.progress.epoch == 3 + 2
    assert Course(epochs=(3, 5), told=falling).run().pipeline.progress.epoch == 3 + 5


def test_fine_tuning_keeps_its_best_epoch_and_pruning_its_last() -> None:
    course = Course(epochs=(2, 3), told=(0.9, 0.1, 0.4, 0.8, 0.6))
    course.run(2)
    assert course.pipeline.pruned is not None
    assert same(course.pipeline.pruned, course.after[1])
    assert not same(course.after[0], course.after[1])
    told = []
    for _ in range(3):
        course.epoch()
        told.append(course.pipeline.metrics()["select.score"])
    assert told == [0.4, 0.8, 0.8]
    assert same(weights_of(course.model), course.after[3])
    assert course.pipeline.progress.scores == {"dense": 0.5, "pruned": 0.5, "finetuned": 0.8}
    assert zeros(course.model) == [500]


@pytest.mark.parametrize("order", ["prune finetune quantise", "finetune prune quantise", "prune quantise"])
def test_stages_follow_one_another_as_asked(order: str) -> None:
    seen: list[list[int]] = []

    def quantise(model: TextModel) -> tuple[float, dict[str, float]]:
        seen.append(zeros(model))
        return 0.125, {"size.bytes": 1.0}

    course = Course(order, quantise=quantise, told=(0.1, 0.2, 0.3, 0.4)).run()
    names = {"prune": "pruned", "finetune": "finetuned", "quantise": "quantised"}
    assert list(course.pipeline.progress.scores) == ["dense", *(names[stage] for stage in order.split())]
    assert seen == [[500]]
    assert course.pipeline.quantised == {"size.bytes": 1.0}
    assert course.pipeline.metrics()["select.score"] == course.pipeline.metrics()["stage.quantised"] == 0.125


def test_pruning_behind_fine_tuning_starts_from_the_best_epoch() -> None:
    course = Course("finetune prune", epochs=(0, 2), told=(0.8, 0.3)).run()
    assert course.pipeline.progress.epoch == 2
    left = course.model.get_parameter(QUERY) != 0
    assert int(left.sum()) == left.numel() // 2
    assert torch.equal(course.model.get_parameter(QUERY)[left], course.after[0][QUERY][left])


def test_stages_without_epochs_are_over_at_once() -> None:
    course = Course(epochs=(0, 0)).run()
    assert course.pipeline.stage is None
    assert course.pipeline.progress.scores == {"dense": 0.5, "pruned": 0.5}
    assert zeros(course.model) == [500]


def test_the_control_trains_as_long_and_loses_nothing() -> None:
    control, pruned = (Course(epochs=(2, 3), target=target).run() for target in ("none", "weights"))
    assert control.pipeline.progress.epoch == pruned.pipeline.progress.epoch == 5
    assert zeros(control.model) == [0]
    assert control.pipeline.penalty() is None
    assert control.pipeline.finished() is control.model
    assert not [name for name in control.pipeline.metrics() if name.startswith("sparsity")]


def test_a_lottery_ticket_starts_again_under_the_mask_that_was_found() -> None:
    course = Course(rewind=True)
    assert course.pipeline.begin() is False
    assert [course.epoch() for _ in range(4)] == [False, True, False, False]  # when the optimizer must forget
    assert course.pipeline.pruned is not None
    found = course.pipeline.pruned[QUERY] != 0
    again = Course(rewind=True, epochs=(2, 1)).run(2)
    weight = again.model.get_parameter(QUERY)
    assert torch.equal(weight, torch.where(found, 0.25, 0.0))
    assert torch.equal(again.model.get_parameter("head.classifier.bias"), torch.full((3,), 0.25))
    assert torch.equal(course.model.get_parameter(QUERY) != 0, found)


def test_a_lottery_ticket_without_training_while_pruned_starts_again_at_once() -> None:
    course = Course(epochs=(0, 1), rewind=True)
    assert course.pipeline.begin() is True
    assert set(course.model.get_parameter(QUERY).unique().tolist()) == {0.0, 0.25}


@pytest.mark.parametrize("freeze", ["", "layer.0"])
@pytest.mark.parametrize("epochs", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "pruning",
    [
        {"target": "heads+weights", "schedule": "cubic", "every": 2, "regrow": "none"},
        {"target": "heads+neurons", "importance": "gates", "schedule": "linear", "every": 1},
        {"importance": "movement", "schedule": "cubic", "every": 2},
        {"regrow": "random", "schedule": "cubic", "every": 1},
    ],
    ids=["heads+weights", "gates", "movement", "regrow"],
)
def test_a_checkpoint_has_all_that_changed(pruning: dict[str, Any], epochs: int, freeze: str, tmp_path: Any) -> None:
    """Frozen weights too, which pruning changes: neither loading the encoder nor a mask brings them back."""
    course = Course(epochs=(2, 2), freeze=freeze, told=(0.1, 0.2, 0.4, 0.3), **pruning).run(epochs)
    checkpoint.save(course.pipeline.state(), tmp_path / "state")
    other = Course(epochs=(2, 2), freeze=freeze, told=(0.1, 0.2, 0.4, 0.3)[epochs:], **pruning)
    other.pipeline.restore(checkpoint.load(tmp_path / "state"))
    for one in (course, other):
        one.run()
    found, wanted = (each.model.state_dict() for each in (other, course))
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert other.pipeline.metrics() == course.pipeline.metrics()


def test_weights_before_each_stage_are_told_by_name() -> None:
    course = Course(epochs=(1, 1), quantise=lambda model: (0.1, {}), order="prune finetune quantise")
    dense = weights_of(course.model)
    course.run()
    found = course.pipeline.earlier(dense)
    assert list(found) == ["dense", "pruned", "finetuned"]
    assert same(found["dense"], dense)
    assert same(found["pruned"], course.after[0])
    assert same(found["finetuned"], course.after[1])


def test_weights_that_were_finetuned_before_pruning_are_told_as_they_were_then(tmp_path: Path) -> None:
    course = Course(epochs=(0, 1), order="finetune prune", schedule="one_shot")
    dense = weights_of(course.model)
    course.run()
    checkpoint.save(course.pipeline.state(), tmp_path / "state")
    restored = Course(epochs=(0, 1), order="finetune prune", schedule="one_shot").pipeline
    restored.restore(checkpoint.load(tmp_path / "state"))
    for pipeline in (course.pipeline, restored):
        found = pipeline.earlier(dense)
        assert found["finetuned"][QUERY].all()
        assert int((found["pruned"][QUERY] == 0).sum()) == found["pruned"][QUERY].numel() // 2
        kept = found["pruned"][QUERY] != 0
        assert torch.equal(found["finetuned"][QUERY][kept], found["pruned"][QUERY][kept])


@torch.no_grad()
def logits(model: TextModel) -> Tensor:
    return model.eval()(texts())


@pytest.mark.parametrize("pruning", [{}, {"importance": "gates", "schedule": "linear", "every": 1}], ids=["", "gates"])
def test_the_finished_model_is_smaller_and_answers_the_same(pruning: dict[str, Any]) -> None:
    course = Course(target="heads+neurons", **pruning).run()
    before = count(course.model)
    small = course.pipeline.finished()
    assert count(course.model) == before
    head, neuron = 3 * 4 * (16 + 1) + 4 * 16, 16 + 1 + 16  # rows and biases into it, columns out of it
    assert before - count(small) == 2 * (2 * head + 12 * neuron)
    assert (logits(small) - logits(course.model)).abs().max() < 1e-5


def test_pruned_weights_do_not_count_in_the_gradient_of_later_stages() -> None:
    course = Course(epochs=(1, 1)).run(1)
    loss_of(course.model, 0).backward()  # type: ignore[no-untyped-call]
    weight = course.model.get_parameter(QUERY)
    assert weight.grad is not None
    assert weight.grad[weight == 0].any()
    course.pipeline.before_step(0, STEPS)
    assert not weight.grad[weight == 0].any()
    assert weight.grad[weight != 0].any()
