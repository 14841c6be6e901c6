"""The one door for paths: names out of files of others are joined to a folder here, nowhere else.

A zip, a manifest, a table or an address can hold any name. ``below`` gives a place inside the
folder that was asked for, or an error; a test finds joins elsewhere (tests/test_paths.py).
"""

import re
from pathlib import Path

from skelfew.errors import SkelfewError
from skelfew.io.files import shown

_PART_BYTES, _PARTS = 255, 64
# Control characters, line ends, halves of surrogate pairs, and marks that turn text around.
_CONTROL = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)
_DRIVE = re.compile("[A-Za-z]:")


def fault(name: str) -> str | None:
    """Return why a name with ``/`` between its parts is no place below a folder, None if it is."""
    if not isinstance(name, str) or not name:
        return "is empty"
    if name.startswith("/"):
        return "is an absolute path"
    if "\\" in name:
        return "has a backslash in it"
    if _CONTROL.search(name):
        return "has a control character in it"
    parts = name.split("/")
    if len(parts) > _PARTS:
        return f"has more than {_PARTS} parts"
    for part in parts:
        if part in ("", ".", ".."):
            return f"has the part {part!r} in it"
        if _DRIVE.match(part):
            return "names a drive"
        if len(part.encode()) > _PART_BYTES:
            return f"has a part of more than {_PART_BYTES} bytes"
    return None


def below(
    folder: Path,
    name: str,
    where: object = "",
    error: type[SkelfewError] = SkelfewError,
    links: bool = False,
) -> Path:
    """Return the place that a foreign name, parts with ``/`` between them, means below a folder.

    ``links`` lets links inside the folder lead elsewhere: for recordings of the user's own. Raises
    SkelfewError: the name is empty or absolute, has an empty, ``.``, ``..`` or drive part, a
    backslash or a control character in it, or a link leads it out of the folder.
    """
    why = fault(name)
    if why is None:
        path = folder / name
        if links or path.resolve().is_relative_to(folder.resolve()):
            return path
        why = "is led out of its folder by a link"
    raise error(
        f"{where or folder}: the name {shown(name)} {why}; refused, it must lie below {folder}"
    )
