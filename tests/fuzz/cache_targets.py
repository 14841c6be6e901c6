"""Fuzz targets: caches, in every form in which they reach somebody."""

import io
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h5py
import numpy as np
import zarr
from edits import Draw, Files, edited, edited_tree, hostile, nasty
from engine import Target
from h5_edits import edited_h5
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from skelfew.cache import DONE, CacheWriter, TeacherCache
from skelfew.cache.format.history import carried, step, steps_of
from skelfew.cache.format.stored import StoredCache
from skelfew.cache.format.zips import write_zip
from skelfew.cache.tools.card import card, lines
from skelfew.cache.tools.compare import compare
from skelfew.cache.tools.exporting import export_features
from skelfew.cache.tools.foreign import columns, texts
from skelfew.cache.tools.importing import Origin, Source, import_features
from skelfew.cache.tools.merge import merge, subset
from skelfew.cache.tools.pack import pack, unpack
from skelfew.cache.tools.verify import verify
from skelfew.cache.transport.fetch import pull
from skelfew.cache.transport.places import Place
from skelfew.data.manifest import Manifest, Sample
from skelfew.runs.cache_fit import about

GOLDEN = Path(__file__).parents[1] / "data" / "caches" / "v1"
DIM, ROWS = 4, 20
IDS = [f"sample_{i:03}" for i in range(ROWS)]
MANIFEST = Manifest(
    "world", tuple(Sample(name, i % 2 + 1, f"class {i % 2}", 5) for i, name in enumerate(IDS))
)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


@cache
def stores() -> list[Files]:
    """Golden stores, and one of 20 rows as it is and in each compression."""
    found: list[Files] = [files_of(GOLDEN / "plain.zarr"), files_of(GOLDEN / "text.zarr")]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "c.zarr"
        write_cache(path)
        found.append(files_of(path))
        for codec in (ZstdCodec(), GzipCodec(), BloscCodec()):
            found.append(files_of(recompressed(path, path.with_name("d.zarr"), codec)))
    return found


def write_cache(path: Path) -> None:
    provenance = {
        "dataset": "world",
        "manifest_sha256": MANIFEST.sha256,
        "skeletons_digest": None,
        "teacher": {"name": "teacher", "weights_sha256": "c" * 64, "mean": [0.1, 0.2], "dim": DIM},
        "preprocessing": {"crop": "joints", "margin": 0.15},
        "classes": [{"class_id": 1, "label": "class 0"}, {"class_id": 2, "label": "class 1"}],
        "shard": {"index": 1, "of": 2},
        "licence_note": "ask",
        "zarr_conventions": [{"uuid": "x"}],
        "provenance:steps": [step("extract", {"crop": "joints"}, [{"name": "a", "digest": None}])],
    }
    values = np.random.default_rng(0).normal(size=(ROWS, 1, DIM)).astype(np.float32)
    with CacheWriter.create_or_resume(
        path, IDS, dim=DIM, provenance=provenance, class_text=np.eye(2, DIM)
    ) as writer:
        writer.write(slice(0, ROWS), values, values, np.full(ROWS, DONE, np.uint8))
        writer.finish()


def recompressed(path: Path, target: Path, codec: Any) -> Path:
    old = zarr.open_group(path, mode="r")
    new = zarr.open_group(target, mode="w", zarr_format=3, attributes=dict(old.attrs))
    for name, array in old.arrays():
        made = new.create_array(
            name, shape=array.shape, chunks=array.chunks, dtype=array.dtype, compressors=codec
        )
        made[:] = array[:]
    return target


@cache
def zips() -> list[Files]:
    found: list[Files] = []
    with tempfile.TemporaryDirectory() as scratch:
        for i, files in enumerate(stores()[2:4]):
            folder = Path(scratch) / str(i)
            for name, content in files.items():
                assert isinstance(content, bytes)
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
            write_zip(folder, Path(scratch) / "c.zip")
            found.append({"c.zarr.zip": (Path(scratch) / "c.zip").read_bytes()})
    return found


@st.composite
def more_members(draw: Draw) -> Files:
    """Things that a store of version 2 or another program would have in a folder."""
    name = draw(st.sampled_from(("text", "video", "status", "sample_id", "other", "")))
    old = {
        "zarr_format": 2, "shape": [ROWS, 1, DIM], "chunks": [ROWS, 1, DIM], "dtype": "|O",
        "fill_value": None, "order": "C", "compressor": None, "filters": [{"id": "pickle"}],
    }  # fmt: skip
    before = f"{name}/" if name else ""
    return draw(st.sampled_from((
        {f"{before}.zarray": json.dumps(old).encode(), f"{before}0.0.0": b"cos\nsystem\n."},
        {f"{before}.zgroup": b'{"zarr_format": 2}'},
        {f"{before}c/0/0/0": bytes(5_000_000)},
        {f"{before}c/9/9/9": b"x"},
        {f"{before}x.partial": b"x"},
    )))  # fmt: skip


def use_store(folder: Path, out: Path) -> None:
    cache_ = TeacherCache.open(folder)
    for representation in cache_.representations:
        cache_.targets(list(cache_.row), representation, "unit")
    about(cache_)
    lines(card(folder))
    verify(folder, MANIFEST)


def use_zip(folder: Path, out: Path) -> None:
    path = folder / "c.zarr.zip"
    TeacherCache.open(path)
    unpack(path, out / "c.zarr")


def use_commands(folder: Path, out: Path) -> None:
    """What skelfew-cache does with a cache of somebody else and one of one's own."""
    own = out / "own.zarr"
    write_cache(own)
    subset(folder, out / "few.zarr", IDS[:3])
    compare(folder, own)
    export_features(folder, out / "x.npz")
    merge([own, folder], out / "both.zarr")
    pack(folder, out / "c.zip")


def use_address(folder: Path, out: Path) -> None:
    pull(f"file://{folder.absolute()}", out / "c.zarr")


@cache
def feature_files() -> list[Files]:
    values = np.random.default_rng(0).normal(size=(ROWS, DIM)).astype(np.float32)
    npz, npy, h5 = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(npz, ids=np.array(IDS), text=values, video=values, class_text=np.eye(2, DIM))
    np.save(npy, values)
    with h5py.File(h5, "w") as file:
        file["ids"] = np.array(IDS, dtype=object)
        file["group/ids"] = np.array(IDS, dtype="S")
        file.create_dataset("text", data=values, chunks=(7, DIM), compression="gzip", shuffle=True)
        file.create_dataset("video", data=values[:, None])
    names = "\n".join(IDS).encode()
    return [{"f.npz": npz.getvalue()}, {"f.npy": npy.getvalue(), "ids.txt": names},
            {"f.h5": h5.getvalue()}]  # fmt: skip


@st.composite
def hostile_features(draw: Draw) -> Files:
    files = dict(draw(hostile(feature_files)))
    content = files.get("f.h5")
    if isinstance(content, bytes) and draw(st.integers(0, 3)):
        files["f.h5"] = draw(edited_h5(content, spared=()))
    return files


def use_features(folder: Path, out: Path) -> None:
    for path in sorted(folder.glob("f.*")):
        listed = str(folder / "ids.txt") if path.suffix == ".npy" else None
        origin = Origin("t", "w")
        if path.suffix != ".npy":
            with columns(path) as found:
                for name in list(found)[:50]:
                    try:
                        column = found[name]()
                    except ValueError:
                        continue
                    if column.text:
                        texts(column, name)
        import_features(Source(path, ids=listed), out / "c.zarr", MANIFEST, origin)


@st.composite
def hostile_address(draw: Draw) -> Files:
    valid = draw(st.sampled_from((
        "https://user:pw@host.org/a/pku.zarr?sig=1#digest=" + "a" * 64, "s3://bucket/a/c.zarr.zip",
        "ssh://me@lab:22/~/caches/pku.zarr", "file:///a/b", "cache/pku.zarr", "http://[::1]:80/x",
    )))  # fmt: skip
    if draw(st.integers(0, 5)) == 0:
        text = draw(nasty())
        valid = text if isinstance(text, str) else str(text)
    return {"address": edited(draw, valid.encode("utf-8", "surrogatepass"))}


def use_place(folder: Path, out: Path) -> None:
    place = Place.of((folder / "address").read_bytes().decode("utf-8", "replace"))
    parts = urlsplit(place.shown)  # in a path whatever was typed may be repeated
    assert place.kind == "file" or ("pw@" not in parts.netloc and "sig=" not in parts.query)
    assert "/" not in place.name and "/" not in place.key
    place.file("zarr.json")


@st.composite
def hostile_attributes(draw: Draw) -> Files:
    root = stores()[2]["zarr.json"]
    assert isinstance(root, bytes)
    attrs = json.loads(root)["attributes"]
    return {"attrs.json": json.dumps(edited_tree(draw, attrs, 4)).encode()}


def use_attributes(folder: Path, out: Path) -> None:
    attrs = json.loads((folder / "attrs.json").read_bytes())
    if not isinstance(attrs, dict):
        return
    steps_of(attrs)
    json.dumps(carried(attrs, step("merge")))
    root = json.loads(stores()[2]["zarr.json"])  # type: ignore[arg-type]
    for name, content in stores()[2].items():
        path = out / "c.zarr" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert isinstance(content, bytes)
        path.write_bytes(content)
    (out / "c.zarr" / "zarr.json").write_text(json.dumps({**root, "attributes": attrs}))
    about(TeacherCache.open(out / "c.zarr"))
    lines(card(out / "c.zarr"))
    StoredCache.open(out / "c.zarr").digest()


TARGETS = [
    Target("cache-store", hostile(stores, more_members()), use_store, stores),
    Target("cache-zip", hostile(zips), use_zip, zips),
    Target("cache-commands", hostile(stores, more_members()), use_commands, stores),
    Target("cache-fetch", hostile(stores, more_members()), use_address, stores),
    Target("cache-attributes", hostile_attributes(), use_attributes, stores),
    Target("cache-import", hostile_features(), use_features, feature_files),
    Target("address", hostile_address(), use_place),
]
