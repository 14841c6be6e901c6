"""Feature files in HDF5: plain datasets of the file itself, no links, no data elsewhere."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from skelfew.cache.format.checks import CacheError, brief
from skelfew.data.hdf5 import is_text, open_file, plain_dataset, read_values
from skelfew.errors import SkelfewError
from skelfew.io.budget import ReadBudget
from skelfew.io.files import Document, Values

_BLOCK_BYTES = 1 << 24


@dataclass(frozen=True)
class Hdf5Column:
    """A dataset, as h5py gives it; its shape, and whether it holds text, not numbers."""

    path: Path
    dataset: h5py.Dataset
    shape: tuple[int, ...]
    text: bool

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield all rows in order, some at a time, (n, ...)."""
        row = max(math.prod(self.shape[1:]) * max(self.dataset.dtype.itemsize, 1), 1)
        step = max(_BLOCK_BYTES // row, 1)
        for start in range(0, self.shape[0], step):
            try:
                block = read_values(self.path, self.dataset, slice(start, start + step))
            except SkelfewError as error:
                raise CacheError(str(error)) from None
            yield block


@contextmanager
def hdf5_columns(path: Path) -> Iterator[Document]:
    """Open an HDF5 file and yield what opens each dataset, by its path in the file."""
    try:
        file = open_file(path)
    except (SkelfewError, OSError) as error:
        raise CacheError(brief(error)) from None
    with file:
        yield _Lazy(path, file)


class _Lazy(Document):
    """The datasets of a file by name; a name is only followed when it is asked for."""

    def __init__(self, path: Path, file: h5py.File):
        super().__init__()
        try:
            names = list(_names(file, ReadBudget(path, path.stat().st_size, CacheError)))
        except CacheError:
            raise
        except Exception as error:  # the library is handed whatever the file holds
            raise CacheError(f"{path}: not a readable HDF5 file ({brief(error)})") from None
        for name in names:
            self[name] = lambda name=name: open_dataset(path, file, name)


def _names(
    group: h5py.Group, budget: ReadBudget, before: str = "", depth: int = 0
) -> Iterator[str]:
    budget.count("groups and arrays", len(group))
    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            yield before + name  # so that asking for it says why not
            continue
        kind = group.get(name, getclass=True)
        if kind is h5py.Dataset:
            yield before + name
        elif kind is h5py.Group and depth < 4:
            yield from _names(group[name], budget, f"{before}{name}/", depth + 1)


def open_dataset(path: Path, file: h5py.File, name: str) -> Hdf5Column:
    """Return a dataset after checking that its data are in this file and of a believable size."""
    try:
        node = plain_dataset(path, file, name)
    except SkelfewError as error:
        raise CacheError(str(error)) from None
    text = is_text(node)
    if not text and node.dtype.kind != "f":
        raise CacheError(f"{path}: {name} is of type {node.dtype}; expected floats or text")
    return Hdf5Column(path, node, tuple(node.shape), text)


def write_hdf5(path: Path, ids: list[str], arrays: Values, attrs: Mapping[str, str]) -> None:
    """Write sample IDs, and arrays by name as (shape, dtype, blocks of rows), to an HDF5 file."""
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "sample_id", data=np.array(ids, dtype=object), dtype=h5py.string_dtype()
        )
        for name, (shape, dtype, blocks) in arrays.items():
            dataset, start = file.create_dataset(name, shape=shape, dtype=dtype), 0
            for block in blocks:
                dataset[start : start + len(block)] = block
                start += len(block)
        file.attrs.update(attrs)
