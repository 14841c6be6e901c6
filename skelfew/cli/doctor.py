"""``skelfew doctor``: what is installed, what is missing, and what lies in this folder."""

import os
import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import click

from skelfew.cli.common import OK, guarded, printable, say, say_json
from skelfew.cli.options import CONTEXT, json_option
from skelfew.io.files import Document

_EXTRA = re.compile(r"^(?P<name>[\w.-]+)(\[[\w,-]*\])?\s*(?P<range>[^;]*);(?P<marker>.*)")
_NOT_FOR_USERS = {"test", "docs", "lint", "bench", "dev"}


@click.command(context_settings=CONTEXT)
@json_option
@guarded
def main(as_json: bool) -> int:
    """Print versions, devices, extras and the caches of this folder.

    It shows what is missing, and belongs into every bug report.

    \b
    skelfew doctor
    skelfew doctor --json
    """
    found: Document = {
        "skelfew": version("skelfew"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "packages": {name: _version(name) for name in ("torch", "numpy", "zarr", "h5py", "click")},
        "devices": _devices(),
        "extras": dict(_extras()),
        "here": _here(Path()),
    }
    if as_json:
        say_json(found)
        return OK
    packages = ", ".join(f"{name} {number}" for name, number in found["packages"].items())
    say(f"skelfew    {found['skelfew']}, Python {found['python']}, {found['system']}")
    say(f"packages   {packages}")
    say(f"devices    {'; '.join(found['devices'])}")
    say("extras")
    for extra, missing in found["extras"].items():
        state = f"missing: {', '.join(missing)}" if missing else "installed"
        say(f"  {extra:<12}{state}")
    if any(found["extras"].values()):
        say("           install one with: pip install 'skelfew[NAME]'")
    say("in this folder")
    for kind, names in found["here"].items():
        shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        say(f"  {kind:<12}{shown or 'none'}")
    return OK


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _extras() -> Iterator[tuple[str, list[str]]]:
    """Yield each extra that a user may want, and the packages of it that are not installed."""
    wanted: dict[str, list[str]] = {}
    for line in requires("skelfew") or ():
        match = _EXTRA.match(line)
        extra = match and re.search(r"extra == ['\"]([\w-]+)['\"]", match["marker"])
        if not match or not extra or extra[1] in _NOT_FOR_USERS or match["name"] == "skelfew":
            continue
        missing = wanted.setdefault(extra[1], [])
        here = "platform_machine" not in match["marker"] or platform.machine() in match["marker"]
        if here and _version(match["name"]) is None:
            missing.append(match["name"] + match["range"].strip())
    yield from sorted(wanted.items())


def _devices() -> list[str]:
    import torch

    devices = [f"cpu with {torch.get_num_threads()} threads"]
    devices += [
        f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())
    ]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return devices


def _here(folder: Path) -> dict[str, list[str]]:
    """Return the names of manifests, skeleton stores, caches and runs below ``folder``."""
    patterns = {
        "manifests": "manifests/*.csv", "skeletons": "data/*.h5", "caches": "cache/*.zarr*",
        "runs": "runs/*/config.json",
    }  # fmt: skip
    found = {kind: sorted(folder.glob(pattern)) for kind, pattern in patterns.items()}
    found["runs"] = [path.parent for path in found["runs"]]
    # NAME.notes.csv and the like lie beside a manifest, and NAME.zarr.lock beside a cache.
    plain = re.compile(r"[^.]+(\.csv|\.h5|\.zarr|\.zarr\.zip)?")
    return {
        kind: [printable(path.name) for path in paths if plain.fullmatch(path.name)]
        for kind, paths in found.items()
    }
