"""Plan of a request: its units, the same as single commands, and their cost."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from skelfew.cli.common import log
from skelfew.io.files import Document
from skelfew.io.paths import below
from skelfew.reproduce.engine import duration
from skelfew.reproduce.measure import seconds_of
from skelfew.reproduce.records import Records
from skelfew.reproduce.rows import idle
from skelfew.reproduce.text import grid
from skelfew.reproduce.units import Request, Unit, Work

_AUTOMATIC = ("inputs.", "device", "threads", "seed", "split", "protocol", "stages", "preset")


def plan_document(request: Request, work: Work, records: Records, folder: Path) -> Document:
    """Return the plan as plain values.

    The cost comes from recorded units of the same data set, encoder and stages, where there are
    none from a few steps that are run here and now.
    """
    speeds = _speeds(records.all())
    units = []
    for unit in work.units:
        record = records.get(unit.key)
        kind = (unit.dataset, *unit.speed_key)
        if kind not in speeds and unit.total and not records.settled(unit.key):
            log(f"measuring a few steps of {unit.rows[0]}")
            speeds[kind] = seconds_of(unit) / unit.total
        units.append(
            {
                "rows": list(unit.rows),
                "unit": unit.unit,
                "clips": unit.samples,
                "state": "open" if not records.settled(unit.key) else "done",
                "error": (record or {}).get("error"),
                "seconds": unit.total * speeds.get(kind, 0.0),
                "commands": commands(unit, folder / request.table.id),
            }
        )
    return {
        "table": request.table.id,
        "dataset": request.dataset,
        "protocol": work.protocol,
        "budget": request.budget,
        "over": work.over,
        "classes": request.classes,
        "units": units,
        "absent": work.absent,
    }


def describe_plan(document: Document) -> str:
    """Return the plan as text: a line a row, and the commands of its first unit."""
    by_row: dict[str, list[Document]] = {}
    for unit in document["units"]:
        by_row.setdefault(", ".join(unit["rows"]), []).append(unit)
    body = [["row", document["over"], "open", "clips each", "about"]]
    for row, units in by_row.items():
        clips = " + ".join(f"{s} {n:,}" for s, n in units[0]["clips"].items()) or "none"
        seconds = [u["seconds"] for u in units if u["state"] == "open"]
        cost = duration(sum(seconds)) if units[0]["clips"] else ""
        todo = str(sum(u["state"] == "open" for u in units))
        body.append([row, str(len(units)), todo, clips, cost])
    text = f"{document['table']} on {document['dataset']}, protocol {document['protocol']}, "
    text += f"budget {document['budget']}, scored on the {document['classes']} classes\n\n"
    text += grid(body)
    total = sum(u["seconds"] for u in document["units"] if u["state"] == "open")
    text += f"\nin all about {duration(total)} of one process"
    for row, why in document["absent"].items():
        text += f"\nrow {row} does not run: {why}"
    for row, units in by_row.items():
        text += f"\n\n# {row}, {units[0]['unit']}"
        for command in units[0]["commands"]:
            text += f"\n{command}"
    return text


def commands(unit: Unit, folder: Path) -> list[str]:
    """Return the shell commands that do what a unit does."""
    if unit.config is None:
        where = f" --split {unit.split}" if unit.split else ""
        form = "aligned" if unit.features == "aligned" else "joints"
        head = f"skelfew-eval --raw {form} --dataset {unit.dataset}{where}"
        return [_shots(head, shots) for shots in unit.shots]
    c, path = unit.config, below(folder, unit.name, links=True)
    parts = ["skelfew-train", "--run", str(path), "--preset", c.preset, "--seed", str(c.seed)]
    if c.inputs.cache is not None:
        for cache in (c.inputs.cache, *c.inputs.more_caches):
            parts += ["--cache", _near(cache)]
    else:
        parts += ["--dataset", unit.dataset]
    if c.inputs.init is not None:
        parts += ["--init", _near(c.inputs.init)]
    if c.protocol is not None:
        parts += ["--protocol", _near(c.protocol)]
    if unit.split:
        parts += ["--split", unit.split]
    parts += ["--stages", ",".join(c.stages), "--threads", str(c.threads)]
    for key, (_, value) in c.changed().items():
        if not key.startswith((*_AUTOMATIC, *idle(c.stages))):
            parts += ["--set", f"{key}={_text(value)}"]
    train = shlex.join(parts)
    classifiers = "--classifier all" + (f" --classifier {unit.head}" if unit.head else "")
    few = f"skelfew-eval --run {path} {classifiers}"
    return [train, *(_shots(few if k else f"skelfew-eval --run {path}", k) for k in unit.shots)]


def _shots(head: str, shots: int) -> str:
    return f"{head} --shots {shots}"


def _near(path: str) -> str:
    """A path below the working folder, if it is there."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value).replace("null", "none")


def _speeds(records: Sequence[Document]) -> dict[tuple[object, ...], float]:
    """Seconds a clip, by kind of unit."""
    found: dict[tuple[object, ...], list[float]] = {}
    for record in records:
        total = sum(record.get("samples", {}).values())
        if "error" in record or record.get("resumed") or not total:
            continue
        kind = (record["dataset"], *record["speed_key"])
        found.setdefault(kind, []).append(record["seconds"] / total)
    return {kind: sum(values) / len(values) for kind, values in found.items()}
