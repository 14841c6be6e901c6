"""Faults on purpose: kills, full disks, dying and hanging decoders, damaged chunks, broken numbers.

Claim: none of them loses a row that was committed, and after each the same command (or the one that
the error names) ends in the content of an undisturbed run. The commands are the real ones, on clips
of the demo world with its trained teacher; they and their decoders are forks of processes that have
imported everything, which spares each of them twelve seconds.

Usage: OMP_NUM_THREADS=1 python benchmarks/faults.py [--kills 200] [--work DIR] [--json]
With --work, faults that an earlier run has tried count; Ctrl-C prints the table of those so far.
"""

import argparse
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from small_world import FAST, make_world

from skelfew.cache import DONE
from skelfew.cache.stored import StoredCache
from skelfew.cache.verify import verify

CLIPS, BATCH = 24, 2
EXTRACT = ["demo", "--teacher", "xclip-demo", "--workers", "1", "--limit", str(CLIPS)]
EXTRACT += ["--batch", str(BATCH)]
TIMING = ("seconds", "samples_per_second", "waiting_share")
FORKS = """
import importlib, json, multiprocessing, os, resource, sys
from multiprocessing import forkserver
import torch, skelfew.training, skelfew.cli.train, skelfew_extract.cli, skelfew_extract.extract
from skelfew_extract.teachers import build_teacher
torch.set_num_threads(1)
build_teacher("xclip-demo")  # imports what it needs
multiprocessing.set_forkserver_preload(["skelfew_extract.decode_worker"])
forkserver.ensure_running()
plain = multiprocessing.get_context
multiprocessing.get_context = lambda kind=None: plain("forkserver" if kind == "spawn" else kind)
print(forkserver._forkserver._forkserver_pid, flush=True)
while line := sys.stdin.readline():
    asked = json.loads(line)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        forkserver._forkserver.ensure_running = lambda: None  # it is no child of this process
        os.chdir(asked["folder"])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if asked["largest"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (asked["largest"],) * 2)
        importlib.import_module(asked["module"]).main(asked["arguments"])
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
Fault = dict[str, Any]


class Commands:
    """Runs commands of skelfew in ``folder``, one at a time."""

    def __init__(self, folder: Path):
        self.folder, self.log = folder, folder / "log.txt"
        self._forks = subprocess.Popen(
            [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._forks.stdin is not None and self._forks.stdout is not None
        self._asked, self._answers = self._forks.stdin, self._forks.stdout
        self.server, self.pid = int(self._answers.readline()), 0

    def start(self, module: str, *arguments: object, largest: int = 0) -> None:
        """Start a command; ``largest`` bytes is the most that a file of it may hold."""
        asked = {"module": module, "arguments": [str(a) for a in arguments], "largest": largest}
        asked |= {"folder": str(self.folder), "log": str(self.log)}
        print(json.dumps(asked), file=self._asked, flush=True)
        self.pid = int(self._answers.readline())

    def running(self) -> bool:
        return not select.select([self._answers], [], [], 0)[0]

    def wait(self) -> int:
        return int(self._answers.readline())

    def run(self, module: str, *arguments: object, largest: int = 0) -> int:
        self.start(module, *arguments, largest=largest)
        return self.wait()

    def stop(self, how: signal.Signals) -> int:
        os.kill(self.pid, how)
        return self.wait()

    def close(self) -> None:
        self._asked.close()
        self._forks.wait()


class Extractions:
    """A small data set, what an undisturbed extraction gives, and how others differ from it."""

    def __init__(self, commands: Commands):
        self.commands, self.folder = commands, commands.folder
        self.out = self.folder / "cache" / "disturbed.zarr"
        reference = self.folder / "cache" / "whole.zarr"
        bin = Path(sys.executable).parent
        if not (self.folder / "data" / "demo.h5").exists():
            options = ["--option", "subjects=2", "--option", "views=1", "--workers", "1"]
            quiet: dict[str, Any] = {"cwd": self.folder, "capture_output": True, "check": True}
            subprocess.run([bin / "skelfew-prepare", "demo", *options], **quiet)
            subprocess.run([bin / "skelfew-extract", *EXTRACT, "--out", reference], **quiet)
        for aside in self.folder.rglob("*.aside"):  # left by a run that was killed
            aside.replace(aside.with_suffix(".mp4"))
        self.whole = StoredCache.open(reference)
        rows = slice(0, CLIPS)
        self.rows = {name: self.whole.read(name, rows) for name in self.whole.features}
        self.first, self.block = 4.0, 0.2  # seconds: until the first block, and between two

    def extract(self, *arguments: object, out: Path | None = None, largest: int = 0) -> int:
        out = out or self.out
        return self.commands.run(
            "skelfew_extract.cli", *EXTRACT, "--out", out, *arguments, largest=largest
        )

    def start(self) -> None:
        self.commands.start("skelfew_extract.cli", *EXTRACT, "--out", self.out)

    def done(self, out: Path | None = None) -> np.ndarray:
        out = out or self.out
        if not out.exists():
            return np.zeros(CLIPS, dtype=bool)
        return np.asarray(StoredCache.open(out).status[:CLIPS] == DONE)

    def lost(self, before: np.ndarray, out: Path | None = None) -> int:
        """Return how many rows of ``before`` are gone, plus finished rows with other values."""
        out = out or self.out
        now = self.done(out)
        if not out.exists():
            return int(before.sum())
        cache = StoredCache.open(out)
        wrong = np.zeros(CLIPS, dtype=bool)
        for name, expected in self.rows.items():
            wrong |= (cache.read(name, slice(0, CLIPS)) != expected).any(axis=(1, 2)) & now
        return int((before & ~now).sum() + wrong.sum())

    def same(self, out: Path | None = None) -> bool:
        """Whether the content is that of the undisturbed extraction; computed, not believed."""
        return StoredCache.open(out or self.out).digest() == self.whole.attrs["digest"]

    def fresh(self) -> Path:
        for path in self.out.parent.glob("disturbed*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return self.out

    def commits(self) -> int:
        """Return what changes whenever a block is committed."""
        try:
            return (self.out / "status" / "c" / "0").stat().st_mtime_ns
        except OSError:
            return 0

    def wait_for_commits(self, count: int) -> int:
        """Wait until so many blocks are committed or the command has ended; return how many."""
        seen, last, began = 0, self.commits(), time.monotonic()
        while seen < count and self.commands.running():
            if (now := self.commits()) != last:
                took = time.monotonic() - began
                if seen:
                    self.block = 0.8 * self.block + 0.2 * took
                else:
                    self.first = 0.8 * self.first + 0.2 * took
                seen, last, began = seen + 1, now, time.monotonic()
            time.sleep(0.001)
        return seen


def kills(world: Extractions, draw: random.Random) -> Iterator[Fault]:
    """SIGKILL at random moments, again and again, until an extraction ends before its kill."""
    while True:
        world.fresh()
        before, since = world.done(), 0
        while True:
            world.start()
            left = int((~before).sum()) // BATCH
            if not left or draw.random() < 0.3:
                where = "start"
                time.sleep(draw.uniform(0, 1.1 * world.first))
            else:
                wanted = draw.randint(0, 3)
                where = "blocks" if wanted < left else "end"
                world.wait_for_commits(min(wanted, left))
                time.sleep(draw.uniform(0, world.block if wanted < left else 0.05))
            if world.commands.stop(signal.SIGKILL) == 0:
                assert world.same(), "an extraction after kills has other content"
                break
            lost = world.lost(before)
            before, since = world.done(), since + 1
            yield {"survived": not lost, "lost": lost, "note": f"{where}, {before.sum()} rows"}


def full_disk(world: Extractions, draw: random.Random) -> Iterator[Fault]:
    """A file system of a few kilobytes if we may mount one, else a limit on the size of a file."""
    place = world.folder / "small"
    place.mkdir(exist_ok=True)
    while True:
        world.fresh()
        size = draw.randrange(8, 480, 4)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(place)]
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
        out = place / "disturbed.zarr" if mounted else world.out
        try:
            status = world.extract(out=out, largest=0 if mounted else 1024 * size)
            said = world.commands.log.read_text().strip().splitlines()[-1]
            if status == 0:  # it fitted
                continue
            before, told = world.done(out), status == 1 and "cannot be written" in said
            if mounted:
                subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
            again, lost = world.extract(out=out), world.lost(before, out)
            yield {
                "survived": told and again == 0 and not lost and world.same(out),
                "lost": lost,
                "note": f"{size} KiB, {'file system' if mounted else 'limit'}, {before.sum()} rows",
            }
        finally:
            if mounted:
                subprocess.run(["umount", str(place)], check=True)


def decoder_killed(world: Extractions, draw: random.Random) -> Iterator[Fault]:
    """SIGKILL of the decoding process, at a random moment."""
    while True:
        world.fresh()
        world.start()
        world.wait_for_commits(draw.randint(0, 6))
        time.sleep(draw.uniform(0, world.block))
        found: list[int] = []
        while not found and world.commands.running():
            found = children(world.commands.server)
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        status = world.commands.wait()
        if found:
            lost = world.lost(world.done())
            yield {
                "survived": status == 0 and world.same(),
                "lost": lost,
                "note": f"{len(found)} processes",
            }


def children(pid: int) -> list[int]:
    """Return the processes that ``pid`` has started and that have not ended."""
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def decoder_hangs(world: Extractions, draw: random.Random) -> Iterator[Fault]:
    """A video that never answers (a pipe that nobody writes to): it fails alone, by name."""
    videos = Path(json.loads((world.folder / "manifests/demo.local.json").read_text())["videos"])
    names = [s.strip() for s in (world.folder / "manifests/demo.csv").read_text().splitlines()]
    column = names[0].split(",").index("video")
    while True:
        world.fresh()
        row = draw.randrange(CLIPS)
        video = world.folder / videos / names[1 + row].split(",")[column]
        aside = video.with_suffix(".aside")
        video.rename(aside)
        os.mkfifo(video)
        try:
            status = world.extract("--timeout", "15")
        finally:
            aside.replace(video)
        cache, failures = StoredCache.open(world.out), world.out.with_name("disturbed.failures.csv")
        named = [line.split(",")[0] for line in failures.read_text().splitlines()[1:]]
        alone = status == 3 and named == [cache.ids[row]] and world.done().sum() == CLIPS - 1
        lost = world.lost(world.done())
        again = world.extract("--retry-failed")
        survived = alone and again == 0 and not lost and world.same()
        yield {"survived": survived, "lost": lost, "note": cache.ids[row]}


def damage(world: Extractions, draw: random.Random) -> Iterator[Fault]:
    """A flipped bit or a cut in a random chunk: named by verify, mended by --repair."""
    while True:
        world.fresh()
        shutil.copytree(world.folder / "cache" / "whole.zarr", world.out)
        chunk = draw.choice(sorted(p for p in (world.out).rglob("c/**/*") if p.is_file()))
        content = bytearray(chunk.read_bytes())
        if cut := draw.random() < 0.5:
            del content[draw.randrange(len(content)) :]
        else:
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        chunk.write_bytes(content)
        found = any(c["check"] in ("finite", "readable") and not c["ok"] for c in checks(world.out))
        status, lost = world.extract("--repair"), world.lost(world.done())
        mended = status == 0 and "what it was before" in world.commands.log.read_text()
        yield {
            "survived": found and mended and not lost and world.same(),
            "lost": lost,
            "note": f"{'cut' if cut else 'bit'} in {chunk.relative_to(world.out)}",
        }


def checks(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = verify(path)["checks"]
    return found


class Trainings:
    """A run of three stages on a data set of tiny clips, and what it ends in undisturbed."""

    def __init__(self, commands: Commands):
        self.commands, self.folder = commands, commands.folder
        if not (self.folder / "tiny").exists():
            make_world(self.folder / "tiny")
        protocol = self.folder / "tiny/manifests/protocols/tiny.json"
        self.cache = self.folder / "tiny/cache/tiny.zarr"
        self.options = [f"--cache={self.cache}", f"--protocol={protocol}", "--batch=8", *FAST]
        self.options += ["--epochs=4", "--episodes=15", "--set=episodic.epoch_episodes=5"]
        began = time.monotonic()
        shutil.rmtree(self.folder / "runs", ignore_errors=True)
        assert self.train("whole") == 0, commands.log.read_text()
        self.seconds = time.monotonic() - began

    def train(self, name: str, *more: object) -> int:
        return self.commands.run("skelfew.cli.train", *self.arguments(name), *more)

    def arguments(self, name: str) -> list[str]:
        return [*self.options, f"--run={self.folder / 'runs' / name}", "--resume-or-start"]

    def rows(self, name: str) -> list[dict[str, Any]]:
        file = self.folder / "runs" / name / "metrics.jsonl"
        lines = file.read_text().split("\n")[:-1] if file.exists() else []
        rows = [json.loads(line) for line in lines]
        return [{k: v for k, v in row.items() if k not in TIMING} for row in rows]

    def same(self) -> bool:
        whole, stopped = (
            load_file(self.folder / "runs" / name / "encoder.safetensors")
            for name in ("whole", "stopped")
        )
        alike = all((stopped[key] == value).all() for key, value in whole.items())
        return alike and self.rows("whole") == self.rows("stopped")


def training_stopped(how: signal.Signals) -> Any:
    def faults(world: Trainings, draw: random.Random) -> Iterator[Fault]:
        """A run that is stopped at random moments and gone on with, again and again."""
        while True:
            shutil.rmtree(world.folder / "runs" / "stopped", ignore_errors=True)
            while True:
                world.commands.start("skelfew.cli.train", *world.arguments("stopped"))
                time.sleep(draw.uniform(0.05, 0.6 * world.seconds))
                status = world.commands.stop(how)
                if status == 0:
                    assert world.same(), "a run after stops has other numbers"
                    break
                whole, rows = world.rows("whole"), world.rows("stopped")
                lost = sum(a != b for a, b in zip(whole, rows, strict=False))
                polite = how == signal.SIGKILL or status in (130, -signal.SIGTERM)
                yield {"survived": polite and not lost, "lost": lost, "note": f"{len(rows)} rows"}

    return faults


def broken_numbers(world: Trainings, draw: random.Random) -> Iterator[Fault]:
    """NaN in a teacher feature, and a loss that overflows: it stops and names samples."""
    import zarr

    while True:
        store: Any = zarr.open_group(world.cache, mode="r+")
        name, row = draw.choice(["video", "text"]), draw.randrange(80)
        kept = store[name][row]
        store[name][row] = np.nan
        status = world.train(f"nan-{draw.random()}")
        store[name][row] = kept
        said, sample = world.commands.log.read_text(), str(store["sample_id"][row])
        yield {"survived": status == 1 and f" {sample} " in said, "lost": 0, "note": sample}
        steep = [f"--set={s}.optimizer.lr=1e30" for s in ("transfer", "episodic")]
        status = world.train(f"steep-{draw.random()}", *steep)
        said = world.commands.log.read_text()
        named = "not finite" in said and "samples c" in said
        yield {"survived": status == 1 and named, "lost": 0, "note": "diverged"}


def trials(arguments: argparse.Namespace) -> list[tuple[str, int, Any, Any]]:
    """Return name, number, source and world of each kind of fault."""
    few = arguments.others
    return [
        ("extraction: SIGKILL", arguments.kills, kills, Extractions),
        ("extraction: disk full", few, full_disk, Extractions),
        ("extraction: decoding process killed", few, decoder_killed, Extractions),
        ("extraction: decoder hangs", min(few, 5), decoder_hangs, Extractions),
        ("cache: bit flipped or chunk cut, --repair", few, damage, Extractions),
        ("training: SIGKILL, --resume", few, training_stopped(signal.SIGKILL), Trainings),
        ("training: SIGTERM, --resume", few, training_stopped(signal.SIGTERM), Trainings),
        ("training: NaN or overflow", min(few, 10), broken_numbers, Trainings),
    ]


def try_all(arguments: argparse.Namespace, folder: Path, faults: list[Fault]) -> None:
    """Try what ``faults`` does not yet hold, and add it there and to ``faults.jsonl``."""
    commands, worlds = Commands(folder), {}
    try:
        for name, count, source, world in trials(arguments):
            missing = count - sum(fault["fault"] == name for fault in faults)
            if missing <= 0:
                continue
            if world not in worlds:
                worlds[world] = world(commands)
            draw = random.Random(f"{name} {len(faults)} {arguments.seed}")
            tried = source(worlds[world], draw)
            for _ in range(missing):
                fault = {"fault": name, **next(tried)}
                faults.append(fault)
                with (folder / "faults.jsonl").open("a") as file:
                    file.write(json.dumps(fault) + "\n")
                print(json.dumps(fault), file=sys.stderr, flush=True)
            if source is kills:  # the last one is carried to its end as well
                worlds[world].extract()
                assert worlds[world].same()
            tried.close()
    finally:
        commands.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])  # type: ignore[union-attr]
    parser.add_argument("--kills", type=int, default=200, help="of an extraction")
    parser.add_argument("--others", type=int, default=20, help="of every other kind, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--work", type=Path, help="keep data and results there, and go on with them"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.work or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        done = folder / "faults.jsonl"
        faults = [json.loads(s) for s in done.read_text().splitlines()] if done.exists() else []
        try:
            try_all(arguments, folder, faults)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
    rows = [
        {
            "fault": name,
            "tried": len(found := [f for f in faults if f["fault"] == name]),
            "survived": sum(f["survived"] for f in found),
            "rows_lost": sum(f["lost"] for f in found),
        }
        for name, *_ in trials(arguments)
    ]
    if arguments.json:
        print(json.dumps({"benchmark": "faults", "clips": CLIPS, "rows": rows}, indent=2))
    else:
        for row in rows:
            told = f"survived {row['survived']:>4}  rows lost {row['rows_lost']}"
            print(f"{row['fault']:<42} tried {row['tried']:>4}  {told}")
    return 0 if all(r["tried"] == r["survived"] and not r["rows_lost"] for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
