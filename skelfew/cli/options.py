"""Options of commands: short declarations, types and values that several share."""

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

PATH = click.Path(path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
COUNT = click.IntRange(1)
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True}


def option(*names_and_help: str, choices: Iterable[str] = (), **attributes: Any) -> Any:
    """Return a click option from its names and, last, its help."""
    *names, text = names_and_help
    if choices:
        attributes["type"] = click.Choice([*choices])
    return click.option(*names, help=text, **attributes)


flag = functools.partial(option, is_flag=True)
json_option = flag("--json", "as_json", "Print one JSON document.")


def trusting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command that opens runs ``--trust-run``."""

    def trust(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value:
            from skelfew.runs.recorded import trust_runs

            trust_runs()

    text = "Open all files and addresses that a run of somebody else names."
    return flag("--trust-run", text, expose_value=False, callback=trust)(function)


version_option = click.version_option(
    None, "--version", package_name="skelfew", message="skelfew %(version)s"
)


def offering(names: Callable[[], Iterable[str]]) -> Callable[..., list[str]]:
    """Return what completes an option of free text in a shell: names, also after a comma."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in names() if name.startswith(last)]

    return complete


def data_sets() -> list[str]:
    """Return the data sets that are prepared in this folder."""
    return sorted(path.stem for path in Path("manifests").glob("*.csv") if "." not in path.stem)


def pairs(option: str, given: Iterable[str]) -> dict[str, str]:
    """Return the KEY=VALUE texts of an option as a dict."""
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise click.UsageError(f"{option} {text}: expected KEY=VALUE")
        found[key.strip()] = value.strip()
    return found


def given_options(*names: str) -> list[str]:
    """Return which of these parameters of the command are on its command line, as options."""
    context = click.get_current_context()
    return [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in names
        and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    ]
