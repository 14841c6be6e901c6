"""Protocol files: finding, reading, checking their form, and writing them."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from skelfew.errors import SkelfewError

_REPOSITORY = Path(__file__).resolve().parents[2] / "manifests" / "protocols"
_INSTALLED = Path(__file__).resolve().parents[1] / "_protocols"
_KEYS = {
    "name", "dataset", "source", "notes", "class_names", "base", "validation", "novel", "splits",
    "random", "exemplars", "exemplar_rule", "exclude_queries", "expected_queries", "episodes",
}  # fmt: skip
_RULE_KEYS = {"pattern", "where", "order", "distinct"}


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


def read_protocol(path: Path) -> dict[str, Any]:
    """Read a protocol file and check its keys; raise ProtocolError naming the wrong one."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProtocolError(f"{path}: not a readable JSON file ({error})") from None
    if not isinstance(document, dict) or "dataset" not in document:
        raise ProtocolError(f'{path}: not a protocol: the key "dataset" is missing')
    if unknown := sorted(set(document) - _KEYS):
        raise ProtocolError(f"{path}: unknown key {unknown[0]!r}; known: {few(sorted(_KEYS), 20)}")
    if unknown := sorted(set(document.get("exemplar_rule") or {}) - _RULE_KEYS):
        raise ProtocolError(
            f"{path}: unknown key {unknown[0]!r} in exemplar_rule; known: {few(_RULE_KEYS)}"
        )
    if sum(k in document for k in ("novel", "splits", "random")) != 1:
        raise ProtocolError(f'{path}: exactly one of "novel", "splits" and "random" must be given')
    return document


def protocol_digest(document: Mapping[str, Any]) -> str:
    """Hash the content, independent of formatting."""
    text = json.dumps(document, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def class_list(path: Path, document: Mapping[str, Any], key: str) -> tuple[int, ...]:
    """Return the class numbers under ``key``, empty if it is absent."""
    values = document.get(key, [])
    if not isinstance(values, list) or not all(type(v) is int for v in values):
        raise ProtocolError(f"{path}: {key!r} must be a list of class numbers, got {values!r}")
    if len(set(values)) < len(values):
        twice = sorted({v for v in values if values.count(v) > 1})
        raise ProtocolError(f"{path}: class {few(twice)} stands twice under {key!r}")
    return tuple(values)


def listed_exemplars(
    path: Path, document: Mapping[str, Any]
) -> dict[int, dict[int, tuple[str, ...]]]:
    listed: dict[int, dict[int, tuple[str, ...]]] = {}
    for shots, classes in document.get("exemplars", {}).items():
        if not (shots.isdigit() and isinstance(classes, dict) and all(map(str.isdigit, classes))):
            raise ProtocolError(
                f'{path}: "exemplars" must look like {{"1": {{"7": ["sample_id"]}}}}: number of '
                f"shots, class number, sample IDs; got {shots!r}"
            )
        listed[int(shots)] = {int(c): tuple(ids) for c, ids in classes.items()}
        for class_id, ids in listed[int(shots)].items():
            if len(set(ids)) != int(shots):
                raise ProtocolError(
                    f"{path}: class {class_id} lists {len(set(ids))} different exemplars "
                    f"for {shots} shots"
                )
    return listed


def write_protocol(document: Mapping[str, Any], path: Path) -> None:
    """Write a protocol file, one line a key, replacing an older one only when complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(format_protocol(document), encoding="utf-8")
    partial.replace(path)


def format_protocol(document: Mapping[str, Any]) -> str:
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
    names = [str(i) for i in items]
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
