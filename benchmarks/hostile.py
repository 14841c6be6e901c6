"""Peak memory and processor time of hostile files of up to 64 MB, one child process each.

    python benchmarks/hostile.py
    python benchmarks/hostile.py --case zstd --json

Every file is made anew below a temporary folder and opened as a command would open it. A case
holds if it ends (read, or refused by one SkelfewError) below 1 GiB above what the process had, and
below 10 s of processor time. Exit status 1 if one does not.
"""

# ruff: noqa: E501  the cases are a table

import argparse
import gzip
import json
import os
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "cache"))

from skelfew.cache import TeacherCache
from skelfew.cache.format.stored import StoredCache
from skelfew.cache.format.zips import write_zip
from skelfew.cache.tools.foreign import columns
from skelfew.data.manifest import Manifest
from skelfew.data.readers import RawFolder, ntu, pku, utd
from skelfew.data.readers.pyskl import annotations
from skelfew.data.store import SkeletonStore
from skelfew.encoders.checkpoints import is_own, read_metadata
from skelfew.errors import SkelfewError
from skelfew.io.files import parse_json

MEMORY, SECONDS, SIZE = 1 << 30, 10.0, 64 << 20
_SPACE = 8 << 30  # of addresses: a child that asks for more ends with MemoryError


def frames(count: int, size: int, known: bool = True) -> bytes:
    """Return zstd frames of zeros, with or without the size of what they hold."""
    if known:
        return Zstd().encode(bytes(size)) * count
    block = struct.pack("<I", 1 << 1 | (1 << 17) << 3)[:3] + b"\0"  # repeats a byte 128 KiB times
    blocks = block * (size >> 17)
    last = bytes([blocks[-4] | 1]) + blocks[-3:]
    return (struct.pack("<IBB", 0xFD2FB528, 0, 0x70) + blocks[:-4] + last) * count


def skippable(content: bytes, count: int) -> bytes:
    """Put empty frames that are skipped before compressed bytes."""
    return struct.pack("<II", 0x184D2A50, 0) * count + content


def a_cache(folder: Path, codecs: list[dict[str, Any]] | None = None, **chunks: bytes) -> Path:
    """Write a cache with some of its arrays' first chunk, and codecs, replaced."""
    from test_cache import filled

    filled(path := folder / "c.zarr")
    for name, content in chunks.items():
        file = path / name / "zarr.json"
        about = json.loads(file.read_text())
        first = [c for c in about["codecs"] if c["name"] in ("bytes", "vlen-utf8")]
        file.write_text(json.dumps(about | {"codecs": first + (codecs or [])}))
        next(path.glob(f"{name}/c*")).write_bytes(content)
    return path


def reshaped(path: Path, chunk: int, rows: int | None = None) -> Path:
    """Let all arrays of a cache claim another chunk, and as many rows."""
    for file in path.glob("*/zarr.json"):
        about = json.loads(file.read_text())
        if about["shape"] and file.parent.name != "class_text":
            grid = about["chunk_grid"]["configuration"]["chunk_shape"]
            grid[0] = chunk
            about["shape"][0] = rows or about["shape"][0]
            file.write_text(json.dumps(about))
    return path


def zipped(path: Path, method: int = zipfile.ZIP_STORED) -> Path:
    """Return a cache as a zip, deflated if asked."""
    target = path.with_suffix(".zip")
    write_zip(path, target)
    if method != zipfile.ZIP_STORED:
        with zipfile.ZipFile(target) as old, zipfile.ZipFile(path.parent / "d.zip", "w") as new:
            for name in old.namelist():
                new.writestr(name, old.read(name), method)
        return path.parent / "d.zip"
    return target


ZSTD: list[dict[str, Any]] = [{"name": "zstd", "configuration": {"level": 1, "checksum": False}}]
GZIP: list[dict[str, Any]] = [{"name": "gzip", "configuration": {"level": 5}}]
BLOSC: list[dict[str, Any]] = [{"name": "blosc", "configuration": {
    "cname": "zstd", "clevel": 1, "shuffle": "noshuffle", "typesize": 4, "blocksize": 0}}]  # fmt: skip
EMPTY = gzip.compress(b"", mtime=0)


def texts(count: int, claim: int | None = None) -> bytes:
    """Return a chunk of so many empty texts, or one that claims another number."""
    return struct.pack("<I", count if claim is None else claim) + bytes(4 * count)


def large_zip(folder: Path, count: int) -> Path:
    """Write a zip of empty entries, with a cache among them."""
    path = zipped(a_cache(folder))
    with zipfile.ZipFile(path, "a") as archive:
        for i in range(count):
            archive.writestr(f"text/{i}", b"")
    return path


def raw_file(folder: Path, name: str, content: bytes) -> Path:
    """Write a file."""
    (folder / name).write_bytes(content)
    return folder / name


def hdf5(folder: Path, fill: Callable[[h5py.File], Any]) -> Path:
    """Write an HDF5 file."""
    with h5py.File(folder / "x.h5", "w") as file:
        fill(file)
    return folder / "x.h5"


def aliased(folder: Path, rows: int = 4000, size: int = 1 << 20) -> Path:
    """Write an HDF5 file of many texts, all of which are the first one, a large one."""
    path = hdf5(folder, lambda f: f.create_dataset(
        "sample_id", data=["x" * size] + ["y"] * (rows - 1), dtype=h5py.string_dtype()))  # fmt: skip
    with h5py.File(path) as file:
        at = file["sample_id"].id.get_offset()
    content = bytearray(path.read_bytes())
    content[at : at + 16 * rows] = content[at : at + 16] * rows
    path.write_bytes(content)
    return path


def many_groups(file: h5py.File) -> None:
    for i in range(50_000):
        file.create_group(f"g{i}")


def matlab(folder: Path, kind: int, shape: tuple[int, int], claim: int) -> Path:
    """Write a MATLAB file of one array called d_skel of a class and a shape, without values."""
    body = struct.pack("<IIII", 6, 8, kind, 0) + struct.pack("<IIii", 5, 8, *shape)
    body += struct.pack("<II", 1, 6) + b"d_skel\0\0" + struct.pack("<II", 9, claim)
    return raw_file(
        folder,
        "x.mat",
        b"MATLAB".ljust(116) + bytes(8) + b"\0\1IM" + struct.pack("<II", 14, len(body)) + body,
    )


def tensors(folder: Path, count: int) -> Path:
    header = json.dumps({f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
                         for i in range(count)}).encode()  # fmt: skip
    return raw_file(folder, "x.safetensors", struct.pack("<Q", len(header)) + header)


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
    "IDs that claim 200,000,000, folder": (lambda f: a_cache(f, sample_id=texts(900, 200_000_000)), opened),
    "IDs that claim 200,000,000, zip": (lambda f: zipped(a_cache(f, sample_id=texts(900, 200_000_000))), opened),
    "chunk larger than the array": (lambda f: reshaped(a_cache(f, ZSTD, sample_id=Zstd().encode(texts(1 << 26))), 1 << 26), opened),
    "7,000,000 rows in chunks of 16": (lambda f: reshaped(a_cache(f), 16, 7_000_000), opened),
    "a billion rows": (lambda f: reshaped(a_cache(f), 1024, 10**9), opened),
    "zip of 300,000 empty entries": (lambda f: large_zip(f, 300_000), opened),
    "zip of 90,000 empty entries": (lambda f: large_zip(f, 90_000), opened),
    "encoder of 800,000 tensors": (lambda f: tensors(f, 800_000), lambda p: (is_own(p), read_metadata(p))),
    "CSV of 1,000,000 columns": (lambda f: raw_file(f, "m.csv", (",".join(f"c{i}" for i in range(10**6)) + "\n").encode()), Manifest.read),
    "manifest of 200,000 columns": (lambda f: raw_file(f, "m.csv", (MANY[:-1] + "".join(f",c{i}" for i in range(200_000)) + "\n").encode()), Manifest.read),
    "manifest of 64 MB of rows": (lambda f: raw_file(f, "m.csv", (MANY + "".join(f"{i},1,a,1\n" for i in range(4_500_000))).encode()), Manifest.read),
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
    "NTU recording of 63 MB": (lambda f: raw_file(f, "S001C001P001R001A001.skeleton", b"1 " * (30 << 20)), lambda p: ntu.parse(RawFolder(p.parent).read(p.name))),
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
        found: dict[str, Any] = json.loads(note.read_text())
        return found


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--case", default="", help="only cases with this in their name")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows, bad = [], 0
    for name, (make, action) in CASES.items():
        if arguments.case not in name:
            continue
        row = {"case": name, **measure(make, action)}
        row["holds"] = (
            row["ends"].startswith(("read", "refused"))
            and row.get("peak", MEMORY) < MEMORY
            and row.get("seconds", SECONDS) < SECONDS
        )
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
