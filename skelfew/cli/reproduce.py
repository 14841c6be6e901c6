"""skelfew-reproduce: a table of runs over seeds or splits, with intervals."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skelfew.cli.common import CONTEXT, INTERRUPTED, PARTIAL, guarded, log, say, say_json

if TYPE_CHECKING:
    from skelfew.reproduce.rows import Table
    from skelfew.reproduce.units import Request


@click.command(context_settings=CONTEXT)
@click.argument("table", required=False)
@click.option("--dataset", metavar="NAME", help="One of the table's data sets [its first].")
@click.option("--rows", metavar="A,B", help="Only these rows [all].")
@click.option("--seeds", type=click.IntRange(1), help="How many seeds [the table's number].")
@click.option("--splits", type=click.IntRange(1), help="How many splits of the protocol [all].")
@click.option("--budget", metavar="NAME", help="How much is trained [the table's first].")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="Of each process."
)
@click.option("--device", default="auto", help="cpu, cuda, cuda:1 [cuda if there is one].")
@click.option(
    "--cache", "caches", metavar="KEY=PATH", multiple=True, help="Where a cache of the table is."
)
@click.option(
    "--init",
    "inits",
    metavar="KEY=PATH",
    multiple=True,
    help="Where weights to start from, named in the table, are.",
)
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="For all rows.")
@click.option(
    "--select-on",
    "classes",
    type=click.Choice(["novel", "validation"]),
    default="novel",
    show_default=True,
    help="Which classes are scored; 'validation' chooses settings without touching novel ones.",
)
@click.option(
    "--runs",
    type=click.Path(path_type=Path),
    default=Path("runs/reproduce"),
    show_default=True,
    help="Where records and run folders are.",
)
@click.option("--keep", is_flag=True, help="Leave weights and features in the run folders.")
@click.option("--list", "list_", is_flag=True, help="Print all tables, or the rows of TABLE.")
@click.option("--plan", is_flag=True, help="Print what would run, its commands and cost.")
@click.option("--show", is_flag=True, help="Print what has been measured; run nothing.")
@click.option(
    "--write",
    metavar="MD",
    type=click.Path(path_type=Path),
    help="Then write the results beside this page and the page anew, e.g. docs/results.md.",
)
@click.option(
    "--known",
    metavar="PATH",
    type=click.Path(exists=True, path_type=Path),
    help="Units published there count as measured, e.g. docs/results.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@guarded
def main(
    table: str | None,
    dataset: str | None,
    rows: str | None,
    seeds: int | None,
    splits: int | None,
    budget: str | None,
    jobs: int,
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

    Whatever stops it, the same command goes on: finished units are not repeated. A row whose cache
    or initial weights are missing is left out, and the table says which command makes them.
    """
    from skelfew.reproduce.tables import list_tables, load_table

    if list_ or table is None:
        if table is None and not list_:
            raise click.UsageError("which table? skelfew-reproduce --list shows them")
        return show_list([load_table(name) for name in ([table] if table else list_tables())],
                         as_json)  # fmt: skip
    if seeds and splits:
        raise click.UsageError("--seeds and --splits both count the units; give one")
    loaded = load_table(table, dataset, budget)
    from skelfew.reproduce.units import Request

    request = Request(
        table=loaded,
        name=table,
        dataset=dataset or next(iter(loaded.datasets)),
        budget=loaded.budget(budget)[0],
        rows=tuple(rows.split(",")) if rows else (),
        count=seeds or splits,
        classes=classes,
        caches=pairs("--cache", caches),
        inits=pairs("--init", inits),
        settings=pairs("--set", settings),
        device=device,
        threads=threads,
    )
    for option, given, named in (
        ("--cache", request.caches, loaded.caches),
        ("--init", request.inits, loaded.inits),
    ):
        if unknown := sorted(set(given) - set(named)):
            raise click.UsageError(
                f"{option} {unknown[0]}: table {loaded.id} has {', '.join(named) or 'none'}"
            )
    return run(request, runs, jobs, keep, plan, show, write, known, as_json)


def run(
    request: "Request",
    folder: Path,
    jobs: int,
    keep: bool,
    plan: bool,
    show: bool,
    write: Path | None,
    known: Path | None,
    as_json: bool,
) -> int:
    """Plan, run, print and write, as the options say; return the exit status."""

    from skelfew.io.writing import check_place
    from skelfew.reproduce.engine import Outcome, execute
    from skelfew.reproduce.expand import expand
    from skelfew.reproduce.plan import describe_plan, plan_document
    from skelfew.reproduce.records import Records
    from skelfew.reproduce.summary import summarise
    from skelfew.reproduce.text import summary_document, terminal

    if not (plan or show):
        check_place(folder / "records.jsonl")
    check_place(write)
    records = Records(folder)
    work = expand(request)
    if known is not None:
        from skelfew.reproduce.published import adopt

        here = sum(records.get(unit.key) is not None for unit in work.units)
        adopted = adopt(records, work.units, known)
        log(
            f"of {len(work.units)} units {here} are recorded here, {len(adopted)} more are taken "
            f"from {known}"
        )
    if plan:
        document = plan_document(request, work, records, folder)
        say_json(document) if as_json else say(describe_plan(document))
        return 0
    outcome = Outcome()
    if not show:
        for key, why in work.absent.items():
            log(f"row {key} does not run: {why}")
        outcome = execute(work.units, records, folder / request.table.id, jobs, keep)
    found = {
        row: [r for key in keys if (r := records.get(key)) is not None]
        for row, keys in work.by_row.items()
    }
    summary = summarise(
        request.table, request.dataset, found, work.absent, work.over, request.classes
    )
    if write is not None and not outcome.interrupted:
        from skelfew.reproduce.document import write_results

        for path in write_results(request, work, found, write):
            log(f"wrote {path}")
    if as_json:
        say_json(summary_document(request, work, summary))
    else:
        say(terminal(request.table, summary))
    if outcome.interrupted:
        log("interrupted; run the same command again to go on")
        return INTERRUPTED
    accidents = [
        r
        for group in found.values()
        for r in group
        if "error" in r and not records.settled(r["key"])
    ]
    for record in {r["key"]: r for r in accidents}.values():
        log(f"failed: {', '.join(record['rows'])}, seed {record['seed']}: {record['error']}")
    mendable = [key for key in work.absent if not request.table.row(key).missing]
    return PARTIAL if accidents or (mendable and not show) else 0


def pairs(option: str, given: tuple[str, ...]) -> dict[str, str]:
    """Return KEY=VALUE options as a dict."""
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"{option} {text}: expected KEY=VALUE")
        found[key.strip()] = value.strip()
    return found


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
