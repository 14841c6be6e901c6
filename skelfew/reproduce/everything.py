"""All tables of the paper, one after the other: what will run, where, and for how long."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from skelfew.errors import SkelfewError
from skelfew.io.files import Document
from skelfew.io.paths import below
from skelfew.reproduce.engine import duration
from skelfew.reproduce.expand import expand
from skelfew.reproduce.outline import SIZES, outline
from skelfew.reproduce.plan import plan_document
from skelfew.reproduce.published import adopt
from skelfew.reproduce.records import Records
from skelfew.reproduce.rows import Table
from skelfew.reproduce.tables import load_table
from skelfew.reproduce.text import grid
from skelfew.reproduce.units import Request, Work

_THREE = ("ntu120", "ntu60", "pku-mmd")
# The paper's tables and the data sets that each of them is about.
PAPER = {
    "I": ("ntu120",), "II": ("ntu120",), "III": ("ntu60",), "IV": ("pku-mmd",), "V": ("nw-ucla",),
    "VI": ("msr-action-pairs",), "VII": _THREE, "VIII": _THREE, "IX": _THREE, "X": _THREE,
    "XI": _THREE, "XII": _THREE, "fig6": ("ntu120",),
}  # fmt: skip


def steps(dataset: str | None) -> list[tuple[str, str]]:
    """Return the tables and data sets to run, in order: all, or those of one data set.

    On a data set that the paper is not about, such as ``demo``: all tables that can be run on it.
    """
    own = [(t, d) for t, datasets in PAPER.items() for d in datasets if dataset in (None, d)]
    return own or [(t, dataset) for t in PAPER if dataset and dataset in load_table(t).datasets]


def paper_rows(table: Table, dataset: str) -> tuple[str, ...]:
    """Return the rows that the paper has numbers of; all where it prints none."""
    rows = table.rows_for(dataset)
    of_set = [row.key for row in rows if row.quoted.get(dataset)]
    return tuple(of_set or [row.key for row in rows if row.quoted])


def expanded(request: Request, known: bool) -> Work:
    """Return what a request comes to; an outline for a data set of ``known`` size not prepared.

    Raises:
        SkelfewError: The data set is not prepared; the message has the command that prepares it.
    """
    why = not_here(request)
    if not why:
        return expand(request)
    if known and request.classes == "novel" and request.dataset in SIZES:
        return outline(request)
    raise SkelfewError(why)


def not_here(request: Request) -> str:
    """Return which file a request lacks below the working folder and what makes it, or ""."""
    name = request.dataset
    if below(Path("manifests"), f"{name}.csv", links=True).is_file():
        return ""
    prepare = SIZES[name].prepare if name in SIZES else f"skelfew-prepare {name}"
    return f"no manifests/{name}.csv in {Path.cwd()}; make it with: {prepare}"


def plan_all(
    requests: Sequence[Request], records: Records, folder: Path, workers: int, known: Path | None
) -> Document:
    """Return the plans of all requests as plain values; units that they share count once."""
    rates: dict[tuple[object, ...], float] = {}
    seen: set[str] = set()
    plans = []
    for request in requests:
        work = expanded(request, known=True)
        if known is not None:
            adopt(records, work.units, known)
        plans.append(plan_document(request, work, records, folder, rates, seen))
    seconds = [u["seconds"] for plan in plans for u in plan["units"] if u["state"] == "open"]
    return {"steps": plans, "workers": workers, "seconds": sum(seconds),
            "seconds_by_workers": _span(seconds, workers)}  # fmt: skip


def describe_all(document: Document, command: Callable[[Document], str]) -> str:
    """Return the plans as text: a line a table and data set, and its command."""
    body = [["", "table", "data set", "rows", "units", "open", "clips", "about", ""]]
    for number, plan in enumerate(document["steps"], 1):
        open_ = [u for u in plan["units"] if u["state"] == "open"]
        clips = sum(sum(u["clips"].values()) for u in open_ if u["seconds"])
        rows = {row for u in plan["units"] for row in u["rows"]}
        notes = "" if plan["prepared"] else "not prepared"
        if plan["absent"]:
            notes = f"{len(plan['absent'])} rows lack a cache or weights"
        body.append([
            str(number), plan["table"], plan["dataset"], str(len(rows)), str(len(plan["units"])),
            str(len(open_)), f"{clips:,}", duration(sum(u["seconds"] for u in open_)), notes,
        ])  # fmt: skip
    text = grid(body)
    text += f"\n\nin all about {duration(document['seconds'])} of one process"
    if document["workers"] > 1:
        spread = duration(document["seconds_by_workers"])
        text += f", {spread} of {document['workers']} side by side"
    text += "; units that two tables share count once, and what is finished is not repeated"
    if first := [*dict.fromkeys(_needed(document["steps"]))]:
        text += "\n\n# first, what is not here yet\n" + "\n".join(first)
    return text + "\n\n# then\n" + "\n".join(map(command, document["steps"]))


def _needed(plans: Sequence[Document]) -> Iterator[str]:
    """Return what has to be made first."""
    for plan in plans:
        yield from plan["needs"]
        yield from (why.rpartition("make it with: ")[2] for why in plan["absent"].values())


def _span(seconds: Sequence[float], workers: int) -> float:
    """Return when the last of some workers is done, who each take the next unit when free."""
    busy = [0.0] * workers
    for cost in seconds:
        first = busy.index(min(busy))
        busy[first] += cost
    return max(busy)
