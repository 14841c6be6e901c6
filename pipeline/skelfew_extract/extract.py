"""One pass of a frozen teacher over the videos of a data set, into a cache.

The manifest is cut into windows of ``batch`` rows. A window is decoded, encoded in one batch of
always the same size (rows that failed or are already done hold black frames) and committed. So a
row's features do not depend on where an earlier run was interrupted, and a run that was killed
any number of times ends in the same content as one that never was.
"""

import itertools
import math
import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skelfew.cache import DONE, FAILED, PENDING, CacheWriter
from skelfew.cache.history import declared, step
from skelfew.data.manifest import Manifest
from skelfew.progress import Progress
from skelfew_extract.clips import DecodeSettings
from skelfew_extract.engine import Clip, decode_clips
from skelfew_extract.failures import Failures
from skelfew_extract.interruption import Interruption
from skelfew_extract.recordings import Recordings
from skelfew_extract.shard import Shard
from skelfew_extract.summary import Summary, software
from skelfew_extract.teachers import Precision, Teacher
from skelfew_extract.text import prompts

_SOFTWARE = ("skelfew", "torch", "numpy", "zarr", "av", "decord", "open_clip_torch")


@dataclass(frozen=True)
class Settings:
    """How a run is done.

    Attributes:
        decode: Decoder, time limit, crop.
        workers: Decoding processes.
        batch: Clips per batch of the teacher.
        store_dtype: ``float16`` or ``float32``.
        retry_failed: Whether samples that failed earlier are tried again.
        limit: Only the first so many samples of the manifest; None for all.
        shard: Only this part of the manifest; None for all.
        licence_note: What a receiver of the cache should know about the data's licence.
        repair: First look for damaged rows in the cache and extract those again.
    """

    decode: DecodeSettings
    workers: int = 1
    batch: int = 8
    store_dtype: str = "float16"
    retry_failed: bool = False
    limit: int | None = None
    shard: Shard | None = None
    licence_note: str = ""
    repair: bool = False

    def rows(self, count: int) -> tuple[int, int]:
        """Return first row and one past the last that are to be done, of ``count`` rows."""
        first, stop = (0, count) if self.shard is None else self.shard.rows(count)
        return first, stop if self.limit is None else min(stop, self.limit)


def preview(recordings: Recordings, settings: Settings, folder: Path, count: int) -> list[Path]:
    """Write contact sheets of ``count`` samples, evenly spread, and return the files written."""
    span = range(*settings.rows(len(recordings.manifest)))
    rows = [i for i in span if recordings.manifest.samples[i].video]
    picks = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    tasks = [recordings.task(rows[i], folder) for i in picks]
    clips = decode_clips(tasks, settings.decode, min(settings.workers, len(tasks)))
    sheets = [
        task.sheet for task, clip in zip(tasks, clips, strict=True) if clip.pictures is not None
    ]
    return [sheet for sheet in sheets if sheet is not None]


def extract(recordings: Recordings, teacher: Teacher, out: Path, settings: Settings) -> Summary:
    """Fill the cache ``out``, going on where an earlier run stopped.

    Raises:
        CacheError: If ``out`` was made from something else, or another process writes to it.
        KeyboardInterrupt: After Ctrl-C or SIGTERM, once the current window is committed.
    """
    manifest = recordings.manifest
    class_ids = list(manifest.classes)
    class_text = teacher.encode_text(list(manifest.classes.values()))
    with CacheWriter.create_or_resume(
        out,
        manifest.ids,
        dim=teacher.dim,
        views=settings.decode.crop.views,
        dtype=settings.store_dtype,
        class_text=class_text.float().cpu().numpy(),
        provenance=provenance(recordings, teacher, settings),
        mend=settings.repair,
    ) as writer:
        failed = [manifest.ids[i] for i in np.flatnonzero(writer.status == FAILED)]
        failures = Failures.beside(out, failed)
        todo = writer.pending(settings.retry_failed)
        first, stop = settings.rows(len(manifest))
        todo = todo[(todo >= first) & (todo < stop)]
        class_row = np.array([class_ids.index(sample.class_id) for sample in manifest])
        began, before, centred = time.monotonic(), int((writer.status == DONE).sum()), 0
        window = _Window(teacher, class_text, class_row, settings)
        tasks = (recordings.task(int(i)) for i in todo if manifest.samples[i].video)
        clips = decode_clips(tasks, settings.decode, settings.workers, 2 * settings.batch)
        total = max(stop - first, 0)
        progress = Progress("extract", total, unit="clips", done=total - len(todo))
        with Interruption() as interruption, closing(clips), progress:
            for start, rows in itertools.groupby(todo, key=lambda i: i - i % settings.batch):
                block = window.encode(int(start), _answers(manifest, rows, clips))
                centred += block.centred
                # Reasons first: a failed row without one would be worse than one too many.
                done = block.rows[block.status == DONE]
                reasons = {manifest.ids[i]: why for i, why in block.reasons.items()}
                failures.update(reasons, [manifest.ids[i] for i in done])
                writer.write(block.rows, block.video, block.text, block.status)
                progress.advance(len(block.rows), note=_note(len(failures.reasons)))
                if interruption.asked:
                    raise KeyboardInterrupt
        counts = {s: int((writer.status == s).sum()) for s in (PENDING, DONE, FAILED)}
        seconds = time.monotonic() - began
        failures.write()
        digest = writer.finish()
        return Summary(
            cache=str(out),
            samples=len(manifest),
            done=counts[DONE],
            failed=counts[FAILED],
            pending=counts[PENDING],
            extracted=counts[DONE] - before,
            centred=centred,
            seconds=round(seconds, 2),
            clips_per_second=round((counts[DONE] - before) / max(seconds, 1e-9), 3),
            digest=digest,
            failures=str(failures.path) if counts[FAILED] else "",
            damaged=writer.damaged,
            restored=None if writer.digest_before is None else digest == writer.digest_before,
        )


def provenance(recordings: Recordings, teacher: Teacher, settings: Settings) -> dict[str, Any]:
    """Return the attributes of the cache: what its rows are made from, and with what."""
    manifest, skeletons, crop = recordings.manifest, recordings.skeletons, settings.decode.crop
    description = teacher.describe()
    return {
        "dataset": manifest.name,
        "manifest_sha256": manifest.sha256,
        "skeletons_digest": None if skeletons is None else skeletons.attrs.get("digest"),
        "classes": [
            {"class_id": class_id, "label": label, **_prompt(teacher, label)}
            for class_id, label in manifest.classes.items()
        ],
        "teacher": description,
        "untrained": not description.get("trained", True),
        "preprocessing": {
            "sampling": "segment-midpoints",
            "frames": crop.frames,
            **({"views": crop.views} if crop.views > 1 else {}),
            "crop": crop.policy,
            "margin": crop.margin,
            "size": crop.size,
            "interpolation": f"{crop.interpolation}, antialiased, uint8",
            "mean": list(teacher.mean),
            "std": list(teacher.std),
        },
        "software": {
            **software(_SOFTWARE),
            "decoder": settings.decode.decoder,
            "batch": settings.batch,
            "threads": torch.get_num_threads(),
        },
        "manifest": str(manifest.path or ""),
        "skeletons": "" if skeletons is None else str(skeletons.path),
        "licence_note": settings.licence_note,
        **({} if settings.shard is None else {"shard": asdict(settings.shard)}),
        **declared([step("extract", {"teacher": description.get("name"), "crop": crop.policy})]),
    }


def _prompt(teacher: Teacher, label: str) -> dict[str, Any]:
    """Return what is read of a class; ``sentences`` lists it if it is read in several pieces."""
    texts = [prompts([label], template)[0] for template in teacher.templates]
    return {"prompt": " ".join(texts), **({"sentences": texts} if len(texts) > 1 else {})}


@dataclass(frozen=True)
class _Answer:
    """A row of a window: its clip, or stage and message of its failure."""

    row: int
    clip: Clip | None
    reason: tuple[str, str] | None


@dataclass(frozen=True)
class _Block:
    """The rows of a window that are to be committed."""

    rows: np.ndarray
    video: np.ndarray
    text: np.ndarray
    status: np.ndarray
    reasons: dict[int, tuple[str, str]]
    centred: int


def _answers(manifest: Manifest, rows: Iterator[int], clips: Iterator[Clip]) -> Iterator[_Answer]:
    for row in rows:
        if not manifest.samples[row].video:
            yield _Answer(int(row), None, ("manifest", "the sample has no video"))
            continue
        clip = next(clips)
        if clip.report.row != row:
            raise RuntimeError(f"clip of row {clip.report.row} came for row {row}")
        failed = clip.pictures is None
        yield _Answer(int(row), clip, (clip.report.stage, clip.report.message) if failed else None)


class _Window:
    """Encodes one window of rows after the other in batches of one size."""

    def __init__(
        self, teacher: Teacher, class_text: torch.Tensor, class_row: np.ndarray, settings: Settings
    ):
        self.teacher, self.class_text, self.class_row = teacher, class_text, class_row
        self.batch, self.dtype = settings.batch, np.dtype(settings.store_dtype)
        crop = settings.decode.crop
        self.views = crop.views
        self.shape = (self.batch, crop.pictures, 3, crop.size, crop.size)

    @torch.inference_mode()
    def encode(self, start: int, answers: Iterator[_Answer]) -> _Block:
        """Return the features of the answered rows of the window that begins at ``start``."""
        pictures = np.zeros(self.shape, dtype=np.uint8)
        rows, reasons, centred = [], {}, 0
        for answer in answers:
            rows.append(answer.row)
            if answer.reason is not None:
                reasons[answer.row] = answer.reason
            elif answer.clip is not None and answer.clip.pictures is not None:
                pictures[answer.row - start] = answer.clip.pictures
                centred += not answer.clip.report.joints
        places = np.array(rows) - start
        video = text = np.zeros((self.batch, self.views, self.teacher.dim), dtype=np.float32)
        if len(reasons) < len(rows):
            labels = np.resize(self.class_row[start : start + self.batch], self.batch)
            prompts = self.class_text[torch.from_numpy(labels).to(self.class_text.device)]
            found = [self._view(pictures[:, v :: self.views], prompts) for v in range(self.views)]
            video, text = (np.stack(parts, axis=1) for parts in zip(*found, strict=True))
        video, text = video[places], text[places]
        limit = float(np.finfo(self.dtype).max)
        for i, row in enumerate(rows):
            largest = float(np.abs([video[i], text[i]]).max())  # NaN if any is
            if row not in reasons and not largest <= limit:
                what = "too large for float16; --store-dtype float32 holds it"
                reasons[row] = ("encode", what if math.isfinite(largest) else "not finite")
        status = np.array([FAILED if row in reasons else DONE for row in rows], dtype=np.uint8)
        return _Block(np.array(rows), video, text, status, reasons, centred)

    def _view(self, pictures: np.ndarray, prompts: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return f_v and f_t (B, D) of one view of the clips (B, T, 3, S, S)."""
        clips = torch.from_numpy(np.ascontiguousarray(pictures))
        f_v, context = self.teacher.encode_clips(clips)
        text = self.teacher.condition(prompts, context)
        return f_v.float().cpu().numpy(), text.float().cpu().numpy()


def choose_device(asked: str) -> str:
    """Return ``asked``, or for ``auto`` a CUDA device where there is one, else the processor."""
    if asked != "auto":
        return asked
    return "cuda" if torch.cuda.is_available() else "cpu"


def choose_precision(asked: str, device: str, width: int) -> Precision:
    """Return ``asked``, or for ``auto`` bfloat16 where it is faster, else float32.

    A processor without bfloat16 units is slower under it (teacher.md 3.1), and so is a small model
    on one with them: xclip-demo (128 channels) takes three times as long a clip.

    Args:
        asked: ``auto``, ``float32`` or ``bfloat16``.
        device: Where the teacher runs.
        width: Channels of its vision tower.
    """
    if asked != "auto":
        return "bfloat16" if asked == "bfloat16" else "float32"
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device != "cpu" or width < 512:
        return "float32"
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return "float32"
    return "bfloat16" if {"avx512_bf16", "amx_bf16"} & set(flags) else "float32"


def default_workers(device: str) -> int:
    """Return how many decoding processes to run: a processor must also encode, a GPU waits."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(cores // 2, 1) if device == "cpu" else cores


def _note(failures: int) -> str:
    return f"{failures} failed" if failures else ""
