"""Several teachers at once: caches of the same samples as one."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from skelfew.cache.format.checks import CacheError
from skelfew.cache.reader import REPRESENTATIONS, Form, TeacherCache, unit
from skelfew.io.files import Document

JOINS = ("concat", "mean")


@dataclass(frozen=True)
class JoinedCache(TeacherCache):
    """Caches joined by sample ID; made by ``join``.

    Its rows are the samples that every cache has finished. A target is made of the targets of the
    caches, each scaled to length one: put one after the other, or averaged.
    """

    parts: tuple[TeacherCache, ...] = field(default=(), repr=False)
    how: Literal["concat", "mean"] = "concat"

    @property
    def dim(self) -> int:
        """D of the joined targets."""
        widths = [part.dim for part in self.parts]
        return sum(widths) if self.how == "concat" else widths[0]

    @property
    def representations(self) -> tuple[str, ...]:
        """What all caches have, for ``targets``; f_v+f_t is f_t where there is no f_v."""
        found = [set(part.representations) for part in self.parts]
        shared = set.intersection(*found)
        if any("f_v" in names for names in found):
            shared.add("f_v+f_t")
        return tuple(name for name in REPRESENTATIONS if name in shared)

    def renamed(self, rule: str) -> TeacherCache:
        """Return the cache with other sample IDs in every part."""
        return join([part.renamed(rule) for part in self.parts], self.how)

    def rows(self, sample_ids: Sequence[str]) -> np.ndarray:
        """Return the row of each sample; raise CacheError of the first cache that lacks one."""
        for part in self.parts:
            part.rows(sample_ids)
        return super().rows(sample_ids)

    def targets(
        self, sample_ids: Sequence[str], representation: str = "f_v+f_t", form: Form = "raw"
    ) -> np.ndarray:
        """Return the joined targets, float32 (n, V, D); see ``TeacherCache.targets``."""
        if representation not in self.representations:
            raise CacheError(
                f"{self.path}: no representation {representation!r} in all of the caches; there is "
                f"{', '.join(self.representations)}"
            )
        found = []
        for part in self.parts:
            own = representation if representation in part.representations else "f_t"
            found.append(unit(part.targets(sample_ids, own, form)))
        views = max(targets.shape[1] for targets in found)
        found = [np.broadcast_to(t, (len(t), views, t.shape[2])) for t in found]
        return self._combine(found)

    def class_texts(self, form: str = "raw") -> dict[int, np.ndarray]:
        """Return the joined text of every class that all caches have one of."""
        found = [part.class_texts(form) for part in self.parts]
        shared = [c for c in found[0] if all(c in texts for texts in found)]
        return {c: self._combine([unit(texts[c]) for texts in found]) for c in shared}

    def _combine(self, vectors: Sequence[np.ndarray]) -> np.ndarray:
        if self.how == "concat":
            return np.concatenate(vectors, axis=-1)
        return np.mean(vectors, axis=0)


def join(caches: Sequence[TeacherCache], how: Literal["concat", "mean"] = "concat") -> TeacherCache:
    """Return caches of one data set as one cache; a single one as it is.

    ``concat`` puts their vectors of length one after each other, ``mean`` averages them. Raises
    CacheError: the caches are of different data sets, or cannot be joined in that way.
    """
    if len(caches) == 1:
        return caches[0]
    first = caches[0]
    if how not in JOINS:
        raise CacheError(f"join {how!r} is unknown; choose {' or '.join(JOINS)}")
    for cache in caches[1:]:
        names = first.attrs.get("dataset"), cache.attrs.get("dataset")
        if names[0] != names[1]:
            raise CacheError(f"{first.path} is of {names[0]}, but {cache.path} of {names[1]}")
        if how == "mean" and cache.dim != first.dim:
            raise CacheError(
                f"{first.path} has features of width {first.dim}, {cache.path} of {cache.dim}: "
                "their mean is undefined; use --join concat"
            )
        views = {first.text.shape[1], cache.text.shape[1]} - {1}
        if len(views) > 1:
            raise CacheError(
                f"{first.path} has {first.text.shape[1]} views, {cache.path} "
                f"{cache.text.shape[1]}; give them equally many, or one"
            )
        if not set(first.row) & set(cache.row):
            raise CacheError(
                f"{first.path} and {cache.path} share no finished sample; one has "
                f"{next(iter(first.row), None)!r}, the other {next(iter(cache.row), None)!r}"
            )
    shared = [i for i in first.row if all(i in cache.row for cache in caches)]
    rows = np.array([first.row[i] for i in shared], dtype=np.int64)
    failed = {i for cache in caches for i in cache.failed}
    seeing = next((cache for cache in caches if cache.video is not None), None)
    video = None
    if seeing is not None and seeing.video is not None:
        video = seeing.video[[seeing.row[i] for i in shared]]
    return JoinedCache(
        row={name: i for i, name in enumerate(shared)},
        video=video,
        text=first.text[rows],
        attrs=_attrs(caches, how),
        failed=tuple(sorted(failed)),
        pending=max(cache.pending for cache in caches),
        path=first.path,
        parts=tuple(caches),
        how=how,
    )


def _attrs(caches: Sequence[TeacherCache], how: str) -> Document:
    """Provenance of the whole: that of the first cache, and what is true of all."""
    teachers = [dict(cache.attrs.get("teacher") or {}) for cache in caches]
    sums = [str(t.get("weights_sha256") or "unknown") for t in teachers]
    digests = [str(cache.attrs.get("digest") or "") for cache in caches]
    teacher = {
        "name": " + ".join(str(t.get("name")) for t in teachers),
        "trained": all(t.get("trained") is not False for t in teachers),
        "weights_sha256": _sha256([how, *sums]),
        "join": how,
        "parts": teachers,
    }
    return {
        **caches[0].attrs,
        "teacher": teacher,
        "preprocessing": {"parts": [cache.attrs.get("preprocessing") for cache in caches]},
        "digest": _sha256([how, *digests]),
        "untrained": not teacher["trained"],
    }


def _sha256(parts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()
