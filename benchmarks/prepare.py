"""Throughput of reading NTU RGB+D's text files, beside a plain line-by-line parser, in one run.

Claims: per core, our parser is at least 5 times as fast as a plain one that converts all numbers
of a line, with equal arrays. (Shown too, without a claim: a plain one that converts only the 5 of
12 numbers that are used, as ours does.) The whole command uses all cores, gives the same result
with any number of them, also when it is killed and run again, and needs no more memory for eight
times the files. The files are made up in the real format and size, about 300 KB, one or two
bodies; NTU RGB+D 120 has 114,480 of them.

Parsers are compared by processor time, the least of several rounds, so that other programs hardly
count. The command is compared by wall time, start included, because what it makes of all cores is
the question; one and all workers take turns and the quickest round of each counts. On a busy
machine not all cores are ours and the ratio stays below their number, so the processor time is
shown too: what the workers spend is spent in parallel; of the rest, compressing is.

Usage: python benchmarks/prepare.py [--files 64] [--rounds 3] [--json]
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from support.rows import options

from skelfew.data.prepare.walk import usable_cpus
from skelfew.data.readers.ntu_text import parse

PARSER_ROUNDS, COPIES, NTU120_FILES = 9, 8, 114_480
Parsed = list[tuple[bytes, np.ndarray, np.ndarray]]

# Runs in a process of its own, so that its memory can be measured.
COMMAND = """
import json, resource, sys, time
from pathlib import Path
from skelfew.data.prepare.walk import Outputs, prepare
from skelfew.data.readers import RawFolder
if __name__ == "__main__":
    raw, out, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    start = time.perf_counter()
    outputs = Outputs(out / "ntu.csv", out / "ntu.h5")
    prepared = prepare("ntu", RawFolder(raw), outputs, {"missing": "none"}, workers)
    seconds = time.perf_counter() - start
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    peak = max(u.ru_maxrss for u in usage) / 1024
    cpu, workers_cpu = (u.ru_utime + u.ru_stime for u in usage)
    result = {"seconds": seconds, "cpu": cpu, "workers_cpu": workers_cpu}
    print(json.dumps({**result, "digest": prepared.digest, "peak_mb": peak}))
"""


def skeleton_text(rng: np.random.Generator) -> bytes:
    """Return a file of 75 to 135 frames; every fifth has a second body half of the time."""
    frames = int(rng.integers(75, 136))
    second = rng.uniform() < 0.2
    lines = [str(frames)]
    for frame in range(frames):
        bodies = 2 if second and frame > frames // 2 else 1
        lines.append(str(bodies))
        for body in range(bodies):
            lines += [f"7205759403793110{body} 0 1 1 1 1 0 0.02764709 0.05745083 2", "25"]
            position = rng.normal(size=(25, 3)) * 0.5 + [0.1, 0.2, 3.5]
            depth = rng.uniform(100, 400, (25, 2))
            colour = rng.uniform(300, 1600, (25, 2))
            quaternion = rng.uniform(-1, 1, (25, 4))
            for row in np.concatenate([position, depth, colour, quaternion], axis=1):
                lines.append(" ".join([f"{value:.7g}" for value in row]) + " 2")
    return ("\n".join(lines) + "\n").encode()


def plain(text: bytes) -> Parsed:
    """Parse line by line: (body, positions, pixels) per observed body."""
    lines = iter(text.decode().splitlines())
    found = []
    for _ in range(int(next(lines))):
        for _ in range(int(next(lines))):
            body = next(lines).split()[0].encode()
            positions = np.zeros((25, 3), dtype=np.float32)
            pixels = np.zeros((25, 2), dtype=np.float32)
            for joint in range(int(next(lines))):
                values = [float(token) for token in next(lines).split()]
                positions[joint] = values[:3]
                pixels[joint] = values[5:7]
            found.append((body, positions, pixels))
    return found


def sparing(text: bytes) -> Parsed:
    """As ``plain``, but convert only the numbers that are used."""
    lines = iter(text.decode().splitlines())
    found = []
    for _ in range(int(next(lines))):
        for _ in range(int(next(lines))):
            body = next(lines).split()[0].encode()
            positions = np.zeros((25, 3), dtype=np.float32)
            pixels = np.zeros((25, 2), dtype=np.float32)
            for joint in range(int(next(lines))):
                tokens = next(lines).split()
                positions[joint] = [float(token) for token in tokens[:3]]
                pixels[joint] = [float(token) for token in tokens[5:7]]
            found.append((body, positions, pixels))
    return found


def ours(text: bytes) -> Parsed:
    parsed = parse(text)
    return list(zip(parsed.body, parsed.positions, parsed.pixels, strict=True))


def assert_equal(first: Parsed, second: Parsed) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one[0] == other[0]
        np.testing.assert_array_equal(one[1], other[1])
        np.testing.assert_array_equal(one[2], other[2])


def throughputs(files: list[Path]) -> dict[str, float]:
    """Return MB per second of processor time of every parser, reading the files included.

    They take turns, and of every file the best of several times counts: on a busy machine the
    least disturbed one.
    """
    best: dict[str, dict[Path, float]] = {parser.__name__: {} for parser in PARSERS}
    for _ in range(PARSER_ROUNDS):
        for parser in PARSERS:
            times = best[parser.__name__]
            for path in files:
                start = time.process_time()
                parser(path.read_bytes())
                seconds = time.process_time() - start
                times[path] = min(times.get(path, seconds), seconds)
    size = sum(path.stat().st_size for path in files) / 1e6
    return {name: size / sum(times.values()) for name, times in best.items()}


PARSERS = (plain, sparing, ours)


Result = dict[str, float | str]


def start_command(raw: Path, out: Path, workers: int) -> "subprocess.Popen[str]":
    out.mkdir(exist_ok=True)
    script = out / "command.py"
    script.write_text(COMMAND)
    command = [sys.executable, str(script), str(raw), str(out), str(workers)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=quiet, text=True)


def run_command(raw: Path, out: Path, workers: int) -> Result:
    process = start_command(raw, out, workers)
    output, _ = process.communicate()
    assert process.returncode == 0, f"the command ended with {process.returncode}"
    return json.loads(output)


def killed_and_continued(raw: Path, out: Path, workers: int) -> tuple[Result, int]:
    """Kill the command when some blocks are done, run it again; return its result and how many."""
    process = start_command(raw, out, workers)
    parts = out / "ntu.parts"
    while (done := sum(1 for _ in parts.glob("*.json"))) < 10:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (out / "ntu.csv").exists()
    return run_command(raw, out, workers), done


def timed(raw: Path, out: Path, rounds: int) -> tuple[Result, Result]:
    """Return the quickest of several rounds, with one and with all workers, by turns."""
    found: dict[int, list[Result]] = {1: [], usable_cpus(): []}
    for _ in range(rounds):
        for workers, results in found.items():
            results.append(run_command(raw, out, workers))
            shutil.rmtree(out)
    assert len({result["digest"] for results in found.values() for result in results}) == 1
    one, *others = (min(results, key=lambda r: float(r["seconds"])) for results in found.values())
    return one, others[0] if others else one


def measure(folder: Path, count: int, rounds: int) -> dict[str, object]:
    few, many = folder / "few", folder / "many"
    few.mkdir()
    many.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        text = skeleton_text(rng)
        for copy in range(COPIES):
            name = f"S{1 + i // 60:03}C{1 + copy % 3:03}P{1 + copy:03}R001A{1 + i % 60:03}.skeleton"
            (many / name).write_bytes(text)
            if copy == 0:
                (few / name).write_bytes(text)
    files = sorted(few.iterdir())
    for path in files:
        for parser in (plain, sparing):
            assert_equal(ours(path.read_bytes()), parser(path.read_bytes()))
    speed = throughputs(files)

    cores = usable_cpus()
    one, every = timed(many, folder / "out", rounds)
    small = run_command(few, folder / "small", cores)
    resumed, blocks = killed_and_continued(many, folder / "killed", cores)
    assert resumed["digest"] == one["digest"]
    mb = sum(path.stat().st_size for path in many.iterdir()) / 1e6
    return {
        "files": COPIES * count,
        "mb": mb,
        "plain_mb_per_s": speed["plain"],
        "sparing_mb_per_s": speed["sparing"],
        "ours_mb_per_s": speed["ours"],
        "ratio": speed["ours"] / speed["plain"],
        "ratio_to_sparing": speed["ours"] / speed["sparing"],
        "cores": cores,
        "load": os.getloadavg()[0],
        "one_worker_mb_per_s": mb / float(one["seconds"]),
        "all_workers_mb_per_s": mb / float(every["seconds"]),
        "all_to_one_worker": float(one["seconds"]) / float(every["seconds"]),
        "one_worker_cpu_s": one["cpu"],
        "all_workers_cpu_s": every["workers_cpu"],
        "parent_cpu_s": every["cpu"],
        "ntu120_minutes": float(every["seconds"]) / (COPIES * count) * NTU120_FILES / 60,
        "blocks_done_when_killed": blocks,
        "peak_mb_few_files": small["peak_mb"],
        "peak_mb_all_files": every["peak_mb"],
    }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--files", type=int, default=64, help="distinct files, each used 8 times")
    parser.add_argument("--rounds", type=int, default=3, help="of the whole command")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), arguments.files, arguments.rounds)
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    print(
        "parser, one core: plain {plain_mb_per_s:.0f} MB/s, ours {ours_mb_per_s:.0f} MB/s, "
        "ratio {ratio:.1f} (claim: 5), equal results; plain with only the numbers that are used: "
        "{sparing_mb_per_s:.0f} MB/s, ratio {ratio_to_sparing:.1f}\n"
        "command, {files} files of {mb:.0f} MB: {one_worker_mb_per_s:.0f} MB/s with one worker, "
        "{all_workers_mb_per_s:.0f} MB/s with {cores}, ratio {all_to_one_worker:.2f} at a load of "
        "{load:.1f}, equal results; processor time {one_worker_cpu_s:.1f} s with one, "
        "{all_workers_cpu_s:.1f} s in {cores} workers and {parent_cpu_s:.1f} s in their parent; "
        "NTU RGB+D 120 would take {ntu120_minutes:.0f} minutes\n"
        "killed after {blocks_done_when_killed} blocks and run again: equal result\n"
        "peak memory of a process: {peak_mb_few_files:.0f} MB with an eighth of the files, "
        "{peak_mb_all_files:.0f} MB with all".format_map(result)
    )


if __name__ == "__main__":
    main()
