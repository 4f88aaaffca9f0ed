"""The report's head: name, state, what was found in a sentence, and the figures that matter most."""

from raysweep.report.blocks import SECTIONS, badge, note
from raysweep.report.markup import Markup, join, tag
from raysweep.report.view import SweepView
from raysweep.report.wording import duration, findings, headline, interval, number, sittings

SYNTHETIC = (
    "The data was made up by a program. The scores show that the sweep works; they say nothing about how good a model "
    "is at any real task."
)


def header(view: SweepView) -> Markup:
    """The head of the page; all there is, for a sweep that has not begun."""
    if not view.begun:
        return join((tag("h1", "A sweep that has not begun"), tag("p", headline(view), class_="headline")))
    eyebrow = tag("div", f"sweep report · recipe {view.spec.recipe}", badge(view.state), class_="eyebrow")
    about = note(view.spec.description) if view.spec.description else None
    found, *against = findings(view)
    said = tag("div", tag("p", f"{found}{':' if against else '.'}"), _listed(against), class_="headline")
    links = [tag("a", title, href=f"#{name}") for name, title in SECTIONS.items()]
    return tag(
        "header", eyebrow, tag("h1", view.spec.name), about, _synthetic(view), said, _tiles(view), tag("nav", *links)
    )


def _listed(sentences: list[str]) -> Markup | None:
    return tag("ul", *(tag("li", sentence) for sentence in sentences)) if sentences else None


def _synthetic(view: SweepView) -> Markup | None:
    return tag("div", tag("strong", "SYNTHETIC DATA"), SYNTHETIC, class_="synthetic") if view.synthetic else None


def _tiles(view: SweepView) -> Markup:
    counts = ", ".join(f"{count} {state}" for state, count in view.counts().items())
    tiles = [_tile("search trials", f"{len(view.search)} of {view.spec.budget.trials}", counts or "none yet")]
    tiles += [_best(view), _confirmed(view), _optimism(view), _time(view)]
    return tag("div", *tiles, class_="tiles")


def _best(view: SweepView) -> Markup:
    if not view.best:
        return _tile("best in the search", "none yet", "no trial is complete")
    return _tile("best in the search", number(view.best.value), f"{view.metric} on select, {view.best.id}")


def _confirmed(view: SweepView) -> Markup:
    if not view.winner:
        return _tile("proven score", "not measured", "no proof" if view.ended else "no proof yet")
    _, _, bounds = interval(view.winner.mean, view.winner.low, view.winner.high).partition(" ")
    mean = interval(view.winner.mean, view.winner.low, view.winner.high).partition(" ")[0]
    return _tile("proven score", mean, f"{bounds} {view.winner.metric} on report")


def _optimism(view: SweepView) -> Markup:
    if view.confirmed is None:
        return _tile("optimism gap", "not measured", "needs the winner trained again")
    return _tile(
        "optimism gap", f"{view.confirmed.optimism:+.3g}", "search score minus fresh seeds' mean, both on select"
    )


def _time(view: SweepView) -> Markup:
    return _tile(
        "time",
        duration(view.elapsed),
        f"{duration(sum(t.seconds for t in view.trials.values()))} of training, {sittings(view)}",
    )


def _tile(label: str, value: str, below: str) -> Markup:
    return tag("div", tag("span", label, class_="label"), tag("b", value), tag("span", below), class_="tile")
