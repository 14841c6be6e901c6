"""Preprocessed NTU RGB+D as CTR-GCN and its descendants keep it: ``NTU60_CS.npz`` and the like.

``x_train`` and ``x_test`` are (N, 300, 150): frames, 2 bodies x 25 joints x xyz, centred, padded
with zeros; ``y_*`` are one-hot. Names of samples are lost, so IDs are ``train_00000``, ... by
position. Arrays are read in slices: these files do not fit into every memory.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from skelfew.data.facts import name_of, names_from
from skelfew.data.manifest import Sample
from skelfew.data.readers import Dropped, Options, RawFolder, Reader, Recording
from skelfew.data.readers.ntu import preprocessing
from skelfew.data.store import Skeleton
from skelfew.errors import SkelfewError
from skelfew.io.budget import open_zip
from skelfew.io.files import BROKEN, brief, check_file, check_member
from skelfew.io.headers import read_header

_SLICE = 64  # samples read at a time, fewer if they are large
_SLICE_BYTES = 1 << 25
_MOST_BYTES = 1 << 24  # of one sample
_MOST_LABELS = 1 << 28  # bytes; those of NTU RGB+D 120 are 110 million
_COLUMNS = 2 * 25 * 3


def sources(raw: RawFolder, options: Options) -> list[str]:
    """List the arrays of samples, ``x_train`` and ``x_test``."""
    names_from(str(options["names"]), "")
    path = _path(raw)
    if path is None:
        return []
    try:
        check_file(path, most=None)
        with open_zip(path) as file:
            names = set(file.namelist())
    except BROKEN as error:
        raise SkelfewError(f"{path}: unreadable npz file ({brief(error)})") from None
    found = [n for n in ("x_train", "x_test") if f"{n}.npy" in names]
    for name in found:
        if f"y{name[1:]}.npy" not in names:
            raise SkelfewError(f"{path}: holds {name} but no y{name[1:]}")
    return found


def _path(raw: RawFolder) -> Path | None:
    if raw.path.is_file():
        return raw.path
    found = sorted(raw.path.glob("*.npz"))
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        raise SkelfewError(f"{raw.path}: more than one npz file ({names}); name one with --raw")
    return found[0] if found else None


def read(raw: RawFolder, source: str, options: Options) -> Iterator[Recording | Dropped]:
    """Read all samples of ``x_train`` or ``x_test``."""
    path = _path(raw)
    assert path is not None
    part, count = source.removeprefix("x_"), 0
    try:
        labels = _class_ids(path, f"y_{part}")
        names = names_from(str(options["names"]), "ntu")
        for count, values in enumerate(_slices(path, source, len(labels)), start=1):
            name = f"{part}_{count - 1:05}"
            number = int(labels[count - 1])
            try:
                positions = unpadded(values)
                sample = Sample(name, number, name_of(names, number), positions.shape[1])
            except SkelfewError as error:
                yield Dropped(name, source, str(error))
                continue
            yield Recording(sample, Skeleton(positions))
    except SkelfewError as error:
        yield Dropped(part, source, str(error))
    except BROKEN as error:
        yield Dropped(f"{part}_{count:05}", source, f"truncated or damaged: {brief(error)}")


def _open(file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Read an array's header; arrays of objects, which would be pickles, are refused."""
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject or fortran or dtype.kind not in "fiub":
        raise SkelfewError(f"{name} is an array of {dtype}, expected plain numbers in C order")
    return shape, dtype


def _class_ids(path: Path, name: str) -> np.ndarray:
    """Return class numbers from 1, (N,)."""
    with open_zip(path) as archive, archive.open(f"{name}.npy") as file:
        check_member(archive.getinfo(f"{name}.npy"))
        shape, dtype = _open(file, name)
        if math.prod(shape) * dtype.itemsize > _MOST_LABELS:
            raise SkelfewError(f"{name} has shape {shape}: no labels of an absurd size")
        labels = np.frombuffer(file.read(), dtype=dtype).reshape(shape)
    if labels.ndim not in (1, 2) or 0 in labels.shape or not np.isfinite(labels).all():
        raise SkelfewError(f"{name} has shape {shape} or values that are no numbers")
    return (labels.argmax(axis=1) if labels.ndim == 2 else labels.astype(int)) + 1


def _slices(path: Path, name: str, count: int) -> Iterator[np.ndarray]:
    """Yield samples (T, 150) one by one."""
    with open_zip(path) as archive, archive.open(f"{name}.npy") as file:
        shape, dtype = _open(file, name)
        if len(shape) != 3 or shape[2] != _COLUMNS or shape[0] != count:
            expected = f"({count}, frames, {_COLUMNS})"
            raise SkelfewError(f"{name} has shape {shape}, expected {expected}")
        if min(shape) < 1 or shape[1] * _COLUMNS * dtype.itemsize > _MOST_BYTES:
            raise SkelfewError(f"{name} has shape {shape}: no samples of an absurd size")
        size = shape[1] * shape[2] * dtype.itemsize
        step = max(1, min(_SLICE, _SLICE_BYTES // size))
        for start in range(0, count, step):
            wanted = min(step, count - start)
            content = file.read(wanted * size)
            if len(content) < wanted * size:
                raise EOFError(f"{name} ends early")
            yield from np.frombuffer(content, dtype=dtype).reshape(wanted, *shape[1:])


def unpadded(values: np.ndarray) -> np.ndarray:
    """Return joints (M, T, 25, 3) float32 of a padded sample (T, 150).

    Zero frames at the end go; so does a second body that is empty (NTU-60) or a copy (NTU-120).
    """
    positions = values.astype(np.float32).reshape(-1, 2, 25, 3).transpose(1, 0, 2, 3)
    shown = np.flatnonzero(positions.any(axis=(0, 2, 3)))
    if not len(shown):
        raise SkelfewError("all frames are zero")
    positions = positions[:, : shown[-1] + 1]
    second = positions[1]
    if not second.any() or np.array_equal(second, positions[0]):
        positions = positions[:1]
    return positions


READER = Reader(
    name="ctrgcn-npz",
    layout="kinect-v2",
    sources=sources,
    read=read,
    defaults={"names": "auto"},
    preprocessing=preprocessing,
)
