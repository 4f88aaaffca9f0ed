"""Groups whose entries the sweep file names: typed as their model is, wherever a setting can stand."""

import json
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field, StringConstraints, model_validator
from typer.testing import CliRunner

from raysweep import cli
from raysweep.problems import Problem, UserError
from raysweep.recipe import DataFacts, RecipeConfig, Settings, configure
from raysweep.space.fields import Fields
from raysweep.sweep_file import SweepFile, sweep_from_record
from tests import toy_sweep
from tests.toy_sweep import Toy, known


class Source(Settings):
    task: Literal["news", "pairs"] = Field("news", description="what is learned")
    rows: int | None = Field(None, ge=1, description="rows at most")


class Task(Settings):
    data: Source = Source()
    loss: Literal["squared", "cosine"] | None = Field(None, description="what is made small")
    weight: float = Field(1.0, gt=0, le=10, description="factor of the loss")

    @model_validator(mode="after")
    def _loss_suits(self) -> "Task":
        if self.loss == "cosine" and self.data.task != "pairs":
            raise ValueError("cosine needs pairs")
        return self


class Config(RecipeConfig):
    tasks: dict[Annotated[str, StringConstraints(pattern="^[a-z_]+$")], Task] = Field(description="by name")
    extra: dict[str, Task] | None = Field(None, description="more of them")
    head: str = ""
    lr: float = Field(1e-3, gt=0, lt=1, description="learning rate")


class Many(Toy):
    """A recipe of several tasks; a task `lost` has no data."""

    Config = Config  # type: ignore[assignment]
    METRICS: ClassVar = {"select.score": "mean of all", "select.*.score": "of one task", "train.loss": "mean loss"}

    def inspect(self, config: Config) -> DataFacts:  # type: ignore[override]
        if "lost" in config.tasks:
            raise UserError([Problem("tasks.lost.data.rows: no data")])
        return DataFacts("many", "made", synthetic=True)


FILE = """\
name: many-tasks
recipe: toy
space:
  tasks:
    topic: {weight: {uniform: [0.1, 1]}, data: {task: news}}
    same.data.task: pairs
  tasks.same: {loss: {choice: [squared, cosine]}}
  tasks.same.weight: {ordinal: [1, 2, 4], when: tasks.same.loss == 'squared'}
  head: {choice: {"": {}, rating: {tasks.rating.weight: {uniform: [0.5, 2.0]}}}}
constraints:
  - {if: tasks.same.loss == 'squared', then: tasks.topic.weight <= tasks.same.weight}
objectives: [{metric: select.score}, {metric: select.topic.score}]
references:
  cosine: {tasks.same.loss: cosine, tasks: {topic: {weight: 0.5}}}
confirm: {per: tasks.same.weight}
"""


def load(text: str = FILE, *overrides: str) -> SweepFile:
    return toy_sweep.load(text, *overrides, kind=Many)


def problems(*overrides: str, text: str = FILE) -> list[str]:
    return toy_sweep.problems(text, *overrides, kind=Many)


def test_names_of_the_sweeps_own_stand_wherever_settings_can() -> None:
    sweep = load()
    assert sweep.space.fixed == {"tasks.topic.data.task": "news", "tasks.same.data.task": "pairs"}
    assert sweep.spec.references == {"cosine": {"tasks.same.loss": "cosine", "tasks.topic.weight": 0.5}}
    assert sweep.spec.confirm.per == ["tasks.same.weight"]
    flat = {"tasks.topic.weight": 0.5, "tasks.same.loss": "cosine", "tasks.same.data.task": "pairs"}
    typed = configure(sweep.recipe, flat)
    assert isinstance(typed, Config)
    assert typed.tasks == {"topic": Task(weight=0.5), "same": Task(loss="cosine", data=Source(task="pairs"))}


def test_overrides_reach_them() -> None:
    sweep = load(FILE, "space.tasks.topic.weight=2.5", "space.tasks.other={weight: 3, data: {rows: 5}}")
    fixed = sweep.space.fixed
    assert (fixed["tasks.topic.weight"], fixed["tasks.other.weight"], fixed["tasks.other.data.rows"]) == (2.5, 3, 5)
    references = load(FILE, "references.cosine.tasks.topic.weight=0.7").spec.references
    assert references["cosine"]["tasks.topic.weight"] == 0.7


def test_the_journals_record_gives_the_same_space() -> None:
    sweep = load()
    with known(Many):
        spec, space = sweep_from_record(json.loads(json.dumps(sweep.spec.model_dump(by_alias=True))))
    assert (spec, space.paths()) == (sweep.spec, sweep.space.paths())


TASK = "tasks.topic.data.task, tasks.topic.data.rows, tasks.topic.loss, tasks.topic.weight"
FREE = "a group of settings, not one (names in tasks are free; it holds"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("space.tasks.topic.wieght=1", "unknown setting 'tasks.topic.wieght' (did you mean 'tasks.topic.weight'?)"),
        ("space.tasks={topic: {wieght: 1}}", "'tasks.topic.wieght' (did you mean 'tasks.topic.weight'?)"),
        ("space.taks.topic.weight=1", "unknown setting 'taks.topic.weight' (did you mean 'tasks.topic.weight'?)"),
        ("space.tasks.topic.data.tsak=news", "(did you mean 'tasks.topic.data.task'?)"),
        ("space.tasks.*.weight=1", "unknown setting 'tasks.*.weight' (put a name in place of the star)"),
        ("space.tasks.topic.weight=0", "tasks.topic.weight: expected more than 0.0, found 0 (factor of the loss)"),
        ("space.tasks.topic.weight={uniform: [1, 11]}", "tasks.topic.weight: expected 10.0 or less, found 11.0"),
        ("space.extra.topic.weight=a", 'extra.topic.weight: expected a number, found "a"'),
        ("space.tasks.same.loss=cosin", "tasks.same.loss: expected 'squared' or 'cosine', found \"cosin\" (did you"),
        ("space.tasks.topic=3", f"tasks.topic is {FREE} {TASK})"),
        ("space.tasks.topic.data=3", f"tasks.topic.data is a group of settings, not one (it holds {TASK[:44]})"),
        ("space.tasks.topic={}", "tasks.topic: no settings here (a group has at least one of its settings"),
        ("space.tasks.topic.data={value: {task: news}}", "tasks.topic.data is a group of settings, not one"),
        ("references.cosine.tasks.same.los=null", "unknown setting 'tasks.same.los' (did you mean 'tasks.same.loss'?)"),
        ("references.cosine.tasks.topic=3", f"tasks.topic is {FREE}"),
        ("constraints=[tasks.topic.wieght < 1]", "'tasks.topic.wieght' (did you mean 'tasks.topic.weight'?)"),
        ("constraints=[tasks.topic.data.task == 'nwes']", "tasks.topic.data.task: expected 'news' or 'pairs', found"),
        ("confirm.per=[tasks.same.wieght]", "no setting 'tasks.same.wieght' (did you mean 'tasks.same.weight'?)"),
    ],
)
def test_each_mistake_has_its_words(override: str, told: str) -> None:
    assert any(told in problem for problem in problems(override)), problems(override)


def test_a_plain_value_for_the_whole_group() -> None:
    (found,) = problems(text="name: a\nrecipe: toy\nspace:\n  tasks: 3\nobjectives: [{metric: train.loss}]\n")
    holds = TASK.replace("topic", "*")
    assert found == f"s.yaml:4: tasks is {FREE} {holds})"


def test_settings_of_an_entry_that_do_not_go_together() -> None:
    (found,) = problems("space.tasks.topic.loss=cosine")
    assert found == "s.yaml:5: tasks.topic: cosine needs pairs"


def test_several_mistakes_stand_at_their_own_lines() -> None:
    text = FILE.replace("    same.data.task: pairs\n", "    same.data.task: news\n")
    text = text.replace("topic: {weight:", "topic: {loss: cosine, weight:")
    first, second = problems(text=text)
    assert first == "s.yaml:5: tasks.topic: cosine needs pairs"
    assert second.startswith("s.yaml:7: tasks.same: cosine needs pairs (in the configuration tasks.topic.weight=0.")
    assert 'tasks.same.loss="cosine"' in second
    assert "data.task" not in second  # as it is in all configurations


def test_what_branches_set_stands_at_no_line_of_theirs() -> None:
    text = FILE.replace("same.data.task: pairs", "same.data.task: news")
    text = text.replace("tasks.same: {loss: {choice: [squared, cosine]}}", "lr: {choice: {0.1: {%s}, 0.2: {%s}}}")
    text = text.partition("constraints")[0] % (("tasks.same.loss: cosine",) * 2)
    text = text.replace(", when: tasks.same.loss == 'squared'", "") + "objectives: [{metric: select.score}]\n"
    assert problems(text=text) == ["s.yaml:6: tasks.same: cosine needs pairs"]  # that of the task, which it names


def test_names_that_the_config_refuses() -> None:
    (found,) = problems("space.tasks.Topic.weight=1")
    place = "--set space.tasks.Topic.weight=1"
    assert found == f'{place}: tasks.Topic: expected text that matches ^[a-z_]+$, found "Topic"'


def test_a_config_that_needs_a_name() -> None:
    found = problems(text="name: a\nrecipe: toy\nspace: {lr: 0.1}\nobjectives: [{metric: train.loss}]\n")
    assert found == ["s.yaml: the recipe has no default for 'tasks' (set it in the space)"]


def test_what_the_recipe_says_of_an_entry_stands_at_its_line() -> None:
    text = FILE.replace("    same.data.task", "    lost:\n      data: {rows: 5}\n    same.data.task")
    assert problems(text=text) == ["s.yaml:7: tasks.lost.data.rows: no data"]
    assert problems("space.tasks.lost.data.rows=5") == [
        "--set space.tasks.lost.data.rows=5: tasks.lost.data.rows: no data"
    ]


NO_METRIC = "the recipe toy reports no metric"


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ("select.topic.scoer", f"{NO_METRIC} 'select.topic.scoer' (did you mean 'select.topic.score'?)"),
        ("select.*.score", f"{NO_METRIC} 'select.*.score' (put a name in place of the star)"),
        ("select.tpoic.score", "select.tpoic.score: the space names no 'tpoic' (did you mean 'topic'?)"),
        ("select.zzz.score", "select.zzz.score: the space names no 'zzz' (known: rating, same, topic)"),
        ("select.rating.score", "select.rating.score: some configurations have no 'rating' (each branch must have it)"),
    ],
)
def test_objectives_name_what_every_configuration_has(metric: str, told: str) -> None:
    assert problems(f"objectives=[{{metric: train.loss}}, {{metric: {metric}}}]") == [
        f"--set objectives=[{{metric: train.loss}}, {{metric: {metric}}}]: {told}"
    ]
    (found,) = problems(text=FILE.replace("select.topic.score", metric))
    assert found == f"s.yaml:12: {told}"


def test_any_name_goes_where_the_config_has_no_open_group() -> None:
    class Closed(Toy):
        METRICS: ClassVar = {"layer.*.norm": "of one layer"}

    text = "name: a\nrecipe: toy\nspace: {train.lr: 0.1}\nobjectives: [{metric: layer.top.norm}]\n"
    assert toy_sweep.load(text, kind=Closed).spec.primary.metric == "layer.top.norm"


def test_open_groups_within_entries() -> None:
    class Family(Settings):
        members: dict[str, Task]

    class Families(RecipeConfig):
        families: dict[str, Family]

    fields = Fields(Families)
    assert fields.chosen(["families.a.members.b.weight"]) == {"a", "b"}
    assert fields.complaint("families.a.members.b.weight", 2.0) is None
    wrong = fields.complaint("families.a.members.b.weight", 0.0)
    assert wrong == ("families.a.members.b.weight: expected more than 0.0, found 0.0", "factor of the loss")


def test_names_that_settings_choose() -> None:
    fields = Fields(Config)
    paths = ["tasks.topic.weight", "extra.more.data.rows", "tasks.topic.loss", "lr", "gone.a.b"]
    assert fields.chosen(paths) == {"topic", "more"}
    assert [fields.is_group(path) for path in ("tasks", "tasks.a", "tasks.a.data")] == [True] * 3
    assert [fields.is_group(path) for path in ("tasks.a.loss", "tasks.a.b", "")] == [False, None, None]


def test_the_list_of_recipes_explains_stars(monkeypatch: pytest.MonkeyPatch) -> None:
    def listed(kind: type[Toy]) -> str:
        with known(kind), monkeypatch.context() as patched:
            patched.setattr(cli, "names", lambda: {"toy": None})
            return " ".join(CliRunner().invoke(cli.app, ["recipes"]).output.split())

    assert "select.score, select.*.score, train.loss" in listed(Many)
    assert listed(Many).endswith("A star is any name that the sweep file gives.")
    assert "star" not in listed(Toy)
