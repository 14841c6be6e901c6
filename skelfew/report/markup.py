"""HTML and SVG from Python values: what is not marked as markup is escaped."""

import html
import json
from collections.abc import Iterable

from skelfew.io.clean import printable


class Safe(str):
    """Text that is markup already; every other text is escaped by ``tag``."""

    __slots__ = ()


def join(*children: object) -> Safe:
    """Return children one after the other: markup as it is, other values escaped, None left out."""
    parts: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Safe):
            parts.append(child)
        elif isinstance(child, str) or not isinstance(child, Iterable):
            parts.append(html.escape(printable(child)))
        else:
            parts.append(join(*child))
    return Safe("".join(parts))


_VOID = {"br", "img", "input", "meta"}


def tag(name: str, *children: object, **attributes: object) -> Safe:
    """Return an element; ``children`` as in ``join``.

    ``class_`` is for class, ``aria_label`` for aria-label; None and False are left out, True has no
    value.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        parts.append(key if value is True else f'{key}="{html.escape(printable(value))}"')
    start = f"<{' '.join(parts)}>"
    return Safe(start if name in _VOID else f"{start}{join(*children)}</{name}>")


def table(head: Iterable[object], rows: Iterable[Iterable[object]], **attributes: object) -> Safe:
    """Return a table of rows of cells, text or elements; the first cell of a row is its head."""
    top = [cell if isinstance(cell, Safe) else tag("th", cell, scope="col") for cell in head]
    body = [
        tag("tr", [cell if isinstance(cell, Safe) else
                   tag("td", cell) if i else tag("th", cell, scope="row")
                   for i, cell in enumerate(row)])
        for row in rows
    ]  # fmt: skip
    return tag("table", tag("thead", tag("tr", top)), tag("tbody", body), **attributes)


def scrolled(label: str, wide: Safe) -> Safe:
    """Return an element that scrolls sideways by itself, with the keyboard too."""
    return tag("div", wide, class_="scroll", tabindex="0", role="region", aria_label=label)


def data_block(name: str, value: object) -> Safe:
    """Return values as JSON in an element that scripts read; no text in it can end the element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return tag("script", Safe(text), type="application/json", id=name)


def percent(value: float, digits: int = 1) -> str:
    """Return a share as per cent, without the sign."""
    return f"{100 * value:.{digits}f}"
