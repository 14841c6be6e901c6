"""One pass of a frozen teacher over the videos of a data set, into a cache.

The manifest is cut into windows of ``batch`` rows. A window is decoded, encoded in one batch
(windows.py) and committed, so that a run that was killed any number of times ends in the same
content as one that never was. ``fill`` commits what an engine makes; the engine of one machine is
here, that of a cluster in ray_engine.py.
"""

import os
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skelfew.cache import DONE, FAILED, PENDING, CacheWriter
from skelfew.cache.format.history import declared, step
from skelfew.io.files import Document
from skelfew.progress import Progress
from skelfew_extract.engines.pool import decode_clips
from skelfew_extract.failures import Failures
from skelfew_extract.interruption import Interruption
from skelfew_extract.recordings import Recordings
from skelfew_extract.settings import Settings
from skelfew_extract.summary import ExtractionSummary, software
from skelfew_extract.teachers import Precision, Teacher, build_teacher, shape_of
from skelfew_extract.text import prompts
from skelfew_extract.windows import Block, Card, Encoder, collect, windows_of

_SOFTWARE = ("skelfew", "torch", "numpy", "zarr", "av", "decord", "open_clip_torch")


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


def extract(
    recordings: Recordings, teacher: Teacher, out: Path, settings: Settings
) -> ExtractionSummary:
    """Fill the cache ``out`` on this machine, going on where an earlier run stopped.

    Raises CacheError: made from something else, or another process writes to it; KeyboardInterrupt
    after Ctrl-C or SIGTERM, once the current window is committed.
    """
    manifest = recordings.manifest
    card = Card.of(teacher, list(manifest.classes.values()))
    encoder = Encoder(teacher, card, manifest, settings)

    def blocks(todo: np.ndarray) -> Generator[Block, None, None]:
        tasks = (recordings.task(int(i)) for i in todo if manifest.samples[i].video)
        clips = decode_clips(tasks, settings.decode, settings.workers, 2 * settings.batch)
        with closing(clips):
            for start, rows in windows_of(todo, settings.batch):
                yield encoder.encode(collect(start, rows, manifest, clips, settings))

    return fill(recordings, card, out, settings, blocks)


def fill(
    recordings: Recordings,
    card: Card,
    out: Path,
    settings: Settings,
    blocks: Callable[[np.ndarray], Generator[Block, None, None]],
) -> ExtractionSummary:
    """Commit the blocks of an engine to the cache ``out``, as its only writer.

    ``blocks`` is asked for the rows that are to be done, ascending int64, and yields each of them
    in one block, in any order of blocks. It is closed when somebody asks to stop.
    """
    manifest = recordings.manifest
    with CacheWriter.create_or_resume(
        out,
        manifest.ids,
        dim=card.dim,
        views=settings.decode.crop.views,
        dtype=settings.store_dtype,
        class_text=card.class_text,
        provenance=provenance(recordings, card, settings),
        repairing=settings.repair,
    ) as writer:
        failed = [manifest.ids[i] for i in np.flatnonzero(writer.status == FAILED)]
        failures = Failures.beside(out, failed)
        todo = writer.pending(settings.retry_failed)
        first, stop = settings.rows(len(manifest))
        todo = todo[(todo >= first) & (todo < stop)]
        began, before, centred = time.monotonic(), int((writer.status == DONE).sum()), 0
        total = max(stop - first, 0)
        progress = Progress("extract", total, unit="clips", done=total - len(todo))
        with Interruption() as interruption, closing(blocks(todo)) as stream, progress:
            for block in stream:
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
        return ExtractionSummary(
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


def provenance(recordings: Recordings, teacher: Card, settings: Settings) -> Document:
    """Return the attributes of the cache: what its rows are made from, and with what."""
    manifest, skeletons = recordings.manifest, recordings.skeletons
    description = teacher.description
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
            **settings.preprocessing(manifest),
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
        **declared(
            [
                step(
                    "extract",
                    {"teacher": description.get("name"), "crop": settings.decode.crop.policy},
                )
            ]
        ),
    }


def _prompt(teacher: Card, label: str) -> Document:
    """Return what is read of a class; ``sentences`` lists it if it is read in several pieces."""
    texts = [prompts([label], template)[0] for template in teacher.templates]
    return {"prompt": " ".join(texts), **({"sentences": texts} if len(texts) > 1 else {})}


def choose_device(asked: str) -> str:
    """Return ``asked``, or for ``auto`` a CUDA device where there is one, else the processor."""
    if asked != "auto":
        return asked
    return "cuda" if torch.cuda.is_available() else "cpu"


def choose_precision(asked: str, device: str, width: int) -> Precision:
    """Return ``asked``, or for ``auto`` bfloat16 where it is faster, else float32.

    A processor without bfloat16 units is slower under it, and so is a small model on one with them:
    xclip-demo (128 channels) takes three times as long a clip.
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


def build_chosen(name: str, *, device: str, precision: str, **how: Any) -> Teacher:
    """Return the teacher ``name``, with the precision chosen in the process that calls this."""
    shape = shape_of(name)
    if precision == "auto" and not shape.near_in_bfloat16:
        precision = "float32"
    chosen = choose_precision(precision, device, shape.width)
    return build_teacher(name, device=device, precision=chosen, **how)


def default_workers(device: str) -> int:
    """Return how many decoding processes to run: a processor must also encode, a GPU waits."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(cores // 2, 1) if device == "cpu" else cores


def _note(failures: int) -> str:
    return f"{failures} failed" if failures else ""
