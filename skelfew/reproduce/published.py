"""Published units (docs/results/*.jsonl), from which a table goes on on another machine."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from skelfew.errors import SkelfewError
from skelfew.io.files import Document, Values, brief, parse_json
from skelfew.reproduce.records import Records
from skelfew.reproduce.summary import scored_by
from skelfew.reproduce.units import Unit

_KEY = 16  # hexadecimal digits of a unit's key that are published


def adopt(records: Records, units: Sequence[Unit], place: Path) -> list[str]:
    """Let published units count as measured; return the keys of those that do.

    A unit counts if its key is the published one, which is a digest of data, caches, settings and
    seed, and if it was scored by all that is asked for. What was measured here comes first.
    ``place`` is a file that ``--write`` made beside its page, or their folder; SkelfewError if it
    is not.
    """
    published = _read(place)
    adopted = []
    for unit in units:
        record = published.get(unit.key[:_KEY])
        if record is None or records.get(unit.key) is not None:
            continue
        if "error" not in record and not _answers(record, unit):
            continue
        records.adopt({**record, "key": unit.key, "rows": list(unit.rows)})
        adopted.append(unit.key)
    return adopted


def _answers(record: Values, unit: Unit) -> bool:
    by_shots = record.get("scores", {}).get(unit.classes, {})
    return all(
        scored_by(classifier, str(shots)) in by_shots.get(str(shots), {})
        for shots in unit.shots
        for classifier in unit.classifiers
    )


def _read(place: Path) -> dict[str, Document]:
    paths = sorted(place.glob("*.jsonl")) if place.is_dir() else [place]
    if not paths:
        raise SkelfewError(
            f"{place}: no *.jsonl in it; expected what skelfew-reproduce --write leaves beside its "
            "page, e.g. docs/results"
        )
    found: dict[str, Document] = {}
    for path in paths:
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise SkelfewError(f"{path}: cannot be read ({brief(error)})") from None
        for number, line in enumerate(lines, 1):
            try:
                record = parse_json(line)
                if not record.get("group"):
                    found[str(record["key"])[:_KEY]] = _merged(found, record)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise SkelfewError(
                    f"{path}: line {number} is no published unit ({brief(error)}); expected a file "
                    "that skelfew-reproduce --write made"
                ) from None
    return found


def _merged(found: Mapping[str, Document], record: Document) -> Document:
    """A unit that two tables published has the scores of both."""
    earlier = found.get(str(record["key"])[:_KEY])
    if earlier is None or "error" in record or "error" in earlier:
        return record
    scores: Document = json.loads(json.dumps(earlier.get("scores", {})))
    for classes, by_shots in record.get("scores", {}).items():
        for shots, cells in by_shots.items():
            scores.setdefault(classes, {}).setdefault(shots, {}).update(cells)
    return {**record, "scores": scores}
