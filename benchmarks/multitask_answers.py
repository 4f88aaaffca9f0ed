"""What a multi-task sweep answers, in sentences that follow from the verdicts of its paired comparisons."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from benchmarks.multitask_arms import Against, Rows, called, everything_of, frozen, plain_mean, pooled, rows_of, value
from benchmarks.results_page import SweepRun, points
from benchmarks.variants import compared
from raysweep.evidence import ArmResult, Comparison
from raysweep.evidence.confirmation import Verdict
from raysweep.report.view import SweepView

SECONDS = "time.train_seconds"
NOT_SHOWN = "Not that it could be shown."
VERDICTS: tuple[Verdict, ...] = ("better", "worse", "not distinguishable")
OPPOSITE: dict[Verdict, Verdict] = {"better": "worse", "worse": "better"}
THAN = {"better": "than", "worse": "than", "not distinguishable": "from"}
WAYS = {"gradual": "thawing layers one after another", "two_phase": "training the heads first"}


def answer(view: SweepView, question: str, sought: Verdict, found: Rows, opponent: ArmResult) -> list[str]:
    """A question with what the verdicts say to it, arm by arm; nothing where there is nothing to say it by."""
    named = {called(view, arm): rows for arm, rows in found.items() if rows}
    if not named:
        return []
    flat = {f"{arm} on {task}": row for arm, rows in named.items() for task, row in rows.items()}
    told = "; ".join(f"{arm} is {grouped(rows, dict.fromkeys(VERDICTS, 'on'))}" for arm, rows in named.items())
    return [f"- **{question}** {lead(flat, sought)} Against {called(view, opponent.arm)}, {told}."]


def lead(found: Mapping[str, Comparison], sought: Verdict) -> str:
    """Yes, where any row has the verdict; no, where all have the opposite one; otherwise nothing is shown."""
    hits, contrary = ([name for name, row in found.items() if row.verdict == one] for one in (sought, OPPOSITE[sought]))
    if len(contrary) == len(found):
        return "No, on the contrary."
    beside = f" {OPPOSITE[sought].capitalize()}: {listed(contrary)}." if contrary else ""
    return (f"Yes: {listed(hits)}." if hits else NOT_SHOWN) + beside


def grouped(found: Mapping[str, Comparison], words: Mapping[str, str]) -> str:
    """`worse on topic (-3.10 [-4.01, -2.20], p 0.003), not distinguishable on ...`: names by verdict."""
    parts = []
    for verdict in VERDICTS:
        if named := [f"{name} ({figures(row)})" for name, row in found.items() if row.verdict == verdict]:
            parts.append(f"{verdict} {words[verdict]} {listed(named)}")
    return ", ".join(parts)


def figures(row: Comparison) -> str:
    """The difference in points, and the chance of it where it is claimed to be one."""
    return points(row) if row.verdict == "not distinguishable" else f"{points(row)}, p {row.p_holm:.3f}"


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def of_sharing(view: SweepView, separate: Against) -> list[str]:
    """What one encoder for all tasks brings a task, or costs it."""
    everything = everything_of(view)
    found = rows_of(separate, [everything] if everything else [])
    return answer(view, "Is a task better with one encoder for all?", "better", found, separate.opponent)


def of_freezing(view: SweepView, everything: Against) -> list[str]:
    """What it does to freeze the encoder, to freeze a head, and to begin with little."""
    opponent, rest, heads = everything.opponent, frozen(view, "backbone"), frozen(view, "head")
    own, others = by_head(heads, everything, own=True), by_head(heads, everything, own=False)
    lines = [
        *answer(view, "Does freezing the encoder lose anything?", "worse", rows_of(everything, rest), opponent),
        *saved(view, opponent, rest),
        *answer(view, "Does freezing the head of a task harm that task?", "worse", own, opponent),
        *answer(view, "Does freezing the head of a task help another?", "better", others, opponent),
    ]
    for kind, way in WAYS.items():
        found = rows_of(everything, frozen(view, kind))
        lines += answer(view, f"Does {way} beat training everything at once?", "better", found, opponent)
    return lines


def by_head(arms: Sequence[ArmResult], found: Against, own: bool) -> Rows:
    """Of arms that freeze a task's head the rows of that task, or of the others."""
    rows, heads = rows_of(found, arms), {arm.arm: value(arm, "freezing.head") for arm in arms}
    return {
        arm: {task: row for task, row in tasks.items() if (task == heads[arm]) == own} for arm, tasks in rows.items()
    }


def saved(view: SweepView, opponent: ArmResult, arms: Sequence[ArmResult]) -> list[str]:
    """How long these arms trained, beside one in which everything learns."""
    whole, parts = view.measured(opponent, SECONDS), []
    for arm in arms:
        own = view.measured(arm, SECONDS)
        if own is not None and whole:
            less = f"{100 * abs(1 - own / whole):.1f} % {'less' if own <= whole else 'more'}"
            names = called(view, arm.arm), called(view, opponent.arm)
            parts.append(f"{names[0]} trains for {own:.1f} s, {names[1]} for {whole:.1f} s: {less}.")
    return [f"- **What does it save in time?** {' '.join(parts)}"] if parts else []


def of_pooling(run: SweepRun, everything: Against) -> list[str]:
    """Whether the first token's state and the mean together are better than the mean, and the best of all ways."""
    view, opponent = run.view, everything.opponent
    both, others = pooled(view, both=True), pooled(view, both=False)
    if not (both and plain_mean(opponent)):
        return []
    ours, theirs = rows_of(everything, both), rows_of(everything, others)
    return [
        *answer(view, "Is CLS+mean better than the mean?", "better", ours, opponent),
        *best_of_all(run, both, others),
        *answer(view, "Is any other way better than the mean?", "better", theirs, opponent),
    ]


def best_of_all(run: SweepRun, both: Sequence[ArmResult], others: Sequence[ArmResult]) -> list[str]:
    """The one of these arms that is best on select against each of the others, in the score of all tasks."""
    if not others:
        return []
    best = max(both, key=lambda arm: fmean(arm.select_per_seed))
    rows = compared(run, [(best.arm, other.arm) for other in others])
    found = {called(run.view, row.against): row for row in rows}
    words = f"{called(run.view, best.arm)}, the best of CLS+mean on select, is in the score of all tasks"
    return [f"- **Is CLS+mean the best of all ways?** {best_lead(rows)} {words} {grouped(found, THAN)}."]


def best_lead(rows: Sequence[Comparison]) -> str:
    """Yes, where it is better than each; no, where it is worse than one."""
    verdicts = {row.verdict for row in rows}
    if "worse" in verdicts:
        return "No."
    return "Yes." if verdicts == {"better"} else NOT_SHOWN


def of_probe(view: SweepView, probed: Against) -> list[str]:
    """What becomes of the vectors by themselves."""
    found = {called(view, arm): row for arm, rows in probed.rows.items() for row in rows.values()}
    if not found:
        return []
    opponent = called(view, probed.opponent.arm)
    told = grouped(found, dict.fromkeys(VERDICTS, "with"))
    question = f"Are vectors by themselves better than those of {opponent}?"
    return [f"- **{question}** {lead(found, 'better')} Against {opponent}, rank correlation is {told}."]
