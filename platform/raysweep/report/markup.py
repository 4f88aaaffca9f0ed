"""HTML elements as text. What is not already `Markup` is escaped, so no name in a journal can become code."""

import html
from collections.abc import Iterable


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | None


def escape(text: str) -> Markup:
    """Text as HTML that shows it; `Markup` is left as it is."""
    return text if isinstance(text, Markup) else Markup(html.escape(text))


def join(children: Iterable[Child]) -> Markup:
    """Elements and texts one after another; None is left out."""
    return Markup("".join(escape(child) for child in children if child is not None))


def tag(name: str, *children: Child, **attributes: str | None) -> Markup:
    """An element. `class_` stands for class, `data_name` for data-name; an attribute that is None is left out."""
    given = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    text = "".join(f' {key}="{html.escape(value)}"' for key, value in given)
    return Markup(f"<{name}{text}>{join(children)}</{name}>")
