"""A stream's labels against re-running the whole clip at every frame, in one run.

Claim: watching a stream costs less than half of recognising everything so far at every frame, on
one core and on two. Both know the same three actions from three recordings each of 48 to 72 frames,
with a CTR-GCN of a quarter of the width and 32 frames (weights do not matter for time; fresh ones).
The stream decides every few frames, for up to three lengths of window at once, so that a decision
of its own costs more; the other way decides at every frame, on one clip that grows. Wall time is
what a user waits; processor time suffers less from what else the machine does.

With --video FILE and --pose-model FILE it measures --camera instead: the whole loop, from the
decoded picture to the label, beside the bare estimator on the same pictures at 320 pixels, in
turns. Claim: at least 0.9 of its rate.

Usage: python benchmarks/predict.py [--frames 300] [--video FILE --pose-model FILE] [--json]
    On a machine that is busy, OMP_WAIT_POLICY=passive keeps two threads from waiting in circles.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from support.rows import options, report

from skelfew.data.input.pipeline import Pipeline
from skelfew.data.joints.layouts import load_layout
from skelfew.encoders import build_encoder
from skelfew.predict.model import Model
from skelfew.predict.recogniser import Recogniser
from skelfew.predict.sliding import Stream

FPS, EVERY = 30.0, 15  # of the stream; at every 15th frame the other way is timed
ROUNDS = 9  # in which the bare estimator and the whole loop take turns
LAYOUT = "kinect-v1"
Row = dict[str, float]


def make_model() -> Model:
    torch.manual_seed(0)
    encoder = build_encoder("ctrgcn", LAYOUT, bodies=1, width=0.25).eval()
    return Model("fresh", encoder, Pipeline(length=32), load_layout(LAYOUT), 3, 1, {})


def make_frames(count: int, seed: int) -> np.ndarray:
    """Return smooth motion, (count, 20, 3)."""
    random = np.random.default_rng(seed)
    phases, amplitudes = random.uniform(0, 6, (20, 3)), 0.3 * random.normal(size=(20, 3))
    steps = np.arange(count)[:, None, None] / 20
    return (random.normal(size=(20, 3)) + amplitudes * np.sin(steps + phases)).astype(np.float32)


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Return milliseconds of wall and of processor time."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu)


def summary(decided: list[tuple[float, float]], per_frame: list[tuple[float, float]]) -> Row:
    wall = [w for w, _ in decided]
    return {
        "decision_ms": statistics.median(wall),
        "decision_95_ms": float(np.percentile(wall, 95)),
        "decision_cpu_ms": statistics.median(c for _, c in decided),
        "frame_ms": statistics.fmean(w for w, _ in per_frame),
        "frame_cpu_ms": statistics.fmean(c for _, c in per_frame),
        "decisions": len(decided),
    }


def both_ways(recogniser: Recogniser, frames: np.ndarray) -> tuple[Row, Row]:
    """Feed a stream; at every ``EVERY``th frame, recognise all frames so far as well."""
    stream = Stream(recogniser, FPS)
    costs, decided, whole = [], [], []
    for t, frame in enumerate(frames, start=1):
        before = stream.decisions
        costs.append(timed(partial(stream.add, frame)))
        if stream.decisions > before:
            decided.append(costs[-1])
        if t % EVERY == 0:
            whole.append(timed(partial(recogniser.predict, frames[:t])))
    return summary(decided, costs), summary(whole, whole)


def live_rate(video: str, model: str) -> None:
    """Print how many frames a second the bare estimator and the whole loop of --camera take."""
    from skelfew_extract.frames import all_frames
    from skelfew_extract.live import LIVE_SIDE, live
    from skelfew_extract.pose import Estimator, find_model
    from skelfew_extract.poses import find_in

    from skelfew.cli.predict_live import BEHIND, LIVE_FPS, PAUSE_S, Feeder

    layout = load_layout("mediapipe-33")
    random = np.random.default_rng(0)
    takes = {n: [random.normal(size=(k, 33, 3)) for k in (48, 60, 72)] for n in "abc"}
    recogniser = Recogniser.learn(takes, Model.untrained(layout))
    pictures = [p.image for p in all_frames(video)]
    torch.set_num_threads(1)
    rates: dict[str, list[float]] = {"bare": [], "plain": [], "camera": []}
    costs: dict[str, list[float]] = {"bare": [], "camera": []}  # of the processor, ms a frame
    decided: list[float] = []
    for _ in range(ROUNDS):
        with Estimator(find_model(model)) as estimator:
            find_in(estimator, pictures[0], 0.0, LIVE_SIDE)
            start, cpu = time.perf_counter(), time.process_time()
            for i, image in enumerate(pictures[1:], start=1):
                find_in(estimator, image, i / FPS, LIVE_SIDE)
            rates["bare"].append((len(pictures) - 1) / (time.perf_counter() - start))
            costs["bare"].append(1000 * (time.process_time() - cpu) / (len(pictures) - 1))
        with Estimator(find_model(model)) as estimator:
            for picture in all_frames(video):
                find_in(estimator, picture.image, picture.time, LIVE_SIDE)
                if not picture.number:
                    start = time.perf_counter()
            rates["plain"].append((len(pictures) - 1) / (time.perf_counter() - start))
        stream = Stream(recogniser, LIVE_FPS, pause=PAUSE_S)
        with Feeder(stream) as feeder:
            count, fed, start = 0, 0, 0.0
            for moment in live(video, {"pose_model": model}):
                if not start:
                    start, cpu = time.perf_counter(), time.process_time()
                for _ in range(int(moment.time * LIVE_FPS) + 1 - fed):
                    feeder.feed(moment.joints(3))
                    fed += 1
                feeder.found(BEHIND)
                count += 1
            rates["camera"].append((count - 1) / (time.perf_counter() - start))
            costs["camera"].append(1000 * (time.process_time() - cpu) / (count - 1))
            feeder.found(0)
        decided.append(min(timed(partial(stream._decide, stream.lengths, 2)) for _ in range(5))[0])
    bare, plain, camera = (max(rates[k]) for k in rates)  # least disturbed by others
    print(
        f"estimator on decoded pictures {bare:.1f}, in a loop that decodes {plain:.1f}, --camera "
        f"{camera:.1f} frames a second ({camera / bare:.2f} and {camera / plain:.2f}); "
        f"{1000 / camera:.0f} ms from a picture to its joints, a decision {min(decided):.0f} ms, "
        f"one every {stream.hop / LIVE_FPS:.2f} s; of the processor "
        f"{statistics.median(costs['bare']):.1f} and {statistics.median(costs['camera']):.1f} ms a "
        "frame"
    )


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--video")
    parser.add_argument("--pose-model", default="lite")
    given = parser.parse_args()
    if given.video:
        live_rate(given.video, given.pose_model)
        return
    takes = {
        name: [make_frames(length, 10 * i + length) for length in (48, 60, 72)]
        for i, name in enumerate("abc")
    }
    recogniser = Recogniser.learn(takes, make_model(), reject=True)
    frames = make_frames(given.frames, 99)
    both_ways(recogniser, frames[:70])  # warm
    rows: list[dict[str, Any]] = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        ours, whole = both_ways(recogniser, frames)
        for name, found in (("stream", ours), ("whole clip every frame", whole)):
            rows.append(
                {"threads": threads, "way": name, **{k: round(v, 2) for k, v in found.items()}}
            )
        rows[-2] |= {
            "times_cheaper_per_frame": round(whole["frame_ms"] / ours["frame_ms"], 1),
            "times_cheaper_in_cpu": round(whole["frame_cpu_ms"] / ours["frame_cpu_ms"], 1),
            "share_of_real_time": round(ours["frame_ms"] * FPS / 1000, 3),
        }
    stream = Stream(recogniser)
    windows = f"windows of {', '.join(map(str, stream.lengths))} every {stream.hop}"
    setting = f"{given.frames} frames, CTR-GCN 0.25 on 32, {windows}"
    report("predict", given.json, setting=setting, rows=rows)


if __name__ == "__main__":
    main()
