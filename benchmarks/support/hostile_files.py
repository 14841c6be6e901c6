"""Hostile files of up to 64 MB: caches, manifests, HDF5, MATLAB, encoders, recordings, runs."""

# ruff: noqa: E501  the cases are a table

import gzip
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
from numcodecs import Zstd

from skelfew.cache.format.zips import write_zip

ROWS = 65_536


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


def big(folder: Path, codecs: list[dict[str, Any]], **chunks: bytes) -> Path:
    """As ``a_cache``, with one chunk of 65,536 sound IDs and of 65,536 rows of 512 numbers."""
    names = b"".join(struct.pack("<I", 8) + f"{i:08}".encode() for i in range(ROWS))
    path = a_cache(folder, codecs, **{n: c for n, c in chunks.items() if n != "sample_id"})
    for file in path.glob("*/zarr.json"):
        about = json.loads(file.read_text())
        name, shape = file.parent.name, [ROWS, *about["shape"][1:-1]]
        if name in ("video", "text"):
            shape.append(512)
        if name in chunks or name in ("sample_id", "status"):
            content = {
                "sample_id": struct.pack("<I", ROWS) + names,
                "status": b"\1" * ROWS,
            } | chunks
            next(file.parent.glob("c*")).write_bytes(content[name])
            if name not in chunks or name == "sample_id":
                plain = [c for c in about["codecs"] if c["name"] in ("bytes", "vlen-utf8")]
                about["codecs"] = plain + (codecs if name in chunks else [])
        elif name != "class_text":
            next(file.parent.glob("c*")).unlink()
        if name != "class_text":
            about["shape"] = shape
            about["chunk_grid"]["configuration"]["chunk_shape"] = shape
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


def cells(folder: Path) -> Path:
    """Write a folder of one MATLAB recording that claims cells without end."""
    (folder / "raw").mkdir()
    matlab(folder, 1, (20_000, 20_000), 0).rename(folder / "raw" / "a1_s1_t1_skeleton.mat")
    return folder / "raw"


def wide(folder: Path) -> Path:
    """Write a manifest of a million columns."""
    return raw_file(folder, "m.csv", (",".join(f"c{i}" for i in range(10**6)) + "\n").encode())
