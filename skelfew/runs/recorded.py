"""Places that a run recorded: files and addresses in its configuration.

A place is opened if it lies inside the run or below the working folder, or if the user has named it
in an earlier command, as is the case for all of the user's own runs. Any other place needs an
option that names it, or ``--trust-run``.
"""

import os
from dataclasses import replace
from pathlib import Path

from skelfew.config import InputConfig
from skelfew.errors import SkelfewError
from skelfew.io.files import shown
from skelfew.io.vouched import name_place, named

PLACES = ("cache", "more_caches", "manifest", "store", "init")
_trusted: list[bool] = []


class RunError(SkelfewError):
    """A run folder that cannot be used; the message names it and what to do."""


def trust_runs() -> None:
    """Let this process open whatever a run records: what ``--trust-run`` does."""
    _trusted.append(True)


def opens(place: object, run: Path) -> bool:
    """Whether a place that a run or its encoder recorded may be opened.

    A place that may not be opened is not looked for on the disk: that alone can reach a server.
    """
    if place is None or _trusted:
        return True
    if not isinstance(place, str) or _is_address(place):
        return False
    try:
        path, roots = Path(os.path.abspath(place)), (Path.cwd(), run.resolve())  # noqa: PTH100 # links stay
        inside = [root for root in roots if path.is_relative_to(root)]
        return named(path) or any(path.resolve().is_relative_to(root) for root in inside)
    except (
        ValueError,
        OSError,
        RuntimeError,
    ):  # no name that a file system can have, or links in a ring
        return False


def checked(
    place: str | None, run: Path, key: str, option: str, file: Path | None = None
) -> str | None:
    """Return a recorded place; raise RunError, with the ways out, if it may not be opened."""
    if opens(place, run):
        return place
    why = "an address" if _is_address(str(place)) else "not in the run or the working folder"
    raise RunError(
        f"{file or run}: {key} is {shown(place)}, {why}; what a run names is opened only if "
        f"you have named it: {option}, or --trust-run if you trust the run"
    )


def check_places(inputs: InputConfig, protocol: str | None, file: Path) -> None:
    """Raise RunError if a place that the configuration in ``file`` names may not be opened."""
    for key, place in [("protocol", protocol), *_places(inputs)]:
        option = f"start a new run with --{key.removeprefix('inputs.')}"
        checked(place, file.parent, key, option, file)


def usable(inputs: InputConfig, run: Path) -> InputConfig:
    """Return recorded inputs without those that may not be opened."""
    barred = {
        key.removeprefix("inputs.") for key, place in _places(inputs) if not opens(place, run)
    }
    if barred & {"cache", "more_caches"}:
        barred |= {"cache", "more_caches"}
    empty = {key: () if key == "more_caches" else None for key in barred}
    return replace(inputs, **empty)  # type: ignore[arg-type]


def remember(*places: str | Path | None) -> None:
    """Remember places that the user named, or that were found by what the user named."""
    for place in places:
        if place is not None and not _is_address(str(place)):
            name_place(Path(os.path.abspath(place)))  # noqa: PTH100 # links stay


def _is_address(place: str) -> bool:
    """Whether opening a place would ask another machine: an address, or a network share."""
    return "://" in place or place[:2] in ("//", "\\\\", "/\\", "\\/")


def _places(inputs: InputConfig) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    for key in PLACES:
        value = getattr(inputs, key)
        found += [(f"inputs.{key}", v) for v in (value if isinstance(value, tuple) else [value])]
    return found
