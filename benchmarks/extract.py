"""Extraction end to end beside transformers' XCLIPModel as a user would call it, in one run.

Claim (goal): on a processor skelfew takes a third of the time. Theirs: float32, one clip at a time,
all class texts encoded in each call. Ours: `extract`, decoding in a process of its own, bfloat16
where the processor has it, class texts encoded once, the cache written. Both decode the same videos
of the demo world with the same decoder and joint crop, and have the same random weights.
torch.compile is off. Stages are printed; so is the cosine of bfloat16 to float32 features.

The decoding process imports this file again, so what it does not need is imported where it is used,
as in the command.

Usage: python benchmarks/extract.py [VARIANT] [--clips 8] [--json]   (default xclip-base-patch16)
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from skelfew_extract.clips import ClipTask, DecodeSettings
from skelfew_extract.crop import CropSettings, clip_box, crop_and_resize, segment_midpoints
from skelfew_extract.engines.decode_worker import decode_clip
from skelfew_extract.frames import probe, read_frames
from support.rows import options, report

if TYPE_CHECKING:
    from skelfew_extract.teachers.xclip_teacher import XCLIPTeacher

STAGES: dict[str, float] = {}


def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` that adds its seconds to a stage."""

    def call(*args: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args, **options)
        finally:
            STAGES[stage] = STAGES.get(stage, 0.0) + time.perf_counter() - began

    return call


def waits(decode: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """Count apart how long the first clip is waited for (a process starts) and the others."""

    def clips(*args: Any, **options: Any) -> Iterator[Any]:
        found = decode(*args, **options)
        try:
            stage = "start of the decoding process"
            while (clip := timed(stage, next)(found, None)) is not None:
                stage = "waiting for clips"
                yield clip
        finally:
            found.close()  # type: ignore[attr-defined]

    return clips


def alone(tasks: list[ClipTask], crop: CropSettings) -> tuple[float, float]:
    """Return median milliseconds a clip of decoding, and of cropping."""
    decode, cut = [], []
    for task in tasks:
        began = time.perf_counter()
        available = probe(task.video).frames
        frames = read_frames(
            task.video, segment_midpoints(task.start, task.end, available, 8), "auto"
        )
        middle = time.perf_counter()
        box, _ = clip_box(task.pixels, frames.shape[2], frames.shape[1], crop)
        crop_and_resize(frames, box, crop.size, crop.interpolation)
        decode.append(middle - began)
        cut.append(time.perf_counter() - middle)
    return 1e3 * statistics.median(decode), 1e3 * statistics.median(cut)


@torch.inference_mode()
def as_a_user(
    model: Any,
    exact: "XCLIPTeacher",
    labels: list[str],
    own: list[int],
    tasks: list[ClipTask],
    settings: DecodeSettings,
) -> tuple[np.ndarray, np.ndarray]:
    """Return f_v and f_t (N, D) of one clip after the other."""
    rows = [exact.tokens(label)[0] for label in labels]
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    video, text = [], []
    for task, label in zip(tasks, own, strict=True):
        _, pictures = decode_clip(task, settings)
        pixels = exact.normalise(torch.from_numpy(pictures.copy())[None])
        output = model(input_ids=tokens, pixel_values=pixels)
        video.append(output.video_embeds.flatten().numpy())
        text.append(output.text_embeds.reshape(len(labels), -1)[label].numpy())
    return np.stack(video), np.stack(text)


def both_times() -> tuple[float, float]:
    used = os.times()
    processor = used.user + used.system + used.children_user + used.children_system
    return time.perf_counter(), processor


def least_cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.cosine_similarity(a.double(), b.double()).min())


def measure(name: str, count: int, root: Path) -> dict[str, Any]:
    from skelfew_extract import extract as extraction
    from skelfew_extract.teachers.xclip_teacher import build_xclip
    from support.limit import Products
    from support.online import world
    from support.their_xclip import their_xclip

    from skelfew.cache import CacheWriter

    recordings = world(root)
    exact = build_xclip(name, untrained=True)
    precision = extraction.choose_precision("auto", "cpu", exact.variant.width)
    fast = build_xclip(name, untrained=True, precision="bfloat16")
    ours = fast if precision == "bfloat16" else exact
    theirs = their_xclip(exact)
    manifest = recordings.manifest
    labels, ids = list(manifest.classes.values()), list(manifest.classes)
    tasks = [recordings.task(i) for i in range(count)]
    own = [ids.index(manifest.samples[i].class_id) for i in range(count)]
    crop = CropSettings(frames=exact.frames, size=exact.image_size)
    settings = extraction.Settings(DecodeSettings(crop), batch=min(8, count), limit=count)
    decode_ms, crop_ms = alone(tasks, crop)

    before = both_times()
    f_v, f_t = as_a_user(theirs, exact, labels, own, tasks, settings.decode)
    plain = np.subtract(both_times(), before)

    for part in ("encode_text", "encode_clips", "condition"):
        setattr(ours, part, timed("encode", getattr(ours, part)))
    CacheWriter.write = timed("write", CacheWriter.write)  # type: ignore[method-assign]
    CacheWriter.finish = timed("write", CacheWriter.finish)  # type: ignore[method-assign]
    extraction.decode_clips = waits(extraction.decode_clips)  # type: ignore[assignment]
    before = both_times()
    extraction.extract(recordings, ours, root / "c.zarr", settings)
    whole = np.subtract(both_times(), before)
    spent = dict(STAGES)  # before the teachers are called again, below

    pictures = [decode_clip(task, settings.decode)[1] for task in tasks]
    clips = torch.from_numpy(np.stack([p for p in pictures if p is not None]))
    with Products() as products:
        exact.encode_clips(clips)
    limit = products.shares({precision: spent["encode"]})[precision]
    text = exact.encode_text(labels)[own]
    features = [
        (v, t.condition(text, c)) for t in (exact, fast) for v, c in [t.encode_clips(clips)]
    ]
    start = spent["start of the decoding process"]
    stages = {stage: round(s, 2) for stage, s in spent.items()}
    stages |= {"decode, alone": round(count * decode_ms / 1e3, 2)}
    stages |= {"crop, alone": round(count * crop_ms / 1e3, 2)}
    shared = {"decode and crop": count * (decode_ms + crop_ms) / 1e3}
    shared |= {"encode": spent["encode"], "write": spent["write"]}
    return {
        "teacher": name,
        "clips": count,
        "class_texts": len(labels),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "precision": precision,
        "transformers_s": round(plain[0], 2),
        "skelfew_s": round(whole[0], 2),
        "ratio": round(plain[0] / whole[0], 2),
        "ratio_once_decoding_has_started": round(plain[0] / (whole[0] - start), 2),
        "ratio_of_processor_time": round(plain[1] / whole[1], 2),
        "stages_s": stages,
        **limit,
        "share_of_limit_end_to_end": round(limit["share_of_limit"] * spent["encode"] / whole[0], 2),
        "bottleneck": max(shared, key=lambda stage: shared[stage]),
        "bf16_to_float32_least_cosine_f_v": least_cosine(features[0][0], features[1][0]),
        "bf16_to_float32_least_cosine_f_t": least_cosine(features[0][1], features[1][1]),
        "float32_to_transformers_least_cosine_f_v": least_cosine(
            features[0][0], torch.from_numpy(f_v)
        ),
        "float32_to_transformers_least_cosine_f_t": least_cosine(
            features[0][1], torch.from_numpy(f_t)
        ),
    }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("variant", nargs="?", default="xclip-base-patch16")
    parser.add_argument("--clips", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(arguments.variant, arguments.clips, Path(temporary))
    report("extract", arguments.json, **found)


if __name__ == "__main__":
    main()
