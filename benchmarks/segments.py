"""Actions found in long recordings: precision, recall and F1 at IoU 0.5.

Long recordings are made of UTD-MHAD's: one for each of subjects 4 to 8, all taught actions and as
many that were not taught in random order, the person brought from the end of one to the place of
the next, with a pause of 1 to 3 s between. Three recordings of each action are taught (subjects 1
to 3, trial 1). What was found counts as right if label and segment fit (intersection over union at
least 0.5, each true segment once). How many are recognised when cut out at their true ends is the
most to expect of F1. Settings of ``skelfew.predict.spotting`` were chosen on classes
1, 4, 7, ..., 25; ``--classes novel`` are 3, 6, ..., 27. ``--pauses 0`` leaves no pause.
``--dataset nw-ucla``: likewise of each of its views, subjects 4 to 10, all ten actions taught.

Usage: python benchmarks/segments.py [--classes novel] [--shots 3] [--seeds 3] [--pauses 1] [--json]
    [--dataset nw-ucla]
"""

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np
import torch

from skelfew.data.joints.layouts import load_layout
from skelfew.data.readers import RawFolder, Recording, load_reader
from skelfew.predict.model import Model
from skelfew.predict.recogniser import Recogniser
from skelfew.predict.recordings import Clip
from skelfew.predict.sliding import segments
from skelfew.predict.spotting import hits

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RAW = {"utd-mhad": "utd-mhad/Skeleton.zip", "nw-ucla": "nw-ucla/all_sqe.zip"}
SHORTEST = 5  # frames; two clips of NW-UCLA have one
CLASSES = {"validation": range(1, 26, 3), "novel": range(3, 28, 3), "rest": range(2, 27, 3)}
FPS, BLEND, JITTER = 30, 15, 0.004  # frames a second, frames, metres
Truth = list[tuple[int, int, str]]


def recordings(data_set: str) -> dict[tuple[int, int, int, int], np.ndarray]:
    """Return the joints (T, 20, 3) by view, action, subject and trial."""
    reader, raw = load_reader(data_set), RawFolder(DATA / RAW[data_set])
    found = {}
    for source in reader.sources(raw, reader.defaults):
        for item in reader.read(raw, source, reader.defaults):
            if isinstance(item, Recording) and item.skeleton.positions.shape[1] > SHORTEST:
                about = item.sample
                view, subject, trial = (
                    int(text or 1) for text in (about.view, about.subject, about.replication)
                )
                found[view, about.class_id, subject, trial] = item.skeleton.positions[0]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--dataset", choices=RAW, default="utd-mhad")
    parser.add_argument("--classes", choices=CLASSES, default="novel", help="of utd-mhad")
    parser.add_argument("--shots", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pauses", type=float, default=1.0, help="times 1 to 3 s")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    all_clips, layout = recordings(args.dataset), load_layout("kinect-v1")
    if args.dataset == "utd-mhad":
        taught, subjects = list(CLASSES[args.classes]), range(4, 9)
        others = list(CLASSES["validation" if args.classes == "rest" else "rest"])
    else:
        args.classes, taught, others, subjects = "all", list(range(1, 11)), [], range(4, 11)

    def trials(*about: int) -> list[int]:
        """Of a view, an action and a subject."""
        return sorted(key[3] for key in all_clips if key[:3] == about)

    rights = count = wanted = frames = made = cut_out = 0
    took = 0.0
    for view, seed in itertools.product(sorted({key[0] for key in all_clips}), range(args.seeds)):
        support = {
            f"a{a}": [
                Clip(f"a{a}s{s}", all_clips[view, a, s, trials(view, a, s)[0]][None], layout, 3)
                for s in range(1, args.shots + 1)
            ]
            for a in taught
        }
        recogniser = Recogniser.learn(support, Model.untrained(layout))
        rng = np.random.default_rng(seed)
        for subject in subjects:
            actions = [a for a in taught + others if trials(view, a, subject)]
            rng.shuffle(actions)
            clips = [
                all_clips[view, a, subject, int(rng.choice(trials(view, a, subject)))]
                for a in actions
            ]
            labels = [f"a{a}" if a in taught else None for a in actions]
            long, truth = joined(clips, labels, args.pauses, rng)
            start = time.perf_counter()
            found = segments(recogniser, long)
            took += time.perf_counter() - start
            cut_out += sum(recogniser.predict(long[a:b]).nearest == name for a, b, name in truth)
            rights += hits([(s.start, s.end, s.label) for s in found], truth)
            count, wanted, frames = count + len(found), wanted + len(truth), frames + len(long)
            made += 1
    precision, recall = rights / max(count, 1), rights / wanted
    row = {
        "dataset": args.dataset,
        "classes": args.classes,
        "shots": args.shots,
        "recordings": made,
        "actions": wanted,
        "found": count,
        "precision": precision,
        "recall": recall,
        "f1": 2 * rights / (count + wanted),
        "right_cut_out": cut_out / wanted,
        "frames_per_second": frames / took,
    }
    if args.json:
        print(json.dumps(row))
    else:
        print(
            f"{args.dataset}, {args.classes}, {args.shots} shots, pauses x {args.pauses:g}: "
            f"{wanted} actions in {made} recordings, "
            f"{count} found; precision {precision:.1%}, recall {recall:.1%}, F1 {row['f1']:.3f}; "
            f"cut out at the true ends {row['right_cut_out']:.1%} are recognised; "
            f"{row['frames_per_second']:.0f} frames a second"
        )


if __name__ == "__main__":
    main()
