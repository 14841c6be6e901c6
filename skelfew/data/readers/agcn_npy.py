"""Arrays of 2s-AGCN, ST-GCN and their kin: ``train_data_joint.npy`` and ``train_label.pkl``.

The array is (N, C, T, V, M), padded with zeros at the end; the pickle is (names, labels), labels
from 0. It is opened without executing anything. Kinetics-Skeleton's third value is a confidence.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from skelfew.data.facts import name_of, names_from
from skelfew.data.joints.layouts import load_layout
from skelfew.data.manifest import Sample
from skelfew.data.readers import Dropped, Options, RawFolder, Reader, Recording
from skelfew.data.readers.arrays import open_npy
from skelfew.data.readers.bodies import most_seen
from skelfew.data.store import Skeleton
from skelfew.errors import SkelfewError
from skelfew.io.files import BROKEN, brief
from skelfew.io.paths import below
from skelfew.io.pickles import load_arrays

_LAYOUTS = {25: "kinect-v2", 20: "kinect-v1", 18: "openpose-18", 17: "coco"}
_PICTURES = {17, 18}  # joints of layouts whose third value is a confidence
_DATA = re.compile(r"_data(_joint)?$")


def sources(raw: RawFolder, options: Options) -> list[str]:
    """List the arrays that have a pickle of labels beside them."""
    names_from(str(options["names"]), "")
    if not raw.path.is_dir():
        raise SkelfewError(f"{raw.path}: expected a folder of NAME_data_joint.npy, NAME_label.pkl")
    arrays = raw.names("*_data.npy", "*_data_joint.npy")
    lacking = [
        name for name in arrays if not (below(raw.path, _labels_of(name), links=True)).is_file()
    ]
    if lacking:
        raise SkelfewError(f"{raw.path}: {lacking[0]} has no {_labels_of(lacking[0])} beside it")
    return arrays


def _labels_of(array: str) -> str:
    path = PurePosixPath(array)
    return path.with_name(_DATA.sub("_label.pkl", path.stem)).as_posix()


def detect(reader: Reader, raw: RawFolder, options: Options) -> Reader:
    """Take the layout from the number of joints of the first array."""
    for source in sources(raw, options)[:1]:
        values = _array(raw, source)
        joints, name = values.shape[3], str(options["layout"])
        if name == "auto" and joints not in _LAYOUTS:
            raise SkelfewError(f"{source}: {joints} joints; say which with --option layout=NAME")
        layout = load_layout(_LAYOUTS[joints] if name == "auto" else name)
        if len(layout) != joints:
            raise SkelfewError(f"{source}: {joints} joints, layout {layout.name} has {len(layout)}")
        flat = values.shape[1] == 2 or joints in _PICTURES
        units = "pixels" if flat else "metres"
        return replace(reader, layout=layout, channels=values.shape[1], units=units)
    return reader


def _array(raw: RawFolder, source: str) -> np.ndarray:
    values = open_npy(below(raw.path, source, links=True))
    if values.ndim != 5 or values.shape[1] not in (2, 3) or 0 in values.shape:
        raise SkelfewError(
            f"{source}: shape {values.shape}, expected (samples, 2 or 3, frames, joints, bodies)"
        )
    return values


def read(raw: RawFolder, source: str, options: Options) -> Iterator[Recording | Dropped]:
    """Read all samples of an array; frames of zeros at the end are padding."""
    values = _array(raw, source)
    ids, labels = _labelled(raw, _labels_of(source), len(values))
    names = names_from(str(options["names"]), "ntu" if values.shape[3] == 25 else "")
    for sample_id, label, sample in zip(ids, labels, values, strict=True):
        positions = np.ascontiguousarray(sample.transpose(3, 1, 2, 0), dtype=np.float32)
        try:
            kept, notes = most_seen(positions)
        except SkelfewError as error:
            yield Dropped(sample_id, source, str(error))
            continue
        positions = positions[kept]
        last = int(np.flatnonzero(positions.any(axis=(0, 2, 3)))[-1]) + 1
        positions = positions[:, :last]
        row = Sample(sample_id, label + 1, name_of(names, label + 1), last)
        yield Recording(row, Skeleton(positions), notes)


def _labelled(raw: RawFolder, name: str, count: int) -> tuple[list[str], list[int]]:
    """Return the IDs and classes of a pickle (names, labels)."""
    try:
        with raw.open(name) as file:
            content: object = load_arrays(file, name)
    except BROKEN as error:
        raise SkelfewError(f"cannot read {brief(name)} ({brief(error)})") from None
    if not isinstance(content, tuple | list) or len(content) not in (2, 3):
        raise SkelfewError(f"{name}: expected (names, labels)")
    ids, labels = (x.tolist() if isinstance(x, np.ndarray) else x for x in content[:2])
    if not isinstance(ids, list | tuple) or not isinstance(labels, list | tuple):
        raise SkelfewError(f"{name}: expected (names, labels), two lists")
    if len(ids) != count or len(labels) != count:
        raise SkelfewError(f"{name}: {len(ids)} names and {len(labels)} labels for {count} samples")
    if not all(isinstance(i, str) for i in ids) or not all(
        type(n) is int and 0 <= n < 1 << 31 for n in labels
    ):
        raise SkelfewError(f"{name}: names must be texts, and labels whole numbers from 0")
    return [i.removesuffix(".skeleton") for i in ids], list(labels)


READER = Reader(
    name="agcn-npy",
    layout="kinect-v2",
    sources=sources,
    read=read,
    defaults={"layout": "auto", "names": "auto"},
    detect=detect,
)
