"""Options that every command of skelfew-prepare takes."""

from collections.abc import Callable
from typing import Any

from skelfew.cli.options import COUNT, FILE, json_option, option


def output_options(name: str, hint: str) -> Callable[[Any], Any]:
    """Return a decorator: --out, --data, --workers, --option and --json.

    Args:
        name: The data set in the default paths.
    """
    options = (
        option("--out", f"Manifest to write.  [default: manifests/{name}.csv]", type=FILE),
        option("--data", f"Skeletons to write.  [default: data/{name}.h5]", type=FILE),
        option("--workers", "Reading processes.  [default: all cores]", type=COUNT),
        option("--option", "options", hint, multiple=True, metavar="KEY=VALUE"),
        json_option,
    )

    def decorate(command: Any) -> Any:
        for declared in reversed(options):
            command = declared(command)
        return command

    return decorate
