"""skelfew-reproduce: a table of runs over seeds or splits, with intervals."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING

import click

from skelfew.cli.common import INTERRUPTED, PARTIAL, guarded, log, say, say_json
from skelfew.cli.options import CONTEXT, COUNT, PATH, flag, json_option, option, pairs
from skelfew.io.writing import check_place

if TYPE_CHECKING:
    from skelfew.io.files import Document
    from skelfew.io.known import Known
    from skelfew.reproduce.records import Records
    from skelfew.reproduce.rows import Table
    from skelfew.reproduce.units import Request, Work

_OF_A_TABLE = (
    "seeds", "splits", "jobs", "threads", "device", "caches", "inits", "settings", "classes",
    "runs", "keep", "known",
)  # fmt: skip
_HOW = ("jobs", "keep", "as_json", "plan", "list_", "write")  # change no number


@click.command(context_settings=CONTEXT)
@click.argument("table", required=False)
@option("--dataset", "One of the table's data sets [its first].", metavar="NAME")
@option("--rows", "Only these rows [all].", metavar="A,B")
@option("--seeds", "How many seeds [the table's number].", type=COUNT)
@option("--splits", "How many splits of the protocol [all].", type=COUNT)
@option("--budget", "How much is trained [the table's first].", metavar="NAME")
@option("--jobs", "Processes [one, or one a device].", type=COUNT)
@option("--threads", "Of each process.", default=1, type=COUNT)
@option("--device", "cpu, cuda, cuda:0,cuda:1 [cuda if any].", default="auto", show_default=False)
@option("--cache", "caches", "Where a cache of the table is.", metavar="KEY=PATH", multiple=True)
@option(
    "--init",
    "inits",
    "Where weights to start from, named in the table, are.",
    metavar="KEY=PATH",
    multiple=True,
)
@option("--set", "settings", "For all rows.", metavar="KEY=VALUE", multiple=True)
@option(
    "--select-on",
    "classes",
    "Which classes are scored; 'validation' chooses settings without touching novel ones.",
    default="novel",
    choices=["novel", "validation"],
)
@option("--runs", "Where records and run folders are.", type=PATH, default=Path("runs/reproduce"))
@flag("--keep", "Leave weights and features in the run folders.")
@flag("--list", "list_", "Print all tables, or the rows of TABLE.")
@flag("--plan", "Print what would run, its commands and cost.")
@flag("--show", "Print what has been measured; run nothing.")
@option(
    "--write",
    "Then write the results beside this page and the page anew, e.g. docs/results.md.",
    metavar="MD",
    type=PATH,
)
@option(
    "--known",
    "Units published there count as measured, e.g. docs/results.",
    metavar="PATH",
    type=click.Path(exists=True, path_type=Path),
)
@json_option
@guarded
def main(
    table: str | None,
    dataset: str | None,
    rows: str | None,
    seeds: int | None,
    splits: int | None,
    budget: str | None,
    jobs: int | None,
    threads: int,
    device: str,
    caches: tuple[str, ...],
    inits: tuple[str, ...],
    settings: tuple[str, ...],
    classes: str,
    runs: Path,
    keep: bool,
    list_: bool,
    plan: bool,
    show: bool,
    write: Path | None,
    known: Path | None,
    as_json: bool,
) -> int:
    """Run the rows of a table over seeds or splits and say what is resolved.

    \b
    skelfew-reproduce --list
    skelfew-reproduce evidence-real --dataset nw-ucla --plan
    skelfew-reproduce evidence-real --dataset nw-ucla --jobs 2
    skelfew-reproduce evidence-real --dataset nw-ucla --show --write docs/results.md
    skelfew-reproduce all --budget paper --device cuda:0,cuda:1 --plan

    TABLE "all" is every table of the paper, one after the other. Whatever stops it, the same
    command goes on: finished units are not repeated. A row whose cache or initial weights are
    missing is left out, and the table says which command makes them.
    """
    from skelfew.io.known import Known

    asked = {**click.get_current_context().params, "columns": get_terminal_size().columns}
    answers = Known(runs / "known", {k: v for k, v in asked.items() if k not in _HOW})
    if not (plan or list_ or write) and (answer := answers.answer()) is not None:
        log(f"all of it is known and nothing has changed ({answers.path})")
        say_json(answer["document"]) if as_json else say(answer["text"])
        return int(answer["status"])
    from skelfew.reproduce.tables import list_tables, load_table

    if list_ or table is None:
        if table is None and not list_:
            raise click.UsageError("which table? skelfew-reproduce --list shows them")
        names = list_tables() if table in (None, "all") else [str(table)]
        return show_list([load_table(name) for name in names], as_json)
    if seeds and splits:
        raise click.UsageError("--seeds and --splits both count the units; give one")
    devices = tuple(device.split(","))
    given = {
        "rows": tuple(rows.split(",")) if rows else (),
        "count": seeds or splits,
        "classes": classes,
        "caches": pairs("--cache", caches),
        "inits": pairs("--init", inits),
        "settings": pairs("--set", settings),
        "device": devices[0],
        "threads": threads,
    }
    how = (keep, show, write, known, as_json, _same_options(click.get_current_context()))
    to_do = Doing(runs, jobs or len(devices), devices, *how, answers if table != "all" else None)
    if table != "all":
        request = request_of(table, dataset, budget, given)
        check_keys([request])
        if plan:
            return print_plan(request, to_do)
        status, text, document = run(request, to_do)
        say_json(document) if as_json else say(text)
        return status
    from skelfew.reproduce.everything import PAPER, paper_rows, steps

    wanted = steps(dataset)
    if not wanted:
        those = ", ".join(sorted({d for names in PAPER.values() for d in names}))
        raise click.UsageError(f"no table of the paper is on {dataset}; {those} are")
    if rows:
        raise click.UsageError("--rows are those of one table, not of all")
    requests = [request_of(name, on, budget or "paper", given) for name, on in wanted]
    requests = [replace(r, rows=paper_rows(r.table, r.dataset)) for r in requests]
    check_keys(requests)
    return plan_tables(requests, to_do) if plan else run_tables(requests, to_do)


@dataclass(frozen=True)
class Doing:
    """Options of the run that do not change the units."""

    runs: Path
    jobs: int
    devices: tuple[str, ...]
    keep: bool
    show: bool
    write: Path | None
    known: Path | None
    as_json: bool
    same: tuple[str, ...]
    answers: "Known | None" = None

    def command(self, plan: "Document") -> str:
        """Return the command that runs the table of a plan in this way."""
        parts = ["skelfew-reproduce", plan["table"], "--dataset", plan["dataset"], "--budget",
                 plan["budget"]]  # fmt: skip
        parts += ["--rows", ",".join(plan["asked"])] if plan["asked"] else []
        return shlex.join([*parts, *self.same])


def _same_options(context: click.Context) -> tuple[str, ...]:
    """Return what was given of the options that a table on its own is run with too."""
    parts: list[str] = []
    for known in context.command.params:
        value = context.params.get(known.name or "")
        if known.name in _OF_A_TABLE and value and value != known.get_default(context):
            for one in value if isinstance(value, tuple) else (value,):
                parts += [known.opts[0], *([] if one is True else [str(one)])]
    return tuple(parts)


def check_keys(requests: "Sequence[Request]") -> None:
    """Refuse keys of caches and weights that no table has."""
    for named, what in (("--cache", "caches"), ("--init", "inits")):
        there = dict.fromkeys(key for r in requests for key in getattr(r.table, what))
        if unknown := sorted(set(getattr(requests[0], what)) - set(there)):
            which = f"table {requests[0].table.id} has" if len(requests) == 1 else "the tables have"
            raise click.UsageError(f"{named} {unknown[0]}: {which} {', '.join(there) or 'none'}")


def request_of(name: str, dataset: str | None, budget: str | None, given: "Document") -> "Request":
    """Return the request of a table and a data set."""
    from skelfew.reproduce.tables import load_table

    table = load_table(name, dataset, budget)
    from skelfew.reproduce.units import Request

    chosen = table.budget(budget)[0]
    return Request(
        table=table.at(chosen),
        name=name,
        dataset=dataset or next(iter(table.datasets)),
        budget=chosen,
        **given,
    )


def run_tables(requests: "Sequence[Request]", to_do: Doing) -> int:
    """Run tables one after the other; what is not prepared is named and left out."""
    from skelfew.reproduce.everything import describe_all, not_here, plan_all

    if not to_do.show:
        document = plan_all(requests, records_of(to_do), to_do.runs, to_do.jobs, to_do.known)
        log(describe_all(document, to_do.command))
    status, documents = 0, []
    for number, request in enumerate(requests, 1):
        log(f"step {number} of {len(requests)}: {request.name} on {request.dataset}")
        if not to_do.show and (why := not_here(request)):
            log(f"left out: {why}")
            status = PARTIAL
            continue
        code, text, found = run(request, to_do)
        documents.append(found)
        if not to_do.as_json:
            say(text)
        status = max(status, code)
        if code == INTERRUPTED:
            break
    if to_do.as_json:
        say_json({"tables": documents})
    return status


def print_plan(request: "Request", to_do: Doing) -> int:
    """Print what a request would run."""
    from skelfew.reproduce.everything import expanded
    from skelfew.reproduce.plan import describe_plan, plan_document

    check_place(to_do.write)
    work, records = expanded(request, known=True), records_of(to_do)
    adopt_known(records, work, to_do)
    document = plan_document(request, work, records, to_do.runs)
    say_json(document) if to_do.as_json else say(describe_plan(document))
    return 0


def plan_tables(requests: "Sequence[Request]", to_do: Doing) -> int:
    """Print what all tables would run, in which order and for how long."""
    from skelfew.reproduce.everything import describe_all, plan_all

    records = records_of(to_do)
    document = plan_all(requests, records, to_do.runs, to_do.jobs, to_do.known)
    say_json(document) if to_do.as_json else say(describe_all(document, to_do.command))
    return 0


def records_of(to_do: Doing) -> "Records":
    """Return what has been measured below the folder of runs."""
    from skelfew.reproduce.records import Records

    return Records(to_do.runs)


def adopt_known(records: "Records", work: "Work", to_do: Doing) -> None:
    """Let published units count as measured."""
    if to_do.known is None:
        return
    from skelfew.reproduce.published import adopt

    own = sum(records.get(unit.key) is not None for unit in work.units)
    adopted = adopt(records, work.units, to_do.known)
    log(
        f"of {len(work.units)} units {own} are recorded here, {len(adopted)} more are taken "
        f"from {to_do.known}"
    )


def run(request: "Request", to_do: Doing) -> "tuple[int, str, Document]":
    """Run and write, as the options say; return the exit status, and what to print."""
    if not to_do.show:
        check_place(to_do.runs / "records.jsonl")
    check_place(to_do.write)
    from skelfew.reproduce.engine import execute
    from skelfew.reproduce.everything import expanded
    from skelfew.reproduce.summary import summarise
    from skelfew.reproduce.text import summary_document, terminal

    records = records_of(to_do)
    work = expanded(request, known=to_do.show)
    adopt_known(records, work, to_do)
    interrupted = False
    if not to_do.show:
        for key, why in work.absent.items():
            log(f"row {key} does not run: {why}")
        interrupted = execute(
            work.units,
            records,
            to_do.runs / request.table.id,
            to_do.jobs,
            to_do.keep,
            devices=to_do.devices,
        )
    found = {
        row: [r for key in keys if (r := records.get(key)) is not None]
        for row, keys in work.by_row.items()
    }
    summary = summarise(
        request.table, request.dataset, found, work.absent, work.over, request.classes
    )
    if to_do.write is not None and not interrupted:
        from skelfew.reproduce.document import write_results

        for path in write_results(request, work, found, to_do.write):
            log(f"wrote {path}")
    text, document = terminal(request.table, summary), summary_document(request, work, summary)
    if interrupted:
        log("interrupted; run the same command again to go on")
        return INTERRUPTED, text, document
    accidents = [
        r
        for group in found.values()
        for r in group
        if "error" in r and not records.settled(r["key"])
    ]
    for record in {r["key"]: r for r in accidents}.values():
        log(f"failed: {', '.join(record['rows'])}, seed {record['seed']}: {record['error']}")
    missing = [key for key in work.absent if not request.table.row(key).missing]
    status = PARTIAL if accidents or (missing and not to_do.show) else 0
    if to_do.answers and (to_do.show or all(records.settled(unit.key) for unit in work.units)):
        answer = {"text": text, "document": document, "status": status}
        to_do.answers.keep(answer, _files(request, records, to_do.known))
    return status, text, document


def _files(
    request: "Request", records: "Records", published: Path | None
) -> Iterator[Path | str | None]:
    """Yield what is read for a table."""
    from skelfew.data.protocols.files import list_protocols

    yield from (records.path, request.name, published, *(published or records.path).glob("*.jsonl"))
    yield from (f"manifests/{request.dataset}.csv", f"data/{request.dataset}.h5", "manifests")
    yield from ("manifests/protocols", *map(str, list_protocols().values()))
    for row in request.wanted():
        yield from (*request.cache_places(row), request.init_place(row))


def show_list(tables: "list[Table]", as_json: bool) -> int:
    """Print a line a table, or all of a single one, with its rows."""
    if as_json:
        document = [
            {
                "id": t.id,
                "title": t.title,
                "question": t.question,
                "paper": t.paper,
                "datasets": list(t.datasets),
                "budgets": {k: b.samples for k, b in t.budgets.items()},
                "rows": [
                    {"key": r.key, "label": r.label, "stages": list(r.stages),
                     "caches": list(r.caches), "init": r.init, "missing": r.missing}
                    for r in t.rows
                ],
            }
            for t in tables
        ]  # fmt: skip
        say_json(document)
        return 0
    for t in tables:
        where = f" ({t.paper})" if t.paper else ""
        say(f"{t.id}: {t.title}{where}")
        if len(tables) > 1:  # --list TABLE shows its rows
            continue
        budgets = ", ".join(f"{k} {b.samples or 'as the preset'}" for k, b in t.budgets.items())
        say(f"  data sets {', '.join(t.datasets)}; budgets in clips: {budgets}")
        width = max(len(r.key) for r in t.rows)
        for r in t.rows:
            say(f"  {r.key:<{width}}  {r.label}" + (f" [{r.missing}]" if r.missing else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
