"""Regular expressions of protocol files: only those that cannot run for ever.

Python's matcher tries all ways to divide a text among repetitions: ``(a+)+`` needs longer than a
life for forty letters. A protocol may be somebody else's, so its pattern may have repetitions of
single characters only, none inside another, and at most two that could share a text.
"""

import re
from typing import Any

from skelfew.io.files import brief, shown

_LONGEST, _FREE = 500, 2


def compiled(pattern: object) -> re.Pattern[str]:
    """Return the compiled pattern; raise ValueError if it is none, or could take for ever."""
    if not isinstance(pattern, str) or len(pattern) > _LONGEST:
        raise ValueError(f"{shown(pattern)} is no pattern")
    try:
        found = re.compile(pattern)
        tree = re._parser.parse(pattern)  # type: ignore[attr-defined]
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{shown(pattern)} is no pattern ({brief(error)})") from None
    items = _flat(tree)
    free = sum(_is_free(item, items[i + 1 :]) for i, item in enumerate(items))
    if free > _FREE:
        raise ValueError(f"{shown(pattern)} has too many open repetitions; write \\d+ and letters")
    return found


def _flat(tree: Any) -> list[tuple[str, Any]]:
    """Return the items of a pattern without its groups."""
    items: list[tuple[str, Any]] = []
    for kind, value in tree:
        name = str(kind)
        if name == "SUBPATTERN":
            items += _flat(value[-1])
        elif name in ("MAX_REPEAT", "MIN_REPEAT"):
            inner = _flat(value[2])
            if len(inner) != 1 or inner[0][0] not in ("IN", "LITERAL", "NOT_LITERAL", "ANY"):
                raise ValueError("it repeats more than a single character")
            items.append((name, (value[0], value[1], inner[0])))
        elif name in ("LITERAL", "NOT_LITERAL", "IN", "ANY", "AT"):
            items.append((name, value))
        else:
            raise ValueError(f"it has a {name.lower()}, which is not opened")
    return items


def _is_free(item: tuple[str, Any], after: list[tuple[str, Any]]) -> bool:
    """Whether a repetition could end at more than one place of a text."""
    if item[0] not in ("MAX_REPEAT", "MIN_REPEAT"):
        return False
    _, _, inner = item[1]
    digits = inner[0] == "IN" and str(inner[1]) == "[(CATEGORY, CATEGORY_DIGIT)]"
    if not digits:
        return True
    if not after or after[0][0] == "AT":
        return False
    kind, value = after[0]
    return kind != "LITERAL" or chr(value).isdigit()
