"""skelfew-report: runs as a table, and as one HTML page."""

import sys
from pathlib import Path

import click

from skelfew.cli.common import CONTEXT, FILE, OK, PATH, guarded, log, say, say_json, trusting


@click.command(context_settings=CONTEXT)
@click.argument("runs", metavar="[RUN]...", nargs=-1, type=PATH)
@click.option(
    "--html", "page", metavar="FILE", type=FILE, help="Write a page that needs no network."
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "markdown", "latex", "csv", "json"]),
    default="table",
    show_default=True,
    help="Of what is printed.",
)
@click.option("--json", "as_json", is_flag=True, help="As --format json: one document.")
@click.option("--pairs", type=click.IntRange(0), default=6, show_default=True,
              help="Most confused pairs of classes on the page.")  # fmt: skip
@click.option("--embed", is_flag=True, help="Compute the embeddings for a map on the page.")
@click.option("--manifest", metavar="CSV", type=FILE, help="Manifest, if it moved since.")
@click.option("--store", metavar="H5", type=FILE, help="Skeleton store, if it moved since.")
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
    if page is None and (context := click.get_current_context()):
        for name in ("pairs", "embed", "manifest", "store"):
            if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
                raise click.UsageError(f"--{name} is for the page; give --html FILE too")
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
        document = {"rows": rows, "html": str(page) if page else None}
        say_json(document)
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
