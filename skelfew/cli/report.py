"""skelfew-report: runs as a table, and as one HTML page."""

import sys
from pathlib import Path

import click

from skelfew.cli.common import OK, guarded, log, say, say_json
from skelfew.cli.options import CONTEXT, FILE, PATH, flag, given_options, option, trusting


@click.command(context_settings=CONTEXT)
@click.argument("runs", metavar="[RUN]...", nargs=-1, type=PATH)
@option("--html", "page", "Write a page that needs no network.", metavar="FILE", type=FILE)
@option(
    "--format",
    "style",
    "Of what is printed.",
    default="table",
    choices=["table", "markdown", "latex", "csv", "json"],
)
@flag("--json", "as_json", "As --format json: one document.")
@option("--pairs", "Most confused pairs of classes on the page.", type=click.IntRange(0), default=6)
@flag("--embed", "Compute the embeddings for a map on the page.")
@option("--manifest", "Manifest, if it moved since.", metavar="CSV", type=FILE)
@option("--store", "Skeleton store, if it moved since.", metavar="H5", type=FILE)
@trusting
@guarded
def main(
    runs: tuple[Path, ...],
    page: Path | None,
    style: str,
    as_json: bool,
    pairs: int,
    embed: bool,
    manifest: Path | None,
    store: Path | None,
) -> int:
    """Report on runs: scores with intervals, and on a page how they came about.

    \b
    skelfew-report runs/one --html report.html
    skelfew-report runs/one --html report.html --embed
    skelfew-report runs --format latex

    RUN is a run folder or a folder of them; without any, the newest finished run in runs/. The page
    has confusions, skeletons of mistakes, training curves, heatmaps of skelfew-explain and
    provenance, in one file. What a run does not hold is listed there, with the way to have it.
    """
    if page is None and (given := given_options("pairs", "embed", "manifest", "store")):
        raise click.UsageError(f"{given[0]} is for the page; give --html FILE too")
    from skelfew.io.writing import check_place, write_text
    from skelfew.report.collect import find_runs, read_run
    from skelfew.report.table import as_text, rows_of
    from skelfew.runs.folder import newest_run

    check_place(page)
    facts = [read_run(run) for run in (find_runs(runs) if runs else [newest_run()])]
    rows = rows_of(facts)
    if page is not None:
        from skelfew.report.page import make_page
        from skelfew.report.sections import PageStyle

        html = make_page(facts, PageStyle(pairs, embed, manifest, store))
        write_text(page, html)
    if as_json or style == "json":
        say_json({"rows": rows, "html": str(page) if page else None})
    elif style == "table":
        from skelfew.cli.report_table import show

        show(rows)
    else:
        say(as_text(rows, style))
    if page is not None:
        log(f"page in {page}, {page.stat().st_size / 1e6:.1f} MB")
    return OK


if __name__ == "__main__":
    sys.exit(main())
