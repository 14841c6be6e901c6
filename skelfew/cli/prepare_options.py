"""Options that every command of skelfew-prepare takes."""

from collections.abc import Callable
from typing import Any

import click

from skelfew.cli.common import FILE


def output_options(name: str, hint: str) -> Callable[[Any], Any]:
    """Return a decorator: --out, --data, --workers, --option and --json.

    Args:
        name: The data set in the default paths.
    """
    options = (
        click.option(
            "--out", type=FILE, help=f"Manifest to write.  [default: manifests/{name}.csv]"
        ),
        click.option("--data", type=FILE, help=f"Skeletons to write.  [default: data/{name}.h5]"),
        click.option(
            "--workers", type=click.IntRange(min=1), help="Reading processes.  [default: all cores]"
        ),
        click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help=hint),
        click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON."),
    )

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
