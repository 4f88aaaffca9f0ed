"""When dendrites grow, and what both backends promise of a model that grows."""

import importlib.util
import math
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from raysweep.trial import State
from torch import nn

from trainables.parts import optim
from trainables.parts.dendrites import structure
from trainables.parts.dendrites.growth import Growth, start_growth
from trainables.parts.dendrites.plateau import Plateau
from trainables.parts.dendrites.settings import DendriteSettings
from trainables.parts.state import arrays, random_state, set_random_state

INSTALLED = importlib.util.find_spec("perforatedai") is not None
needs_package = pytest.mark.skipif(not INSTALLED, reason="the package perforatedai is not installed")
BACKENDS = ["native", pytest.param("perforatedai", marks=needs_package)]


def chosen(**given):
    return DendriteSettings.model_validate({"enabled": True, "patience": 2} | given)


# When to grow


def actions(scores, **given):
    """What a plateau says to `scores`; ends with the first "done"."""
    plateau, said = Plateau(chosen(**given)), []
    for score in scores:
        said.append(plateau.report(score)[1])
        if said[-1] == "done":
            break
    return said


def steps(scores, **given):
    """The steps (from 1) at which something happens."""
    return [(step, action) for step, action in enumerate(actions(scores, **given), 1) if action != "go on"]


def test_patience_counts_steps_without_a_better_score():
    assert steps([1, 2, 2, 3, 3, 3, 3], patience=3) == [(7, "grow")]
    assert steps(range(20), patience=1) == []


def test_patience_starts_again_after_a_growth_from_a_lower_score():
    assert steps([5, 5, 5, 1, 2, 3, 4, 4, 4]) == [(3, "grow"), (9, "grow")]


def test_a_growth_that_helps_gets_the_next_and_max_dendrites_ends_it():
    assert steps([1, 1, 1, 2, 2, 2, 3, 3, 3], max_dendrites=2) == [(3, "grow"), (6, "grow"), (9, "done")]


@pytest.mark.parametrize("tries", [1, 2, 3])
def test_a_growth_that_does_not_help_is_tried_again(tries):
    growths = [(3 * number, "grow") for number in range(1, tries + 1)]
    assert steps([1] * 30, max_tries=tries) == [*growths, (3 * (tries + 1), "done")]


def test_a_growth_that_helps_makes_all_tries_available_again():
    scores = [1, 1, 1, 0, 0, 0, 2, 2, 2, 0, 0, 0, 0, 0, 0]
    assert steps(scores, max_tries=2) == [(3, "grow"), (6, "grow"), (9, "grow"), (12, "grow"), (15, "done")]


def test_without_dendrites_the_plateau_is_the_end():
    assert steps([1, 2, 2, 2], max_dendrites=0) == [(4, "done")]


def test_disabled_never_grows_and_never_ends():
    assert steps([1] * 50, enabled=False) == []


def test_fixed_grows_on_the_step_whatever_the_scores():
    assert steps(range(20), switch="fixed", every=4) == [(4, "grow"), (8, "grow"), (12, "done")]
    assert steps([3] * 20, switch="fixed", every=4) == [(4, "grow"), (8, "grow"), (12, "done")]


def test_absolute_threshold_must_be_passed():
    assert steps([0.5, 0.625, 0.625], threshold=0.125, patience=1) == [(2, "grow")]
    assert steps([0.5, 0.625, 0.625], threshold=0.124, patience=1) == [(3, "grow")]


def test_small_steps_add_up_against_the_best_so_far():
    assert steps([0, 1, 2, 3], threshold=2.5) == [(3, "grow")]
    assert steps([0, 1, 2, 3], threshold=2.5, patience=3) == []
    assert steps([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], threshold=1.5) == []


@pytest.mark.parametrize("sign", [1, -1])
def test_relative_threshold_is_a_share_of_the_size_of_the_best(sign):
    relative = {"threshold": 0.25, "threshold_mode": "relative", "patience": 1}
    assert steps([sign * 8, sign * 8 + 2], **relative) == [(2, "grow")]
    assert steps([sign * 8, sign * 8 + 2.5], **relative) == []


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_never_the_best(bad):
    plateau = Plateau(chosen())
    assert [plateau.report(score) for score in (bad, 1.0, bad)] == [(False, "go on"), (True, "go on"), (False, "go on")]
    assert plateau.report(bad) == (False, "grow")
    assert plateau.best == 1.0


def test_without_any_finite_score_nothing_grows():
    assert steps([math.nan] * 30) == []


def test_nothing_is_reported_after_the_end():
    plateau = Plateau(chosen(max_dendrites=0))
    for _ in range(3):
        plateau.report(0.0)
    with pytest.raises(AssertionError, match="done"):
        plateau.report(0.0)


plans = st.fixed_dictionaries(
    {
        "patience": st.integers(1, 4),
        "max_dendrites": st.integers(0, 3),
        "max_tries": st.integers(1, 3),
        "switch": st.sampled_from(["history", "fixed"]),
        "every": st.integers(1, 4),
        "threshold": st.sampled_from([0.0, 0.25, 1.0]),
    }
)
eighths = st.integers(-40, 40).map(lambda number: number / 8)  # exact in binary, so that sums are exact


@given(plan=plans, scores=st.lists(eighths | st.just(math.nan), max_size=60), shift=st.integers(-9, 9))
@settings(deadline=None)
def test_zero_and_sign_mean_nothing(plan, scores, shift):
    assert actions(scores, **plan) == actions([score + shift for score in scores], **plan)


@given(plan=plans, scores=st.lists(eighths | st.just(math.nan), max_size=60), cut=st.integers(0, 60))
@settings(deadline=None)
def test_a_restored_plateau_goes_on_the_same(plan, scores, cut):
    whole = actions(scores, **plan)
    first, second = Plateau(chosen(**plan)), Plateau(chosen(**plan))
    said = [first.report(score)[1] for score in scores[: min(cut, len(whole))]]
    second.restore(first.state())
    said += [second.report(score)[1] for score in scores[len(said) : len(whole)]]
    assert said == whole


@given(plan=plans, scores=st.lists(eighths | st.just(math.nan), max_size=60))
@settings(deadline=None)
def test_bounds_hold_whatever_the_scores(plan, scores):
    plateau, growths, kept = Plateau(chosen(**plan)), 0, -math.inf
    for score in scores:
        best, action = plateau.report(score)
        assert best == (math.isfinite(score) and (kept == -math.inf or score > kept + plan["threshold"]))
        kept = score if best else kept
        growths += action == "grow"
        assert plateau.dendrites <= plan["max_dendrites"]
        assert growths <= plan["max_dendrites"] * plan["max_tries"]
        if action == "done":
            assert plateau.dendrites == plateau.best_dendrites
            break


@pytest.mark.parametrize(
    "given", [{"freeze_old": True}, {"switch": "fixed", "every": 1}, {"patience": 0}, {"threshold": "1e-4"}]
)
def test_settings_that_cannot_work_are_refused(given):
    with pytest.raises(ValidationError, match=next(iter(set(given) - {"switch"}))):
        chosen(backend="perforatedai", **given)


# A model that grows, by either backend

# With patience 2, two dendrites and two tries: grows after 5, 9 and, because the second dendrite did not help, 13; the
# best are the models of epochs 3, 7, 7 and, at the end after 17, 15. No first score of a growth is the best after it,
# so perforatedai, which leaves those out, does the same.
SCORES = [1, 2, 3, 3, 3, 2, 4, 4, 4, 1, 2, 2, 2, 1, 5, 5, 5]
GROWN = {5: 1, 9: 2, 13: 2}
BEST = {5: 3, 9: 7, 13: 7, 17: 15}


@pytest.fixture(autouse=True)
def _one_thread():
    """Sums depend on how they are split over threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Net(nn.Module):
    """An encoder with statistics and dropout, and a head that grows."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.1))
        self.head = nn.ModuleDict({"linear": nn.Linear(5, 3)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head["linear"](self.encoder(x))
        return y


class Training:
    """A loop as a recipe has it, but with `SCORES`. `trace` keeps what each epoch did."""

    def __init__(self, backend: str, folder: Path, seed: int = 0, **given: object) -> None:
        self.model = Net(seed)
        settings = chosen(backend=backend, init_scale=0.3, **given)
        self.growth: Growth = start_growth(settings, self.model, ["head.linear"], 5, folder)
        self.optimizer, self.epoch, self.trace = self.fresh(), 0, []
        rng = np.random.default_rng(0)
        self.x = torch.from_numpy(rng.normal(size=(48, 6)).astype(np.float32))
        self.y = torch.from_numpy(rng.integers(0, 3, 48))

    def fresh(self) -> torch.optim.Optimizer:
        return optim.adamw(self.model, 0.03, 0.01, self.growth.added(), 2.0)

    def run_epoch(self) -> str:
        for rows in torch.randperm(48).split(16):
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.model(self.x[rows]), self.y[rows]).backward()
            self.optimizer.step()
        loss = nn.functional.cross_entropy(self.outputs(), self.y).item()
        action = self.growth.report(SCORES[self.epoch])
        self.epoch += 1
        if action == "grown":
            old, self.optimizer = self.optimizer, self.fresh()
            optim.carry_over(old, self.optimizer, self.growth.newest())
        self.trace.append((loss, action, self.growth.dendrites, self.growth.parameters()))
        return action

    @torch.no_grad()
    def outputs(self) -> torch.Tensor:
        self.model.eval()
        y: torch.Tensor = self.model(self.x)
        self.model.train()
        return y

    def run(self, epochs: int = len(SCORES)) -> "Training":
        while self.epoch < epochs:
            self.run_epoch()
        return self

    def state(self) -> State:
        state = {"growth": self.growth.state(), "optimizer": optim.state(self.optimizer), "random": random_state()}
        stored: State = pickle.loads(pickle.dumps(arrays(state)))
        return stored | {"epoch": self.epoch}

    def restore(self, state: State) -> "Training":
        self.growth.restore(state["growth"])
        self.optimizer = self.fresh()
        optim.restore(self.optimizer, state["optimizer"])
        self.epoch = state["epoch"]
        set_random_state(state["random"])
        return self


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_whole_model_goes_back_to_its_best(backend, tmp_path):
    """Encoder weights and running statistics too: a head with the encoder of another epoch is another model."""
    training, encoders, outputs = Training(backend, tmp_path), {}, {}
    for epoch in range(1, len(SCORES) + 1):
        action = training.run_epoch()
        if action == "go on":
            encoders[epoch], outputs[epoch] = weights(training.model.encoder), training.outputs()
            continue
        assert (action, training.growth.dendrites) == (("grown", GROWN[epoch]) if epoch in GROWN else ("done", 2))
        assert equal(weights(training.model.encoder), encoders[BEST[epoch]])
        assert torch.equal(training.outputs(), outputs[BEST[epoch]])
        assert torch.equal(training.growth.plain().eval()(training.x), outputs[BEST[epoch]])
    assert action == "done"
    assert len({output.sum().item() for output in outputs.values()}) == len(outputs), (
        "every epoch must change the model"
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_resume_at_every_epoch_is_bit_identical(backend, tmp_path):
    whole = Training(backend, tmp_path / "whole")
    states = [whole.state()] + [whole.run(epoch).state() for epoch in range(1, len(SCORES) + 1)]
    for cut, state in enumerate(states):
        torch.manual_seed(1000 + cut)
        again = Training(backend, tmp_path / "again", seed=99).restore(state).run()
        assert again.trace == whole.trace[cut:]
        assert equal(weights(again.growth.plain()), weights(whole.growth.plain()))
        assert same_moments(optim.state(again.optimizer), optim.state(whole.optimizer))


def same_moments(left, right):
    return left.keys() == right.keys() and all(
        np.array_equal(left[name][key], right[name][key]) for name in left for key in left[name]
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("epoch", [13])
def test_resume_in_another_process_is_bit_identical(backend, epoch, tmp_path):
    """Cut right after the second try was grown."""
    whole = Training(backend, tmp_path / "whole").run(epoch)
    (tmp_path / "state").write_bytes(pickle.dumps(whole.state()))
    whole.run()
    subprocess.run([sys.executable, __file__, backend, str(tmp_path)], check=True)
    trace, final = pickle.loads((tmp_path / "result").read_bytes())
    assert trace == whole.trace[epoch:]
    assert equal(final, weights(whole.growth.plain()))


def main(backend: str, folder: Path) -> None:
    torch.set_num_threads(1)
    again = Training(backend, folder / "again", seed=99).restore(pickle.loads((folder / "state").read_bytes())).run()
    (folder / "result").write_bytes(pickle.dumps((again.trace, weights(again.growth.plain()))))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("epoch", "best", "dendrites"), [(1, 1, 0), (4, 3, 0), (6, 3, 0), (12, 7, 1), (16, 15, 2)])
def test_rewind_ends_at_the_best_and_so_does_its_state(backend, epoch, best, dendrites, tmp_path):
    training = Training(backend, tmp_path / "first").run(best)
    outputs = training.outputs()
    training.run(epoch)
    held = training.state()
    training.growth.rewind()
    assert torch.equal(training.outputs(), outputs)
    for state in (held, training.state()):
        again = Training(backend, tmp_path / "again", seed=99)
        again.growth.restore(state["growth"])
        again.growth.rewind()
        assert torch.equal(again.outputs(), outputs)
        assert again.growth.dendrites == training.growth.dendrites == dendrites
        assert again.growth.best == training.growth.best == SCORES[best - 1]
    again.growth.restore(training.growth.state())
    assert torch.equal(again.outputs(), outputs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rewind_before_any_score_changes_nothing(backend, tmp_path):
    training = Training(backend, tmp_path)
    before = training.outputs()
    training.growth.rewind()
    assert torch.equal(training.outputs(), before)


@pytest.mark.parametrize("backend", BACKENDS)
def test_new_dendrites_depend_on_the_seed_and_not_on_global_draws(backend, tmp_path):
    drawn = []
    for noise, seed in ((1, 5), (2, 5), (1, 6)):
        model = Net(0)
        given = chosen(backend=backend, switch="fixed", every=2)
        growth = start_growth(given, model, ["head.linear"], seed, tmp_path)
        for score in (1.0, 2.0):
            model(torch.ones(4, 6)).sum().backward()
            torch.manual_seed(noise)
            before = torch.get_rng_state()
            action = growth.report(score)
            assert torch.equal(torch.get_rng_state(), before)
        assert action == "grown"
        named = dict(model.named_parameters())
        drawn.append([named[name].detach() for name in sorted(growth.newest()) if name.endswith("weight")])
    assert all(map(torch.equal, drawn[0], drawn[1]))
    assert not any(map(torch.equal, drawn[0], drawn[2]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_second_try_draws_other_weights(backend, tmp_path):
    training, tries = Training(backend, tmp_path), []
    for epoch in (9, 13):
        training.run(epoch)
        named = dict(training.model.named_parameters())
        tries.append({name: named[name].detach().clone() for name in training.growth.newest()})
    first, second = tries
    assert first.keys() == second.keys()
    drawn = [name for name in first if first[name].abs().min() > 0]
    assert len(drawn) == 2
    assert not any(torch.equal(first[name], second[name]) for name in drawn)


@pytest.mark.parametrize("backend", BACKENDS)
def test_names_and_count_follow_the_dendrites(backend, tmp_path):
    """The head has 5 * 3 + 3 = 18 parameters; a dendrite adds as many, 3 for its top, and 3 for each earlier one."""
    training = Training(backend, tmp_path)
    base = training.growth.parameters()
    assert base == sum(parameter.numel() for parameter in Net(0).parameters())
    assert training.growth.added() == training.growth.newest() == frozenset()
    for epoch, dendrites in GROWN.items():
        training.run(epoch)
        named, plain = dict(training.model.named_parameters()), training.growth.plain()
        assert training.growth.parameters() == base + (0, 21, 21 + 24)[dendrites]
        assert training.growth.parameters() == sum(parameter.numel() for parameter in plain.parameters())
        assert sum(named[name].numel() for name in training.growth.added()) == training.growth.parameters() - base
        assert structure(plain) == {"head.linear": {"dendrites": dendrites, "activation": "sigmoid"}}
        fresh = set(named) - set(optim.state(training.optimizer))
        assert training.growth.newest() == fresh & training.growth.added() != frozenset()
        training.run(epoch + 1)
        assert training.growth.added() <= set(optim.state(training.optimizer))


@pytest.mark.parametrize("backend", BACKENDS)
def test_plain_without_dendrites_is_the_model_as_it_was_built(backend, tmp_path):
    training = Training(backend, tmp_path)
    training.run_epoch()
    plain = training.growth.plain()
    assert plain.state_dict().keys() == Net(0).state_dict().keys()
    assert type(plain.get_submodule("head.linear")) is nn.Linear
    assert torch.equal(plain.eval()(training.x), training.model.eval()(training.x))
    with torch.no_grad():
        plain.get_submodule("encoder.0").weight.zero_()
    assert training.model.encoder[0].weight.abs().min() > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_sequences_and_several_layers(backend, tmp_path):
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    growth = start_growth(chosen(backend=backend, patience=1), model, ["0", "2"], 0, tmp_path)
    x = torch.randn(3, 5, 4)
    for score in (0.0, 1.0, 1.0):
        model(x).square().sum().backward()
        before = model(x)
        action = growth.report(score)
    assert action == "grown"
    assert torch.equal(model(x), before)
    plain = growth.plain()
    assert {name: told["dendrites"] for name, told in structure(plain).items()} == {"0": 1, "2": 1}
    assert torch.equal(plain(x), model(x))


def test_disabled_keeps_the_best_of_a_plain_model(tmp_path):
    training = Training("native", tmp_path, enabled=False).run(7)
    outputs = training.outputs()
    assert training.model.state_dict().keys() == Net(0).state_dict().keys()
    training.run(13)
    assert [action for _, action, *_ in training.trace] == ["go on"] * 13
    training.growth.rewind()
    assert torch.equal(training.outputs(), outputs)


def test_rewind_in_mid_training_counts_dendrites_anew(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2))
    growth = start_growth(chosen(max_dendrites=1, max_tries=9), model, ["0"], 0, tmp_path)
    said = [growth.report(score) for score in (1, 1, 1)]
    growth.rewind()
    assert (said[-1], growth.dendrites) == ("grown", 0)
    assert [growth.report(score) for score in (2, 2, 2)][-1] == "grown"
    assert growth.dendrites == 1


def test_freeze_old_holds_through_growth_rollback_and_resume(tmp_path):
    def frozen(training):
        return {name for name, value in training.model.named_parameters() if not value.requires_grad}

    first = {f"head.linear.dendrites.0.branch.{part}" for part in ("weight", "bias")}
    training = Training("native", tmp_path, freeze_old=True).run(5)
    assert frozen(training) == set()
    assert frozen(training.run(9)) == frozen(training.run(13)) == first
    again = Training("native", tmp_path, freeze_old=True).restore(training.state())
    assert frozen(again) == first
    before = weights(again.model)
    again.run_epoch()
    changed = {name for name, value in weights(again.model).items() if not torch.equal(before[name], value)}
    assert not changed & first
    assert "head.linear.dendrites.0.top" in changed


def test_bfloat16_model_resumes(tmp_path):
    model, twin = (nn.Sequential(nn.Linear(3, 2)).to(torch.bfloat16) for _ in range(2))
    growth = start_growth(chosen(patience=1), model, ["0"], 0, tmp_path)
    assert [growth.report(1.0) for _ in range(2)] == ["go on", "grown"]
    again = start_growth(chosen(patience=1), twin, ["0"], 0, tmp_path)
    again.restore(growth.state())
    assert equal(weights(model), weights(twin))
    assert model[0].dendrites[0].top.dtype == torch.bfloat16


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
