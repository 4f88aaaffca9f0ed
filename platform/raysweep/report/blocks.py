"""What the report's sections are built of."""

import itertools
from collections.abc import Iterable, Sequence

from raysweep.report.markup import Child, Markup, join, tag
from raysweep.report.plot import Figure

SECTIONS = {
    "proof": "Proof",
    "search": "Search",
    "trials": "Trials",
    "failures": "Failures",
    "model": "Model",
    "provenance": "Provenance",
}


def section(name: str, *children: Child) -> Markup:
    """A section of the page under its title."""
    return tag("section", tag("h2", SECTIONS[name]), *children, id=name)


def note(text: str) -> Markup:
    """A sentence in small print."""
    return tag("p", text, class_="note")


def plot(name: str, figure: Figure | None, caption: str | None = None) -> Markup | None:
    """A figure's data and its place; page.js draws it. plotly's JSON escapes `<`, so data cannot end the script."""
    if figure is None:
        return None
    data = Markup(figure.to_json())
    place = tag("div", class_="plot", data_figure=f"figure-{name}")
    script = tag("script", data, type="application/json", id=f"figure-{name}")
    return tag("figure", place, script, tag("figcaption", caption) if caption else None)


def table(heads: Sequence[str], rows: Iterable[Sequence[Markup]], sortable: bool = False) -> Markup:
    """A table that scrolls by itself on a narrow screen; `sortable` heads are buttons."""
    labels = [tag("button", head, type="button") if sortable else head for head in heads]
    head = tag("tr", *(tag("th", label, scope="col") for label in labels))
    body = join(tag("tr", *row) for row in rows)
    element = tag("table", tag("thead", head), tag("tbody", body), class_="sortable" if sortable else None)
    return tag("div", element, class_="scroll")


def facts(pairs: Iterable[tuple[str, Child]]) -> Markup:
    """Names with what is known of them."""
    listed = itertools.chain.from_iterable((tag("dt", name), tag("dd", value)) for name, value in pairs)
    return tag("dl", *listed, class_="facts")


def badge(state: str) -> Markup:
    """A state with its colour."""
    return tag("span", state, class_=f"badge {state}")
