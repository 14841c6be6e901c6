"""Reading a cache into memory."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from skelfew.cache.format.checks import CacheError, brief, check_budget, check_format
from skelfew.cache.format.sample_rows import SampleRows, rows_of
from skelfew.cache.format.storage import (
    DAMAGE,
    DONE,
    FAILED,
    PENDING,
    DoneRows,
    arrays_of,
    open_group,
    read,
)
from skelfew.cache.matching import rename
from skelfew.cache.transport.places import is_url
from skelfew.io.files import Document

Form = Literal["raw", "unit"]
REPRESENTATIONS = ("f_v+f_t", "f_v", "f_t")
_THREADS, _PARTS = 3, 8


@dataclass(frozen=True)
class TeacherCache:
    """Teacher features of the finished samples of one dataset, held in memory.

    Attributes:
        row: Position of each finished sample in the arrays.
        video: f_v as the teacher gave it, float32, shape (N, V, D), V temporal views; None if the
            teacher saw no video.
        text: f_t as the teacher gave it, float32, shape (N, V, D).
        attrs: Provenance: dataset, teacher, preprocessing, software, digest.
        class_text: Unconditioned text feature of each class, float32 (C, D), in the order of
            ``attrs["classes"]``; None if the teacher stores none.
        failed: IDs of the samples whose extraction failed.
        pending: Number of samples still to be extracted.
    """

    row: Mapping[str, int]
    video: np.ndarray | None
    text: np.ndarray
    attrs: Document
    class_text: np.ndarray | None = None
    failed: tuple[str, ...] = ()
    pending: int = 0
    path: Path = field(default_factory=Path)

    @classmethod
    def open(cls, path: str | Path) -> "TeacherCache":
        """Load the finished samples of a cache (4 KiB each at D = 512).

        Args:
            path: A folder, a zip file, or an address as ``skelfew.cache.transport.fetch`` takes it.

        Raises:
            CacheError: If it is absent, not a cache, newer than this skelfew or damaged.
        """
        if is_url(path):
            from skelfew.cache.transport.fetch import local_path

            path = local_path(path)
        path = Path(path)
        group = open_group(path)
        attrs = check_format(path, dict(group.attrs))
        arrays = arrays_of(path, group)
        try:
            status = read(arrays["status"])
            done = np.flatnonzero(status == DONE)
            check_budget(path, arrays, len(done))
            features = {
                name: DoneRows(path, arrays, name, done)
                for name in ("video", "text")
                if name in arrays
            }
            ids = rows_of(arrays)
            with ThreadPoolExecutor(_THREADS, thread_name_prefix="cache") as pool:
                parts = [
                    pool.submit(rows.read, part)
                    for rows in features.values()
                    for part in rows.parts(_PARTS)
                ]
                for part in parts:
                    part.result()
            class_text = read(arrays["class_text"]) if "class_text" in arrays else None
        except CacheError:
            raise
        except DAMAGE as error:
            raise CacheError(f"{path}: damaged cache ({brief(error)}); extract it again") from None
        return cls(
            row=ids if len(done) == len(ids) else ids.only(done),
            video=features["video"].values if "video" in features else None,
            text=features["text"].values,
            attrs=attrs,
            class_text=class_text,
            failed=tuple(ids.names(np.flatnonzero(status == FAILED))),
            pending=int((status == PENDING).sum()),
            path=path,
        )

    def __len__(self) -> int:
        return len(self.row)

    def __contains__(self, sample_id: object) -> bool:
        return sample_id in self.row

    @property
    def dim(self) -> int:
        """D, the width of the teacher's features."""
        return int(self.text.shape[-1])

    @property
    def representations(self) -> tuple[str, ...]:
        """Representations that ``targets`` can return."""
        return REPRESENTATIONS if self.video is not None else ("f_t",)

    def class_texts(self, form: str = "raw") -> dict[int, np.ndarray]:
        """Return the text feature (D,) of every class, base and novel alike, by class number.

        It is the teacher's before any conditioning on a video; empty if the cache keeps none.
        ``form`` is as in ``targets``.
        """
        entries = self.attrs.get("classes")
        if self.class_text is None or not isinstance(entries, list):
            return {}
        numbers = [int(e["class_id"]) for e in entries if isinstance(e, dict) and "class_id" in e]
        if len(numbers) != len(self.class_text):
            return {}
        vectors = unit(self.class_text) if form == "unit" else self.class_text
        return dict(zip(numbers, vectors, strict=True))

    def relevance(self) -> dict[int, dict[str, float]]:
        """Return the cosine of the text of every class, by number, with that of each body part.

        Raises:
            CacheError: The cache says nothing on parts, or nothing that can be.
        """
        found, texts = self.attrs.get("relevance"), self.attrs.get("classes")
        if found is None:
            name = self.attrs.get("dataset", "DATASET")
            make = f"skelfew-extract {name} --teacher text --out"
            how = f"a text teacher writes it: {make} cache/{name}-text.zarr"
            if self.video is None:  # a finished cache is not opened for writing again
                how = f"if it is older than that, remove it and run {make} {self.path} again"
            raise CacheError(
                f"{self.path}: has no relevance of parts of the body to its classes (attribute "
                f"relevance); {how}"
            )
        try:
            parts = [str(part) for part in found["parts"]]
            values = np.array(found["cosines"], dtype=np.float64)
            numbers = [int(entry["class_id"]) for entry in texts]  # type: ignore[union-attr]
        except (TypeError, KeyError, ValueError, OverflowError) as error:
            raise CacheError(f"{self.path}: damaged attribute relevance ({brief(error)})") from None
        if values.shape != (len(numbers), len(parts)) or not (np.abs(values) <= 1.01).all():
            raise CacheError(
                f"{self.path}: the attribute relevance does not hold a cosine for each of "
                f"{len(numbers)} classes and {len(parts)} parts; extract it again"
            )
        rows = values.tolist()
        return {c: dict(zip(parts, row, strict=True)) for c, row in zip(numbers, rows, strict=True)}

    def renamed(self, rule: str) -> "TeacherCache":
        """Return this cache with other sample IDs, see ``skelfew.cache.matching.rename``."""
        names = [*self.row, *self.failed]
        new = dict(zip(names, rename(names, rule), strict=True))
        return replace(
            self,
            row={new[name]: row for name, row in self.row.items()},
            failed=tuple(new[name] for name in self.failed),
        )

    def rows(self, sample_ids: Sequence[str]) -> np.ndarray:
        """Return the row of each sample ID; raise CacheError naming those that are missing."""
        try:
            if isinstance(self.row, SampleRows):
                return self.row.find(sample_ids)
            return np.fromiter(map(self.row.__getitem__, sample_ids), np.int64, len(sample_ids))
        except KeyError:
            pass
        missing = [s for s in sample_ids if s not in self.row]
        failed = len(set(missing) & set(self.failed))
        why = f"{failed} failed, see the .failures.csv beside it; " if failed else ""
        name = self.attrs.get("dataset", "DATASET")
        help = f"run skelfew-extract {name} again, without --limit, to add them"
        if self.pending and isinstance(self.attrs.get("shard"), dict):
            help = "it is one shard of an extraction, skelfew-cache merge makes one of all"
        raise CacheError(
            f"{self.path}: {len(missing)} of {len(sample_ids)} samples are not in the cache, "
            f"first {missing[0]} ({why}it holds {len(self)} finished samples); {help}"
        )

    def targets(
        self,
        sample_ids: Sequence[str],
        representation: str = "f_v+f_t",
        form: Form = "raw",
    ) -> np.ndarray:
        """Return the teacher's representation of each sample, float32, shape (n, V, D).

        Args:
            sample_ids: n sample IDs, in any order.
            representation: ``f_v+f_t`` (the paper's f_VL), ``f_v`` or ``f_t`` (Table VIII).
            form: ``raw`` takes the features as the teacher gave them; ``unit`` scales f_v and f_t
                to length 1 before they are added. The paper does not say which.
        """
        if representation not in self.representations:
            raise CacheError(
                f"{self.path}: no representation {representation!r}; this cache has "
                f"{', '.join(self.representations)}"
            )
        if form not in ("raw", "unit"):
            raise CacheError(f"target form {form!r} is unknown; choose raw or unit")
        rows = self.rows(sample_ids)
        parts = []
        if "f_v" in representation and self.video is not None:
            parts.append(self.video.take(rows, axis=0))
        if "f_t" in representation:
            parts.append(self.text.take(rows, axis=0))
        if form == "unit":
            parts = [unit(p) for p in parts]
        return parts[0] if len(parts) == 1 else np.add(parts[0], parts[1], out=parts[0])


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (..., D) scaled to length one."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
