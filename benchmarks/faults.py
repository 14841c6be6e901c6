"""Faults on purpose: kills, full disks, dying and hanging decoders, damaged chunks, broken numbers.

Claim: none of them loses a row that was committed, and after each the same command (or the one that
the error names) ends in the content of an undisturbed run. The commands are the real ones, on clips
of the demo world with its trained teacher; they and their decoders are forks of processes that have
imported everything, which spares each of them twelve seconds.

Usage: OMP_NUM_THREADS=1 python benchmarks/faults.py [--kills 200] [--training 40] [--work DIR]
With --work, faults that an earlier run has tried count; Ctrl-C prints the table of those so far.
"""

import argparse
import json
import os
import random
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
from support.disturbed import BATCH, CLIPS, Commands, Extractions, Trainings
from support.rows import options

from skelfew.cache.format.stored import StoredCache
from skelfew.cache.tools.verify import verify

Fault = dict[str, Any]


def kills(world: Extractions, draw: random.Random) -> Iterator[Fault]:
    """SIGKILL at random moments, again and again, until an extraction ends before its kill."""
    while True:
        world.fresh()
        before, whole = world.done(), False
        while True:
            world.start()
            left = int((~before).sum()) // BATCH
            if whole:  # killed once with every row committed: now it may come to its end
                pass
            elif not left or draw.random() < 0.3:
                where = "start"
                time.sleep(draw.uniform(0, 1.1 * world.first))
            else:
                wanted = draw.randint(0, 3)
                where = "blocks" if wanted < left else "end"
                world.wait_for_commits(min(wanted, left))
                time.sleep(draw.uniform(0, world.block if wanted < left else 0.05))
            if (world.commands.wait() if whole else world.commands.stop(signal.SIGKILL)) == 0:
                assert world.same(), "an extraction after kills has other content"
                break
            assert not whole, world.commands.log.read_text()
            lost, whole = world.lost(before), not left
            before = world.done()
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
            message = world.commands.log.read_text().strip().splitlines()[-1]
            if status == 0:  # it fitted
                continue
            before, clear = world.done(out), status == 1 and "cannot be written" in message
            if mounted:
                subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
            again, lost = world.extract(out=out), world.lost(before, out)
            yield {
                "survived": clear and again == 0 and not lost and world.same(out),
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
    """A video that never answers (a pipe without a writer): it fails alone, by name."""
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
    """A flipped bit or a cut in a random chunk: named by verify, repaired by --repair."""
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
        repaired = status == 0 and "what it was before" in world.commands.log.read_text()
        yield {
            "survived": found and repaired and not lost and world.same(),
            "lost": lost,
            "note": f"{'cut' if cut else 'bit'} in {chunk.relative_to(world.out)}",
        }


def checks(path: Path) -> list[dict[str, Any]]:
    return verify(path)["checks"]


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
        message, sample = world.commands.log.read_text(), str(store["sample_id"][row])
        yield {"survived": status == 1 and f" {sample} " in message, "lost": 0, "note": sample}
        steep = [f"--set={s}.optimizer.lr=1e30" for s in ("transfer", "episodic")]
        status = world.train(f"steep-{draw.random()}", *steep)
        message = world.commands.log.read_text()
        named = "not finite" in message and "samples c" in message
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
        (
            "training: SIGKILL, --resume",
            arguments.training,
            training_stopped(signal.SIGKILL),
            Trainings,
        ),
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
                if not fault["survived"]:
                    fault["log"] = commands.log.read_text()[-3000:]
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
    parser = options(__doc__)
    parser.add_argument("--kills", type=int, default=200, help="of an extraction")
    parser.add_argument("--training", type=int, default=40, help="kills of a training")
    parser.add_argument("--others", type=int, default=20, help="of every other kind, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--work", type=Path, help="keep data and results there, and go on with them"
    )
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
            line = f"survived {row['survived']:>4}  rows lost {row['rows_lost']}"
            print(f"{row['fault']:<42} tried {row['tried']:>4}  {line}")
    return 0 if all(r["tried"] == r["survived"] and not r["rows_lost"] for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
