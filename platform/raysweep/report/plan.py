"""What a sweep will do, said before it does it."""

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from raysweep.recipe import configure
from raysweep.report.wording import by_part
from raysweep.schedule import rungs_of
from raysweep.spec import SweepSpec
from raysweep.sweep_file import SweepFile


def plan(loaded: SweepFile) -> RenderableType:
    """The sweep as it would run: data, dimensions, rungs, trials of the search and of the proof, and which end at once.

    Raises UserError when this machine can run none of its configurations.
    """
    spec = loaded.spec
    facts = loaded.recipe.inspect(configure(loaded.recipe, loaded.first_config()))
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("recipe", escape(spec.recipe))
    for part, counts in by_part(facts.rows).items():
        rows = " / ".join(f"{count} {split}" for split, count in counts.items())
        made_up = " [bold red]SYNTHETIC[/]" if facts.synthetic and not part else ""
        table.add_row("" if part else "data", escape(f"{part or facts.name}: {rows}") + made_up)
    if repeats := [f"{where} {count}" for where, count in facts.overlaps.items() if count]:
        table.add_row("twice", escape(f"examples that stand twice: {', '.join(repeats)}"))
    table.add_row("dimensions", escape(_dimensions(loaded)))
    table.add_row("objective", escape(", ".join(f"{goal.goal} {goal.metric}" for goal in spec.objectives)))
    table.add_row("search", escape(_search(spec, loaded.space.grid_size)))
    table.add_row("stopping", escape(_stopping(spec)))
    table.add_row("proof", escape(_proof(spec)))
    for problem in loaded.not_here():
        table.add_row("[bold red]machine[/]", escape(str(problem)))
    return Group(table, f"[green]{escape(str(loaded.path))} is good to run.[/]")


def _dimensions(loaded: SweepFile) -> str:
    names = sorted({dimension.path for dimension in loaded.space.dimensions})
    return f"{len(names)}: {', '.join(names)}" if names else "none: every setting is fixed"


def _search(spec: SweepSpec, cells: int) -> str:
    grid = f", {cells} grid cells a point" if cells > 1 else ""
    return f"{spec.budget.trials} trials at most, {spec.searcher.type}{grid}, seed {spec.seed}"


def _stopping(spec: SweepSpec) -> str:
    if spec.scheduler.type == "fifo":
        return f"none; a trial is complete after {spec.scheduler.max} steps"
    rungs = ", ".join(map(str, rungs_of(spec.scheduler)))
    keep = f"the best 1/{spec.scheduler.eta} go on"
    return f"asha, rungs at {rungs or 'none'}: {keep}; complete after {spec.scheduler.max} steps"


def _proof(spec: SweepSpec) -> str:
    confirm = spec.confirm
    if confirm.top == 0:
        return "none, and no model is registered (confirm.top is 0)"
    named = f" and {', '.join(spec.references)}" if spec.references else ""
    if confirm.per:
        per = f"{confirm.top} finalist(s) for each value of {' and '.join(confirm.per)}"
        return f"{per}{named} on {len(confirm.seeds)} fresh seeds"
    trials = (confirm.top + len(spec.references)) * len(confirm.seeds)
    return f"{confirm.top} finalist(s){named} on {len(confirm.seeds)} fresh seeds: {trials} trials at most"
