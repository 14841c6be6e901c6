"""The table of skelfew-eval; imports rich, so only evaluate.py's body imports it."""

import shutil
import sys

import numpy as np
from rich.console import Console
from rich.table import Table

from skelfew.cli.common import console
from skelfew.evaluation.statistics import Estimate
from skelfew.io.files import Document

_CONFUSIONS = 10
_NARROW = 80  # columns of a terminal that cannot hold a second accuracy


def show(document: Document, verbose: bool) -> None:
    """Print a result document as a table, with notes and exemplars below it."""
    # A file or a pipe has no width, whatever COLUMNS says of the terminal.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 120
    output = console(width=width, soft_wrap=not sys.stdout.isatty())
    output.print(_table(document, width))
    over = document["rows"][0]["micro"]["of"]
    output.print(_meaning(document, over))
    for note in document["notes"]:
        output.print(f"Note: {note}.", style="bold yellow")
    row = document["rows"][0]
    if verbose:
        _classes(output, row)
        _confusions(output, row)
    _exemplars(output, row, verbose)


def _table(document: Document, width: int) -> Table:
    first = document["rows"][0]["results"][0]
    ways = round(1 / first["chance"])
    splits = document["protocol"]["splits"]
    where = document["protocol"]["name"]
    if splits:
        where += f" split {splits[0]}" if len(splits) == 1 else f", {len(splits)} splits"
    if document["classes"] != "novel":
        where += f", {document['classes']} classes"
    title = f"{document['data']['dataset']}: {ways}-way {document['shots']}-shot, {where}"
    table = Table(title=title, title_justify="left")
    drawn = document["mode"] == "draws" and width >= _NARROW
    narrow = width < _NARROW + 16 * drawn
    table.add_column("features", overflow="fold", min_width=8)
    table.add_column("classifier", no_wrap=True)
    table.add_column("accuracy [95 %]", no_wrap=True)
    if not narrow:
        table.add_column("mean over classes", no_wrap=True)
    if drawn:
        table.add_column("9 of 10 draws", no_wrap=True)
    tuned = any(row["settings"].get("tune_steps", 0) for row in document["rows"])
    if tuned:
        table.add_column("tuning changed", justify="right")
    before = None
    for row in document["rows"]:
        cells = [
            row["features"] if row["features"] != before else "",
            row["classifier"] + (" (transductive)" if row["transductive"] else ""),
            str(Estimate(**row["micro"])),
        ]
        if not narrow:
            cells.append(str(Estimate(**row["macro"])))
        if drawn:
            cells.append(_spread(row["results"]))
        if tuned and row["settings"].get("tune_steps", 0):
            cells.append(f"{sum(r['changed_by_tuning'] for r in row['results']):,}")
        table.add_row(*cells)
        before = row["features"]
    return table


def _spread(results: list[Document]) -> str:
    """Between which accuracies nine of ten single draws lie, mean over splits or runs."""
    ends = np.mean([np.percentile(r["draws"], (5, 95)) for r in results], axis=0)
    return f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"


def _meaning(document: Document, over: str) -> str:
    """One sentence on what was scored and what the interval is over."""
    first = document["rows"][0]["results"][0]
    counts = [r["queries"] for r in document["rows"][0]["results"]]
    queries = f"{min(counts):,}" + (f" to {max(counts):,}" if len(set(counts)) > 1 else "")
    how = {
        "exemplars": "the protocol's exemplars",
        "draws": "random exemplars",
        "medoids": "the most central exemplars",
        "episodes": "random episodes",
        "texts": "the texts of the classes, no exemplars",
    }[document["mode"]]
    number = document["rows"][0]["micro"]["count"]
    interval = f"95 % interval over {number:,} {over}"
    if len(document["rows"][0]["results"]) == 1 and over == "queries":
        interval = "95 % interval by bootstrap over the queries"
    excluded = document["excluded_queries"]
    without = f" without {', '.join(excluded).replace('_', ' ')}" if excluded else ""
    return f"{how}; {queries} queries{without}; chance {100 * first['chance']:.1f} %; {interval}"


def _classes(output: Console, row: Document) -> None:
    table = Table(title=f"{row['features']}, {row['classifier']}: classes", title_justify="left")
    for column in ("class", "name", "accuracy", "splits"):
        table.add_column(column)
    accuracies: dict[int, list[float]] = {}
    names: dict[int, str] = {}
    for result in row["results"]:
        for entry in result["classes"]:
            names[entry["class_id"]] = entry["name"]
            if entry["accuracy"] is not None:
                accuracies.setdefault(entry["class_id"], []).append(entry["accuracy"])
    for class_id, name in sorted(names.items()):
        values = accuracies.get(class_id, [])
        mean = f"{100 * sum(values) / len(values):.1f} %" if values else "no query"
        table.add_row(str(class_id), name, mean, str(len(values)))
    output.print(table)


def _confusions(output: Console, row: Document) -> None:
    """The most frequent mistakes, summed over splits."""
    mistakes: dict[tuple[str, str], int] = {}
    for result in row["results"]:
        names = [entry["name"] or str(entry["class_id"]) for entry in result["classes"]]
        for true, counts in zip(names, result["confusion"] or [], strict=False):
            for predicted, count in zip(names, counts, strict=True):
                if true != predicted and count:
                    mistakes[true, predicted] = mistakes.get((true, predicted), 0) + count
    if not mistakes:
        return
    table = Table(title="most frequent confusions", title_justify="left")
    for column in ("was", "taken for", "times"):
        table.add_column(column)
    for (true, predicted), count in sorted(mistakes.items(), key=lambda m: -m[1])[:_CONFUSIONS]:
        table.add_row(true, predicted, f"{count:,}")
    output.print(table)


def _exemplars(output: Console, row: Document, verbose: bool) -> None:
    """The exemplars by name; of several splits only if asked for."""
    if not row["results"][0]["exemplars"]:
        return
    chosen: dict[int, tuple[str, list[str]]] = {}
    for result in row["results"]:
        names = {entry["class_id"]: entry["name"] for entry in result["classes"]}
        for class_id, ids in result["exemplars"].items():
            chosen[int(class_id)] = (names[int(class_id)], ids)
    if len(row["results"]) > 1 and not verbose:
        output.print(f"exemplars of {len(chosen)} classes: --verbose lists them")
        return
    output.print("exemplars:")
    for class_id, (name, ids) in sorted(chosen.items()):
        output.print(f"  {class_id:>3} {name}: {', '.join(ids)}")
