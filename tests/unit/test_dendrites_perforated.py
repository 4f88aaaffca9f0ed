"""What only the perforatedai backend can get wrong: the package's globals, files, prints, prompts, mathematics."""

import os
import pdb  # noqa: T100  only to see that it is left as it was
import re
import sys

import numpy as np
import pytest
import torch
from torch import nn

from raysweep.problems import UserError
from trainables.parts.dendrites import DendriticLayer, structure
from trainables.parts.dendrites.growth import check, start_growth
from trainables.parts.dendrites.plateau import Plateau
from trainables.parts.dendrites.settings import DendriteSettings

pytestmark = pytest.mark.filterwarnings("ignore")


def chosen(**given):
    return DendriteSettings.model_validate({"enabled": True, "backend": "perforatedai", "patience": 2} | given)


@pytest.fixture
def package():
    return pytest.importorskip("perforatedai", reason="the package perforatedai is not installed")


def test_missing_package_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "perforatedai", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError) as told:
        start_growth(chosen(), nn.Sequential(nn.Linear(2, 2)), ["0"], 0, tmp_path)
    assert re.search(r"but perforatedai, .*matplotlib.* cannot be imported", str(told.value))
    assert "pip install --no-deps perforatedai && pip install 'raysweep[perforatedai]'" in str(told.value)


def test_perforatedbp_is_refused(monkeypatch, tmp_path):
    (tmp_path / "perforatedbp.py").write_text("raise AssertionError('must not be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert any("licence" in str(problem) and "uninstall perforatedbp" in str(problem) for problem in check(chosen()))
    assert "perforatedbp" not in sys.modules


def test_nobody_else_needs_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "perforatedai", None)
    assert check(chosen(backend="native")) == check(chosen(enabled=False)) == []


def grow(model, layers, folder, dendrites, x, **given):
    """Grow by rising and resting scores, with a training step before each so that the best differs from the last."""
    growth = start_growth(chosen(max_dendrites=dendrites + 1, **given), model, layers, 0, folder)
    optimizer, score = torch.optim.SGD(model.parameters(), lr=0.01), 0
    while growth.dendrites < dendrites:
        for rise in (1, 2, 2, 2):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
            if growth.report(float(score + rise)) == "grown":
                optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        score += 2
    return growth


def randomise(model):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel():
                parameter.normal_(generator=torch.Generator().manual_seed(parameter.numel()))


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize("dendrites", [1, 2, 3])
@pytest.mark.parametrize("shape", [(6, 5), (2, 3, 5)])
def test_same_mathematics_as_the_native_layer(package, dendrites, activation, shape, tmp_path):
    model, x = nn.Sequential(nn.Linear(5, 4)), torch.randn(shape)
    growth = grow(model, ["0"], tmp_path, dendrites, x, activation=activation)
    randomise(model)
    plain = growth.plain()
    assert structure(plain) == {"0": {"dendrites": dendrites, "activation": activation}}
    assert (plain(x) - model(x)).abs().max() == 0.0
    model.zero_grad()
    upstream = torch.randn_like(model(x))
    for either in (model, plain):
        either(x).backward(upstream)
    core = model[0].inner.main_module
    torch.testing.assert_close(plain[0].core.weight.grad, core.weight.grad)
    torch.testing.assert_close(plain[0].dendrites[0].top.grad, model[0].inner.dendrites_to_top[dendrites - 1].grad[0])


def test_plain_model_is_plain_torch(package, tmp_path):
    growth = grow(model := nn.Sequential(nn.Linear(5, 4)), ["0"], tmp_path, 1, torch.randn(3, 5))
    plain = growth.plain()
    assert {type(module).__module__.split(".")[0] for module in plain.modules()} == {"torch", "trainables"}
    shared = {parameter.data_ptr() for parameter in model.parameters()}
    assert not shared & {parameter.data_ptr() for parameter in plain.parameters()}
    assert isinstance(plain[0], DendriticLayer)


def test_count_without_the_packages_duplicates(package, tmp_path):
    """The package counts the superseded tops [1, 384] and the unused candidates [1, 384] too, and 147,840 twice."""
    from perforatedai import utils_perforatedai as theirs

    model, x = nn.Sequential(nn.Linear(384, 384)), torch.randn(2, 384)
    growth = grow(model, ["0"], tmp_path, 2, x)
    assert growth.parameters() == 444_672
    assert theirs.count_params(model) == 445_440
    assert sum(parameter.numel() for parameter in model.parameters()) == 593_280


def test_unheard_of_scores_are_survived(package, tmp_path):
    """As the package has it, 0 is no score, and one NaN hides every later one."""
    model = nn.Sequential(nn.Linear(2, 2))
    growth = start_growth(chosen(max_dendrites=1), model, ["0"], 0, tmp_path)
    said = []
    kept = []
    for score in (float("nan"), -2.0, -1.0, float("nan"), 0.0, 0.0, float("nan")):
        model(torch.ones(1, 2)).sum().backward()
        said.append(growth.report(score))
        kept.append(growth.best)
    assert said == ["go on"] * 6 + ["grown"]
    assert kept == [None, -2.0, -1.0, -1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "given",
    [
        {"max_dendrites": 3, "max_tries": 1},
        {"max_dendrites": 1, "max_tries": 3, "patience": 3},
        {"max_dendrites": 3, "max_tries": 1, "switch": "fixed", "every": 5},
        {"max_dendrites": 0},
    ],
)
def test_grows_when_the_native_backend_does(package, given, tmp_path):
    """Over scores that the package does not treat in its own way: each growth begins with a lower one."""
    rng, told = np.random.default_rng(3), []

    def scores():
        for _ in range(100):
            begins = not told or told[-1] == "grown"
            yield -100.0 if begins else rng.integers(1, 16) / 4

    for _ in range(4):
        told = []
        model = nn.Sequential(nn.Linear(2, 2))
        growth, plateau = start_growth(chosen(**given), model, ["0"], 0, tmp_path), Plateau(chosen(**given))
        for score in scores():
            model(torch.ones(1, 2)).sum().backward()
            expected = plateau.report(score)[1]
            told.append(growth.report(score))
            assert (told[-1], growth.dendrites) == ({"grow": "grown"}.get(expected, expected), plateau.dendrites)
            if told[-1] == "done":
                break
        assert told[-1] == "done"


@pytest.mark.parametrize(
    ("backend", "ending"), [("native", [(16, "grown"), (20, "done")]), ("perforatedai", [(16, "done")])]
)
def test_a_growth_that_helped_at_its_second_try_costs_the_next_a_try(package, backend, ending, tmp_path):
    """The package reads the count of tries back from the file of the best model, which was written in the second."""
    model = nn.Sequential(nn.Linear(2, 2))
    growth = start_growth(chosen(backend=backend), model, ["0"], 0, tmp_path)
    scores, told = [1, 2, 2, 2, 0, 1, 1, 1, 0, 3, 3, 3, 0, 1, 1, 1, 0, 1, 1, 1], []
    for step, score in enumerate(scores, 1):
        model(torch.ones(1, 2)).sum().backward()
        told.append((step, growth.report(float(score))))
        if told[-1][1] == "done":
            break
    assert [entry for entry in told if entry[1] != "go on"] == [(4, "grown"), (8, "grown"), (12, "grown"), *ending]


def test_two_in_turn_do_not_disturb_each_other(package, tmp_path):
    """The package keeps activation and tracker in globals."""
    x, models, growths = torch.randn(3, 5), [], []
    for index, activation in enumerate(("relu", "tanh")):
        models.append(nn.Sequential(nn.Linear(5, 4)))
        growths.append(grow(models[-1], ["0"], tmp_path / str(index), 1, x, activation=activation))
        randomise(models[-1])
    for _ in range(2):
        for model, growth in zip(models, growths, strict=True):
            assert torch.equal(model(x), growth.plain()(x))
            growth.report(0.5)
    assert not torch.equal(models[0](x), models[1](x))


def test_quiet_and_tidy(package, tmp_path, monkeypatch, capfd):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("RANK", "1")  # with which the package writes no files, but reads them
    before = pdb.set_trace, input, sys.stdout
    growth = grow(nn.Sequential(nn.Linear(2, 2)), ["0"], tmp_path / "trial", 2, torch.ones(1, 2))
    start_growth(chosen(), nn.Sequential(nn.Linear(2, 2)), ["0"], 0, tmp_path / "other").restore(growth.state())
    assert list(elsewhere.iterdir()) == []
    assert [path.name for path in (tmp_path / "trial").iterdir()] == ["perforatedai"]
    assert capfd.readouterr() == ("", "")
    assert (pdb.set_trace, input, sys.stdout) == before
    assert os.environ["RANK"] == "1"


def test_giving_up_becomes_an_exception(package, tmp_path):
    """A layer that never gets a gradient makes the package open its debugger, which would wait for ever."""
    from trainables.parts.dendrites.session import PerforatedError

    growth = start_growth(chosen(patience=1), nn.Sequential(nn.Linear(2, 2)), ["0"], 0, tmp_path)
    assert [growth.report(1.0) for _ in range(2)] == ["go on", "go on"]
    with pytest.raises(PerforatedError, match="missing from the state dict"):
        growth.report(1.0)


def test_state_holds_only_what_a_checkpoint_can(package, tmp_path):
    def leaves(state):
        nested = state.values() if isinstance(state, dict) else state if isinstance(state, list) else None
        return [state] if nested is None else [leaf for inner in nested for leaf in leaves(inner)]

    growth = grow(nn.Sequential(nn.Linear(2, 2)), ["0"], tmp_path, 1, torch.ones(1, 2))
    allowed = (bool, int, float, str, np.ndarray, type(None))
    assert all(isinstance(leaf, allowed) for leaf in leaves(growth.state()))
