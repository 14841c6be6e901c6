"""The commands themselves on hostile files: what each says in a line, its status and its costs.

Every row gets a world of its own, a small data set with a cache and a trained run, and spoils it.
Beside the world lies a file that nothing may change.
"""

# ruff: noqa: E501  the cases are a table

import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from report_world import make_report_world
from servers import http_server
from support import hostile_files as made

Row = tuple[str, Callable[[Path], list[list[str]]]]
VICTIM = "years of work"
IDLE = {
    "cache": "cache info absent", "eval": "eval --run absent", "train": "train --resume absent",
    "report": "report absent", "prepare": "prepare utd-mhad --raw absent",
}  # fmt: skip


def evil_zip(world: Path) -> list[list[str]]:
    """H1: an entry whose name becomes absolute when its parts are joined."""
    path, out = world / "evil.zip", world.parent / "evil.pth"
    with zipfile.ZipFile(path, "w") as archive:
        for file in (world / "cache" / "tiny.zarr").rglob("*"):
            if file.is_file():
                archive.write(file, f"a/{file.relative_to(world / 'cache' / 'tiny.zarr')}")
        archive.writestr(f"a/{out}", "import os")
    ends = ("info", "verify", "unpack", "push")
    return [["cache", e, "evil.zip", *(["new/"] if e == "push" else [])] for e in ends]


def linked(place: str, *command: str) -> Callable[[Path], list[list[str]]]:
    """H7, H8: a link in the run, to the file that nothing may change."""

    def spoil(world: Path) -> list[list[str]]:
        path = world / "runs" / "one" / place
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(world.parent if place == "results" else world.parent / "victim.txt")
        (world / "runs" / "one" / "encoder.safetensors").unlink() if "--resume" in command else None
        return [list(command)]

    return spoil


def recorded(place: str) -> Callable[[Path], list[list[str]]]:
    """H12: a place in config.json of the run."""

    def spoil(world: Path) -> list[list[str]]:
        file = world / "runs" / "one" / "config.json"
        document = json.loads(file.read_text())
        document["inputs"]["cache"] = place
        file.write_text(json.dumps(document))
        (world / "runs" / "one" / "encoder.safetensors").unlink()
        return [["train", "--resume", "runs/one"]]

    return spoil


def renamed(old: str, new: str, *command: str) -> Callable[[Path], list[list[str]]]:
    """H13 to H15: text in all JSON files of the run."""

    def spoil(world: Path) -> list[list[str]]:
        for file in (world / "runs" / "one").rglob("*.json"):
            text = file.read_text().replace(json.dumps(old), json.dumps(new))
            file.write_text(text)
        return [list(command)]

    return spoil


def trap(world: Path) -> list[list[str]]:
    """H9: a module in the working folder."""
    for name in ("multiprocessing", "json", "numpy", "h5py"):
        (world / name).mkdir()
        code = f"open({str(world.parent / 'sprung')!r}, 'w')"
        (world / name / "__init__.py").write_text(code)
    return [["prepare", "demo", "--option", "subjects=1", "--option", "views=1", "--workers", "2"]]


def file_of(make: Callable[[Path], Path], *command: str) -> Callable[[Path], list[list[str]]]:
    """A file made by one of ``hostile_files``; FILE in the command is its path."""
    return lambda world: [[str(make(world)) if c == "FILE" else c for c in command]]


def thesis(world: Path) -> list[list[str]]:
    """H10: --overwrite of something that is no cache."""
    out = str(world.parent / "victim.txt")
    return [[*c, "--out", out, "--overwrite"] for c in (
        ["cache", "pack", "cache/tiny.zarr"], ["cache", "pull", f"file://{world}/cache/tiny.zarr"],
        ["cache", "subset", "cache/tiny.zarr", "--manifest", "manifests/tiny.csv"],
    )]  # fmt: skip


def pulled(url: str, name: str, change: Callable[[Path], Any] | None = None) -> Any:
    """H11, H15: from a server."""

    def spoil(world: Path) -> list[list[str]]:
        served = Path(url.partition(" ")[2])
        shutil.rmtree(served / "c.zarr", ignore_errors=True)
        shutil.copytree(world / "cache" / "tiny.zarr", served / "c.zarr")
        made.write_zip(served / "c.zarr", served / "c.zarr.zip")
        if change is not None:
            change(served / "c.zarr")
        return [["cache", "pull", f"{url.partition(' ')[0]}/{name}"]]

    return spoil


def rows(url: str) -> list[Row]:
    """Return all rows; ``url`` is the address of a server, a space, and the folder it serves."""
    evil = "one\x1b[2J\x1b]8;;http://e.org\x1b\\ \u202e"
    verify = ("cache", "verify", "FILE")
    return [
        ("H1", evil_zip),
        ("H2", file_of(lambda f: made.a_cache(f, made.ZSTD, sample_id=made.frames(1, 1 << 17)
                                              + made.frames(1, 3 << 27)), *verify)),
        ("H3", file_of(lambda f: made.a_cache(f, made.GZIP, sample_id=made.gzip.compress(
            made.texts(60_000_000), 6)), *verify)),
        ("H4", file_of(lambda f: made.zipped(made.a_cache(f, sample_id=made.texts(900, 2 * 10**8))),
                       *verify)),
        ("H5", file_of(lambda f: made.large_zip(f, 300_000), *verify)),
        ("H5", file_of(lambda f: made.big(f, made.GZIP, text=made.EMPTY * 400_000), *verify)),
        ("H5", file_of(lambda f: made.tensors(f, 800_000), "eval", "--encoder", "FILE",
                       "--dataset", "tiny")),
        ("H5", file_of(made.wide, "eval", "--raw", "--manifest", "FILE", "--store", "data/tiny.h5")),
        ("H5", file_of(lambda f: made.hdf5(f, made.many_groups), "cache", "import", "FILE", "--manifest",
                       "manifests/tiny.csv", "--teacher", "t", "--weights", "w", "--preprocessing", "x=y", "--out", "n.zarr")),
        ("H6", file_of(made.aliased, "cache", "import", "FILE", "--manifest", "manifests/tiny.csv",
                       "--teacher", "t", "--weights", "w", "--preprocessing", "x=y", "--out", "n.zarr", "--text", "sample_id")),
        ("H6", file_of(made.cells, "prepare", "utd-mhad", "--raw", "FILE")),
        ("H7", linked("log.txt", "train", "--resume", "runs/one")),
        ("H7", linked("metrics.jsonl.partial", "train", "--resume", "runs/one")),
        ("H7", linked("results", "eval", "--run", "runs/one")),
        ("H8", linked("explain/a.png", "report", "runs/one", "--html", "page.html")),
        ("H9", trap),
        ("H10", thesis),
        ("H11", pulled(url, "slow.zarr")),
        ("H11", pulled(url, "c.zarr", lambda path: made.reshaped(path, 1024, 10**12))),
        ("H12", recorded("https://e.org/c.zarr")),
        ("H12", recorded("../../victim.txt")),
        ("H12", recorded("/etc/passwd")),
        ("H13", renamed("action 7", evil, "report", "runs/one", "--html", "page.html")),
        ("H13", renamed("tiny", evil, "report", "runs/one")),
        ("H14", renamed("queries", "[/nope]", "report", "runs/one")),
        ("H15", renamed("tiny", "=1+1", "report", "runs/one", "--format", "csv")),
        ("H15", renamed("tiny", "<script>alert(1)</script>", "report", "runs/one", "--format",
                     "markdown")),
        ("H15", pulled(url, "short.zarr.zip")),
    ]  # fmt: skip


# A small process starts the command, since a child's peak counts what its parent held.
LAUNCH = """
import json, os, resource, sys
child = os.fork()
if not child:
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    os.execv(sys.executable, [sys.executable, "-P", "-m", "skelfew", *sys.argv[2:]])
_, status, usage = os.wait4(child, 0)
found = [os.waitstatus_to_exitcode(status), usage.ru_maxrss << 10, usage.ru_utime + usage.ru_stime]
open(sys.argv[1], "w").write(json.dumps(found))
"""


def run(arguments: list[str], folder: Path) -> dict[str, Any]:
    """Run a command of skelfew; return its last line, status, peak bytes and processor seconds."""
    with tempfile.NamedTemporaryFile("r") as note:
        done = subprocess.run(
            [sys.executable, "-c", LAUNCH, note.name, *arguments],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        status, peak, seconds = json.loads(note.read())
    lines = [line for line in done.stdout.split("\n") if line.strip()] or [""]
    errors = [line for line in lines if line.startswith(("error:", "Error:", "Usage"))]
    return {
        "line": (errors or lines)[-1].strip(), "lines": len(errors),
        "escapes": not all(line.isprintable() for line in lines),
        "status": status, "peak": peak, "seconds": seconds,
    }  # fmt: skip


def measured(only: str = "") -> Iterator[dict[str, Any]]:
    """Yield a row a command: what was tried, what it printed and cost, and whether harm was done."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as scratch:
        whole, served = Path(scratch) / "whole", Path(scratch) / "served"
        make_report_world(whole)
        served.mkdir()
        idle = {n: run(c.split(), whole)["peak"] for n, c in IDLE.items()}
        with http_server(served) as server:
            for name, spoil in rows(f"{server.url} {served}"):
                if not re.search(only, name):
                    continue
                box = Path(scratch) / "box"
                world = box / "world"
                shutil.copytree(whole, world)
                (box / "victim.txt").write_text(VICTIM)
                for command in spoil(world):
                    found = run(command, world)
                    strays = {p.name for p in box.iterdir()} - {"world", "victim.txt"}
                    harm = strays or (box / "victim.txt").read_text() != VICTIM or found["escapes"]
                    shown = " ".join(command).replace(str(world), ".").replace(server.url, "URL")
                    line = found["line"].replace(str(world), ".").replace(server.url, "URL")
                    yield {**found, "case": name, "command": shown, "line": line, "harm": bool(harm),
                           "peak": found["peak"] - idle[command[0]]}  # fmt: skip
                shutil.rmtree(box)
