"""Protocol files: finding, reading, checking their form, and writing them."""

import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from skelfew.data.protocols.patterns import compiled
from skelfew.errors import SkelfewError
from skelfew.io.files import Document, Values, brief, duplicates, read_json, shown
from skelfew.io.writing import write_text

_REPOSITORY = Path(__file__).resolve().parents[3] / "manifests" / "protocols"
_INSTALLED = Path(__file__).resolve().parents[2] / "_protocols"
_KINDS: Document = {
    "name": str, "dataset": (str, [str]), "source": str, "notes": (str, [str]),
    "class_names": (str, dict, list), "base": list, "validation": list, "novel": list,
    "splits": ([{str: object}], dict), "random": dict, "exemplars": dict, "exemplar_rule": dict,
    "exclude_queries": {str: [str]}, "expected_queries": {str: int}, "episodes": {str: (int, str)},
}  # fmt: skip
_RULE_KINDS: Document = {
    "pattern": str, "where": {str: str}, "order": [str], "distinct": str
}  # fmt: skip
_MOST_SPLITS = 100_000


class ProtocolError(SkelfewError):
    """A protocol that cannot be used; the message names the file and what is missing."""


def protocol_folders() -> list[Path]:
    """Return where protocols are looked for: the working folder, the checkout, the package."""
    folders = [Path("manifests") / "protocols", _REPOSITORY, _INSTALLED]
    return [f for f in folders if f.is_dir()]


def list_protocols() -> dict[str, Path]:
    """Return all protocol files by name; an earlier folder hides a later one."""
    found: dict[str, Path] = {}
    for folder in protocol_folders():
        for path in sorted(folder.glob("*.json")):
            found.setdefault(path.stem, path)
    return found


def find_protocol(name: str | Path) -> Path:
    """Return the file of a protocol given by path or by name."""
    path = Path(name)
    if path.suffix == ".json" or path.parent != Path():
        if not path.is_file():
            raise ProtocolError(f"{path}: no such protocol file")
        return path
    found = list_protocols()
    if str(name) not in found:
        raise ProtocolError(f"no protocol {str(name)!r}; there are {', '.join(sorted(found))}")
    return found[str(name)]


def portable(path: Path) -> str:
    """Return what finds a protocol again: the name of a shipped one, else its full path."""
    shipped = path.resolve().parent in (_REPOSITORY.resolve(), _INSTALLED.resolve())
    return path.stem if shipped else str(path.resolve())


def read_protocol(path: Path) -> Document:
    """Read a protocol file and check its keys; raise ProtocolError naming the wrong one."""
    try:
        document = read_json(path)
    except (OSError, ValueError) as error:
        raise ProtocolError(f"{path}: not a readable JSON file ({brief(error)})") from None
    if not isinstance(document, dict) or "dataset" not in document:
        raise ProtocolError(f'{path}: not a protocol: the key "dataset" is missing')
    if unknown := sorted(set(document) - set(_KINDS)):
        raise ProtocolError(
            f"{path}: unknown key {shown(unknown[0])}; known: {few(sorted(_KINDS), 20)}"
        )
    for key, value in document.items():
        if not _is_kind(value, _KINDS[key]):
            raise ProtocolError(f"{path}: {key} is {shown(value)}; see docs/protocols.md")
    if "exemplar_rule" in document:
        _check_rule(path, document["exemplar_rule"])
    if sum(k in document for k in ("novel", "splits", "random")) != 1:
        raise ProtocolError(f'{path}: exactly one of "novel", "splits" and "random" must be given')
    _check_splits(path, document)
    return document


def _is_kind(value: Any, kind: Any) -> bool:
    """Whether a value is of a type, one of several (a tuple), or a list or dict of a type."""
    if kind is object:
        return True
    if isinstance(kind, tuple):
        return any(_is_kind(value, k) for k in kind)
    if isinstance(kind, list):
        return isinstance(value, list) and all(_is_kind(v, kind[0]) for v in value)
    if isinstance(kind, dict):
        return isinstance(value, dict) and all(_is_kind(v, kind[str]) for v in value.values())
    return type(value) is kind


def _check_rule(path: Path, rule: Values) -> None:
    if unknown := sorted(set(rule) - set(_RULE_KINDS)):
        raise ProtocolError(
            f"{path}: unknown key {shown(unknown[0])} in exemplar_rule; known: {few(_RULE_KINDS)}"
        )
    for key, value in rule.items():
        if not _is_kind(value, _RULE_KINDS[key]):
            raise ProtocolError(f"{path}: {key} in exemplar_rule is {shown(value)}")
    if "order" not in rule:
        raise ProtocolError(f"{path}: order is missing in exemplar_rule")
    if "pattern" in rule:
        try:
            compiled(rule["pattern"])
        except ValueError as error:
            raise ProtocolError(f"{path}: pattern in exemplar_rule: {error}") from None


def _check_splits(path: Path, document: Values) -> None:
    """Refuse splits that are none, or of which there would be millions."""
    splits: Any = document.get("splits")
    drawn: Any = document.get("random")
    if isinstance(splits, dict):
        classes: Any = splits.get("of")
        size: Any = splits.get("choose")
        if not _is_kind(classes, [int]) or type(size) is not int or not 0 < size < len(classes):
            raise ProtocolError(
                f'{path}: splits are {shown(splits)}; expected "of", a list of classes, and '
                '"choose", how many of them are novel'
            )
        if len(classes) > 10_000 or math.comb(len(classes), size) > _MOST_SPLITS:
            raise ProtocolError(f"{path}: {size} of {len(classes)} classes are too many splits")
    if drawn is not None:
        seeds, kinds = drawn.get("seeds", 10), (int, [int])
        if (
            type(seeds) is not int
            or not 0 < seeds <= _MOST_SPLITS
            or not _is_kind(drawn.get("novel"), kinds)
            or not _is_kind(drawn.get("validation", 0), kinds)
        ):
            raise ProtocolError(
                f'{path}: random is {shown(drawn)}; expected "novel" and, if you like, '
                f'"validation", numbers of classes, and "seeds", {_MOST_SPLITS} at most'
            )
    for split in splits if isinstance(splits, list) else ():
        if "exemplars" in split and not isinstance(split["exemplars"], dict):
            raise ProtocolError(f"{path}: exemplars of a split are {shown(split['exemplars'])}")


def protocol_digest(document: Values) -> str:
    """Hash the content, independent of formatting."""
    text = json.dumps(document, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def class_list(path: Path, document: Values, key: str) -> tuple[int, ...]:
    """Return the class numbers under ``key``, empty if it is absent."""
    values = document.get(key, [])
    if not isinstance(values, list) or not all(type(v) is int for v in values):
        raise ProtocolError(f"{path}: {key!r} must be a list of class numbers, got {shown(values)}")
    if twice := duplicates(values):
        raise ProtocolError(f"{path}: class {few(twice)} is given twice under {key!r}")
    return tuple(values)


def listed_exemplars(path: Path, document: Values) -> dict[int, dict[int, tuple[str, ...]]]:
    listed: dict[int, dict[int, tuple[str, ...]]] = {}
    for shots, classes in document.get("exemplars", {}).items():
        numbers = [shots, *classes] if isinstance(classes, dict) else [""]
        if not all(n.isdecimal() and len(n) <= 9 for n in numbers) or not _is_kind(
            classes, {str: [str]}
        ):
            raise ProtocolError(
                f'{path}: "exemplars" must look like {{"1": {{"7": ["sample_id"]}}}}: number of '
                f"shots, class number, sample IDs; got {shown(shots)}"
            )
        listed[int(shots)] = {int(c): tuple(ids) for c, ids in classes.items()}
        for class_id, ids in listed[int(shots)].items():
            if len(set(ids)) != int(shots):
                raise ProtocolError(
                    f"{path}: class {class_id} lists {len(set(ids))} different exemplars "
                    f"for {shots} shots"
                )
    return listed


def write_protocol(document: Values, path: Path) -> None:
    """Write a protocol file, one line a key, replacing an older one only when complete."""
    write_text(path, format_protocol(document))


def format_protocol(document: Values) -> str:
    """Return a protocol as JSON that a person can read and compare line by line."""
    lines = []
    for key, value in document.items():
        if isinstance(value, dict | list) and value and key not in ("base", "validation", "novel"):
            deep = isinstance(value, dict)
            inner = [
                (json.dumps(k) + ": " if deep else "")
                + json.dumps(value[k] if deep else k, ensure_ascii=False)
                for k in value
            ]
            ends = "{}" if deep else "[]"
            text = ends[0] + "\n  " + ",\n  ".join(inner) + "\n " + ends[1]
        else:
            text = json.dumps(value, ensure_ascii=False)
        lines.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def few(items: Iterable[object], most: int = 5) -> str:
    """The first few of a list, and how many more there are."""
    names = [brief(i) for i in items]
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
