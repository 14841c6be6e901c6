"""Throughput of reading NTU RGB+D's text files, beside a plain line-by-line parser, in one run.

Claims: per core, our parser is at least 5 times as fast as a plain one that converts all numbers
of a line, with equal arrays. (Shown too, without a claim: a plain one that converts only 5 of 12
numbers, those used, as ours does.) The whole command uses all cores, gives the same result with
any number of them, and needs no more memory for four times the files. The files are made up in the
real format and size, about 300 KB, one or two bodies; NTU RGB+D 120 has 114,480 of them.

Usage: python benchmarks/prepare.py [--files 64] [--json]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from skelfew.data.prepare import usable_cpus
from skelfew.data.readers.ntu_text import parse

ROUNDS, NTU120_FILES = 5, 114_480
Parsed = list[tuple[bytes, np.ndarray, np.ndarray]]

# Runs in a process of its own, so that its memory can be measured.
COMMAND = """
import json, resource, sys, time
from pathlib import Path
from skelfew.data.prepare import Outputs, prepare
from skelfew.data.readers import RawFolder
if __name__ == "__main__":
    raw, out, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    start = time.perf_counter()
    outputs = Outputs(out / "ntu.csv", out / "ntu.h5")
    prepared = prepare("ntu", RawFolder(raw), outputs, {"missing": "none"}, workers)
    seconds = time.perf_counter() - start
    whom = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(who).ru_maxrss for who in whom) / 1024
    print(json.dumps({"seconds": seconds, "digest": prepared.digest, "peak_mb": peak}))
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
    for _ in range(ROUNDS):
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


def run_command(raw: Path, out: Path, workers: int) -> dict[str, float | str]:
    script = out / "command.py"
    out.mkdir()
    script.write_text(COMMAND)
    command = [sys.executable, str(script), str(raw), str(out), str(workers)]
    result: dict[str, float | str] = json.loads(subprocess.check_output(command, text=True))
    return result


def measure(folder: Path, count: int) -> dict[str, object]:
    few, many = folder / "few", folder / "many"
    few.mkdir()
    many.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        text = skeleton_text(rng)
        for copy in range(4):
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
    one_core = run_command(many, folder / "one", 1)
    all_cores = run_command(many, folder / "all", cores)
    small = run_command(few, folder / "small", cores)
    assert one_core["digest"] == all_cores["digest"]
    size = sum(path.stat().st_size for path in many.iterdir()) / 1e6
    # Without the start of the processes, which both runs spend once.
    per_file = (float(all_cores["seconds"]) - float(small["seconds"])) / (3 * count)
    return {
        "files": 4 * count,
        "mb": size,
        "plain_mb_per_s": speed["plain"],
        "sparing_mb_per_s": speed["sparing"],
        "ours_mb_per_s": speed["ours"],
        "ratio": speed["ours"] / speed["plain"],
        "ratio_to_sparing": speed["ours"] / speed["sparing"],
        "cores": cores,
        "command_one_core_mb_per_s": size / float(one_core["seconds"]),
        "command_all_cores_mb_per_s": size / float(all_cores["seconds"]),
        "ntu120_minutes": per_file * NTU120_FILES / 60,
        "peak_mb_quarter_of_files": small["peak_mb"],
        "peak_mb_all_files": all_cores["peak_mb"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])  # type: ignore[union-attr]
    parser.add_argument("--files", type=int, default=64, help="distinct files, each used 4 times")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), arguments.files)
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    print(
        "parser, one core: plain {plain_mb_per_s:.0f} MB/s, ours {ours_mb_per_s:.0f} MB/s, "
        "ratio {ratio:.1f} (claim: 5), equal results; plain with only the numbers that are used: "
        "{sparing_mb_per_s:.0f} MB/s, ratio {ratio_to_sparing:.1f}\n"
        "command, {files} files of {mb:.0f} MB: {command_one_core_mb_per_s:.0f} MB/s on one core, "
        "{command_all_cores_mb_per_s:.0f} MB/s on {cores}, equal results; NTU RGB+D 120 would "
        "take {ntu120_minutes:.0f} minutes\n"
        "peak memory of a process: {peak_mb_quarter_of_files:.0f} MB with a quarter of the files, "
        "{peak_mb_all_files:.0f} MB with all".format_map(result)
    )


if __name__ == "__main__":
    main()
