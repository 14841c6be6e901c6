"""Row numbers by sample ID, without a Python string for each of them until they are needed."""

import string
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np

from skelfew.cache.format.checks import ID_BYTES
from skelfew.cache.format.storage import Array, chunks_of, ids_of

# Bytes of IDs that need no further look: no control character, and no part of a path.
_HARMLESS = (string.ascii_letters + string.digits + "_-").encode()
_SMALL = 16  # a dictionary pays once more than this part of the rows has been looked up


class SampleRows(Mapping[str, int]):
    """A mapping from sample ID to row number; IDs are strings, or uint8 (n, L), ascending.

    IDs of one length that ascend, as those of NTU RGB+D do, stay the bytes they are on disk and are
    found by bisection; a dictionary of strings, which takes as long to make as a third of the
    features to read, is made when many have been asked for, or all.
    """

    def __init__(self, names: Sequence[str] | np.ndarray):
        self._packed = names if isinstance(names, np.ndarray) else None
        self._strings = None if isinstance(names, np.ndarray) else list(names)
        self._asked = 0

    def only(self, rows: np.ndarray) -> "SampleRows":
        """Return the mapping of the given rows, ascending, numbered anew."""
        if self._packed is not None:
            return SampleRows(np.ascontiguousarray(self._packed[rows]))
        return SampleRows(self.names(rows))

    def names(self, rows: np.ndarray) -> list[str]:
        """Return the IDs of rows."""
        if self._packed is not None:
            return _decoded(self._packed[rows])
        strings = self._strings or []
        return [strings[row] for row in rows.tolist()]

    def find(self, names: Sequence[str]) -> np.ndarray:
        """Return the row of each ID, int64 (n,); raise KeyError if one is not there."""
        self._asked += len(names)
        if self._packed is None or self._asked * _SMALL > len(self._packed):
            return np.fromiter(map(self._numbers.__getitem__, names), np.int64, len(names))
        length = self._packed.shape[1]
        if set(map(len, names)) - {length}:
            raise KeyError("another length")
        wanted = np.frombuffer("".join(names).encode("ascii", "replace"), f"S{length}")
        stored = self._packed.view(f"S{length}")[:, 0]
        rows = np.searchsorted(stored, wanted)
        if (stored[np.minimum(rows, len(stored) - 1)] != wanted).any():
            raise KeyError("another ID")
        return rows

    @cached_property
    def _numbers(self) -> dict[str, int]:
        strings = self._strings or [] if self._packed is None else _decoded(self._packed)
        return dict(zip(strings, range(len(strings)), strict=True))

    def __getitem__(self, name: str) -> int:
        return self._numbers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._strings or ()) if self._packed is None else len(self._packed)


def _decoded(packed: np.ndarray) -> list[str]:
    length = packed.shape[1]
    text = packed.tobytes().decode("ascii")
    return [text[start : start + length] for start in range(0, len(text), length)]


def rows_of(arrays: Mapping[str, Array]) -> SampleRows:
    """Return the row number of each sample ID, in stored order; raise CacheError as ``ids_of``."""
    packed = chunks_of(arrays["sample_id"]).packed(arrays["sample_id"].shape[0])
    if packed is not None and _ascend(packed):
        return SampleRows(packed)
    return SampleRows(ids_of(arrays))


def _ascend(packed: np.ndarray) -> bool:
    """Whether IDs of one length are beyond doubt different and none of them ``bad_id``."""
    if not 0 < packed.shape[1] <= ID_BYTES or packed.tobytes().translate(None, _HARMLESS):
        return False
    names = packed.view(f"S{packed.shape[1]}")[:, 0]
    return bool((names[1:] > names[:-1]).all())
