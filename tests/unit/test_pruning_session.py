"""The session that prunes: exact counts for every target, zeros that hold, what comes back, and going on to the bit."""

import copy
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.pruned_models import RISING, TOTAL, Session, at_once, given_settings, kept_weights, text_model
from trainables.parts.pruning.check import check_pruning
from trainables.parts.pruning.removal import remove, sizes_of
from trainables.parts.pruning.session import Pruning
from trainables.parts.pruning.settings import WEIGHTS
from trainables.parts.pruning.units import Group, groups_of, matrices_of
from trainables.parts.state import arrays, tensors
from trainables.parts.text_model import TextModel

WITHOUT_TRAINING = ["magnitude", "squared", "taylor", "activation", "random"]


def pruned_units(model: TextModel, group: Group) -> list[bool]:
    """Whether all weights and biases of each unit are zero."""
    gone = torch.ones(group.units, dtype=torch.bool)
    for part in group.parts:
        lines = model.get_parameter(part.parameter).detach().movedim(part.axis, 0)
        gone &= torch.stack([(lines[places] == 0).all() for places in part.places])
    return gone.tolist()


def gone(model: TextModel, kind: str) -> list[int]:
    """How many units of a kind are pruned in each layer."""
    return [sum(pruned_units(model, group)) for group in groups_of(model, model.encoder) if group.kind == kind]


def zeros(model: TextModel, classifier: bool = False) -> list[int]:
    """How many weights are zero in each matrix."""
    weights = [model.get_parameter(each.parameter) for each in matrices_of(model, model.encoder, classifier)]
    return [int((weight == 0).sum()) for weight in weights]


def sizes(model: TextModel, classifier: bool = False) -> list[int]:
    return [model.get_parameter(each.parameter).numel() for each in matrices_of(model, model.encoder, classifier)]


def without_units(model: TextModel, pruning: Pruning) -> TextModel:
    """A copy in which pruned heads and neurons are taken out."""
    smaller = copy.deepcopy(model)
    remove(smaller, smaller.encoder, pruning.kept_units())
    return smaller


def stays(model: TextModel, pruning: Pruning) -> dict[str, Tensor]:
    """Single weights and units that stay."""
    return kept_weights(model, pruning) | pruning.kept_units()


def nested(smaller: Mapping[str, Tensor], larger: Mapping[str, Tensor]) -> bool:
    """Whether all that stays by the first stays by the second."""
    return all(bool((larger[name] | ~mask).all()) for name, mask in smaller.items() if name in larger)


@pytest.mark.parametrize("importance", WITHOUT_TRAINING)
@pytest.mark.parametrize("kind", ["bert", "modernbert", "gpt2"])
def test_without_training_the_target_is_met_exactly(kind: str, importance: str) -> None:
    for scope in ("layer", "global"):
        model, pruning = at_once(
            given_settings("heads+neurons", importance=importance, scope=scope, sparsity=0.4), kind
        )
        heads, neurons = gone(model, "heads"), gone(model, "neurons")
        assert (heads, neurons) == ([1, 1], [9, 9]) if scope == "layer" else (sum(heads), sum(neurons)) == (3, 19)
        assert pruning.report()["sparsity.heads"] == sum(heads) / 8
        assert pruning.report()["sparsity.neurons"] == sum(neurons) / 48
        model, pruning = at_once(given_settings("weights", importance=importance, scope=scope, sparsity=0.4), kind)
        wanted = [round(0.4 * size) for size in sizes(model)]
        assert zeros(model) == wanted if scope == "layer" else sum(zeros(model)) == round(0.4 * sum(sizes(model)))
        assert pruning.report()["sparsity.weights"] == pytest.approx(sum(zeros(model)) / sum(sizes(model)))
        assert pruning.kept_units() == {}


CASES: dict[str, dict[str, Any]] = {
    "magnitude weights": {"target": "weights", "sparsity": 0.6, **RISING},
    "global squared": {"target": "weights", "importance": "squared", "scope": "global", "sparsity": 0.6, **RISING},
    "taylor units": {"target": "heads+neurons", "importance": "taylor", "scope": "global", **RISING},
    "activation all": {"target": "heads+neurons+weights", "importance": "activation", **RISING},
    "random all": {"target": "heads+neurons+weights", "importance": "random", "scope": "global", **RISING},
    "movement weights": {"target": "weights", "importance": "movement", "sparsity": 0.7, **RISING},
    "movement all": {"target": "heads+neurons+weights", "importance": "movement", "scope": "global", **RISING},
    "gates": {"target": "heads+neurons", "importance": "gates", **RISING},
    "global gates": {"target": "neurons", "importance": "gates", "scope": "global", **RISING},
    "grown by gradient": {"target": "weights", "regrow": "gradient", "regrow_share": 0.3, **RISING},
    "grown at random": {"target": "weights", "regrow": "random", "regrow_share": 0.3, "scope": "global", **RISING},
    "set and grown": {"target": "weights", "regrow": "gradient", "epochs": 1, "every": 3},
    "two of four": {"target": "neurons+two_four", "epochs": 1, "begin": 0.5},
    "steps": {"target": "neurons", "epochs": 1, "schedule": "steps", "steps": 3, "initial_sparsity": 0.1},
}  # fmt: skip
cases = pytest.mark.parametrize("case", CASES)


@cases
def test_the_target_is_met_exactly_and_holds_in_every_later_step(case: str) -> None:
    chosen = given_settings(**CASES[case])
    session = Session(chosen, TOTAL).run()
    model, pruning = session.model, session.pruning
    session.finetune(4)
    pruning.check_held()
    together = chosen.scope == "global"
    units = {"heads": [2, 2] if "heads" in chosen.targets else [0, 0]}
    units["neurons"] = [12, 12] if "neurons" in chosen.targets else [0, 0]
    for kind, wanted in units.items():
        assert sum(gone(model, kind)) == sum(wanted)
        assert together or gone(model, kind) == wanted
    left = without_units(model, pruning)
    share = chosen.sparsity if chosen.targets[-1] in WEIGHTS else 0
    if together:
        assert sum(zeros(left)) == round(share * sum(sizes(left)))
    else:
        assert zeros(left) == [round(share * size) for size in sizes(left)]


@cases
def test_stopped_after_any_step_it_goes_on_to_the_bit(case: str) -> None:
    chosen = given_settings(**CASES[case])
    whole = Session(chosen, TOTAL)
    whole.pruning.start()
    saved = [copy.deepcopy(whole.state())]
    for step in range(TOTAL):
        whole.step(step)
        saved.append(copy.deepcopy(whole.state()))
    whole.pruning.complete()
    saved.append(copy.deepcopy(whole.state()))
    whole.finetune(2)
    for done, state in enumerate(saved):
        session = Session(chosen, TOTAL)
        session.restore({**state, "pruning": arrays(tensors(state["pruning"]))})
        for step in range(done, TOTAL):
            session.step(step)
        session.pruning.complete()
        session.finetune(2)
        weights = session.model.state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in whole.model.state_dict().items()), done
        assert session.pruning.report() == whole.pruning.report()
        found = stays(session.model, session.pruning)
        assert all(torch.equal(mask, found[name]) for name, mask in stays(whole.model, whole.pruning).items())
        session.pruning.check_held()


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("importance", WITHOUT_TRAINING)
def test_what_is_pruned_stays_pruned(importance: str, scope: str) -> None:
    for target in ("heads+neurons", "weights"):
        chosen = given_settings(target, importance=importance, scope=scope, sparsity=0.7, **RISING | {"every": 1})
        session, seen = Session(chosen, TOTAL), list[dict[str, Tensor]]()
        for step in range(TOTAL):
            session.step(step)
            session.pruning.check_held()
            seen.append(stays(session.model, session.pruning))
        assert all(nested(after, before) for before, after in pairwise(seen))
        assert len({sum(int(mask.sum()) for mask in masks.values()) for masks in seen}) > 3


def test_random_pruning_takes_away_more_of_the_same() -> None:
    kept = [
        kept_weights(*at_once(given_settings("weights", importance="random", sparsity=share)))
        for share in (0.2, 0.5, 0.9)
    ]
    assert nested(kept[1], kept[0])
    assert nested(kept[2], kept[1])


@pytest.mark.parametrize("importance", [*WITHOUT_TRAINING, "movement", "gates"])
def test_no_layer_loses_its_last_head(importance: str) -> None:
    learnt = importance in ("movement", "gates")
    chosen = given_settings(
        "heads+neurons", importance=importance, scope="global", sparsity=0.75, **(RISING if learnt else {})
    )
    session = Session(chosen, TOTAL if learnt else 0, num_hidden_layers=3)
    for name, parameter in session.model.named_parameters():
        if ".layer.1." in name and ("self" in name or "intermediate" in name):
            parameter.data *= 1e-4  # so that this layer ranks last
    session.run()
    heads, neurons = gone(session.model, "heads"), gone(session.model, "neurons")
    assert (sum(heads), sum(neurons)) == (9, 54)
    assert max(heads) == 3
    assert max(neurons) <= 23
    if not learnt:
        assert heads[1] == 3
    at_least_two = at_once(given_settings("heads", scope="global", min_heads=2), num_hidden_layers=3)[0]
    assert gone(at_least_two, "heads") == [2, 2, 2]


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["heads", "neurons", "weights", "heads+neurons", "neurons+weights", "heads+neurons+weights"]),
    st.floats(0, 0.75, allow_subnormal=False),
    st.sampled_from(["layer", "global"]),
)
def test_any_share_of_any_target_is_met_exactly(target: str, share: float, scope: str) -> None:
    model, pruning = at_once(given_settings(target, sparsity=share, scope=scope))
    for kind, units in (("heads", 4), ("neurons", 24)):
        counts = gone(model, kind)
        floor = int(share * units * (1 if scope == "layer" else 2) + 1e-9) if kind in target else 0
        assert sum(counts) == (2 * floor if scope == "layer" else floor)
        assert scope == "global" or counts == [floor, floor]
    removed = without_units(model, pruning)
    counts = [round(share * size) for size in sizes(removed)]
    if "weights" in target and scope == "layer":
        assert zeros(removed) == counts
    elif "weights" in target:
        assert sum(zeros(removed)) == round(share * sum(sizes(removed)))
    else:
        assert sum(zeros(removed)) == 0
    assert all(not model.get_parameter(name)[~mask].any() for name, mask in kept_weights(model, pruning).items())


@pytest.mark.parametrize("kind", ["bert", "modernbert", "gpt2"])
@pytest.mark.parametrize("importance", ["magnitude", "activation"])
def test_two_of_four_is_the_pattern_of_what_is_left(kind: str, importance: str) -> None:
    model, pruning = at_once(given_settings("heads+neurons+two_four", importance=importance), kind)
    model = without_units(model, pruning)
    assert sizes_of(model.encoder) == {"heads": [2, 2], "neurons": [12, 12]}
    for matrix in matrices_of(model, model.encoder):
        fours = model.get_parameter(matrix.parameter).detach().movedim(matrix.inputs, -1).unflatten(-1, (-1, 4))
        assert bool(((fours == 0).sum(-1) == 2).all())
    assert pruning.skipped == {}


def test_two_of_four_skips_matrices_whose_inputs_are_no_multiple_of_four() -> None:
    model, pruning = at_once(given_settings("two_four"), intermediate_size=22)
    names = [f"encoder.encoder.layer.{layer}.output.dense.weight" for layer in range(2)]
    assert pruning.skipped == dict.fromkeys(names, 22)
    for matrix, found, size in zip(matrices_of(model, model.encoder), zeros(model), sizes(model), strict=True):
        assert found == (0 if matrix.parameter in names else size // 2)
    assert check_pruning(given_settings("two_four"), model) == []


def test_the_classifier_goes_only_if_asked() -> None:
    for classifier in (False, True):
        model, pruning = at_once(given_settings("weights", classifier=classifier))
        assert zeros(model, True)[-1] == (24 if classifier else 0)
        assert pruning.report()["sparsity.weights"] == 0.5


def test_gradients_of_pruned_weights_do_not_count() -> None:
    session = Session(given_settings("weights"), 0).run()
    for parameter in session.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    session.pruning.mask_gradients()
    for name, mask in kept_weights(session.model, session.pruning).items():
        assert torch.equal(session.model.get_parameter(name).grad, mask.float())  # type: ignore[arg-type]


def test_gates_choose_by_what_they_learnt_and_become_weights() -> None:
    session = Session(given_settings(**CASES["gates"]), TOTAL)
    for step in range(TOTAL):
        session.step(step)
        assert session.pruning.kept_units() == {}
        assert session.pruning.report()["sparsity.heads"] == 0
    learnt = tensors(session.pruning.state()["gates"])["log_alpha"]
    session.pruning.complete()
    for name, kept in session.pruning.kept_units().items():
        assert float(learnt[name][kept].min()) >= float(learnt[name][~kept].max())
    assert not any(module._forward_pre_hooks for module in session.model.modules())
    assert session.pruning.penalty() is None


@pytest.mark.parametrize("kind", ["l1", "group"])
def test_a_regulariser_draws_what_is_left_towards_zero(kind: str) -> None:
    def size(regulariser: str) -> float:
        session = Session(given_settings(**CASES["magnitude weights"]), TOTAL, regulariser=regulariser)
        model = session.run().model
        return sum(
            float(model.get_parameter(each.parameter).detach().abs().sum())
            for each in matrices_of(model, model.encoder)
        )

    assert size(kind) < size("none")


def test_completing_twice_changes_nothing() -> None:
    session = Session(given_settings(**CASES["movement all"]), TOTAL).run()
    before = copy.deepcopy(session.state())
    session.pruning.complete()
    after = session.state()
    assert all(torch.equal(value, after["weights"][name]) for name, value in before["weights"].items())
    assert str(before["pruning"]) == str(after["pruning"])


def test_a_lottery_ticket_has_its_first_weights_where_it_was_not_pruned() -> None:
    first = {name: value.clone() for name, value in text_model().state_dict().items()}
    session = Session(given_settings(**CASES["magnitude weights"]), TOTAL).run()
    session.model.load_state_dict(first)
    session.pruning.after_step()
    session.pruning.check_held()
    masks = kept_weights(session.model, session.pruning)
    assert all(
        torch.equal(value, first[name] * masks.get(name, 1)) for name, value in session.model.state_dict().items()
    )


def test_a_weight_that_is_not_zero_any_more_is_found() -> None:
    model, pruning = at_once(given_settings("weights"))
    name, mask = next(iter(kept_weights(model, pruning).items()))
    model.get_parameter(name).data[~mask] = 1e-30
    with pytest.raises(AssertionError, match=name):
        pruning.check_held()


def test_nothing_is_pruned_without_a_target() -> None:
    session = Session(given_settings("none", epochs=1), 3).run()
    assert stays(session.model, session.pruning) == {}
    assert session.pruning.report() == {"sparsity.weights": 0, "sparsity.heads": 0, "sparsity.neurons": 0}
