"""The teacher cache beside npy and HDF5 at the size of NTU RGB+D 120, in one run.

Claim: loading all of it takes at most 1.5 times as long as npy, although every byte is checked,
then a batch comes at the speed of memory, and the store is at most 1.05 times the raw bytes.
All three hold the same 114,480 x 512 features f_v and f_t, and their files are in the page cache.
Ten million rows are opened and streamed, IDs included, in a process of their own within 2 GiB.

Usage: OMP_NUM_THREADS=1 python benchmarks/cache.py [--rounds 5] [--dtype float32] [--json]
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from support.rows import line, options

from skelfew.cache import DONE, CacheWriter, TeacherCache
from skelfew.cache.format.stored import StoredCache
from skelfew.runs.folder import environment

ROWS, WIDTH, BLOCK, BATCH = 114_480, 512, 8192, 128
MANY, NARROW = 10_000_000, 64  # a block of these is as large as 1,024 rows of 512
NAMES = ("video", "text")
PROVENANCE: dict[str, Any] = {"dataset": "many", "manifest_sha256": "a" * 64, "classes": []}
# Prints rows, seconds to the first batch and for all, and the peak of resident memory in MiB.
STREAM = r"""
import re, sys, time
import numpy as np
from skelfew.cache.format.stored import StoredCache
began = time.perf_counter()
cache = StoredCache.open(sys.argv[1])
cache.read("text", np.arange(128))
first, rows = time.perf_counter() - began, 0
for part in cache.blocks():
    names, status, features = (cache.read(n, part) for n in ("sample_id", "status", "text"))
    assert len(set(names)) == len(features) and (status == 1).all()
    rows += len(features)
peak = int(re.search(r"VmHWM:\s*(\d+)", open("/proc/self/status").read())[1]) / 1024
print(rows, first, time.perf_counter() - began, peak)
"""


def ids(count: int) -> list[str]:
    return [f"S{i // 100_000:03d}P{i // 1000 % 100:03d}A{i % 1000:03d}" for i in range(count)]


def seconds(action: Callable[[], object]) -> tuple[float, float]:
    """Return how long it takes, and how much processor time of all threads."""
    began, spent = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - began, time.process_time() - spent


def write_skelfew(path: Path, arrays: dict[str, np.ndarray]) -> None:
    count = len(arrays["text"])
    dtype, width = str(arrays["text"].dtype), arrays["text"].shape[1]
    options: dict[str, Any] = {"dtype": dtype, "video": "video" in arrays}
    with CacheWriter.create_or_resume(
        path, ids(count), dim=width, provenance=PROVENANCE, **options
    ) as cache:
        for start in range(0, count, BLOCK):
            rows = slice(start, min(start + BLOCK, count))
            status = np.full(rows.stop - start, DONE, dtype=np.uint8)
            video = arrays["video"][rows] if "video" in arrays else None
            cache.write(rows, video, arrays["text"][rows], status)
        cache.finish()


def write_h5(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            rows = file.create_dataset(name, values.shape, values.dtype, chunks=(1024, WIDTH))
            for start in range(0, len(values), BLOCK):
                rows[start : start + BLOCK] = values[start : start + BLOCK]


def write_npy(path: Path, arrays: dict[str, np.ndarray]) -> None:
    path.mkdir(exist_ok=True)
    for name, values in arrays.items():
        np.save(path / f"{name}.npy", values)


def load_h5(path: Path) -> list[np.ndarray]:
    with h5py.File(path) as file:
        return [file[name][:].astype(np.float32, copy=False) for name in NAMES]


def load_npy(path: Path) -> list[np.ndarray]:
    return [np.load(path / f"{n}.npy").astype(np.float32, copy=False) for n in NAMES]


def first_skelfew(path: Path, rows: np.ndarray) -> object:
    cache = StoredCache.open(path)
    return [cache.read(name, rows) for name in NAMES]


def first_h5(path: Path, rows: np.ndarray) -> object:
    with h5py.File(path) as file:
        return [file[name][np.sort(rows)] for name in NAMES]


def first_npy(path: Path, rows: np.ndarray) -> object:
    return [np.load(path / f"{name}.npy", mmap_mode="r")[rows] for name in NAMES]


def size(path: Path) -> int:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files)


def at_ntu120_size(folder: Path, dtype: str, rounds: int) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    arrays = {n: draw.normal(size=(ROWS, WIDTH)).astype(np.float32).astype(dtype) for n in NAMES}
    places = {"skelfew": folder / "c.zarr", "h5py": folder / "c.h5", "npy": folder / "npy"}
    writers = {"skelfew": write_skelfew, "h5py": write_h5, "npy": write_npy}
    loaders = {"skelfew": TeacherCache.open, "h5py": load_h5, "npy": load_npy}
    firsts = {"skelfew": first_skelfew, "h5py": first_h5, "npy": first_npy}
    times: dict[tuple[str, str], list[tuple[float, ...]]] = {}

    def measure(what: str, who: str, action: Callable[[], object], repeat: int = 1) -> None:
        took = [seconds(action) for _ in range(repeat)]
        middle = tuple(map(statistics.median, zip(*took, strict=True)))
        times.setdefault((what, who), []).append(middle)

    names = ids(ROWS)
    for turn in range(rounds):  # interleaved, so that a busy minute hits all alike
        for who, place in places.items():
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
            measure("write", who, lambda who=who, place=place: writers[who](place, arrays))
        rows = draw.choice(ROWS, BATCH, replace=False)
        for who, place in places.items():
            measure("first batch", who, lambda w=who, p=place, r=rows: firsts[w](p, r))
        order = list(places)[turn % 3 :] + list(places)[: turn % 3]
        for who in order:
            # The first of three may get memory that the host of a virtual machine had taken back.
            measure("full load", who, lambda who=who: loaders[who](places[who]), 3)
        cache, plain = TeacherCache.open(places["skelfew"]), load_npy(places["npy"])
        assert (cache.text[:, 0] == plain[1]).all()
        batch = [names[i] for i in rows]
        measure("batch", "skelfew", lambda c=cache, b=batch: c.targets(b), 200)
        measure("batch", "npy", lambda p=plain, r=rows: p[0][r] + p[1][r], 200)
        del cache, plain
    raw = sum(values.nbytes for values in arrays.values())
    table: dict[str, Any] = {}
    for (what, who), took in times.items():
        walls, cpus = zip(*took, strict=True)
        plain_walls, plain_cpus = zip(*times[what, "npy"], strict=True)
        table.setdefault(what, {})[who] = {
            "median_ms": float(f"{1e3 * statistics.median(walls):.3g}"),
            "min_ms": float(f"{1e3 * min(walls):.3g}"),
            "max_ms": float(f"{1e3 * max(walls):.3g}"),
            "cpu_ms": float(f"{1e3 * statistics.median(cpus):.3g}"),
            "ratio": round(statistics.median(walls) / statistics.median(plain_walls), 2),
            "least_ratio": round(min(walls) / min(plain_walls), 2),
            "cpu_ratio": round(statistics.median(cpus) / statistics.median(plain_cpus), 2),
        }
    bytes_ = {who: round(size(place) / raw, 4) for who, place in places.items()}
    return {"rows": ROWS, "width": WIDTH, "dtype": dtype, "times": table, "bytes_to_raw": bytes_}


def many_rows(folder: Path) -> dict[str, Any]:
    """Write ten million rows here, open and stream them in a process of its own."""
    needed = 2 * MANY * (2 * NARROW + 24)
    if shutil.disk_usage(folder).free < needed:
        return {"skipped": f"less than {needed / 1e9:.0f} GB free in {folder}"}
    path = folder / "many.zarr"
    code = "import sys, cache; from pathlib import Path; cache.write_many(Path(sys.argv[1]))"
    here = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH')}"}
    writer = [sys.executable, "-c", code, str(path)]
    written, _ = seconds(lambda: subprocess.run(writer, check=True, env=here))
    reader = [sys.executable, "-c", STREAM, str(path)]
    done = subprocess.run(reader, capture_output=True, text=True, check=True)
    rows, first, stream, peak = map(float, done.stdout.split())
    result = {"rows": int(rows), "width": NARROW, "bytes": size(path), "write_s": round(written, 1)}
    for part in ("info", "verify"):
        command = [sys.executable, "-m", "skelfew", "cache", part, str(path)]
        took, _ = seconds(partial(subprocess.run, command, check=True, stdout=subprocess.PIPE))
        result[f"{part}_s"] = round(took, 1)
    shutil.rmtree(path)
    result |= {"first_batch_s": round(first, 2), "stream_s": round(stream, 1)}
    return {**result, "peak_mib": round(peak)}


def write_many(path: Path) -> None:
    draw = np.random.default_rng(0)
    options: dict[str, Any] = {"dim": NARROW, "video": False, "provenance": PROVENANCE}
    names = [f"{i:09d}" for i in range(MANY)]
    with CacheWriter.create_or_resume(path, names, **options) as cache:
        del names
        step = 16 * BLOCK
        for start in range(0, MANY, step):
            rows = slice(start, min(start + step, MANY))
            count = rows.stop - start
            values = draw.normal(size=(count, NARROW)).astype(np.float16)
            cache.write(rows, None, values, np.full(count, DONE, dtype=np.uint8))
        cache.finish()


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", choices=["float16", "float32"], default="float32")
    parser.add_argument("--only", choices=["ntu120", "many"])
    parser.add_argument("--folder", type=Path, help="where to write  [default: a temporary one]")
    arguments = parser.parse_args()
    machine = {k: v for k, v in environment().items() if k in ("processor", "cores", "platform")}
    result: dict[str, Any] = {"benchmark": "cache", **machine, "load": round(os.getloadavg()[0], 1)}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        if arguments.only != "many":
            result["ntu120"] = at_ntu120_size(Path(temporary), arguments.dtype, arguments.rounds)
        if arguments.only != "ntu120":
            result["many"] = many_rows(Path(temporary))
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{result['processor']}, {result['cores']} cores, load {result['load']}")
    if table := result.get("ntu120"):
        print(f"{ROWS:,} x {WIDTH} f_v and f_t, {table['dtype']}, {arguments.rounds} rounds")
        for what, columns in table["times"].items():
            for who, row in columns.items():
                span = f"({row['min_ms']:g} to {row['max_ms']:g})"
                ratios = f"{row['ratio']:g} of npy, least {row['least_ratio']:g}"
                cpu = f"processor time {row['cpu_ms']:g} ms, {row['cpu_ratio']:g} of npy"
                print(f"  {what:<12} {who:<8} {row['median_ms']:>7g} ms {span}  {ratios}; {cpu}")
        print("  bytes to raw", table["bytes_to_raw"])
    if many := result.get("many"):
        line(many)


if __name__ == "__main__":
    main()
