"""Sentences about the classes of a data set, from a JSON or CSV file."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from skelfew.data.facts import description_files
from skelfew.data.manifest import Manifest
from skelfew.errors import SkelfewError
from skelfew.io.budget import check_table
from skelfew.io.files import (
    brief,
    check_file,
    duplicates,
    file_sha256,
    parse_json,
    read_text,
    shown,
)

_FORMS = (
    'a JSON object of class names or class numbers to sentences, or CSV with the columns "label" '
    'or "class_id", and "description"'
)


@dataclass(frozen=True)
class Descriptions:
    """Descriptions of classes, read in place of their names: sentences by number, ascending."""

    texts: dict[int, list[str]]
    path: Path
    sha256: str


def read_descriptions(file: str | Path, manifest: Manifest) -> Descriptions:
    """Read the sentences of all classes of ``manifest``; what a file says of others is ignored.

    A JSON or CSV file, or the name of one that comes with skelfew, e.g. ``utd-mhad``. Raises
    SkelfewError if it is absent or of another form, or classes are missing, which are listed.
    """
    path = Path(file)
    if not path.is_file():
        shipped = description_files()
        if str(file) not in shipped:
            raise SkelfewError(
                f"{file}: no such file of descriptions; {', '.join(sorted(shipped))} come with "
                "skelfew"
            )
        path = shipped[str(file)]
    known = {label.casefold(): class_id for class_id, label in manifest.classes.items()}
    known |= {str(class_id): class_id for class_id in manifest.classes}
    texts: dict[int, list[str]] = {}
    spelt: dict[int, str] = {}
    strange: list[str] = []
    for key, sentence in _read_csv(path) if path.suffix == ".csv" else _read_json(path):
        class_id = known.get(key.strip().casefold())
        if class_id is None:
            strange.append(key)
            continue
        if spelt.setdefault(class_id, key) != key:
            raise SkelfewError(
                f"{path}: describes class {class_id} as {spelt[class_id]!r} and as {key!r}; "
                "keep one"
            )
        if not sentence.strip():
            raise SkelfewError(f"{path}: class {key!r} has a blank description; write a sentence")
        texts.setdefault(class_id, []).append(sentence.strip())
    if missing := [f"{c} {label!r}" for c, label in manifest.classes.items() if c not in texts]:
        other = f"; it describes others, first {shown(strange[0])}" if strange else ""
        raise SkelfewError(
            f"{path}: no description of {len(missing)} of {len(manifest.classes)} classes of "
            f"{manifest.name}: {', '.join(missing)}{other}"
        )
    return Descriptions(dict(sorted(texts.items())), path, file_sha256(path))


def _read_json(path: Path) -> Iterable[tuple[str, str]]:
    try:
        document = parse_json(read_text(path), _unique)
    except (OSError, ValueError) as error:
        raise SkelfewError(
            f"{path}: not readable as JSON ({brief(error)}); expected {_FORMS}"
        ) from None
    if isinstance(document, dict) and isinstance(document.get("descriptions"), dict):
        document = document["descriptions"]
    if not isinstance(document, dict):
        raise SkelfewError(f"{path}: expected {_FORMS}")
    for key, value in document.items():
        sentences = [value] if isinstance(value, str) else value
        if not isinstance(sentences, list) or not all(isinstance(s, str) for s in sentences):
            raise SkelfewError(
                f"{path}: {shown(key)} has {shown(value, 60)}; expected a sentence or a list of "
                "sentences"
            )
        for sentence in sentences:
            yield key, sentence


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if twice := duplicates(key for key, _ in pairs):
        raise ValueError(f"{shown(twice[0])} is there twice")
    return dict(pairs)


def _read_csv(path: Path) -> Iterable[tuple[str, str]]:
    try:
        check_file(path)
        check_table(path, SkelfewError)
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SkelfewError(
            f"{path}: not readable as CSV ({brief(error)}); expected {_FORMS}"
        ) from None
    columns = set(rows[0]) if rows else set()
    key = next((name for name in ("class_id", "label") if name in columns), None)
    if key is None or "description" not in columns:
        raise SkelfewError(f"{path}: expected {_FORMS}")
    for row in rows:
        yield row[key] or "", row["description"] or ""
