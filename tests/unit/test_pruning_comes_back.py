"""What comes back after it was pruned: by movement with its value, by regrowth from zero."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.pruned_models import RISING, TOTAL, Session, given_settings, kept_weights
from trainables.parts.pruning.movement import Movement


def test_movement_adds_up_weight_times_gradient_and_wakes_weights_with_their_value() -> None:
    weight = torch.nn.Parameter(torch.tensor([[2.0, -3.0, 1.0]]))
    movement = Movement({"w": weight})
    weight.grad = torch.tensor([[1.0, 1.0, -1.0]])
    movement.add()
    assert movement.scores["w"].tolist() == [[-2.0, 3.0, 1.0]]
    movement.change({"w": torch.tensor([[False, True, True]])})
    assert weight.tolist() == [[0.0, -3.0, 1.0]]
    weight.grad = torch.tensor([[-4.0, 0.5, 0.0]])
    movement.add()
    assert movement.scores["w"].tolist() == [[6.0, 4.5, 1.0]], "the sleeping weight counts with the value that it had"
    movement.change({"w": torch.tensor([[True, True, False]])})
    assert weight.tolist() == [[2.0, -3.0, 0.0]]


def test_movement_lets_weights_come_back_while_training() -> None:
    session = Session(given_settings("weights", importance="movement", sparsity=0.7, **RISING | {"every": 1}), 20)
    asleep: dict[tuple[str, int], float] = {}
    woken = 0
    for step in range(20):
        masks = kept_weights(session.model, session.pruning)
        before = {name: session.model.get_parameter(name).detach().clone() for name in masks}
        seen = watch(session)
        session.step(step)
        for name, mask in kept_weights(session.model, session.pruning).items():
            old = masks.get(name, torch.ones_like(mask)).flatten()
            for place in (old & ~mask.flatten()).nonzero().flatten().tolist() if name in before else ():
                asleep[name, place] = float(before[name].flatten()[place])
            for place in (~old & mask.flatten()).nonzero().flatten().tolist():
                if (name, place) in asleep:
                    assert float(seen[name].flatten()[place]) == asleep[name, place] != 0
                    woken += 1
    assert woken > 0
    session.pruning.complete()
    assert session.pruning.state()["movement"] == {}


def watch(session: Session) -> dict[str, Tensor]:
    """Weights as they are when pruning has chosen and the optimizer has not moved them yet; filled in the next step."""
    seen: dict[str, Tensor] = {}

    def look(*_: Any) -> None:
        seen.update({name: value.detach().clone() for name, value in session.model.named_parameters()})
        hook.remove()

    hook = session.optimizer.register_step_pre_hook(look)
    return seen


@pytest.mark.parametrize("regrow", ["gradient", "random"])
def test_grown_weights_start_at_zero_and_as_many_go(regrow: str) -> None:
    chosen = given_settings("weights", regrow=regrow, regrow_share=0.4, epochs=1, every=1, end=0.9)
    session, grown = Session(chosen, TOTAL), []
    session.pruning.start()
    for step in range(TOTAL):
        before, seen = kept_weights(session.model, session.pruning), watch(session)
        session.step(step)
        session.pruning.check_held()
        after = kept_weights(session.model, session.pruning)
        back = {name: mask & ~before[name] for name, mask in after.items()}
        assert all(not seen[name][places].any() for name, places in back.items())
        assert all(
            bool(session.model.get_parameter(name)[places].any()) for name, places in back.items() if places.any()
        )
        grown.append([int(places.sum()) for places in back.values()])
    kept = [mask.numel() // 2 for mask in before.values()]
    assert grown[0] == [round(0.4 * count) for count in kept]
    assert sum(grown[3]) < sum(grown[0])
    assert sum(grown[-1]) == 0


def test_what_grows_is_where_the_gradient_is_largest() -> None:
    chosen = given_settings("weights", regrow="gradient", regrow_share=0.4, epochs=1)
    session = Session(chosen, TOTAL)
    session.pruning.start()
    before = kept_weights(session.model, session.pruning)
    for parameter in session.model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    gradients = {name: session.model.get_parameter(name).grad.abs().clone() for name in before}  # type: ignore[union-attr]
    session.pruning.before_step(0)
    for name, mask in kept_weights(session.model, session.pruning).items():
        back, still = mask & ~before[name], ~mask & ~before[name]
        assert float(gradients[name][back].min()) >= float(gradients[name][still].max())
