"""The rules of the house that a machine can check: imports, sizes, words, and the pages that go with the code."""

import ast
import graphlib
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from jsonschema.validators import validator_for

from raysweep.engine import checkpoint, inline
from raysweep.journal import DURABLE, FILE, Journal, Kind, records
from raysweep.model_folder import seal
from raysweep.proof import prove
from raysweep.recipe import configure, find
from raysweep.schema import sweep_schema
from raysweep.sweep import Sweep
from raysweep.sweep_file import SweepFile, load_sweep
from raysweep.trial import Trial
from raysweep.yaml_file import parse_yaml

ROOT = Path(__file__).parents[2]
PLATFORM, RECIPES = ROOT / "platform", ROOT / "trainables"
SOURCES = sorted([*PLATFORM.rglob("*.py"), *RECIPES.rglob("*.py")])
RECIPE_NAMES = sorted(found.name for found in pkgutil.iter_modules([str(RECIPES)]) if not found.ispkg)
SWEEP_FILES = sorted((ROOT / "search_spaces").rglob("*.yaml"))
SCHEMA = ROOT / "docs" / "sweep.schema.json"

# From the top down: a module or package of raysweep imports only what stands in a lower row.
LAYERS = [
    {"cli"},
    {"run"},
    {"engine", "registry", "report"},
    {"logged_model", "proof", "sweep", "sweep_file", "track"},
    {"misfits", "overrides", "schedule", "schema", "search", "sweep_folder"},
    {"evidence", "model_folder", "predictions", "recipe", "resource_usage", "space"},
    {"energy", "needs", "patterns", "spec", "validation", "yaml_file"},
    {"garbage", "interrupt", "journal", "measure", "problems", "trial"},
    {"hardware"},
]
# Run where raysweep is not: inside a registered model, and in the process that tries whether one loads.
ALONE = {"raysweep/served_model.py", "raysweep/verify_model.py"}
# Libraries that are slow to import, or must be able to be missing or replaced: where alone they may be imported.
PLACES = {
    "ray": {"raysweep/engine/"},
    "mlflow": {"raysweep/track/mlflow.py", "raysweep/registry.py", "raysweep/logged_model.py", *ALONE},
    "wandb": {"raysweep/track/wandb.py", "raysweep/track/wandb_file.py"},
    "optuna": {"raysweep/search.py", "raysweep/space/"},
    "plotly": {"raysweep/report/"},
    "typer": {"raysweep/cli.py"},
    "pynvml": {"raysweep/energy.py"},
}
NEVER = {"torch", "transformers", "sentence_transformers", "datasets", "perforatedai", "trainables"}
FOR_RECIPES = {f"raysweep.{name}" for name in ("trial", "recipe", "problems", "measure", "needs", "resource_usage")}
MOST_LINES, LONGEST_FUNCTION = 300, 60
# One word for one thing; these say nothing.
NOT_OUR_WORDS = {"util", "utils", "helper", "helpers", "manager", "managers", "controller", "controllers"}
RAYS_WORDS = {"tune_controller"}  # a parameter of the methods of Ray's that we replace


def name_of(file: Path) -> str:
    """The module that a file is."""
    folder = PLATFORM if file.is_relative_to(PLATFORM) else ROOT
    return ".".join(file.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(file): file for file in SOURCES}


def imports(file: Path) -> set[str]:
    """Every module that a file imports, also inside of functions; `from package import module` is the module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            inner = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {path if path in MODULES else str(node.module) for path in inner.values()}
    return found


def top(module: str) -> str:
    return module.partition(".")[0]


def shown(file: Path) -> str:
    return str(file.relative_to(PLATFORM if file.is_relative_to(PLATFORM) else ROOT))


def test_the_platform_knows_no_framework_and_no_recipe() -> None:
    users = {shown(file): NEVER & set(map(top, imports(file))) for file in PLATFORM.rglob("*.py")}
    assert {file: found for file, found in users.items() if found} == {}


@pytest.mark.parametrize("library", PLACES)
def test_a_library_is_imported_in_its_places_alone(library: str) -> None:
    users = {shown(file) for file in PLATFORM.rglob("*.py") if library in map(top, imports(file))}
    assert {file for file in users if not file.startswith(tuple(PLACES[library]))} == set()
    assert all(any(file.startswith(place) for file in users) for place in PLACES[library]), "a place without a use"


def unit(module: str) -> str:
    """The module or package directly in raysweep that a module belongs to."""
    return module.split(".")[1]


def test_imports_point_one_way() -> None:
    row = {name: place for place, names in enumerate(LAYERS) for name in names}
    upwards = []
    for module, file in MODULES.items():
        if top(module) != "raysweep" or module == "raysweep" or shown(file) in ALONE:
            continue
        for other in imports(file) & (MODULES.keys() - {"raysweep"}):
            known = top(other) == "raysweep" and shown(MODULES[other]) not in ALONE
            if known and unit(other) != unit(module) and row[unit(other)] <= row[unit(module)]:
                upwards.append(f"{module} imports {other}")
    assert upwards == []
    placed = {unit(name) for name, file in MODULES.items() if "raysweep." in name and shown(file) not in ALONE}
    assert set(row) == placed, "each module has its row in LAYERS"


@pytest.mark.parametrize("file", sorted(ALONE))
def test_what_runs_without_raysweep_does_not_import_it(file: str) -> None:
    assert "raysweep" not in set(map(top, imports(PLATFORM / file)))


def test_no_modules_of_the_platform_import_each_other_in_a_ring() -> None:
    ours = {module for module in MODULES if top(module) == "raysweep"}
    graph = {module: imports(MODULES[module]) & ours - {module} for module in ours}
    assert set(graphlib.TopologicalSorter(graph).static_order()) == ours


@pytest.mark.parametrize("file", sorted(RECIPES.rglob("*.py")), ids=shown)
def test_recipes_import_the_contract_and_their_parts_alone(file: Path) -> None:
    ours = {module for module in imports(file) if top(module) in ("raysweep", "trainables")}
    assert {module for module in ours - FOR_RECIPES if not module.startswith("trainables.parts")} == set()


@pytest.mark.parametrize("name", RECIPE_NAMES)
def test_what_travels_with_a_model_needs_no_raysweep(name: str) -> None:
    loader = re.search(r'^LOADER = "(.+):\w+"$', (RECIPES / f"{name}.py").read_text(), re.MULTILINE)
    assert loader, "LOADER is a plain text"
    reached, waiting = set[str](), [loader[1]]
    while waiting:
        module = waiting.pop()
        parents = {module.rsplit(".", cut)[0] for cut in range(module.count(".") + 1)}
        new = parents & MODULES.keys() - reached
        reached |= new
        waiting += [other for each in new for other in imports(MODULES[each])]
    assert loader[1] in reached
    assert {module for module in reached if top(module) == "raysweep"} == set()


def test_the_platform_names_no_recipe() -> None:
    named = re.compile(rf"\b({'|'.join(RECIPE_NAMES)})\b", re.IGNORECASE)
    assert {shown(file): found for file in PLATFORM.rglob("*.py") if (found := named.findall(file.read_text()))} == {}


def test_platform_is_the_standard_librarys() -> None:
    assert not (PLATFORM / "__init__.py").exists()
    assert not (RECIPES / "__init__.py").exists(), "then no other folder could add recipes"
    command = [sys.executable, "-c", "import platform, uuid; print(platform.__file__)"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    for place in (sys.modules["platform"].__file__, found):
        assert place is not None
        assert not Path(place).is_relative_to(ROOT)


@pytest.mark.parametrize("file", SOURCES, ids=shown)
def test_files_and_functions_are_short(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


def names_given(tree: ast.AST) -> Iterator[str]:
    """Every name that this code gives to something."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.arg():
                yield node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.attr
            case ast.alias(asname=str(name)):
                yield name


def words(name: str) -> set[str]:
    """`sweepManager` and `sweep_manager` both hold `manager`."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


@pytest.mark.parametrize("file", SOURCES, ids=shown)
def test_names_say_something(file: Path) -> None:
    given = {*names_given(ast.parse(file.read_text())), *file.relative_to(ROOT).with_suffix("").parts} - RAYS_WORDS
    assert {name for name in given if words(name) & NOT_OUR_WORDS} == set()


def test_nothing_is_left_for_later() -> None:
    mark = re.compile("TO" + "DO|FIX" + "ME|XX" + "X")
    folders = ("platform", "trainables", "tests", "benchmarks", "search_spaces", "cluster", "docs")
    files = [file for name in folders for kind in ("py", "yaml", "md") for file in (ROOT / name).rglob(f"*.{kind}")]
    assert [shown(file) for file in files if mark.search(file.read_text())] == []


def test_the_schema_for_editors_is_current() -> None:
    wanted = json.dumps(sweep_schema(RECIPE_NAMES), indent=2) + "\n"
    assert wanted == SCHEMA.read_text(), "renew it: raysweep schema > docs/sweep.schema.json"


@pytest.mark.parametrize("file", SWEEP_FILES, ids=lambda file: file.stem)
def test_an_editor_finds_the_schema_of_a_sweep_file_and_no_fault(file: Path) -> None:
    text = file.read_text()
    header = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", text.splitlines()[0])
    assert header
    assert (file.parent / header[1]).resolve() == SCHEMA
    schema = json.loads(SCHEMA.read_text())
    faults = validator_for(schema)(schema).iter_errors(parse_yaml(text, str(file)).data)
    assert [fault.message for fault in faults] == []


def test_the_page_of_the_architecture_knows_every_module_and_record() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    named = {path.removesuffix(".py").rstrip("/") for path in re.findall(r"`([a-z_]+(?:\.py|/))`", page)}
    modules = {file.stem for file in PLATFORM.rglob("*.py") if file.name != "__init__.py"}
    assert (modules | set().union(*LAYERS)) - named == set()
    kinds = dict(re.findall(r"^\| `([a-z]+)`(\*?) \| .+ \| .+ \|$", page.partition("## The journal")[2], re.MULTILINE))
    assert kinds.keys() == set(get_args(Kind))
    assert {kind for kind, star in kinds.items() if star} == DURABLE


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SweepFile]:
    """The recipe and the sweep of docs/writing_a_recipe.md, in a folder of their own; a sweep of two trials."""
    page = (ROOT / "docs" / "writing_a_recipe.md").read_text()
    (tmp_path / "trainables").mkdir()
    for language, name in (("python", "trainables/linear_map.py"), ("yaml", "linear_map.yaml")):
        (block,) = re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        (tmp_path / name).write_text(block)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield load_sweep(tmp_path / "linear_map.yaml", ["budget.trials=2", "confirm.seeds=[5]", "scheduler.type=fifo"])
    sys.modules.pop("trainables.linear_map", None)


def test_the_recipe_of_the_page_is_swept_and_proven(example: SweepFile, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    journal = Journal(folder / FILE)
    inline.run(Sweep(example.spec, example.space, journal), folder)
    found = records(journal.path)
    assert [record["outcome"] for record in found if record["kind"] == "finished"] == ["complete"] * 4
    proven = prove(found, example.spec, folder)
    assert proven is not None
    assert [arm["arm"] for arm in proven["arms"]] == ["finalist-1", "widest"]
    model = seal(folder / "trials" / proven["champion"] / "model", example.recipe.LOADER).path
    told = json.loads((model / "verify.json").read_text())
    served = pkgutil.resolve_name(example.recipe.LOADER)(model)
    assert np.abs(served(told["texts"]) - np.array(told["outputs"])).max() < 1e-5


def test_the_recipe_of_the_page_goes_on_where_it_stopped(example: SweepFile, tmp_path: Path) -> None:
    recipe, saved = find("linear_map"), tmp_path / checkpoint.FILE
    trial = Trial("t0000", configure(recipe, {"epochs": 3, "width": 8}), 1, tmp_path, tmp_path / "shared")
    whole = []
    for report in recipe.train(trial):
        whole.append((report.step, report.metrics))
        if report.step == 1:
            checkpoint.save(report.state(), saved)
    rest = recipe.train(replace(trial, restored=checkpoint.load(saved)))
    assert [(report.step, report.metrics) for report in rest] == whole[1:]
