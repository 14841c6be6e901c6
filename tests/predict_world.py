"""A small run, and recordings of actions that it never saw as files: real ones, small."""

from contextlib import chdir
from pathlib import Path

import numpy as np
from evaluation_world import NOVEL, make_data, make_run

from skelfew.data.store import SkeletonStore

SHOTS = 3


def make_predict_world(root: Path) -> Path:
    """Write ``runs/tiny`` and, below ``my-actions`` and ``others``, the novel classes' recordings.

    Returns:
        ``root``.
    """
    with chdir(root):
        _, store = make_data(root)
        make_run(root, "tiny")
    with store:
        for sample_id in store.ids:
            action, _, take = sample_id.partition("_s")
            if int(action[1:]) in NOVEL:
                folder = "my-actions" if int(take) <= SHOTS else "others"
                save(store, sample_id, root / folder / action / f"take{take}.npy")
    return root


def save(store: SkeletonStore, sample_id: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, store[sample_id].positions[0])
