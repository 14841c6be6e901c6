"""The features of a cache for other programs."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from numpy.lib import format as npy

from skelfew.cache.format.checks import CacheError
from skelfew.cache.format.storage import DONE
from skelfew.cache.format.stored import StoredCache
from skelfew.errors import SkelfewError
from skelfew.io.budget import open_zip
from skelfew.io.files import BROKEN, Document, Values
from skelfew.io.writing import write_text, writing

_ROWS = 4096


def export_features(
    path: Path, out: Path, representation: str | None = None, overwrite: bool = False
) -> Document:
    """Write the finished rows of a cache for other programs; the ending of ``out`` says which kind.

    ``.npz`` and ``.h5`` get ``sample_id``, ``video``, ``text``, ``class_text`` and the provenance
    as JSON; ``.npy`` gets one array (n, V, D), ``f_v``, ``f_t`` or ``f_v+f_t``, and a text with
    IDs.
    """
    kind = out.suffix.lower()
    if kind not in (".npz", ".h5", ".hdf5", ".npy"):
        raise CacheError(f"{out}: features are written to .npz, .h5 and .npy files")
    if out.exists() and not overwrite:
        raise CacheError(f"{out}: exists already; name another file, or give --overwrite")
    ids_beside = out.with_suffix(".ids.txt")
    if not _is_ours(out, ids_beside, kind):
        raise CacheError(
            f"{out if out.exists() else ids_beside}: is not an export of skelfew-cache and will "
            "not be replaced; move it away, or name another file"
        )
    cache = StoredCache.open(path)
    rows = np.flatnonzero(cache.status == DONE)
    ids = [cache.ids[int(i)] for i in rows]
    about = json.dumps(cache.attrs, ensure_ascii=False)
    shape = (len(rows), *cache.shape[1:])
    with writing(out) as file:
        if kind == ".npy":
            _write_npy(cache, rows, shape, file, representation)
            write_text(ids_beside, "\n".join(ids) + "\n")
        else:
            arrays = {n: (shape, cache.dtype, _stored(cache, n, rows)) for n in cache.features}
            if cache.class_text is not None:
                arrays["class_text"] = (cache.class_text.shape, "float32", iter([cache.class_text]))
            if kind == ".npz":
                _write_npz(file, ids, arrays, about)
            else:
                from skelfew.cache.tools.foreign_hdf5 import write_hdf5

                write_hdf5(Path(file.name), ids, arrays, {"provenance": about})
    return {"file": str(out), "samples": len(rows), "bytes": out.stat().st_size}


def _is_ours(out: Path, ids_beside: Path, kind: str) -> bool:
    """Whether what would be replaced is nothing, or an earlier export of this kind."""
    if kind == ".npy" and not out.exists():
        return not ids_beside.exists()
    if not out.exists():
        return True
    try:
        if kind == ".npy":
            with out.open("rb") as file:
                return ids_beside.is_file() and file.read(6) == b"\x93NUMPY"
        if kind == ".npz":
            with open_zip(out) as archive:
                return "provenance.npy" in archive.namelist()
        from skelfew.data.hdf5 import open_file, read_attributes

        with open_file(out) as opened:
            return "provenance" in read_attributes(out, opened)
    except (SkelfewError, *BROKEN):
        return False


def _stored(cache: StoredCache, name: str, rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), _ROWS):
        yield cache.read(name, rows[start : start + _ROWS])


def _write_npy(
    cache: StoredCache, rows: np.ndarray, shape: tuple[int, ...], file: BinaryIO, wanted: str | None
) -> None:
    names = {"f_v": ["video"], "f_t": ["text"], "f_v+f_t": ["video", "text"]}
    chosen = names.get(wanted or ("f_v+f_t" if "video" in cache.features else "f_t"))
    if chosen is None or not set(chosen) <= set(cache.features):
        raise CacheError(f"{cache.path}: no representation {wanted!r}; it has {cache.features}")
    _header(file, shape, np.dtype("<f4"))
    for parts in zip(*(_stored(cache, n, rows) for n in chosen), strict=True):
        total = sum(p.astype(np.float32) for p in parts)
        file.write(np.ascontiguousarray(total, dtype="<f4").tobytes())


def _write_npz(out: BinaryIO, ids: list[str], arrays: Values, about: str) -> None:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, array in (("sample_id", np.array(ids)), ("provenance", np.array(about))):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                npy.write_array(file, array, allow_pickle=False)
        for name, (shape, dtype, blocks) in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                little = np.dtype(dtype).newbyteorder("<")
                _header(file, shape, little)
                for block in blocks:
                    file.write(np.ascontiguousarray(block, dtype=little).tobytes())


def _header(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> None:
    descr = npy.dtype_to_descr(dtype)
    npy.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
