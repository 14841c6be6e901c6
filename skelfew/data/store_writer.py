"""Writing a skeleton store, sample by sample."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np

from skelfew.data.joints.layouts import LAYOUTS, Layout
from skelfew.data.prepare.packing import FILTERS, PackedRows
from skelfew.data.store import (
    BUFFER_ROWS,
    CHUNK_ROWS,
    FORMAT,
    FORMAT_VERSION,
    Skeleton,
    StoreError,
    update_digest,
)
from skelfew.io.vouched import vouch
from skelfew.io.writing import writing


class SkeletonStoreWriter:
    """Writes a store sample by sample; the file appears under its name only when complete.

    Args:
        channels: C, 3 for metres, 2 or 3 (with confidence) for pixels.
        pixels: Whether joint positions in the video are stored too.
        attrs: Further attributes, e.g. dataset and reader options.
        compress: Whether to compress; temporary stores need not.
    """

    def __init__(
        self,
        path: str | Path,
        layout: Layout | str,
        joints: int,
        channels: int = 3,
        pixels: bool = False,
        attrs: Mapping[str, str | int | float] | None = None,
        compress: bool = True,
        threads: int = 1,
    ):
        self.path = Path(path)
        self._compress = compress
        self._pool = ThreadPoolExecutor(threads) if compress and threads > 1 else None
        self._whole = ExitStack()
        partial = self._whole.enter_context(writing(self.path)).name
        self._file = h5py.File(partial, "w")
        self._file.attrs.update({"format": FORMAT, "format_version": FORMAT_VERSION})
        self._file.attrs.update(_describe(layout))
        self._file.attrs.update(attrs or {})
        self._ids: list[str] = []
        self._frames: list[int] = []
        self._bodies: list[int] = []
        self._digest = hashlib.sha256()
        self._positions = self._dataset("positions", joints, channels)
        self._pixels = self._dataset("pixels", joints, 2) if pixels else None
        packed = [d for d in (self._positions, self._pixels) if d is not None and compress]
        self._packed = {d.name: PackedRows(d, self._pool) for d in packed}
        self._waiting: list[Skeleton] = []
        self._waiting_rows = 0

    def _dataset(self, name: str, joints: int, channels: int) -> h5py.Dataset:
        return self._file.create_dataset(
            name,
            shape=(0, joints, channels),
            maxshape=(None, joints, channels),
            chunks=(CHUNK_ROWS, joints, channels),
            dtype="float32",
            **(FILTERS if self._compress else {}),
        )

    def __enter__(self) -> "SkeletonStoreWriter":
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is not None:
            self._end_threads()
            self._file.close()
            self._whole.__exit__(*error)  # type: ignore[arg-type]
            return
        self._flush()
        for rows in self._packed.values():
            rows.finish()
        self._end_threads()
        text = h5py.string_dtype()
        self._file.create_dataset("sample_id", data=np.array(self._ids, dtype=object), dtype=text)
        self._file.create_dataset("frames", data=np.array(self._frames, dtype=np.int32))
        self._file.create_dataset("bodies", data=np.array(self._bodies, dtype=np.uint8))
        self._file.attrs["digest"] = self.digest
        self._file.close()
        self._whole.close()
        if self._compress:  # others are parts that are put together and removed
            vouch(self.path, self.digest)

    @property
    def digest(self) -> str:
        """Digest of the samples appended so far."""
        return self._digest.hexdigest()

    def append(self, sample_id: str, skeleton: Skeleton) -> None:
        """Add one sample; positions must be (M, T, V, C) with the store's V and C."""
        positions = np.array(skeleton.positions, dtype=np.float32, order="C")  # a copy: it waits
        expected = self._positions.shape[1:]
        if positions.ndim != 4 or positions.shape[2:] != expected or 0 in positions.shape:
            raise StoreError(
                f"{sample_id}: positions have shape {positions.shape}, expected "
                f"(bodies, frames, {expected[0]}, {expected[1]}) and none of them 0"
            )
        pixels = None
        if self._pixels is not None:
            pixels = np.full((*positions.shape[:3], 2), np.nan, dtype=np.float32)
            if skeleton.pixels is not None:
                if skeleton.pixels.shape != pixels.shape:
                    raise StoreError(
                        f"{sample_id}: pixels have shape {skeleton.pixels.shape}, expected "
                        f"{pixels.shape} like the positions"
                    )
                pixels[:] = skeleton.pixels
        self._waiting.append(Skeleton(positions, pixels))
        self._waiting_rows += positions.shape[0] * positions.shape[1]
        if self._waiting_rows >= BUFFER_ROWS:
            self._flush()
        self._ids.append(sample_id)
        self._frames.append(positions.shape[1])
        self._bodies.append(positions.shape[0])
        update_digest(self._digest, sample_id, Skeleton(positions, pixels))

    def _flush(self) -> None:
        if self._waiting:
            self._extend(self._positions, [s.positions for s in self._waiting])
            if self._pixels is not None:
                self._extend(
                    self._pixels, [s.pixels for s in self._waiting if s.pixels is not None]
                )
        self._waiting, self._waiting_rows = [], 0

    def _end_threads(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _extend(self, dataset: h5py.Dataset, values: list[np.ndarray]) -> None:
        rows = np.concatenate([v.reshape(-1, *v.shape[2:]) for v in values])
        if self._compress:
            self._packed[dataset.name].extend(rows)
            return
        start = len(dataset)
        dataset.resize(start + len(rows), axis=0)
        dataset[start:] = rows


def _describe(layout: Layout | str) -> dict[str, str]:
    """Return the attributes that tell a reader of the store its layout."""
    known = LAYOUTS.get(layout) if isinstance(layout, str) else layout
    if known is None:
        return {"layout": str(layout)}
    return {"layout": known.name, "layout_description": json.dumps(known.to_dict())}
