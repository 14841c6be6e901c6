"""Peak memory and processor time of hostile files of up to 64 MB, one child process each.

    python benchmarks/hostile.py
    python benchmarks/hostile.py --case zstd --json
    python benchmarks/hostile.py --commands [--case 'H1[2-5]']

Every file is made anew below a temporary folder and opened as a command would open it. A case
holds if it ends (read, or refused by one SkelfewError) below 1 GiB above what the process had, and
below 10 s of processor time. Exit status 1 if one does not.
"""

# ruff: noqa: E501  the cases are a table

import gzip
import json
import os
import re
import resource
import struct
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numcodecs import Blosc, Zstd

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "cache"))

from skelfew_extract.descriptions import read_descriptions
from skelfew_extract.failures import Failures
from support.hostile_files import (
    BLOSC,
    EMPTY,
    GZIP,
    ROWS,
    ZSTD,
    a_cache,
    aliased,
    big,
    frames,
    hdf5,
    large_zip,
    many_groups,
    matlab,
    raw_file,
    reshaped,
    skippable,
    tensors,
    texts,
    wide,
    zipped,
)  # fmt: skip
from support.rows import options

from skelfew.cache import DONE, CacheWriter, TeacherCache
from skelfew.cache.format.stored import StoredCache
from skelfew.cache.tools.foreign import columns
from skelfew.cache.tools.pack import pack, unpack
from skelfew.cache.tools.verify import verify
from skelfew.config import preset
from skelfew.data.hdf5 import read_attributes
from skelfew.data.joints.layouts import load_layout
from skelfew.data.manifest import Manifest
from skelfew.data.protocols.files import class_list, read_protocol
from skelfew.data.readers import Dropped, RawFolder, load_reader, ntu, pku, utd
from skelfew.data.readers.pyskl import annotations
from skelfew.data.store import SkeletonStore
from skelfew.encoders import build_encoder
from skelfew.encoders.checkpoints import is_own, load_encoder, read_metadata, save_encoder
from skelfew.errors import SkelfewError
from skelfew.io.files import parse_json, read_lines
from skelfew.report.collect import read_run
from skelfew.runs.folder import Run

MEMORY, SECONDS = 1 << 30, 10.0
_SPACE = 8 << 30  # of addresses: a child that asks for more ends with MemoryError


def opened(path: Path) -> None:
    """Open a cache, list it, and compute its digest, as train, info and verify do."""
    refused = None
    for action in (TeacherCache.open, lambda p: StoredCache.open(p).digest()):
        try:
            action(path)
        except SkelfewError as error:
            refused = error
    if refused is not None:
        raise refused


def imported(path: Path) -> None:
    with columns(path) as found:
        for name in list(found)[:3]:
            for _ in found[name]().blocks():
                pass


def recording(reader: str, name: str, content: bytes, **more: bytes) -> tuple[Any, Any]:
    """Return how a raw recording is made, and how a reader opens it."""

    def make(folder: Path) -> Path:
        for file, text in {name: content, **more}.items():
            place = folder / "raw" / file.replace("__", "/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(text)
        return folder / "raw"

    def read(folder: Path) -> None:
        known = load_reader(reader)
        for found in known.read(RawFolder(folder), name, {**known.defaults}):
            if isinstance(found, Dropped):
                raise SkelfewError(found.reason)

    return make, read


def in_run(name: str, content: bytes) -> tuple[Any, Any]:
    """Return how a run with a file is made, and how a report reads it."""

    def make(folder: Path) -> Path:
        run = Run.create("m", path=folder / "run")
        run.write_config(preset("paper"))
        place = run.path / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(content)
        return run.path

    return make, lambda path: read_run(Run.open(path))


def links(folder: Path, count: int) -> Path:
    """Write an HDF5 file of attributes that are all one large text."""
    return hdf5(
        folder, lambda f: [f.attrs.__setitem__(f"a{i}", "x" * (1 << 15)) for i in range(count)]
    )


RAW = {
    "ntu": "S001C001P001R001A001.skeleton",
    "msr": "a01_s01_e01.txt",
    "nw-ucla": "a01_s01_e01_v01.json",
}
LARGE = 39 << 20  # bytes, below what one recording may have
TEXTS: dict[str, bytes] = {
    "one number of 39 MB": b"9" * LARGE, "numbers of a digit in one line": b"1 " * (LARGE // 2),
    "a number a line": b"1\n" * (LARGE // 2), "signs and dots": b"-.e+" * (LARGE // 4), "blanks": b" " * LARGE,
    "brackets": b"[" * LARGE, "empty lists": b"[" + b"[]," * (LARGE // 3 - 1) + b"1]",
}  # fmt: skip
MANY = "sample_id,class_id,label,frames\n"
CASES: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any]]] = {
    "zstd: two frames": (lambda f: a_cache(f, ZSTD, sample_id=frames(1, 1 << 17) + frames(1, 3 << 30 >> 3)), opened),
    "zstd: two frames of unknown size": (lambda f: a_cache(f, ZSTD, text=frames(2, 3 << 30, False)), opened),
    "zstd: known, then unknown": (lambda f: a_cache(f, ZSTD, text=frames(1, 96) + frames(1, 2 << 30, False)), opened),
    "zstd: skippable frames, 60 MB": (lambda f: a_cache(f, ZSTD, text=skippable(frames(1, 96), 7_500_000)), opened),
    "zstd: a million empty frames": (lambda f: a_cache(f, ZSTD, text=frames(1_000_000, 0)), opened),
    "zstd: IDs beyond the shape": (lambda f: a_cache(f, ZSTD, sample_id=Zstd().encode(texts(60_000_000))), opened),
    "gzip: IDs beyond the shape": (lambda f: a_cache(f, GZIP, sample_id=gzip.compress(texts(60_000_000), 6)), opened),
    "gzip: 3,000,000 empty members": (lambda f: a_cache(f, GZIP, text=EMPTY * 3_000_000), opened),
    "gzip: members of a megabyte": (lambda f: a_cache(f, GZIP, text=gzip.compress(bytes(1 << 20)) * 4000), opened),
    "blosc: claims 2 GB": (lambda f: a_cache(f, BLOSC, text=(lambda b: b[:4] + struct.pack("<I", 2 << 30 - 1) + b[8:])(Blosc().encode(bytes(1 << 16)))), opened),
    "gzip in a deflated zip": (lambda f: zipped(a_cache(f, GZIP, text=gzip.compress(bytes(400 << 20))), zipfile.ZIP_DEFLATED), opened),
    "two compressors": (lambda f: a_cache(f, GZIP + ZSTD, text=b"x"), opened),
    "large chunk, zstd: skippable frames": (lambda f: big(f, ZSTD, text=skippable(frames(1, 1 << 26), 7_500_000)), opened),
    "large chunk, zstd: empty frames": (lambda f: big(f, ZSTD, text=frames(5_000_000, 0)), opened),
    "large chunk, zstd: unknown sizes": (lambda f: big(f, ZSTD, text=frames(400, 1 << 20, False)), opened),
    "large chunk, zstd: all zeros": (lambda f: big(f, ZSTD, text=frames(1, 1 << 26), video=frames(1, 1 << 26)), opened),
    "large chunk, gzip: empty members": (lambda f: big(f, GZIP, text=EMPTY * 3_000_000), opened),
    "large chunk, gzip: 40,000 members": (lambda f: big(f, GZIP, text=gzip.compress(bytes(1670), mtime=0) * 40_000), opened),
    "large chunk, gzip: a bomb": (lambda f: big(f, GZIP, text=gzip.compress(bytes(1 << 24)) * 3000), opened),
    "large chunk, gzip: all zeros": (lambda f: big(f, GZIP, text=gzip.compress(bytes(1 << 26)), video=gzip.compress(bytes(1 << 26))), opened),
    "large chunk, blosc: all zeros": (lambda f: big(f, BLOSC, text=Blosc().encode(bytes(1 << 26)), video=Blosc().encode(bytes(1 << 26))), opened),
    "large chunk, IDs of 512 bytes": (lambda f: big(f, GZIP, sample_id=gzip.compress(struct.pack("<I", ROWS) + b"".join(struct.pack("<I", 512) + f"{i:0512}".encode() for i in range(ROWS)))), opened),
    "large chunk, one ID of 34 MB": (lambda f: big(f, GZIP, sample_id=gzip.compress(texts(ROWS - 1, ROWS) + struct.pack("<I", 33 << 20) + b"x" * (33 << 20))), opened),
    "IDs that claim 200,000,000, folder": (lambda f: a_cache(f, sample_id=texts(900, 200_000_000)), opened),
    "IDs that claim 200,000,000, zip": (lambda f: zipped(a_cache(f, sample_id=texts(900, 200_000_000))), opened),
    "chunk larger than the array": (lambda f: reshaped(a_cache(f, ZSTD, sample_id=Zstd().encode(texts(1 << 26))), 1 << 26), opened),
    "7,000,000 rows in chunks of 16": (lambda f: reshaped(a_cache(f), 16, 7_000_000), opened),
    "a billion rows": (lambda f: reshaped(a_cache(f), 1024, 10**9), opened),
    "zip of 300,000 empty entries": (lambda f: large_zip(f, 300_000), opened),
    "NTU60 npz of 300,000 empty entries": (lambda f: large_zip(f, 300_000), lambda p: [*load_reader("ctrgcn-npz").sources(RawFolder(p), load_reader("ctrgcn-npz").defaults)]),
    "zip of 90,000 empty entries": (lambda f: large_zip(f, 90_000), opened),
    "encoder of 800,000 tensors": (lambda f: tensors(f, 800_000), lambda p: (is_own(p), read_metadata(p))),
    "CSV of 1,000,000 columns": (wide, Manifest.read),
    "manifest of 200,000 columns": (lambda f: raw_file(f, "m.csv", (MANY[:-1] + "".join(f",c{i}" for i in range(200_000)) + "\n").encode()), Manifest.read),
    "manifest of 64 MB of rows": (lambda f: raw_file(f, "m.csv", (MANY + "".join(f"{i},1,a,1\n" for i in range(4_500_000))).encode()), Manifest.read),
    "manifest of 9,000 columns, rows of 4": (lambda f: raw_file(f, "m.csv", (MANY[:-1] + ",x" * 9_000 + "\n" + "".join(f"{i},1,a,1\n" for i in range(10_000))).encode()), Manifest.read),
    "manifest at the limit, short rows": (lambda f: raw_file(f, "m.csv", (MANY + "".join(f"{i},1,a,1\n" for i in range(900_000))).encode()), Manifest.read),
    "manifest at the limit, 64 MB": (lambda f: raw_file(f, "m.csv", (MANY + "".join(f"S{i:08},1,{'a' * 48},1\n" for i in range(955_000))).encode()), Manifest.read),
    "manifest of 700,000 rows": (lambda f: raw_file(f, "m.csv", (MANY + "".join(f"S{i:08},1,{'a' * 60},1\n" for i in range(700_000))).encode()), Manifest.read),
    "HDF5 of 50,000 groups": (lambda f: hdf5(f, many_groups), imported),
    "HDF5: 4,000 texts that are one": (aliased, SkeletonStore),
    "HDF5: the same, as features": (aliased, imported),
    "HDF5: zeros, gzip": (lambda f: hdf5(f, lambda h: h.create_dataset("text", shape=(2_000_000, 512), dtype="f4", chunks=(4096, 512), compression="gzip")), imported),
    "MATLAB: cells 20,000 x 20,000": (lambda f: matlab(f, 1, (20_000, 20_000), 0), lambda p: utd.parse(p.read_bytes())),
    "MATLAB: struct": (lambda f: matlab(f, 2, (20_000, 20_000), 0), lambda p: utd.parse(p.read_bytes())),
    "MATLAB: numbers that are not there": (lambda f: matlab(f, 6, (20_000, 20_000), 1 << 30), lambda p: utd.parse(p.read_bytes())),
    "gzip file of empty members": (lambda f: raw_file(f, "x.txt.gz", EMPTY * 3_000_000), lambda p: pku.unpacked(p.read_bytes())),
    "gzip file of zeros": (lambda f: raw_file(f, "x.txt.gz", gzip.compress(bytes(8 << 20)) * 1000), lambda p: pku.unpacked(p.read_bytes())),
    "npz of zeros": (lambda f: (np.savez_compressed(f / "x.npz", text=np.zeros((1_000_000, 512), "f4")), f / "x.npz")[1], imported),
    "JSON of empty lists": (lambda f: raw_file(f, "x.json", b"[" + b"[]," * 21_000_000 + b"1]"), lambda p: parse_json(p.read_bytes())),
    "JSON of objects": (lambda f: raw_file(f, "x.json", b"[" + b'{"a":1},' * 8_000_000 + b"1]"), lambda p: parse_json(p.read_bytes())),
    "pickle of 60,000,000 empty lists": (lambda f: raw_file(f, "x.pkl", b"\x80\x04" + b"]" * 60_000_000 + b"."), lambda p: annotations(RawFolder(p.parent), p.name)),
    "metrics.jsonl of empty rows": in_run("metrics.jsonl", b"{}\n" * 21_000_000),
    "metrics.jsonl of long rows": in_run("metrics.jsonl", (b'{"a": [' + b"1," * 500_000 + b"1]}\n") * 60),
    "results of empty objects": in_run("results/x.json", b'{"a": [' + b"{}," * 20_000_000 + b"1]}"),
    "IDs of a letter": (lambda f: raw_file(f, "ids.txt", b"a\n" * 30_000_000), read_lines),
    "IDs of two letters, other line ends": (lambda f: raw_file(f, "ids.txt", b"ab\x0b" * 20_000_000), read_lines),
    "failures.csv of short rows": (lambda f: raw_file(f, "c.failures.csv", b"sample_id,stage,message\n" + b"a,b,c\n" * 10_000_000), lambda p: Failures.beside(p.parent / "c.zarr", ["a"])),
    "descriptions of one class, repeated": (lambda f: raw_file(f, "d.json", b'{"a":"b"' + b"".join(b',"%d":"b"' % i for i in range(2_500_000)) + b',"a":"c"}'), lambda p: read_descriptions(p, Manifest("m", ()))),
    "protocol of a million classes": (lambda f: raw_file(f, "p.json", json.dumps({"dataset": "m", "base": [*range(10**6), *range(10**6)], "novel": [1]}).encode()), lambda p: class_list(p, read_protocol(p), "base")),
    "layout of one deep name": (lambda f: raw_file(f, "x.toml", b"a" + b".a" * 500_000 + b"=1"), load_layout),
    "layout of deep tables": (lambda f: raw_file(f, "x.toml", b"[" + b"a." * 2000 + b"a]\n" + b"".join(b"k%d=1\n" % i for i in range(90_000))), load_layout),
    "HDF5: 5,000 attributes of 32 kB": (lambda f: links(f, 5_000), lambda p: read_attributes(p, h5py.File(p))),
    "HDF5: a fixed text of 1 GB": (lambda f: hdf5(f, lambda h: h.create_dataset("text", (1,), "S1000000000")), imported),
    **{f"{reader}: {kind}": recording(reader, name, text) for reader, name in RAW.items() for kind, text in TEXTS.items()},
    **{f"pku: {kind}": recording("pku", "0002-L.txt", text, **{"label__0002-L.txt": b"8,1,2,1\n"}) for kind, text in TEXTS.items()},
    "pku: 5,000,000 segments": recording("pku", "0002-L.txt", b"1 " * 150 + b"\n", **{"label__0002-L.txt": b"8,1,1,2\n" * 5_000_000}),
    "pku: 100,000 segments": recording("pku", "0002-L.txt", (b"1 " * 150 + b"\n") * 1000, **{"label__0002-L.txt": b"8,1,1000,2\n" * 100_000}),
    "NTU recording of 63 MB": (lambda f: raw_file(f, "S001C001P001R001A001.skeleton", b"1 " * (30 << 20)), lambda p: ntu.parse(RawFolder(p.parent).read(p.name))),
}  # fmt: skip


def large_cache(folder: Path) -> Path:
    """Write features of the size of NTU RGB+D 120: 114,480 samples, f_v and f_t of 512 float16."""
    from test_cache import PROVENANCE

    names = [f"S{i:07}" for i in range(114_480)]
    draw = np.random.default_rng(0)
    with CacheWriter.create_or_resume(
        folder / "c.zarr", names, dim=512, dtype="float16", provenance=PROVENANCE
    ) as cache:
        for start in range(0, len(names), 8192):
            count = min(8192, len(names) - start)
            values = draw.normal(size=(count, 1, 512)).astype(np.float16)
            cache.write(slice(start, start + count), values, values, np.full(count, DONE, np.uint8))
        cache.finish()
    return folder / "c.zarr"


def sent(path: Path) -> None:
    """Open a cache, verify it, pack it, unpack it, and verify that."""
    TeacherCache.open(path)
    pack(path, path.parent / "c.zip")
    unpack(path.parent / "c.zip", path.parent / "d.zarr")
    for place in (path, path.parent / "c.zip", path.parent / "d.zarr"):
        if not all(check["ok"] for check in verify(place)["checks"]):
            raise RuntimeError(f"{place} is not sound")


def large_encoder(folder: Path) -> Path:
    """Write an encoder of some 48 MB."""
    encoder = build_encoder("ctrgcn", "kinect-v2", width=2.9, bodies=2)
    save_encoder(folder / "e.safetensors", encoder, {"dataset": "m", "run": "r"})
    return folder / "e.safetensors"


# What honest files need must be read, whatever it costs.
HONEST: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any]]] = {
    "honest: cache of NTU-120 x 512": (large_cache, sent),
    "honest: encoder of 48 MB": (large_encoder, load_encoder),
    "honest: manifest of 250,000 short rows": (lambda f: raw_file(f, "m.csv", (MANY + "".join(f"s{i},1,a,1\n" for i in range(250_000))).encode()), Manifest.read),
    "honest: manifest of 3,000,000 rows": (lambda f: raw_file(f, "m.csv", (MANY + "".join(f"S{i:09},1,drink water,100\n" for i in range(3_000_000))).encode()), Manifest.read),
}  # fmt: skip


def measure(make: Callable[[Path], Path], action: Callable[[Path], Any]) -> dict[str, Any]:
    """Make a file in one child and open it in another; return what that cost."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as scratch:
        note = Path(scratch) / "note"
        for step in ("make", "open"):
            child = os.fork()
            if child == 0:
                try:
                    _child(step, Path(scratch), note, make, action)
                except BaseException as error:
                    note.write_text(json.dumps({"ends": f"{type(error).__name__}: {error}"[:200]}))
                    os._exit(1)
                os._exit(0)
            _, status = os.waitpid(child, 0)
            if status and step == "make":
                raise RuntimeError(f"the case cannot be made: {note.read_text()}")
        return json.loads(note.read_text())


def _child(step: str, folder: Path, note: Path, make: Any, action: Any) -> None:
    if step == "make":
        path = make(folder)
        note.write_text(str(path))
        return
    path = Path(note.read_text())
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    size = sum(p.stat().st_size for p in files)
    resource.setrlimit(resource.RLIMIT_AS, (_SPACE, _SPACE))
    before, began, ends = _held("VmRSS"), time.process_time(), "read"
    try:
        action(path)
    except (SkelfewError, ValueError) as error:  # of parse_json
        ends = f"refused: {str(error).replace(str(folder), '')[:90]}"
    except BaseException as error:
        ends = f"{type(error).__name__}: {error}"[:200]
    seconds, peak = time.process_time() - began, _held("VmHWM") - before
    note.write_text(json.dumps({"bytes": size, "seconds": round(seconds, 2), "peak": peak,
                                "ends": ends}))  # fmt: skip


def _held(what: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{what}:")[1].split()[0]) << 10


def commands(only: str, as_json: bool) -> int:
    """Print a line a command; return 1 if one did harm, printed several errors, or cost too much."""
    from support.hostile_commands import measured

    found = []
    for row in measured(only):
        row["holds"] = (not row["harm"] and row["status"] in (0, 1, 3) and row["lines"] <= 1
                        and row["peak"] < MEMORY and row["seconds"] < SECONDS)  # fmt: skip
        found.append(row)
        if not as_json:
            print(f"{'  ' if row['holds'] else 'X '}{row['case']:4} {row['command'][:76]:76} "
                  f"{row['status']} {row['peak'] / 1e6:6.0f} MB {row['seconds']:5.1f} s  "
                  f"{row['line'][:150]}", flush=True)  # fmt: skip
    if as_json:
        print(json.dumps(found, indent=1))
    return 0 if all(row["holds"] for row in found) else 1


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--case", default="", help="only cases of this pattern")
    parser.add_argument("--commands", action="store_true", help="commands on spoiled folders")
    arguments = parser.parse_args()
    if arguments.commands:
        return commands(arguments.case, arguments.json)
    rows, bad = [], 0
    for name, (make, action) in {**CASES, **HONEST}.items():
        if not re.search(arguments.case, name):
            continue
        row = {"case": name, **measure(make, action)}
        row["holds"] = row["ends"] == "read" if name in HONEST else (
            row["ends"].startswith(("read", "refused"))
            and row.get("peak", MEMORY) < MEMORY
            and row.get("seconds", SECONDS) < SECONDS
        )  # fmt: skip
        bad += not row["holds"]
        rows.append(row)
        if not arguments.json:
            print(f"{'  ' if row['holds'] else 'X '}{name:38} {row.get('bytes', 0) / 1e6:6.1f} MB "
                  f"{row.get('peak', 0) / 1e6:7.0f} MB {row.get('seconds', 0):6.2f} s  {row['ends']}",
                  flush=True)  # fmt: skip
    if arguments.json:
        print(json.dumps(rows, indent=1))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
