"""What both backends promise of a model that grows: rollback of all of it, exact resume, seeds, names, plain export."""

import importlib.util
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from tests.growing import BEST, GROWN, SCORES, Net, Training, chosen, equal, weights
from trainables.parts import optim
from trainables.parts.dendrites import structure
from trainables.parts.dendrites.growth import start_growth

INSTALLED = importlib.util.find_spec("perforatedai") is not None
needs_package = pytest.mark.skipif(not INSTALLED, reason="the package perforatedai is not installed")
BACKENDS = ["native", pytest.param("perforatedai", marks=needs_package)]


@pytest.fixture(autouse=True)
def _one_thread():
    """Sums depend on how they are split over threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-m", "tests.growing", backend, str(tmp_path)], check=True, env=os.environ | paths)
    trace, final = pickle.loads((tmp_path / "result").read_bytes())
    assert trace == whole.trace[epoch:]
    assert equal(final, weights(whole.growth.plain()))


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
