"""Reader ``spots``: ``cN_sM.npy`` with joints in the picture (T, V, 2), beside ``cN_sM.mp4``."""

import io
import re
from collections.abc import Iterator

import numpy as np

from skelfew.data.manifest import Sample
from skelfew.data.readers import Dropped, Options, RawFolder, Reader, Recording
from skelfew.data.readers.raw import stem
from skelfew.data.store import Skeleton

_NAME = re.compile(r"c(\d+)_s(\d+)")


def sources(raw: RawFolder, options: Options) -> list[str]:
    """List the recordings."""
    return raw.names("*.npy")


def read(raw: RawFolder, source: str, options: Options) -> Iterator[Recording | Dropped]:
    """Read one recording."""
    name = stem(source)
    if (match := _NAME.fullmatch(name)) is None:
        yield Dropped(name, source, "its name is not like c1_s2")
        return
    points = np.load(io.BytesIO(raw.read(source)), allow_pickle=False).astype(np.float32)
    class_id = int(match[1])
    label = f"{options['word']} {class_id}"
    sample = Sample(name, class_id, label, len(points), 1, f"{name}.mp4", 0, len(points))
    sure = np.concatenate([points, np.ones_like(points[..., :1])], axis=-1)
    yield Recording(sample, Skeleton(sure[None], points[None]))


READER = Reader(
    name="spots",
    layout="joints-15",
    sources=sources,
    read=read,
    channels=3,
    units="pixels",
    pixels=True,
    defaults={"word": "dance"},
)
