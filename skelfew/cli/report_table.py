"""The table of skelfew-report; imports rich, so only report.py's body imports it."""

import shutil
import sys
from collections.abc import Sequence

from rich.table import Table

from skelfew.cli.common import console
from skelfew.io.files import Values
from skelfew.report.table import cells_of, head


def show(rows: Sequence[Values]) -> None:
    """Print the scores of runs as a table, with notes below it."""
    # A file or a pipe has no width, whatever COLUMNS says of the terminal.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 120
    output = console(width=width, soft_wrap=not sys.stdout.isatty())
    cells = [cells_of(row) for row in rows]
    left_out = {head().index("mean over classes"), head().index("quoted")} if width < 80 else ()
    kept = [
        i for i in range(len(head()))
        if i < 2 or (i not in left_out and any(row[i] for row in cells))
    ]  # fmt: skip
    table = Table()
    for i in kept:
        table.add_column(head()[i], overflow="fold", justify="right" if i > 4 else "left",
                         min_width=8 if i < 2 else None, no_wrap=i == 3)  # fmt: skip
    for row in cells:
        table.add_row(*(row[i] for i in kept))
    output.print(table)
    if any("accuracy" in row for row in rows):
        over = sorted({row["interval_over"] for row in rows if "accuracy" in row})
        output.print(f"accuracy in per cent; 95 % intervals over {', '.join(over)}")
    for note in dict.fromkeys(note for row in rows for note in row.get("notes", ())):
        output.print(f"Note: {note}.", style="bold yellow")
