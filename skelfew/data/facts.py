"""Facts about data sets that come with the program, from ``manifests/``: names, official lists."""

import json
from functools import cache
from pathlib import Path

from skelfew.errors import SkelfewError

_REPOSITORY = Path(__file__).resolve().parents[2] / "manifests"
_PACKAGE = Path(__file__).resolve().parents[1]


def _file(kind: str, name: str) -> Path:
    """Return ``manifests/KIND/NAME`` in a checkout, ``skelfew/_KIND/NAME`` in a wheel."""
    for path in (_REPOSITORY / kind / name, _PACKAGE / f"_{kind}" / name):
        if path.is_file():
            return path
    raise SkelfewError(
        f"manifests/{kind}/{name} did not come with this installation; reinstall skelfew"
    )


@cache
def class_names(name: str) -> dict[int, str]:
    """Return the class names of a data set by its own class numbers, from 1."""
    names = json.loads(_file("class_names", f"{name}.json").read_text(encoding="utf-8"))["names"]
    return {int(number): label for number, label in names.items()}


@cache
def missing_skeletons(name: str) -> frozenset[str]:
    """Return the samples that NTU's authors list as having no usable skeleton (ntu60, ntu120)."""
    lines = _file("missing_skeletons", f"{name}.csv").read_text(encoding="utf-8").split()
    return frozenset(lines[1:])


def description_files() -> dict[str, Path]:
    """Return the files of sentences about the classes of data sets, by name of the data set."""
    folders = (_PACKAGE / "_descriptions", _REPOSITORY / "descriptions")
    return {p.stem: p for folder in folders for p in sorted(folder.glob("*.json"))}


@cache
def names_from(option: str, guess: str) -> dict[int, str]:
    """Return class names, by number from 1, for files that hold numbers only.

    ``option`` is a data set whose names come with the program, a text file with a name a line, or
    ``auto``: the data set ``guess``; if that is "", there are none, and classes are ``class 1``,
    ...
    """
    if option == "auto":
        return class_names(guess) if guess else {}
    path = Path(option)
    if path.suffix == ".txt":
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SkelfewError(f"{path}: cannot read the class names ({error})") from None
        return {i: line.strip() for i, line in enumerate(lines, start=1) if line.strip()}
    known = sorted(p.stem for p in _file("class_names", "ntu.json").parent.glob("*.json"))
    if option not in known:
        raise SkelfewError(
            f"--option names={option}: expected auto, {', '.join(known)}, or a .txt file with a "
            "class name a line"
        )
    return class_names(option)


def name_of(names: dict[int, str], number: int) -> str:
    """Return a class's name, ``class 7`` if there are none; raise if the number is out of range."""
    if not names:
        return f"class {number}"
    if number not in names:
        raise SkelfewError(f"label {number - 1} is out of range; there are 0 to {max(names) - 1}")
    return names[number]
