"""Real recordings through their readers."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from skelfew.data.readers import RawFolder, Recording, load_reader

RAW = {"utd-mhad": "utd-mhad/Skeleton.zip", "nw-ucla": "nw-ucla/all_sqe.zip"}


def read_some(shared: Path, data_set: str, step: int = 1) -> Iterator[Recording]:
    """Read every ``step``-th recording of a data set."""
    reader, raw = load_reader(data_set), RawFolder(shared / "data" / RAW[data_set])
    for source in reader.sources(raw, reader.defaults)[::step]:
        for item in reader.read(raw, source, reader.defaults):
            assert isinstance(item, Recording)
            yield item


def some_actions(
    shared: Path, data_set: str, each: int, step: int = 1
) -> dict[str, list[np.ndarray]]:
    """Return up to ``each`` clips (T, V, 3) of every action."""
    found: dict[str, list[np.ndarray]] = {}
    for item in read_some(shared, data_set, step):
        clips = found.setdefault(item.sample.label, [])
        if len(clips) < each and item.skeleton.positions.shape[1] > 1:
            clips.append(item.skeleton.positions[0])
    return found
