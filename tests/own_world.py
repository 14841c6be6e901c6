"""Recordings of one's own in a folder of a test, and the command that prepares them."""

import csv
from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result

from skelfew.cli.prepare import main
from skelfew.data.joints.layouts import load_layout
from skelfew.data.store import Skeleton, SkeletonStore

RNG = np.random.default_rng(0)
LAYOUT = """
joints = ["head", "neck", "left_hand", "right_hand", "pelvis"]
bones = [["head", "neck"], ["left_hand", "neck"], ["right_hand", "neck"], ["pelvis", "neck"]]
centre = "neck"
"""
V = 5


def solid(frames: int = 9, bodies: int | None = None) -> np.ndarray:
    """3D joints (T, V, 3), with bodies (M, T, V, 3)."""
    shape = (frames, V, 3) if bodies is None else (bodies, frames, V, 3)
    return RNG.normal(size=shape).astype(np.float32)


def flat(frames: int = 9) -> np.ndarray:
    """2D joints with confidence (T, V, 3) in pixels."""
    joints = RNG.uniform(100, 400, (frames, V, 3)).astype(np.float32)
    joints[..., 2] = RNG.uniform(0.2, 1, (frames, V))
    return joints


def run(rows: list[dict[str, object]], *options: str, name: str = "mine") -> Result:
    """Write the table and prepare it."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with Path(f"mine/{name}.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)
    arguments = ["own", "--table", f"mine/{name}.csv", "--layout", "rig.toml", "--workers", "1"]
    return CliRunner().invoke(main, [*arguments, *options])


def rows_of(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def stored(sample_id: str, name: str = "mine") -> Skeleton:
    with SkeletonStore(f"data/{name}.h5") as store:
        return store[sample_id]


def csv_text(joints: np.ndarray, ends: str) -> str:
    """A CSV file of joints (T, V, C) with a header, columns in another order than the layout's."""
    names = load_layout("rig.toml").joints
    order = [(v, c) for v in reversed(range(V)) for c in range(len(ends))]
    head = ",".join(["frame", *(f"{names[v]}_{ends[c]}" for v, c in order)])
    lines = [
        ",".join([str(t), *(repr(float(frame[v, c])) for v, c in order)])
        for t, frame in enumerate(joints)
    ]
    return "\n".join([head, *lines]) + "\n"
