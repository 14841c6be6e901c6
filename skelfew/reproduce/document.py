"""docs/results.md from docs/results/*.jsonl: the records that stand behind every number.

``write_results`` copies what a request gave to TABLE.jsonl beside the page and makes the page anew
from all files there, so the page depends on these files, the tables and the findings alone.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skelfew.io.writing import write_text
from skelfew.report.table import markdown
from skelfew.reproduce.engine import duration
from skelfew.reproduce.summary import Summary, scored_by, summarise
from skelfew.reproduce.tables import Table, load_table
from skelfew.reproduce.text import cells_of, columns, contrast_rows, heading, remarks, second_hand
from skelfew.reproduce.units import Request, Work

_GROUP = ("dataset", "budget", "classes", "settings", "caches")
_KEPT = (
    "key", "split", "seed", "samples", "seconds", "cpu_seconds", "resumed", "finished",
    "machine", "versions", "commit", "chance", "validation_chance", "error", "kind",
)  # fmt: skip
_TOP = """# Results

Every number here was made by the command above its table and is kept, unit by unit, in
[results/](results/). This page is generated (`skelfew-reproduce ... --write {page}`); findings are
written by people in `results/TABLE.md`. How to read budgets, intervals and contrasts:
[reproduce.md](reproduce.md).
"""


def write_results(
    request: Request,
    work: Work,
    found: Mapping[str, Sequence[Mapping[str, Any]]],
    page: Path,
) -> list[Path]:
    """Keep the records of a request beside ``page``, make the page anew, return both paths.

    Args:
        request: What was run.
        work: What it came to.
        found: Records by row.
        page: The Markdown file; records go to the folder of its stem beside it.
    """
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{request.table.id}.jsonl"
    head = {
        "group": True,
        "table": request.name,
        "dataset": request.dataset,
        "budget": request.budget,
        "classes": request.classes,
        "settings": dict(sorted(request.settings.items())),
        "caches": dict(sorted(request.caches.items())),
        "protocol": work.protocol,
        "over": work.over,
        "count": work.count,
        "rows": {row: [key[:16] for key in keys] for row, keys in work.by_row.items()},
        "absent": work.absent,
    }
    classifiers = {row.key: row.classifier for row in request.table.rows}
    units: dict[str, dict[str, Any]] = {}
    for row, records in found.items():
        for record in records:
            line = units.setdefault(record["key"], _compact(record))
            _add_scores(line, record, classifiers[row])
    lines = [*_others(path, head), head, *units.values()]
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    write_text(page, make_page(folder, page))
    return [path, page]


def _compact(record: Mapping[str, Any]) -> dict[str, Any]:
    line = {k: record[k] for k in _KEPT if k in record}
    line["key"] = record["key"][:16]
    if "machine" in line:
        line["machine"] = {k: v for k, v in line["machine"].items() if k != "host"}
    line["scores"] = {}
    return line


def _add_scores(line: dict[str, Any], record: Mapping[str, Any], classifier: str) -> None:
    for classes, by_shots in record.get("scores", {}).items():
        for shots, cells in by_shots.items():
            place = line["scores"].setdefault(classes, {}).setdefault(shots, {})
            name = scored_by(classifier, shots)
            place[name] = {
                mode: {"micro": numbers["micro"]} for mode, numbers in cells[name].items()
            }


def _others(path: Path, head: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Lines of the file that belong to other data sets, budgets or settings."""
    kept: list[dict[str, Any]] = []
    for group, units in _groups(path):
        if _identity(group) != _identity(head):
            kept += [group, *units]
    return kept


def _identity(group: Mapping[str, Any]) -> list[Any]:
    """What tells a group from others; files of earlier versions do not name caches."""
    return [group.get(key, {}) for key in _GROUP]


def _groups(path: Path) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    if not path.is_file():
        return []
    groups: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        if line.get("group"):
            groups.append((line, []))
        else:
            groups[-1][1].append(line)
    return groups


def make_page(folder: Path, page: Path) -> str:
    """Return the page of all records in a folder."""
    parts = [_TOP.format(page=_short(page))]
    for path in sorted(folder.glob("*.jsonl")):
        groups = sorted(_groups(path), key=lambda g: json.dumps(_identity(g[0])))
        if not groups:
            continue
        table = load_table(groups[0][0]["table"])
        parts.append(f"## {table.title}\n\n{table.question}")
        if table.paper:
            parts[-1] += f" In the paper: {table.paper}."
        parts[-1] += "\n"
        for head, units in groups:
            parts.append(_section(table, head, units, page))
        findings = folder / f"{path.stem}.md"
        if findings.is_file():
            text = findings.read_text(encoding="utf-8").strip()
            parts.append(text.replace("](../", "](") + "\n")  # the page lies one folder up
    return "\n".join(parts)


def _section(
    table: Table, head: Mapping[str, Any], units: Sequence[Mapping[str, Any]], page: Path
) -> str:
    by_key = {u["key"]: u for u in units}
    known = {row.key for row in table.rows}
    records = {
        row: [by_key[k] for k in keys if k in by_key]
        for row, keys in head["rows"].items()
        if row in known
    }
    summary = summarise(
        table, head["dataset"], records, head["absent"], head["over"], head["classes"]
    )
    name = head["dataset"] + (f", {head['budget']} budget" if len(table.budgets) > 1 else "")
    if head["classes"] == "validation":
        name += ", validation classes"
    blocks = [
        f"### {name}",
        f"    {_command(table, head, page)}",
        _about(table, head, summary),
        _rows(summary),
    ]
    if summary.comparisons:
        blocks += ["Paired differences in points:", _contrasts(table, summary)]
    absent = [line for line in summary.lines if line.absent and not line.quoted]
    if absent:
        blocks.append("\n".join(f"- not run: *{a.row.label}*: {a.absent}" for a in absent))
    return "\n\n".join(blocks) + "\n"


def _command(table: Table, head: Mapping[str, Any], page: Path) -> str:
    parts = [f"skelfew-reproduce {head['table']} --dataset {head['dataset']}"]
    parts.append(f"--budget {head['budget']} --{head['over']} {head['count']}")
    if head["classes"] != "novel":
        parts.append(f"--select-on {head['classes']}")
    parts += [f"--cache {k}={v}" for k, v in head.get("caches", {}).items()]
    parts += [f"--set {k}={v}" for k, v in head["settings"].items()]
    wanted = [r.key for r in table.rows_for(head["dataset"])]
    run = [k for k in wanted if k in head["rows"] or k in head["absent"]]
    if run != wanted:
        parts.append(f"--rows {','.join(run)}")
    return " ".join([*parts, f"--write {_short(page)}"])


def _about(table: Table, head: Mapping[str, Any], summary: Summary) -> str:
    """What a reader needs to judge the numbers: protocol, budget, machine, time."""
    total = table.budgets[head["budget"]].total(head["dataset"])
    text = f"Protocol {head['protocol']}, {head['count']} {head['over']}, "
    text += "epochs and episodes as the preset has them" if total is None else (
        f"{total:,} clips through the encoder for each row"
    )  # fmt: skip
    text += f"; accuracy in percent on the {head['classes']} classes, mean [95 % interval]"
    if summary.chance is not None:
        text += f", chance {100 * summary.chance:.1f}"
    records = [r for r in summary.records if "seconds" in r]
    if not records:
        return text + "."
    wall = sum(r["seconds"] for r in records)
    cpu = sum(r["cpu_seconds"] for r in records if not r.get("resumed"))
    dates = sorted(r["finished"][:10] for r in records)
    text += f". {len(records)} units, {duration(wall)} in all ({duration(cpu)} of processor time), "
    text += dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    machines = {
        f"{r['machine']['processor']}, {r['machine']['cores']} cores, {r['machine']['device']}"
        + (f" ({', '.join(r['machine']['gpus'])})" if r["machine"]["gpus"] else "")
        for r in records
    }
    text += f", on {'; '.join(sorted(machines))}"
    for package in ("python", "torch", "skelfew"):
        found = sorted({r["versions"][package] for r in records})
        text += f", {package} {' and '.join(found)}"
    commits = sorted({(r["commit"] or "unknown")[:7] for r in records})
    return f"{text}, commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}."


def _rows(summary: Summary) -> str:
    lines = [line for line in summary.lines if not line.absent or line.quoted]
    places = columns(summary)
    quoted = sorted({shots for line in lines for shots in line.quoted}, key=int)
    timed = any(line.seconds for line in lines)
    head = ["", *map(heading, places), *(f"quoted, {q}-shot" for q in quoted), "clips"]
    body = []
    for line in lines:
        clips = f"{sum(line.samples.values()):,}" if line.samples else ""
        cells = cells_of(line, places)
        cells += [str(line.quoted.get(q, "")) for q in quoted]
        body.append([line.row.label, *cells, clips])
        if timed:
            body[-1].append(f"{line.seconds:.0f}" if line.seconds else "")
        body[-1].append("quoted only" if line.absent else remarks(line))
    return markdown([[*head, *(["seconds"] if timed else []), ""], *body]) + second_hand(lines)


def _contrasts(table: Table, summary: Summary) -> str:
    return markdown(contrast_rows(table, summary))


def _short(page: Path) -> str:
    """``docs/results.md``, wherever the checkout is."""
    return (Path(page.resolve().parent.name) / page.name).as_posix()
