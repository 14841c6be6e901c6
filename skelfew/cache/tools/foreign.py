"""Feature files of others, npz, npy and HDF5: read in blocks, believed in nothing, no pickle.

NumPy's headers are parsed here and the values read as plain bytes, so that no array is larger in
memory than a block, and an object array is refused before anything of it is looked at.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from skelfew.cache.format.checks import CacheError, brief
from skelfew.io.budget import ReadBudget, open_zip
from skelfew.io.files import BROKEN, Document
from skelfew.io.headers import read_header

BLOCK_BYTES = 1 << 24
_MAX_EXPANSION, _SLACK = 256, 1 << 20
_KINDS = {"f": "numbers", "U": "text", "S": "text"}


class Column(Protocol):
    """An array of a feature file: its shape as stored, and whether it holds text, not numbers."""

    shape: tuple[int, ...]
    text: bool

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield all rows in order, some at a time, (n, ...)."""
        ...


@dataclass(frozen=True)
class NumpyColumn:
    """An array in NumPy's format, in a file of its own or as the entry ``member`` of an npz."""

    path: Path
    member: str | None
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def text(self) -> bool:
        """Whether it holds text and not numbers."""
        return self.dtype.kind in "US"

    @classmethod
    def open(cls, path: Path, member: str | None, name: str) -> "NumpyColumn":
        """Read the header, compare it with the size; raise CacheError if it is no plain array."""
        where = f"{path}: {name}" if member else str(path)
        with _opened(path, member) as (file, size):
            try:
                shape, fortran, dtype = read_header(file)
                offset = file.tell()
            except BROKEN as error:
                raise CacheError(f"{where} is not a NumPy array ({brief(error)})") from None
        if dtype.hasobject:
            raise CacheError(
                f"{where} holds Python objects, which only pickle can read, and pickle can run "
                "code; save it as numbers, or np.array(ids, dtype=str)"
            )
        if dtype.kind not in _KINDS or dtype.itemsize == 0:
            raise CacheError(f"{where} is of type {dtype}; expected floats, or text for the IDs")
        if fortran and len(shape) > 1:
            raise CacheError(f"{where} is in Fortran order; save np.ascontiguousarray of it")
        if not shape or min(shape) < 0 or offset + math.prod(shape) * dtype.itemsize != size:
            raise CacheError(
                f"{where} claims shape {shape} of {dtype}, but holds {size - offset} bytes; damaged"
            )
        return cls(path, member, shape, dtype)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield all rows in order, some at a time, (n, ...)."""
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        step = max(BLOCK_BYTES // max(row, 1), 1)
        with _opened(self.path, self.member) as (file, _):
            read_header(file)
            for start in range(0, self.shape[0], step):
                count = min(step, self.shape[0] - start)
                try:
                    data = file.read(count * row)
                except BROKEN as error:
                    raise CacheError(f"{self.path}: damaged ({brief(error)})") from None
                if len(data) != count * row:
                    raise CacheError(f"{self.path}: ends in the middle of a row; damaged")
                yield np.frombuffer(data, dtype=self.dtype).reshape(count, *self.shape[1:])


@contextmanager
def _opened(path: Path, member: str | None) -> Iterator[tuple[IO[bytes], int]]:
    """Open an npy, or an entry of an npz whose size is believable; yield it and its size."""
    try:
        if member is None:
            with path.open("rb") as file:
                yield file, path.stat().st_size
            return
        with open_zip(path) as archive:
            info = archive.getinfo(member)
            if info.file_size > _MAX_EXPANSION * info.compress_size + _SLACK:
                raise CacheError(
                    f"{path}: {member} is {info.compress_size} bytes that would unpack to "
                    f"{info.file_size}; damaged, or made to harm"
                )
            ReadBudget(path, path.stat().st_size, CacheError).check(info.file_size, member)
            with archive.open(info) as entry:
                yield entry, info.file_size
    except CacheError:
        raise
    except BROKEN as error:
        raise CacheError(f"{path}: cannot be read ({brief(error)})") from None


@contextmanager
def columns(path: Path) -> Iterator[Document]:
    """Yield what opens each array of a feature file, by name; CacheError if of no known kind."""
    if not path.is_file():
        raise CacheError(f"{path}: no such file")
    kind = path.suffix.lower()
    if kind == ".npy":
        yield {"text": lambda: NumpyColumn.open(path, None, "text")}
    elif kind == ".npz":
        try:
            with open_zip(path) as archive:
                names = [n for n in archive.namelist() if n.endswith(".npy")]
        except BROKEN as error:
            raise CacheError(f"{path}: not a readable npz file ({brief(error)})") from None
        yield {
            n.removesuffix(".npy"): (
                lambda n=n: NumpyColumn.open(path, n, n.removesuffix(".npy"))
            )
            for n in names
        }  # fmt: skip
    elif kind in (".h5", ".hdf5"):
        from skelfew.cache.tools.foreign_hdf5 import hdf5_columns

        with hdf5_columns(path) as found:
            yield found
    else:
        raise CacheError(f"{path}: features are read from .npz, .npy, .h5 and .hdf5 files")


def texts(column: Column, where: str) -> list[str]:
    """Return a column of IDs as strings."""
    if not column.text or len(column.shape) != 1:
        raise CacheError(
            f"{where}: the IDs have shape {column.shape} and are no text; expected a text a sample"
        )
    found: list[str] = []
    for block in column.blocks():
        for value in block.tolist():
            found.append(value.decode("utf-8", "replace") if isinstance(value, bytes) else value)
    return found
