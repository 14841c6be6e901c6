"""Nothing opened can harm: what is refused, with one clear error, in little memory."""

import gzip
import io
import json
import os
import shutil
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import zarr
from numcodecs import Blosc, GZip, Zstd
from safetensors.torch import save_file
from skelfew_extract.failures import Failures
from small_caches import filled
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from skelfew.cache import CacheError, TeacherCache
from skelfew.cache.format.stored import StoredCache
from skelfew.cache.format.zips import write_zip
from skelfew.cache.tools.pack import unpack
from skelfew.cache.transport import fetch
from skelfew.cache.transport.push import push
from skelfew.data.hdf5 import plain_dataset, read_values
from skelfew.data.manifest import Manifest, ManifestError, Sample, bad_id, file_name
from skelfew.data.protocols.files import ProtocolError, read_protocol
from skelfew.data.protocols.patterns import compiled
from skelfew.data.readers import Dropped, RawFolder, load_reader
from skelfew.data.store import Skeleton, SkeletonStore, StoreError
from skelfew.data.store_writer import SkeletonStoreWriter
from skelfew.errors import SkelfewError
from skelfew.fewshot import build_classifier
from skelfew.fewshot.trained import bind
from skelfew.io.budget import gunzip
from skelfew.io.files import brief, parse_json, read_text, shown
from skelfew.training.stages.bridge import load_bridge

BOMB = 60_000_000


def deflated(size: int, form: int = 15) -> bytes:
    """Compress so many zeros, a few at a time: zlib, or gzip with form 31."""
    packer = zlib.compressobj(9, zlib.DEFLATED, form)
    parts = [packer.compress(bytes(1_000_000)) for _ in range(size // 1_000_000)]
    return b"".join([*parts, packer.flush()])


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """No test here may need more than 50 MB, as far as Python and NumPy tell."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000_000


# Caches


@pytest.mark.parametrize("what", ["chunk", "folder", "metadata", "pipe"])
def test_a_cache_holds_files_only(tmp_path: Path, what: str) -> None:
    path = tmp_path / "c.zarr"
    filled(path)
    chunk, message = path / "text" / "c.0.0.0", "symbolic link"
    if what == "chunk":
        chunk.unlink()
        chunk.symlink_to("/dev/zero")
    elif what == "folder":
        shutil.move(path / "text", tmp_path / "elsewhere")
        (path / "text").symlink_to(tmp_path / "elsewhere")
    elif what == "metadata":
        (path / "text" / "zarr.json").unlink()
        (path / "text" / "zarr.json").symlink_to(path / "video" / "zarr.json")
    else:
        chunk.unlink()
        os.mkfifo(chunk)
        message = "no regular file"
    with pytest.raises(CacheError, match=message):
        TeacherCache.open(path)
    link = tmp_path / "here.zarr"
    filled(tmp_path / "d.zarr")
    link.symlink_to(tmp_path / "d.zarr")
    assert len(TeacherCache.open(link)) == 10, "the store itself may lie elsewhere"


def test_one_compressor_only(tmp_path: Path) -> None:
    path = tmp_path / "c.zarr"
    filled(path)
    file = path / "text" / "zarr.json"
    metadata = json.loads(file.read_text())
    metadata["codecs"] += [{"name": "gzip", "configuration": {"level": 1}}] * 2
    file.write_text(json.dumps(metadata))
    with pytest.raises(CacheError, match="compressed more than once"):
        TeacherCache.open(path)


def compressed(path: Path, codec: Any) -> Path:
    """Write the cache at ``path`` anew with another codec; return a chunk of its features."""
    old = zarr.open_group(path, mode="r")
    target = path.with_name("d.zarr")
    new = zarr.open_group(target, mode="w", zarr_format=3, attributes=dict(old.attrs))
    for name, array in old.arrays():
        made = new.create_array(
            name, shape=array.shape, chunks=array.chunks, dtype=array.dtype, compressors=codec
        )
        made[:] = array[:]
    return target / "text" / "c" / "0" / "0" / "0"


CODECS = [(ZstdCodec(), Zstd(9)), (GzipCodec(), GZip(9)), (BloscCodec(), Blosc())]


@pytest.mark.parametrize(("codec", "packer"), CODECS, ids=["zstd", "gzip", "blosc"])
@pytest.mark.parametrize("zipped", [False, True])
def test_compressed_chunks(tmp_path: Path, codec: Any, packer: Any, zipped: bool) -> None:
    """Good files are read; damaged ones and bombs are refused by name, before they are unpacked."""
    filled(tmp_path / "c.zarr")
    chunk = compressed(tmp_path / "c.zarr", codec)
    path, whole = tmp_path / "d.zarr", chunk.read_bytes()

    def opened() -> TeacherCache:
        if not zipped:
            return TeacherCache.open(path)
        (tmp_path / "d.zip").unlink(missing_ok=True)
        write_zip(path, tmp_path / "d.zip")
        return TeacherCache.open(tmp_path / "d.zip")

    assert np.array_equal(opened().text, TeacherCache.open(tmp_path / "c.zarr").text)
    for damaged in (whole[:-20], whole[:20] + bytes(len(whole) - 20), b"", bytes(3)):
        chunk.write_bytes(damaged)
        with pytest.raises(CacheError, match=r"d\.(zarr|zip).*damaged"):
            opened()
    chunk.write_bytes(packer.encode(np.zeros(BOMB // 12, np.uint8)))
    with pytest.raises(CacheError, match=r"text/c/0/0/0.*made to harm"):
        opened()
    with pytest.raises(CacheError, match=r"text/c/0/0/0.*made to harm"):
        StoredCache.open(tmp_path / "d.zip" if zipped else path).digest()


def test_a_chunk_without_end(tmp_path: Path) -> None:
    filled(tmp_path / "c.zarr")
    for name in ("sample_id/c.0", "text/c.0.0.0"):
        with (tmp_path / "c.zarr" / name).open("r+b") as file:
            file.truncate(1 << 40)
        with pytest.raises(CacheError, match=r"c\.zarr: .*damaged"):
            TeacherCache.open(tmp_path / "c.zarr")


def test_a_zip_whose_entries_have_other_names(tmp_path: Path) -> None:
    filled(tmp_path / "c.zarr")
    write_zip(tmp_path / "c.zarr", tmp_path / "c.zip")
    content = (tmp_path / "c.zip").read_bytes()
    (tmp_path / "c.zip").write_bytes(content.replace(b"text/c.0.0.0", b"text/c.0.0.1", 1))
    with pytest.raises(CacheError, match=r"c\.zip: damaged"):
        TeacherCache.open(tmp_path / "c.zip")


@pytest.mark.parametrize(
    "name", ["a//{}/x.pth", "a/../../x", "/{}/x", "a/./x", "a/b\\..\\x", "a//x"]
)
def test_a_zip_whose_entries_lead_out(name: str, tmp_path: Path) -> None:
    """One entry beside a sound cache in the folder ``a/``; nothing is written anywhere."""
    filled(tmp_path / "c.zarr")
    out = tmp_path / "abs"
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        for file in (tmp_path / "c.zarr").rglob("*"):
            if file.is_file():
                archive.write(file, f"a/{file.relative_to(tmp_path / 'c.zarr')}")
        archive.writestr(name.format(str(out)[1:]), b"import os")
    before = {p for p in tmp_path.rglob("*") if "c.zarr" not in str(p)}
    for action in (TeacherCache.open, unpack, lambda path: push(path, str(tmp_path / "to"))):
        with pytest.raises(CacheError, match=r"c\.zip: entry .* refused"):
            action(tmp_path / "c.zip")
    assert {p for p in tmp_path.rglob("*") if "c.zarr" not in str(p)} == before


def test_consolidated_metadata_are_not_believed(tmp_path: Path) -> None:
    filled(tmp_path / "c.zarr")
    zarr.consolidate_metadata(tmp_path / "c.zarr")
    file = tmp_path / "c.zarr" / "zarr.json"
    root = json.loads(file.read_text())
    root["consolidated_metadata"]["metadata"]["text"]["shape"][0] = 10**12
    file.write_text(json.dumps(root))
    assert len(TeacherCache.open(tmp_path / "c.zarr")) == 10


def test_a_download_of_unknown_length_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.zarr.zip").write_bytes(bytes(5000))
    monkeypatch.setattr(fetch, "length_of", lambda fs, place: None)
    monkeypatch.setattr(fetch, "_MOST_BYTES", 1000)
    with pytest.raises(CacheError, match="larger than the 1000 bytes"):
        fetch.pull(f"file://{tmp_path}/c.zarr.zip", tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


# IDs


@pytest.mark.parametrize(
    "sample_id",
    ["../x", "a/../../b", "/etc/passwd", "\\\\host\\x", "C:\\x", "a\0b", "a\nb", "a\u2028b",
     "x" * 600, "a\x1b[2Jb", "\ud800"],
)  # fmt: skip
def test_ids_that_lead_somewhere(tmp_path: Path, sample_id: str) -> None:
    assert bad_id(["fine", sample_id]) is not None
    with pytest.raises(ManifestError, match="sample_id"):
        Manifest("m", (Sample(sample_id, 1, "wave", 3),))
    assert "/" not in file_name(sample_id.replace("\ud800", "?"))


def test_ids_that_are_fine() -> None:
    assert bad_id(["S001C001P001R001A001", "ntu/a b", "übung..1", "a.b-c_d", "x" * 500]) is None
    assert len(file_name("é" * 400).encode()) <= 200


def test_a_cache_with_ids_that_climb_is_refused(tmp_path: Path) -> None:
    filled(tmp_path / "c.zarr")
    ids = zarr.open_group(tmp_path / "c.zarr", mode="r+")["sample_id"]
    ids[3] = "../../x"  # type: ignore[index]
    with pytest.raises(CacheError, match="leads out of its folder"):
        TeacherCache.open(tmp_path / "c.zarr")


# Raw recordings


def test_archives_that_unpack_to_too_much(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "raw.zip", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("S001C001P001R001A001.skeleton", "w") as file,
    ):
        for _ in range(BOMB // 1_000_000):
            file.write(bytes(1_000_000))
    raw = RawFolder(tmp_path / "raw.zip")
    with pytest.raises(SkelfewError, match="would unpack to"):
        raw.read("S001C001P001R001A001.skeleton")
    (tmp_path / "label").mkdir()
    (tmp_path / "label" / "0002-L.txt").write_text("8,1,2,1\n")
    (tmp_path / "0002-L.txt.gz").write_bytes(deflated(BOMB, 31))
    reader = load_reader("pku")
    (item,) = reader.read(RawFolder(tmp_path), "0002-L.txt.gz", reader.defaults)
    assert isinstance(item, Dropped) and "unpacks to more than" in item.reason


@pytest.mark.parametrize("size", [0, 1000, (1 << 20) - 1, 1 << 20, 5_000_000])
@pytest.mark.parametrize("members", [1, 3])
def test_gzip_of_any_size_and_of_several_members(size: int, members: int) -> None:
    packed = gzip.compress(bytes(size)) * members
    assert gunzip(packed, size * members) == bytes(size * members)
    with pytest.raises(EOFError):
        gunzip(packed[:-1], size * members)
    with pytest.raises(ValueError, match=r"unpacks to more than|members"):
        gunzip(gzip.compress(bytes(8 << 20)) * 10 + gzip.compress(b"") * 60_000, 8 << 20)


def test_a_matlab_file_that_unpacks_to_too_much(tmp_path: Path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    memory = io.BytesIO()
    savemat(memory, {"d_skel": np.ones((20, 3, 4))}, do_compression=True)
    packed = deflated(BOMB)
    bad = memory.getvalue()[:132] + len(packed).to_bytes(4, "little") + packed
    (tmp_path / "a3_s2_t4_skeleton.mat").write_bytes(bad)
    (item,) = load_reader("utd-mhad").read(RawFolder(tmp_path), "a3_s2_t4_skeleton.mat", {})
    assert isinstance(item, Dropped) and "unpacks to more than" in item.reason


# Skeleton stores


def test_skeleton_stores_lead_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    whole = tmp_path / "whole.h5"
    with SkeletonStoreWriter(whole, "joints-15", 15) as writer:
        writer.append("a", Skeleton(np.ones((1, 4, 15, 3))))

    def spoil(name: str) -> h5py.File:
        shutil.copy(whole, path)
        file = h5py.File(path, "r+")
        del file[name]
        return file

    with spoil("positions") as file:
        file["positions"] = h5py.ExternalLink(str(whole), "/positions")
    with pytest.raises(StoreError, match="is a link"):
        SkeletonStore(path)
    with spoil("positions") as file:
        layout = h5py.VirtualLayout((4, 15, 3), "<f4")
        layout[:] = h5py.VirtualSource(str(whole), "positions", (4, 15, 3))
        file.create_virtual_dataset("positions", layout)
    with pytest.raises(StoreError, match="other files"):
        SkeletonStore(path)
    with spoil("positions") as file:
        file.create_dataset("positions", (10**12, 15, 3), "<f4", chunks=(64, 15, 3))
    with pytest.raises(StoreError, match="claims shape"):
        SkeletonStore(path)
    with spoil("frames") as file:
        file["frames"] = np.array([-4])
    with pytest.raises(StoreError, match="frames are -4"):
        SkeletonStore(path)
    with spoil("sample_id") as file:
        file["sample_id"] = np.array(["../a"], dtype=object)
    with pytest.raises(StoreError, match="leads out"):
        SkeletonStore(path)


@pytest.mark.parametrize("packing", ["gzip", "lzf"])
@pytest.mark.parametrize(("count", "rows", "size"), [(1, 1 << 18, 6), (24, 1 << 12, 3)])
def test_chunks_of_hdf5_that_unpack_to_too_much(
    count: int, rows: int, size: int, packing: str, tmp_path: Path
) -> None:
    """One large chunk, and several that are small enough to be read uncounted one by one."""
    path, bomb = tmp_path / "m.h5", deflated(size * BOMB)
    if packing == "lzf":  # a byte, and copies of 264 bytes in three
        bomb = b"\0\0" + b"\xe0\xff\0" * (rows * 16 // 3 - 9)
    with h5py.File(path, "w") as file:
        made = file.create_dataset(
            "x", (count * rows, 4), "<f4", chunks=(rows, 4), compression=packing
        )
        for i in range(count):
            made.id.write_direct_chunk((i * rows, 0), bomb)
    with h5py.File(path, "r") as file, pytest.raises(SkelfewError, match=r"made to harm|possible"):
        plain_dataset(path, file, "x")


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("packing", ["gzip", "lzf", None])
def test_packed_values_of_hdf5_are_read(
    packing: str | None, checksum: bool, shuffle: bool, tmp_path: Path
) -> None:
    """Values that pack well, and values that lzf leaves unchanged."""
    draw = np.random.default_rng(0).integers(0, 1 << 32, (1 << 14, 8), dtype="u4").view("f4")
    values = np.concatenate([np.zeros((1 << 15, 8), "f4"), np.nan_to_num(draw)])
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset(
            "x",
            data=values,
            chunks=(1 << 14, 8),
            compression=packing,
            fletcher32=checksum,
            shuffle=shuffle,
        )
    with h5py.File(tmp_path / "m.h5") as file:
        found = read_values(tmp_path / "m.h5", plain_dataset(tmp_path / "m.h5", file, "x"))
    assert np.array_equal(found, values)


# Protocols and other texts


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|a)*", r"\w+.*.*x", "(?:ab)*", r"\d+\d+\d+\d+x", "a" * 501, "(", 7]
)
def test_patterns_that_run_for_ever(pattern: object) -> None:
    with pytest.raises(ValueError):
        compiled(pattern)


def test_zips_are_opened_in_one_place() -> None:
    """Their entries are counted there; writing is free."""
    found = [
        f"{path.name}: {line.strip()}"
        for folder in ("skelfew", "pipeline/skelfew_extract")
        for path in (Path(__file__).parents[1] / folder).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "zipfile.ZipFile(" in line and ', "w"' not in line
    ]
    assert found == ["budget.py: return zipfile.ZipFile(path)"]


def test_splits_by_the_million(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"dataset": "m", "splits": {"of": list(range(60)), "choose": 30}}))
    with pytest.raises(ProtocolError, match="too many splits"):
        read_protocol(path)


def test_texts() -> None:
    deep: Any = ()
    for _ in range(100):
        deep = (deep, deep)
    assert len(shown(deep)) <= 160
    assert brief("a\x1b[2Jb\nc") == "a?[2Jb"
    with pytest.raises(ValueError, match="nested"):
        parse_json("[" * 100_000)
    with pytest.raises(ValueError):
        parse_json('"\\ud800"')
    with pytest.raises(OSError, match="regular"):
        read_text(Path("/dev/zero"))


def test_lists_of_failures(tmp_path: Path) -> None:
    path = tmp_path / "c.failures.csv"
    for content in (b"sample_id,stage,message\n\xff,a,b\n", b"sample_id\n" + bytes(200_000)):
        path.write_bytes(content)
        with pytest.raises(SkelfewError, match="not a readable list of failures"):
            Failures.beside(tmp_path / "c.zarr", ["a"])
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(SkelfewError, match="not a regular file"):
        Failures.beside(tmp_path / "c.zarr", ["a"])


@pytest.mark.parametrize("about", [
    None, "{", "[]", "{}", '{"layers": {"skeleton": [["linear", "a", 2, true]], "teacher": []}}',
    '{"layers": {"skeleton": [["linear", 1000000, 10000000, true]], "teacher": []}}',
    '{"layers": {"skeleton": [[]], "teacher": []}}', '{"layers": {"skeleton": 1, "teacher": 2}}',
])  # fmt: skip
def test_bridges_of_others(tmp_path: Path, about: str | None) -> None:
    path, about_it = tmp_path / "b.safetensors", {} if about is None else {"about": about}
    header = {"format": "skelfew-bridge", "format_version": "1", **about_it}
    save_file({"skeleton.0.weight": torch.ones(2, 2)}, path, header)
    with pytest.raises(SkelfewError, match=r"b\.safetensors: damaged"):
        load_bridge(path)
    for number in ("", "x", "2", "²", "1" * 10):
        save_file({}, path, {"format": "skelfew-bridge", "format_version": number})
        with pytest.raises(SkelfewError, match=r"b\.safetensors: format.version"):
            load_bridge(path)


@pytest.mark.parametrize("head", [
    None, "{", "[]", '{"name": 1}', '{"name": "protonet", "settings": [], "width": 1}',
    '{"name": "protonet", "settings": {}, "width": 1000000000}',
])  # fmt: skip
def test_heads_of_others(tmp_path: Path, head: str | None) -> None:
    path = tmp_path / "head.safetensors"
    about = {} if head is None else {"head": head}
    save_file({"x": torch.ones(1)}, path, {"format": "skelfew-head", **about})
    with pytest.raises(SkelfewError, match=r"head\.safetensors: damaged"):
        bind(build_classifier("protonet"), path)
