"""Text of others made harmless for the place where it goes: a terminal, a table, a page.

Names, notes and messages may hold escapes that move the cursor, marks that turn the direction of
writing, formulas, and markup. One function for each place; HTML has report/markup.py.
"""

import json
import re
import unicodedata
from collections.abc import Iterable

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|nan)", re.IGNORECASE)
_JOINERS = "\u200c\u200d"  # that Persian, Hindi and emoji are written with


def printable(text: object) -> str:
    """Return a text for a terminal: control and direction characters are "?", lines stay lines."""
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if _shows(c) else " " if c == "\t" or c.isspace() else "?" for c in text)


def _shows(character: str) -> bool:
    return character.isprintable() or character in _JOINERS or character == "\n"


def one_line(text: object) -> str:
    """Return ``printable`` text on one line."""
    return " ".join(printable(text).split("\n"))


def json_text(value: object, indent: int | None = 1) -> str:
    """Return JSON for a terminal: what ``printable`` replaces is escaped, so nothing is lost."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return "".join(c if _shows(c) else json.dumps(c)[1:-1].replace("\x7f", "\\u007f") for c in text)


def cell(value: object) -> object:
    """Return a value for a CSV table: a text that a spreadsheet would compute gets a "'".

    Carriage returns become line ends: csv.writer does not quote them, and readers end a row there.
    """
    if isinstance(value, str):
        value = value.replace("\r\n", "\n").replace("\r", "\n")
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def uncell(text: str) -> str:
    """Return the text that ``cell`` was given."""
    return text[1:] if text[:1] == "'" and _FORMULA.match(text) else text


def plain(label: str) -> str:
    """Return a label without case, spaces and marks that are not seen: equal ones look alike."""
    seen = "".join(c for c in label if unicodedata.category(c) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", seen).casefold().split())


def look_alike(labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the groups of different labels that are one when ``plain``."""
    groups: dict[str, list[str]] = {}
    for label in dict.fromkeys(labels):
        groups.setdefault(plain(label), []).append(label)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def markdown(text: object) -> str:
    """Return a text for a line or a table of Markdown: no HTML, link or code comes of it."""
    safe = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "/")
    return safe.replace("](", "]\\(").replace("`", "\\`")
