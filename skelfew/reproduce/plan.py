"""Plan of a request: its units, the same as single commands, and their cost."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from skelfew.cli.common import log
from skelfew.fewshot import build_classifier
from skelfew.fewshot.trained import settings_of
from skelfew.io.files import Document
from skelfew.io.paths import below
from skelfew.reproduce.budget import start
from skelfew.reproduce.engine import duration
from skelfew.reproduce.measure import seconds_of
from skelfew.reproduce.outline import SIZES, needs, seconds_a_clip
from skelfew.reproduce.records import Records
from skelfew.reproduce.rows import Row, idle
from skelfew.reproduce.text import grid
from skelfew.reproduce.units import Request, Unit, Work

_AUTOMATIC = ("inputs.", "device", "threads", "seed", "split", "protocol", "stages", "preset")


_FEW = 3000  # clips
Rates = dict[tuple[object, ...], float]
_BYOL = ("transfer.hidden_dim", "transfer.projection_dim", "transfer.output_bias")
_EPISODE = ("ways", "shots", "queries", "episodes")
# What the paper says of its own rows, sentence by sentence, and the settings that hold it.
_SECTION = (
    ("the selected skeleton encoder is AGCN", ("encoder.name", "encoder.width")),
    ("data preprocessing aligned with CTR-GCN", ("data.frames", "data.missing_body")),
    ("f_VL = f_v + f_t (IV-A)", ("transfer.representation", "transfer.target_form")),
    ("MLP: 4096, BatchNorm, ReLU, 256, as BYOL's (IV-B)", _BYOL),
    ("Adam, initial learning rate 0.1",
     ("transfer.optimizer.name", "transfer.optimizer.lr", "transfer.optimizer.schedule")),
    ("target decay rate 0.99", ("transfer.decay",)),
    ("100 epochs", ("transfer.epochs",)),
    ("batch size 128", ("transfer.batch",)),
    ("weight decay 0.01", ("transfer.optimizer.weight_decay",)),
    ("the predictor's learning rate is multiplied by 10", ("transfer.predictor_lr",)),
    ("N-way K-shot episodes; numbers not given", tuple(f"episodic.{key}" for key in _EPISODE)),
    ("connected to a cosine classifier", ("episodic.head", "episodic.scale")),
    ("SGD, momentum 0.9, weight decay 0.0001",
     ("episodic.optimizer.name", "episodic.optimizer.momentum", "episodic.optimizer.weight_decay")),
    ("initial learning rate 0.001, cosine annealing",
     ("episodic.optimizer.lr", "episodic.optimizer.schedule")),
    ("all base classes (V-A)", ("data.base_classes", "train_on_validation")),
)  # fmt: skip


def plan_document(
    request: Request,
    work: Work,
    records: Records,
    folder: Path,
    rates: Rates | None = None,
    seen: set[str] | None = None,
) -> Document:
    """Return the plan of a request as plain values.

    The cost comes from recorded units of the same data set, encoder and stages; where there are
    none, from a few steps that are run here and now, of the bare encoder if data are absent: their
    seconds a clip are added to ``rates``. ``seen`` are keys of units in a plan before this one,
    which cost nothing again.
    """
    rates = {} if rates is None else rates
    seen = set() if seen is None else seen
    recorded, units = _speeds(records.all()), []
    for unit in work.units:
        record, again = records.get(unit.key), unit.key in seen
        seen.add(unit.key)
        open_ = not records.settled(unit.key)
        rate = _rate(unit, recorded, rates) if open_ and unit.total and not again else 0.0
        units.append(
            {
                "rows": list(unit.rows),
                "unit": unit.unit,
                "clips": unit.samples,
                "state": "open" if open_ else "done",
                "error": (record or {}).get("error"),
                "seconds": unit.total * rate,
                "commands": commands(unit, folder / request.table.id),
            }
        )
    outlined = any(unit.key.startswith("~") for unit in work.units)
    run = [row for row in request.wanted() if row.key in work.by_row]
    return {
        "table": request.table.id,
        "dataset": request.dataset,
        "protocol": work.protocol,
        "budget": request.budget,
        "over": work.over,
        "classes": request.classes,
        "asked": list(request.rows),
        "prepared": not outlined,
        "needs": [*needs(request.table, request.dataset, run)] if outlined else [],
        "settings": _settings(request, work),
        "units": units,
        "absent": work.absent,
    }


def _rate(unit: Unit, recorded: Rates, rates: Rates) -> float:
    """Return the seconds that a clip costs: recorded, measured before or now; of few clips, the
    mean.
    """
    kind = (unit.dataset, *unit.speed_key)
    if kind in recorded:
        return recorded[kind]
    outlined, config = unit.key.startswith("~"), unit.config
    if outlined and config is not None:
        size = SIZES[unit.dataset]
        frames = config.data.frames or size.frames
        kind = (config.encoder.name, config.encoder.width, frames, size.layout)
    if kind not in rates:
        if rates and unit.total < _FEW:  # it is done sooner than measured
            return sum(rates.values()) / len(rates)
        log(f"measuring a few steps of {unit.rows[0]}")
        rates[kind] = seconds_a_clip(unit) if outlined else seconds_of(unit) / unit.total
    return rates[kind]


def _settings(request: Request, work: Work) -> list[dict[str, str]]:
    """Return what Section V-B says and its counterpart in a budget at full size."""
    table = request.table
    ours = [
        row
        for row in table.rows_for(request.dataset)
        if row.stages == ("transfer", "episodic") and "episodic.head" not in row.settings
    ]
    if table.budgets[request.budget].preset is None or not ours:
        return []

    def unlike(row: Row) -> tuple[bool | int | float, ...]:
        """What the paper reports as its own, and varies least, comes first."""
        changed = start(table, row, request.dataset, request.budget).changed()
        numbers = [number.percent for shots in row.quoted.values() for number in shots.values()]
        own = row.classifier.startswith("cosine") and row.caches == ("teacher",)
        return not numbers, len(changed), not own, -max(numbers, default=0.0)

    row = min(ours, key=unlike)
    config = start(table, row, request.dataset, request.budget)
    config = next((u.config for u in work.units if row.key in u.rows and u.config), config)
    flat = config.flat()
    if request.dataset in SIZES:
        flat["data.frames"] = flat["data.frames"] or SIZES[request.dataset].frames
    if flat["transfer.representation"] == "auto":
        flat["transfer.representation"] = "auto (f_v+f_t where the teacher saw videos)"
    lines = [(says, ", ".join(f"{k}={_text(flat[k])}" for k in keys)) for says, keys in _SECTION]
    makes = [table.caches[key].make.format(dataset=request.dataset) for key in row.caches]
    lines.insert(1, ("X-CLIP (ViT-B/16), 8 frames, cropped by joints", "; ".join(makes)))
    own = settings_of(build_classifier(row.classifier))
    tuned = ", ".join(f"{k}={own[k]}" for k in ("tune_steps", "lr") if k in own)
    says = "cosine classifier, 20 epochs, initial learning rate 0.0005"
    lines.append((says, f"classifier {row.classifier}: {tuned}"))
    return [{"paper": says, "row": row.key, "here": here} for says, here in lines]


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
    if document["needs"]:
        text += (
            f"\n\n{document['dataset']} is not prepared here: clips are those of the whole data "
        )
        text += "set, times those of the bare encoder. First:\n" + "\n".join(document["needs"])
    if lines := document["settings"]:
        text += f"\n\nSection V-B of the paper, and what row {lines[0]['row']} has for it\n\n"
        text += grid([[line["paper"], line["here"]] for line in lines])
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


def _speeds(records: Sequence[Document]) -> Rates:
    """Seconds a clip, by kind of unit."""
    found: dict[tuple[object, ...], list[float]] = {}
    for record in records:
        total = sum(record.get("samples", {}).values())
        if "error" in record or record.get("resumed") or not total:
            continue
        kind = (record["dataset"], *record["speed_key"])
        found.setdefault(kind, []).append(record["seconds"] / total)
    return {kind: sum(values) / len(values) for kind, values in found.items()}
