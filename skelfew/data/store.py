"""Skeleton stores: the joints of every sample in one HDF5 file.

Ragged data without one dataset per sample: bodies and frames of all samples are stacked along
one axis, and ``offset`` says where each sample starts, so one sample is one contiguous slice.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from skelfew.data.hdf5 import is_text, open_file, plain_dataset, read_attributes, read_values
from skelfew.data.joints.layouts import Layout, layout_from_dict, load_layout
from skelfew.data.manifest import bad_id
from skelfew.errors import SkelfewError
from skelfew.io.files import Document, brief, parse_json
from skelfew.io.vouched import vouch, vouched
from skelfew.progress import Progress

FORMAT = "skelfew-skeletons"
FORMAT_VERSION = 1
CHUNK_ROWS = 512
_LARGE = 1 << 28  # bytes; to check more than that takes a while, which is shown
BUFFER_ROWS = 16 * CHUNK_ROWS  # written at a time: HDF5 is slow at many small writes


class StoreError(SkelfewError):
    """A skeleton store that cannot be used; the message names the file and what to do."""


@dataclass(frozen=True)
class Skeleton:
    """The joints of one sample."""

    # (M, T, V, C) float32 (metres for 3D); zeros where a body is absent in a frame
    positions: np.ndarray
    # (M, T, V, 2) float32 joint positions in the video, NaN where unknown; or None
    pixels: np.ndarray | None = None


class SkeletonStore:
    """Read access to a skeleton store; opens lazily and reads single samples.

    The first time that a file is opened, its content is compared with the digest that it carries;
    after that, until size or time of the file change, it is taken as checked.

    Args:
        check: False opens it whatever its content.

    Attributes:
        ids: Sample IDs in stored order.
        frames: T of each sample, (N,) int64.
        bodies: M of each sample, (N,) int64.
        attrs: dataset, layout, coordinates, manifest_sha256, digest and what the reader wrote.
    """

    def __init__(self, path: str | Path, check: bool = True):
        self.path = Path(path)
        try:
            self._file = open_file(self.path)
        except FileNotFoundError:
            raise StoreError(
                f"{self.path}: no such skeleton store; create it with "
                f"skelfew-prepare {self.path.stem}"
            ) from None
        except SkelfewError as error:
            raise StoreError(str(error)) from None
        try:
            self._open()
            if check:
                self._check_content()
        except StoreError:
            self._file.close()
            raise
        except SkelfewError as error:
            self._file.close()
            raise StoreError(f"{error}; prepare the data set again, or ask for the file") from None

    def _open(self) -> None:
        self.attrs: dict[str, str | int | float] = read_attributes(self.path, self._file)
        if self.attrs.get("format") != FORMAT:
            raise StoreError(f"{self.path}: an HDF5 file, but not a {FORMAT} store")
        version = self.attrs.get("format_version")
        if not isinstance(version, int) or version < 1:
            raise StoreError(f"{self.path}: format_version is {version!r}, expected a number")
        if version > FORMAT_VERSION:
            raise StoreError(
                f"{self.path}: format version {version}, this skelfew reads "
                f"up to {FORMAT_VERSION}; upgrade skelfew to read it"
            )
        self.ids: list[str] = self._texts("sample_id")
        if (fault := bad_id(self.ids)) is not None:
            raise StoreError(f"{self.path}: sample ID {fault}")
        self.frames: np.ndarray = self._counts("frames", 1 << 40)
        self.bodies: np.ndarray = self._counts("bodies", 255)
        self._offset = np.concatenate([[0], np.cumsum(self.frames * self.bodies)])
        self._row = {sample_id: i for i, sample_id in enumerate(self.ids)}
        self._positions: h5py.Dataset | np.ndarray = self._joints("positions")
        self._pixels: h5py.Dataset | np.ndarray | None = None
        if "pixels" in self._file:
            self._pixels = self._joints("pixels")
        if self._offset[-1] != len(self._positions):
            raise StoreError(
                f"{self.path}: lengths add up to {self._offset[-1]} rows, but "
                f"{len(self._positions)} are stored; prepare the dataset again"
            )
        joints = (*self._positions.shape[:2], 2)
        if self._pixels is not None and self._pixels.shape != joints:
            raise StoreError(f"{self.path}: pixels have shape {self._pixels.shape}, not {joints}")

    def _check_content(self) -> None:
        recorded = self.attrs.get("digest")
        if recorded is None or vouched(self.path, str(recorded)):
            return
        if (found := self.content_digest()) != recorded:
            raise StoreError(
                f"{self.path}: changed since it was written: its content has digest {found[:12]}, "
                f"{str(recorded)[:12]} is recorded; run skelfew-prepare "
                f"{self.attrs.get('dataset', self.path.stem)} again, or ask for the file"
            )
        vouch(self.path, found)

    def _texts(self, name: str) -> list[str]:
        dataset = plain_dataset(self.path, self._file, name)
        if not is_text(dataset) or dataset.ndim != 1:
            raise StoreError(f"{self.path}: {name} is no list of texts")
        texts = read_values(self.path, dataset)
        try:
            return [t.decode() if isinstance(t, bytes) else str(t) for t in texts.tolist()]
        except UnicodeDecodeError as error:
            raise StoreError(f"{self.path}: {name} is no text ({error})") from None

    def _counts(self, name: str, most: int) -> np.ndarray:
        """Return how many frames or bodies each sample has, (N,) int64."""
        dataset = plain_dataset(self.path, self._file, name)
        if dataset.dtype.kind not in "iu" or dataset.shape != (len(self.ids),):
            raise StoreError(
                f"{self.path}: {name} is {dataset.dtype} {dataset.shape}, expected a whole number "
                f"for each of {len(self.ids)} samples"
            )
        values: np.ndarray = read_values(self.path, dataset)
        if len(values) and not (values.min() >= 1 and values.max() <= most):
            raise StoreError(f"{self.path}: {name} are {values.min()} to {values.max()}")
        return values.astype(np.int64)

    def _joints(self, name: str) -> h5py.Dataset:
        dataset = plain_dataset(self.path, self._file, name)
        if dataset.dtype.kind != "f" or dataset.ndim != 3 or 0 in dataset.shape[1:]:
            raise StoreError(
                f"{self.path}: {name} is {dataset.dtype} {dataset.shape}, expected floats (rows, "
                "joints, coordinates)"
            )
        return dataset

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, sample_id: object) -> bool:
        return sample_id in self._row

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __enter__(self) -> "SkeletonStore":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; nothing can be read afterwards."""
        self._file.close()

    @property
    def layout(self) -> str:
        """Name of the joint layout; ``joint_layout`` is the layout itself."""
        return str(self.attrs["layout"])

    @property
    def joint_layout(self) -> Layout:
        """The joint layout, in full; earlier stores carry a name or path, looked up."""
        described = self.attrs.get("layout_description")
        if described is None:
            return load_layout(self.layout)
        try:
            content = parse_json(str(described))
        except ValueError as error:
            raise StoreError(f"{self.path}: its layout is no JSON ({brief(error)})") from None
        return layout_from_dict(content, str(self.path))

    @property
    def preprocessing(self) -> Document | None:
        """Settings of ``Pipeline`` that the reader declared; None in stores of earlier versions."""
        if "preprocessing" not in self.attrs:
            return None
        try:
            content = parse_json(str(self.attrs["preprocessing"]))
        except ValueError as error:
            raise StoreError(f"{self.path}: preprocessing is no JSON ({brief(error)})") from None
        if not isinstance(content, dict):
            raise StoreError(f"{self.path}: preprocessing is {content!r}, expected settings")
        return content

    @property
    def channels(self) -> int:
        """C, values per joint."""
        return int(self._positions.shape[2])

    @property
    def coordinates(self) -> int:
        """Number of values of a joint that are its position: 3, or 2 in pictures."""
        found = self.attrs.get("coordinates")
        if found is None:  # written by an earlier version
            return 2 if self.attrs.get("units") == "pixels" else min(3, self.channels)
        if found not in (2, 3) or int(found) > self.channels:
            raise StoreError(
                f"{self.path}: coordinates is {found!r}, expected 2 or 3, {self.channels} at most"
            )
        return int(found)

    def row(self, sample_id: str) -> int:
        """Return the position of a sample; raise StoreError if it is not stored."""
        try:
            return self._row[sample_id]
        except KeyError:
            raise StoreError(
                f"{self.path}: no skeleton for sample {sample_id!r} among {len(self)}"
            ) from None

    def __getitem__(self, sample_id: str) -> Skeleton:
        i = self.row(sample_id)
        rows = slice(self._offset[i], self._offset[i + 1])
        positions = self._rows(self._positions, rows)
        pixels = None if self._pixels is None else self._rows(self._pixels, rows)
        return self._shaped(i, positions, pixels)

    def _shaped(self, i: int, positions: np.ndarray, pixels: np.ndarray | None) -> Skeleton:
        shape = (int(self.bodies[i]), int(self.frames[i]))
        return Skeleton(
            positions.reshape(*shape, *positions.shape[1:]),
            None if pixels is None else pixels.reshape(*shape, *pixels.shape[1:]),
        )

    def read_all(self) -> tuple[np.ndarray, np.ndarray]:
        """Return all rows (R, V, C) float32 and where each sample starts (N + 1,) int64."""
        return self._rows(self._positions), self._offset.astype(np.int64)

    def _rows(self, values: h5py.Dataset | np.ndarray, rows: slice = slice(None)) -> np.ndarray:
        if isinstance(values, np.ndarray):
            return values[rows]
        found: np.ndarray = read_values(self.path, values, rows)
        return found.astype(np.float32, copy=False)

    def load(self) -> None:
        """Read all of it to memory, where many small reads are quick."""
        self._positions = self._rows(self._positions)
        if self._pixels is not None:
            self._pixels = self._rows(self._pixels)

    def content_digest(self) -> str:
        """Recompute the digest from the content; equal to ``attrs["digest"]`` if undamaged."""
        digest, start, count = hashlib.sha256(), 0, len(self.ids)
        shown = self.path.stat().st_size > _LARGE
        with Progress(f"check {self.path.name}", count, "samples", shown=shown) as progress:
            while start < count:  # many samples at a time: HDF5 is slow at small reads
                last = self._offset[start] + BUFFER_ROWS
                stop = max(int(np.searchsorted(self._offset, last, "right")) - 1, start + 1)
                rows = slice(self._offset[start], self._offset[stop])
                positions = self._rows(self._positions, rows)
                pixels = None if self._pixels is None else self._rows(self._pixels, rows)
                for i in range(start, stop):
                    own = slice(self._offset[i] - rows.start, self._offset[i + 1] - rows.start)
                    skeleton = self._shaped(
                        i, positions[own], None if pixels is None else pixels[own]
                    )
                    update_digest(digest, self.ids[i], skeleton)
                progress.advance(stop - start)
                start = stop
        return digest.hexdigest()


def update_digest(digest: "hashlib._Hash", sample_id: str, skeleton: Skeleton) -> None:
    """Add a sample to the digest of a store."""
    digest.update(f"{sample_id} {skeleton.positions.shape}".encode())
    digest.update(np.ascontiguousarray(skeleton.positions, dtype="<f4").tobytes())
    if skeleton.pixels is not None:
        digest.update(np.ascontiguousarray(skeleton.pixels, dtype="<f4").tobytes())
