"""How hard the demo world is for raw joints, and how long a sample takes, in one run.

Claim: nearest neighbours on raw joints (centred, 32 frames, cosine) are far above chance and far
below perfect on the twelve novel classes with one exemplar each: neither trivial nor hopeless.

Usage: OMP_NUM_THREADS=1 python benchmarks/demo_world.py [--json]
"""

import json
import time

import numpy as np
from skelfew_extract.demoworld import ACTIONS, NOVEL, Spec, generate, specs
from support.rows import options

from skelfew.data.store import Skeleton

FRAMES, DRAWS, TIMED = 32, 500, 30


def feature(skeleton: Skeleton) -> np.ndarray:
    """Return the unit vector of a sample's joints, seen from the first body's mid-spine."""
    positions = skeleton.positions[:, (skeleton.positions != 0).any((0, 2, 3))]
    positions = positions - positions[:1, :, 1:2]
    at = np.linspace(0, positions.shape[1] - 1, FRAMES)
    before = np.floor(at).astype(int)
    after = np.minimum(before + 1, positions.shape[1] - 1)
    share = (at - before)[:, None, None]
    resampled = (1 - share) * positions[:, before] + share * positions[:, after]
    if len(resampled) == 1:
        resampled = np.concatenate([resampled, resampled])
    return resampled.ravel() / np.linalg.norm(resampled)


def accuracies(samples: list[Spec]) -> dict[str, float]:
    """Return one-shot accuracies in percent: the protocol's exemplars, and random ones."""
    features = np.stack([feature(generate(s, {"video": False})[0].skeleton) for s in samples])
    labels = np.array([s.class_id for s in samples])
    classes = np.unique(labels)
    similar = features @ features.T

    def accuracy(exemplars: np.ndarray) -> float:
        rest = np.setdiff1d(np.arange(len(labels)), exemplars)
        guessed = classes[similar[np.ix_(rest, exemplars)].argmax(1)]
        return 100 * float((guessed == labels[rest]).mean())

    rng = np.random.default_rng(0)
    members = [np.flatnonzero(labels == c) for c in classes]
    drawn = [accuracy(np.array([rng.choice(m) for m in members])) for _ in range(DRAWS)]
    return {
        "ways": len(classes),
        "chance": 100 / len(classes),
        "first exemplars": accuracy(np.array([m[0] for m in members])),
        "random exemplars": float(np.mean(drawn)),
        "random exemplars, standard deviation": float(np.std(drawn)),
    }


def milliseconds(samples: list[Spec], video: bool) -> float:
    """Return the mean time to make a sample, without encoding."""
    started = time.perf_counter()
    for spec in samples[:: len(samples) // TIMED]:
        generate(spec, {"video": video})
    return 1000 * (time.perf_counter() - started) / len(samples[:: len(samples) // TIMED])


def main() -> None:
    everything = specs({})
    novel = [s for s in everything if ACTIONS[s.class_id - 1].name in NOVEL]
    results: dict[str, dict[str, float]] = {
        "novel classes": accuracies(novel),
        "all classes": accuracies(everything),
        "milliseconds a sample": {
            "joints": milliseconds(everything, video=False),
            "joints and frames": milliseconds(everything, video=True),
        },
    }
    if options(__doc__).parse_args().json:
        print(json.dumps(results, indent=1))
        return
    for title, rows in results.items():
        print(title)
        for name, value in rows.items():
            print(f"  {name:38} {value:7.1f}")


if __name__ == "__main__":
    main()
