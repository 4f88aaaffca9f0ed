"""Distillation: its formula against transformers and by hand, and that batches, padding and hooks leave no trace."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from tests.text_models import moved, random_model
from trainables.parts import synthetic
from trainables.parts.batches import Rows
from trainables.parts.distill import (
    DistillSettings,
    Teacher,
    answer_loss,
    check,
    layer_states,
    new_teacher,
    state_loss,
)
from trainables.parts.encoders import Encoder, layers
from trainables.parts.losses import text_loss
from trainables.parts.packed import Packed, pack
from trainables.parts.task_data import Examples
from trainables.parts.tasks import TASKS
from trainables.parts.text_inputs import TextInputs, text_inputs
from trainables.parts.text_model import Shape, TextModel, start_head

TEXTS = ["the old dog", "a cat", "the nurse sold a red boat near the river", "snow", "a small car was sold"]
TARGETS = [0.0, 1.0, 1.0, 0.0, 1.0]
KINDS = pytest.mark.parametrize("kind", ["bert", "mpnet", "distilbert"])
ALL = np.arange(5)


def text_model(outputs: int = 2, kind: str = "bert") -> TextModel:
    encoder = random_model(kind, synthetic.tokenizer())
    encoder.pooler = None
    model = TextModel(encoder, Shape(outputs))
    start_head(model, 0, None)
    moved(model, 0.3)
    return model.eval()


def student_of(dense: TextModel) -> TextModel:
    """A copy that is not quite the same any more."""
    student = copy.deepcopy(dense)
    moved(student, 0.1)
    return student


def inputs_of(dense: TextModel) -> TextInputs:
    task = TASKS["regression" if dense.shape.outputs == 1 else "sst2"]
    encoder = Encoder(dense.encoder, synthetic.tokenizer(), 16, 32, "", 0, 0)
    return text_inputs(task, Examples(TEXTS, None, np.array(TARGETS)), encoder, 8, "cpu")


def taught(dense: TextModel, **settings: Any) -> tuple[Teacher, TextInputs]:
    inputs = inputs_of(dense)
    teacher = new_teacher(DistillSettings(**settings), dense, inputs, 2, "cpu")
    assert teacher is not None
    return teacher, inputs


def loss_of(teacher: Teacher, student: TextModel, inputs: TextInputs, rows: Rows = ALL) -> Tensor:
    batch = pack(inputs.tokens, rows)
    targets = inputs.targets[rows]
    return teacher.loss(student, batch, rows, lambda logits: text_loss(inputs.task.kind, logits, targets, batch))


def hard_loss(model: TextModel, inputs: TextInputs) -> Tensor:
    batch = pack(inputs.tokens, ALL)
    return text_loss(inputs.task.kind, model(batch), inputs.targets, batch)


def states_alone(model: TextModel, batch: Packed) -> list[Tensor]:
    """The states [layers, tokens, H] of each text without padding, as transformers gives them."""
    encoder: Any = model.encoder
    texts = [text[None] for text in batch.ids.split(batch.lengths.tolist())]
    found = [encoder(input_ids=text, output_hidden_states=True).hidden_states[1:] for text in texts]
    return [torch.cat(states) for states in found]


def test_answers_follow_the_teachers_softened_by_the_temperature() -> None:
    student, teacher = torch.tensor([[1.0, -1.0], [0.5, 2.0]]), torch.tensor([[3.0, 1.0], [-2.0, 2.0]])
    ours, theirs = (student / 2).softmax(1), (teacher / 2).softmax(1)
    by_hand = 4 * (theirs * (theirs / ours).log()).sum(1).mean()
    torch.testing.assert_close(answer_loss(student, teacher, 2.0), by_hand)
    reference = nn.functional.kl_div((student / 2).log_softmax(1), theirs, reduction="batchmean")
    torch.testing.assert_close(answer_loss(student, teacher, 2.0), 4 * reference)


def test_the_gradient_keeps_its_size_whatever_the_temperature() -> None:
    """For high temperatures it is (student - teacher) / (K * B) of centred logits: equation 4 of the paper."""
    student = torch.tensor([[0.2, -0.2, 0.0]], requires_grad=True)
    teacher = torch.tensor([[-0.1, 0.3, -0.2]])
    answer_loss(student, teacher, 1000.0).backward()
    torch.testing.assert_close(student.grad, (student.detach() - teacher) / 3, atol=1e-3, rtol=0)


def test_numbers_follow_the_teachers() -> None:
    assert answer_loss(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [1.0]]), 7.0).item() == 2.5


@pytest.mark.parametrize("outputs", [1, 2])
@KINDS
def test_the_loss_is_its_three_parts(kind: str, outputs: int) -> None:
    dense = text_model(outputs, kind)
    student = student_of(dense)
    teacher, inputs = taught(dense, kind="hidden", temperature=3.0, weight=0.3, hidden_weight=2.5)
    batch = pack(inputs.tokens, ALL)
    with torch.no_grad():
        pairs = zip(states_alone(student, batch), states_alone(dense, batch), strict=True)
        states = torch.stack([(ours - theirs).square().mean() for ours, theirs in pairs]).mean()
        answers = answer_loss(student(batch), dense(batch), 3.0)
        wanted = 0.7 * hard_loss(student, inputs) + 0.3 * answers + 2.5 * states
    assert states > 0.01
    assert answers > 1e-4
    torch.testing.assert_close(loss_of(teacher, student, inputs).detach(), wanted, atol=1e-5, rtol=1e-5)


def test_logits_alone_need_the_dense_model_no_longer() -> None:
    dense = text_model()
    student = student_of(dense)
    teacher, inputs = taught(dense, kind="logits", weight=0.25)
    assert teacher.dense is None
    batch = pack(inputs.tokens, ALL)
    wanted = 0.75 * hard_loss(student, inputs) + 0.25 * answer_loss(student(batch), dense(batch), 2.0)
    torch.testing.assert_close(loss_of(teacher, student, inputs), wanted)


@pytest.mark.parametrize("kind", ["logits", "hidden"])
def test_a_student_like_its_teacher_learns_from_the_targets_alone(kind: str) -> None:
    dense = text_model()
    teacher, inputs = taught(dense, kind=kind, weight=0.4, hidden_weight=100.0)
    torch.testing.assert_close(loss_of(teacher, dense, inputs), 0.6 * hard_loss(dense, inputs), atol=1e-6, rtol=0)


def test_gradients_reach_the_student_alone() -> None:
    dense = text_model()
    student = student_of(dense)
    teacher, inputs = taught(dense, kind="hidden", weight=1.0)
    student.train()
    loss_of(teacher, student, inputs).backward()
    assert teacher.dense is not None
    assert not teacher.dense.training
    assert student.training
    assert all(parameter.grad is None for parameter in teacher.dense.parameters())
    layer = layers(student.encoder)[0]
    assert all(parameter.grad is not None for parameter in [*layer.parameters(), *student.head.parameters()])


def test_the_student_may_be_the_model_that_the_teacher_was_taken_from() -> None:
    dense = text_model()
    teacher, inputs = taught(dense, kind="hidden")
    student = student_of(dense)
    wanted = loss_of(teacher, student, inputs)
    dense.load_state_dict(student.state_dict())
    torch.testing.assert_close(loss_of(teacher, dense, inputs), wanted)


def test_without_distillation_there_is_no_teacher() -> None:
    dense = text_model()
    assert new_teacher(DistillSettings(), dense, inputs_of(dense), 2, "cpu") is None


def test_a_student_can_learn_its_teacher() -> None:
    dense = text_model()
    student = student_of(dense)
    teacher, inputs = taught(dense, kind="hidden", weight=1.0)
    optimizer = torch.optim.Adam(student.parameters(), lr=5e-3)
    losses = []
    for _ in range(30):
        loss = loss_of(teacher, student, inputs)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 5


def test_the_parts_of_a_batch_add_up_to_it() -> None:
    dense = text_model()
    student = student_of(dense)
    teacher, inputs = taught(dense, kind="hidden")
    parts = [np.array(rows) for rows in ([2, 0], [4], [3, 1])]
    together = sum(loss_of(teacher, student, inputs, rows) * (len(rows) / 5) for rows in parts)
    torch.testing.assert_close(together, loss_of(teacher, student, inputs))


def test_padding_does_not_count() -> None:
    batch = Packed(torch.arange(4), torch.tensor([1, 3]))
    student, teacher = torch.zeros(2, 3, 2), torch.zeros(2, 3, 2)
    student[0, 0], student[1] = 2.0, torch.tensor([[1.0, 3.0], [0.0, 0.0], [0.0, 2.0]])
    wanted = (4 + (5 + 0 + 2) / 3) / 2
    assert state_loss([student], [teacher], batch).item() == pytest.approx(wanted)
    student[0, 1:] = torch.nan
    student.requires_grad_()
    loss = state_loss([student], [teacher], batch)
    assert loss.item() == pytest.approx(wanted)
    loss.backward()
    assert student.grad is not None
    assert student.grad[0, 1:].abs().sum() == 0
    assert student.grad.isfinite().all()


def test_hooks_are_gone_whatever_happens() -> None:
    dense = text_model()
    teacher, inputs = taught(dense, kind="hidden")
    assert teacher.dense is not None

    def failing(logits: Tensor) -> Tensor:
        raise ArithmeticError

    loss_of(teacher, dense, inputs)
    with pytest.raises(ArithmeticError):
        teacher.loss(dense, pack(inputs.tokens, ALL), ALL, failing)
    with pytest.raises(ArithmeticError), layer_states(dense) as states:
        raise ArithmeticError
    dense(pack(inputs.tokens, ALL))
    assert states == []
    modules = [*dense.modules(), *teacher.dense.modules()]
    assert not any(module._forward_hooks for module in modules)


def test_the_teacher_draws_no_random_numbers() -> None:
    dense = text_model()
    student = student_of(dense)
    before = torch.get_rng_state()
    teacher, inputs = taught(dense.train(), kind="hidden")
    loss_of(teacher, student, inputs)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_cannot_be_distilled_is_said() -> None:
    logits, hidden = DistillSettings(kind="logits"), DistillSettings(kind="hidden")
    assert [check(DistillSettings(), "span", 0), check(logits, "regression", 0)] == [[], []]
    assert check(hidden, "classification", None) == []
    assert check(DistillSettings(kind="hidden", weight=0), "classification", 2) == []
    (questions,) = check(logits, "span", 2)
    assert "questions" in questions
    (no_layers,) = check(hidden, "classification", 0)
    assert "encoder.layers is 0" in no_layers
    (no_share,) = check(DistillSettings(kind="logits", weight=0), "classification", 2)
    assert "weight 0" in no_share
    with pytest.raises(ValidationError, match="temperature"):
        DistillSettings(temperature=0.5)
