"""A cache in which every sample has the mean features of its class."""

from pathlib import Path

import numpy as np

from skelfew.cache.building import building
from skelfew.cache.format.checks import CacheError
from skelfew.cache.format.history import carried, step
from skelfew.cache.format.storage import DONE
from skelfew.cache.reader import TeacherCache
from skelfew.cache.writer import CacheWriter
from skelfew.data.manifest import Manifest
from skelfew.io.files import Document


def class_mean(
    path: str | Path, out: Path, manifest: Manifest, overwrite: bool = False
) -> Document:
    """Write the finished samples of a cache with the mean direction of their class.

    f_v and f_t are scaled to length 1, averaged over samples and views of the class, and scaled to
    length 1 again. Raises CacheError for a sample not in the manifest, or if none is finished.
    """
    source = TeacherCache.open(path)
    class_of = {sample.sample_id: sample.class_id for sample in manifest}
    ids = list(source.row)
    unknown = [sample_id for sample_id in ids if sample_id not in class_of]
    if not ids:
        raise CacheError(f"{path}: no sample is finished; run skelfew-extract again")
    if unknown:
        raise CacheError(
            f"{path}: {len(unknown)} of its {len(ids)} finished samples are not in the manifest, "
            f"first {unknown[0]}; give the manifest of its data set"
        )
    classes = np.array([class_of[sample_id] for sample_id in ids])
    kinds = [kind for kind in ("f_v", "f_t") if kind in source.representations]
    means = {kind: _means(source.targets(ids, kind, "unit"), classes) for kind in kinds}
    last = step("class_mean", inputs=[{"name": str(path), "digest": source.attrs.get("digest")}])
    with building(out, overwrite) as place:
        writer = CacheWriter.create_or_resume(
            place,
            ids,
            dim=source.dim,
            provenance=carried(source.attrs, last),
            class_text=source.class_text,
            video="f_v" in kinds,
        )
        with writer:
            status = np.full(len(ids), DONE, dtype=np.uint8)
            writer.write(slice(None), means.get("f_v"), means["f_t"], status)
            digest = writer.finish()
    done = {"samples": len(ids), "done": len(ids), "failed": 0, "pending": 0}
    return {"cache": str(out), **done, "classes": len(set(classes)), "digest": digest}


def _means(features: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return for each row of unit features (n, V, D) the mean of its class, (n, 1, D)."""
    _, place = np.unique(classes, return_inverse=True)
    sums = np.zeros((place.max() + 1, features.shape[-1]))
    np.add.at(sums, place, features.sum(axis=1))
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return np.asarray(sums[place][:, None], dtype=np.float32)
