"""From class names or descriptions to a cache without f_v: each sample has its class's vector."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from skelfew.cache import DONE, FAILED, PENDING, CacheWriter
from skelfew.cache.format.history import declared, step
from skelfew.data.joints.body_parts import PART_TEXTS
from skelfew.data.manifest import Manifest
from skelfew.errors import SkelfewError
from skelfew.io.files import Document
from skelfew.progress import Progress
from skelfew_extract.descriptions import Descriptions
from skelfew_extract.interruption import Interruption
from skelfew_extract.summary import ExtractionSummary, software
from skelfew_extract.teachers import TextTeacher

_SOFTWARE = ("skelfew", "torch", "numpy", "zarr", "transformers", "tokenizers", "open_clip_torch")
_BLOCK_ROWS = 1024


@dataclass(frozen=True)
class TextSettings:
    """Settings of a run of a text teacher."""

    store_dtype: str = "float16"
    limit: int | None = None  # only the first so many samples of the manifest; None for all
    licence_note: str = ""  # what a receiver of the cache should know about the data's licence
    descriptions: Descriptions | None = None  # what is read instead of class names
    repair: bool = False

    def texts(self, manifest: Manifest) -> dict[int, list[str]]:
        """Return what is read of every class: its sentences, else its name."""
        if self.descriptions is not None:
            return self.descriptions.texts
        return {class_id: [label] for class_id, label in manifest.classes.items()}


def encode_classes(teacher: TextTeacher, texts: Mapping[int, list[str]]) -> np.ndarray:
    """Return a vector a class, (C, D) float32, the mean of its sentences, all of length one."""
    means = [teacher.encode_text(sentences).mean(0) for sentences in texts.values()]
    vectors = torch.nn.functional.normalize(torch.stack(means).float(), dim=-1).cpu().numpy()
    if not np.isfinite(vectors).all():
        raise SkelfewError("the text teacher gave numbers that are not finite; look at its weights")
    return vectors


def relevance(teacher: TextTeacher, vectors: np.ndarray) -> Document:
    """Return the cosines of classes (C, D), of length one, with the texts of parts of the body."""
    parts = encode_classes(teacher, dict(enumerate([text] for text in PART_TEXTS.values())))
    return {
        "parts": list(PART_TEXTS),
        "texts": list(PART_TEXTS.values()),
        "cosines": (vectors @ parts.T).astype(float).round(6).tolist(),
    }


def extract_text(
    manifest: Manifest, teacher: TextTeacher, out: Path, settings: TextSettings
) -> ExtractionSummary:
    """Fill the cache ``out`` with text features only, as ``extract.extract`` does."""
    began = time.monotonic()
    texts = settings.texts(manifest)
    vectors = encode_classes(teacher, texts)
    places = {class_id: i for i, class_id in enumerate(texts)}
    class_row = np.array([places[sample.class_id] for sample in manifest])
    with CacheWriter.create_or_resume(
        out,
        manifest.ids,
        dim=teacher.dim,
        dtype=settings.store_dtype,
        class_text=vectors,
        video=False,
        provenance={
            **provenance(manifest, teacher, settings),
            "relevance": relevance(teacher, vectors),
        },
        repairing=settings.repair,
    ) as writer:
        todo = writer.pending(retry_failed=True)
        if settings.limit is not None:
            todo = todo[todo < settings.limit]
        total = len(manifest) if settings.limit is None else min(settings.limit, len(manifest))
        progress = Progress("extract", total, unit="samples", done=total - len(todo))
        with Interruption() as interruption, progress:
            for start in range(0, len(todo), _BLOCK_ROWS):
                rows = todo[start : start + _BLOCK_ROWS]
                values = vectors[class_row[rows]][:, None]
                writer.write(rows, None, values, np.full(len(rows), DONE, dtype=np.uint8))
                progress.advance(len(rows))
                if interruption.asked:
                    raise KeyboardInterrupt
        counts = {s: int((writer.status == s).sum()) for s in (PENDING, DONE, FAILED)}
        seconds = time.monotonic() - began
        digest = writer.finish()
        return ExtractionSummary(
            cache=str(out),
            samples=len(manifest),
            done=counts[DONE],
            failed=counts[FAILED],
            pending=counts[PENDING],
            extracted=len(todo),
            centred=0,
            seconds=round(seconds, 2),
            clips_per_second=round(len(todo) / max(seconds, 1e-9), 3),
            digest=digest,
            failures="",
            damaged=writer.damaged,
            restored=None if writer.digest_before is None else digest == writer.digest_before,
        )


def provenance(manifest: Manifest, teacher: TextTeacher, settings: TextSettings) -> Document:
    """Return the attributes of the cache: what its rows are made from, and with what."""
    description, given = teacher.describe(), settings.descriptions
    description["descriptions_sha256"] = None if given is None else given.sha256
    texts = settings.texts(manifest)
    return {
        "dataset": manifest.name,
        "manifest_sha256": manifest.sha256,
        "skeletons_digest": None,
        "classes": [
            {
                "class_id": class_id,
                "label": manifest.classes[class_id],
                "prompt": " ".join(sentences),
                **({"sentences": sentences} if given is not None else {}),
            }
            for class_id, sentences in texts.items()
        ],
        "teacher": description,
        "untrained": not description.get("trained", True),
        "preprocessing": {"sampling": "none", "frames": 0, "crop": "none"},
        "software": {**software(_SOFTWARE), "threads": torch.get_num_threads()},
        "manifest": str(manifest.path or ""),
        "skeletons": "",
        "descriptions": "" if given is None else str(given.path),
        **declared([step("extract", {"teacher": description.get("name")})]),
        "licence_note": settings.licence_note,
    }
