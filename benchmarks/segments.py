"""Actions found in long recordings: precision, recall and F1 at IoU 0.5.

Long recordings are made of UTD-MHAD's: one for each of subjects 4 to 8, all taught actions and as
many that were not taught in random order, the person brought from the end of one to the place of
the next, with a pause of 1 to 3 s between. Three recordings of each action are taught (subjects 1
to 3, trial 1). What was found counts as right if label and segment fit (intersection over union at
least 0.5, each true segment once). Settings of ``skelfew.predict.spotting`` were chosen on classes
1, 4, 7, ..., 25; ``--classes novel`` are 3, 6, ..., 27. ``--pauses 0`` leaves no pause.

Usage: python benchmarks/segments.py [--classes novel] [--shots 3] [--seeds 3] [--pauses 1] [--json]
"""

import argparse
import json
import time
import zipfile
from pathlib import Path

import numpy as np
import torch

from skelfew.data.joints.layouts import load_layout
from skelfew.data.readers import utd
from skelfew.predict.model import Model
from skelfew.predict.recogniser import Recogniser
from skelfew.predict.recordings import Clip
from skelfew.predict.sliding import segments

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "utd-mhad" / "Skeleton.zip"
CLASSES = {"validation": range(1, 26, 3), "novel": range(3, 28, 3), "rest": range(2, 27, 3)}
FPS, BLEND, JITTER = 30, 15, 0.004  # frames a second, frames, metres
LEAST = 0.5  # intersection over union
Truth = list[tuple[int, int, str]]


def recordings(path: Path = DATA) -> dict[tuple[int, int, int], np.ndarray]:
    """Return the joints (T, 20, 3) by action, subject and trial."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith("_skeleton.mat"):
                a, s, t = (int(part[1:]) for part in Path(name).stem.split("_")[:3])
                found[a, s, t] = utd.parse(archive.read(name))[0]
    return found


def joined(
    clips: list[np.ndarray], labels: list[str | None], pauses: float, rng: np.random.Generator
) -> tuple[np.ndarray, Truth]:
    """Return one long recording (T, 20, 3), and where the taught actions are."""
    parts: list[np.ndarray] = []
    truth: Truth = []
    total = 0
    for clip, label in zip(clips, labels, strict=True):
        if parts:
            last = parts[-1][-1]
            shift = last[0] - clip[0, 0]
            clip = clip + shift * [1, 0, 1]
            wait = int(pauses * rng.integers(FPS, 3 * FPS + 1))
            share = np.linspace(0, 1, BLEND + 2)[1:-1, None, None]
            way = last * (1 - share) + clip[0] * share
            gap = np.concatenate([np.repeat(last[None], wait // 2, 0), way,
                                  np.repeat(clip[:1], wait - wait // 2, 0)])  # fmt: skip
            parts.append(gap + rng.normal(0, JITTER, gap.shape))
            total += len(gap)
        if label is not None:
            truth.append((total, total + len(clip), label))
        parts.append(clip)
        total += len(clip)
    return np.concatenate(parts).astype(np.float32), truth


def hits(found: Truth, truth: Truth) -> int:
    """Return how many found segments are right."""
    used: set[int] = set()
    for start, end, label in found:
        for i, (first, last, name) in enumerate(truth):
            both = max(0, min(end, last) - max(start, first))
            union = max(end, last) - min(start, first)
            if i not in used and name == label and both >= LEAST * union:
                used.add(i)
                break
    return len(used)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--classes", choices=CLASSES, default="novel")
    parser.add_argument("--shots", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pauses", type=float, default=1.0, help="times 1 to 3 s")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    all_clips, layout = recordings(), load_layout("kinect-v1")
    taught = list(CLASSES[args.classes])
    others = list(CLASSES["validation" if args.classes == "rest" else "rest"])
    support = {
        f"a{a}": [Clip(f"a{a}s{s}", all_clips[a, s, 1][None], layout, 3)
                  for s in range(1, args.shots + 1)]
        for a in taught
    }  # fmt: skip
    recogniser = Recogniser.learn(support, Model.untrained(layout))
    rights = count = wanted = frames = 0
    start = time.perf_counter()
    for seed in range(args.seeds):
        rng = np.random.default_rng(seed)
        for subject in range(4, 9):
            actions = taught + others
            rng.shuffle(actions)
            clips = []
            for a in actions:
                trials = [t for t in range(1, 5) if (a, subject, t) in all_clips]
                clips.append(all_clips[a, subject, int(rng.choice(trials))])
            labels = [f"a{a}" if a in taught else None for a in actions]
            long, truth = joined(clips, labels, args.pauses, rng)
            found = segments(recogniser, long)
            rights += hits([(s.start, s.end, s.label) for s in found], truth)
            count, wanted, frames = count + len(found), wanted + len(truth), frames + len(long)
    precision, recall = rights / max(count, 1), rights / wanted
    row = {
        "classes": args.classes,
        "shots": args.shots,
        "recordings": 5 * args.seeds,
        "actions": wanted,
        "found": count,
        "precision": precision,
        "recall": recall,
        "f1": 2 * rights / (count + wanted),
        "frames_per_second": frames / (time.perf_counter() - start),
    }
    if args.json:
        print(json.dumps(row))
    else:
        print(
            f"{args.classes}, {args.shots} shots: {wanted} actions in {5 * args.seeds} recordings, "
            f"{count} found; precision {precision:.1%}, recall {recall:.1%}, F1 {row['f1']:.3f}; "
            f"{row['frames_per_second']:.0f} frames a second"
        )


if __name__ == "__main__":
    main()
