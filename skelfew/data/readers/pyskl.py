"""Annotation pickles of PYSKL and MMAction2, 2D and 3D.

A file is a dict with ``annotations``, or that list alone; an annotation has ``frame_dir``,
``label`` (from 0), ``total_frames``, ``keypoint`` (bodies, frames, joints, 2 or 3) and, in 2D,
``keypoint_score`` (bodies, frames, joints), ``img_shape`` and ``original_shape``. Files are opened
without executing anything, see ``skelfew/io/pickles.py``.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from skelfew.data.facts import name_of, names_from
from skelfew.data.joints.layouts import load_layout
from skelfew.data.manifest import Sample
from skelfew.data.readers import Dropped, Options, RawFolder, Reader, Recording
from skelfew.data.readers.bodies import least_confidence, most_seen
from skelfew.data.readers.ntu import name_fields, preprocessing
from skelfew.data.readers.raw import stem
from skelfew.data.store import Skeleton
from skelfew.errors import SkelfewError
from skelfew.io.files import BROKEN, Document, brief, shown
from skelfew.io.pickles import load_arrays

_LAYOUTS = {(17, 2): "coco", (18, 2): "openpose-18", (25, 3): "kinect-v2", (20, 3): "kinect-v1"}


def sources(raw: RawFolder, options: Options) -> list[str]:
    """List the pickles."""
    names_from(str(options["names"]), "")
    least_confidence(options)
    return raw.names("*.pkl", "*.pickle")


def detect(reader: Reader, raw: RawFolder, options: Options) -> Reader:
    """Take layout, channels and units from the first annotation with joints."""
    for source in sources(raw, options):
        for annotation in annotations(raw, source):
            keypoint = annotation.get("keypoint") if isinstance(annotation, dict) else None
            if isinstance(keypoint, np.ndarray) and keypoint.ndim == 4:
                return form(reader, annotation, str(options["layout"]))
    return reader


def form(reader: Reader, annotation: Document, layout: str) -> Reader:
    """Return the reader with layout, channels and units of an annotation (layout: name or auto)."""
    joints, coordinates = annotation["keypoint"].shape[2:]
    if layout == "auto":
        if (joints, coordinates) not in _LAYOUTS:
            raise SkelfewError(
                f"skeletons of {joints} joints in {coordinates}D; say which layout that is with "
                "--option layout=NAME (docs/datasets.md)"
            )
        layout = _LAYOUTS[joints, coordinates]
    if len(load_layout(layout)) != joints:
        raise SkelfewError(
            f"skeletons have {joints} joints, layout {layout} has {len(load_layout(layout))}"
        )
    if coordinates == 3:
        declared = preprocessing if layout == "kinect-v2" else None
        return replace(reader, layout=layout, channels=3, preprocessing=declared)
    channels = 3 if "keypoint_score" in annotation else 2
    return replace(reader, layout=layout, channels=channels, units="pixels", pixels=True)


def annotations(raw: RawFolder, source: str) -> list[Any]:
    """Return the annotations of a file; raise SkelfewError if it holds anything else."""
    try:
        with raw.open(source) as file:
            content = load_arrays(file, source, raw.size(source))
    except SkelfewError:
        raise
    except BROKEN as error:
        raise SkelfewError(f"cannot read {brief(source)} ({brief(error)})") from None
    found = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(found, list):
        raise SkelfewError(f"{source}: no list of annotations; is it a PYSKL annotation file?")
    return found


def read(raw: RawFolder, source: str, options: Options) -> Iterator[Recording | Dropped]:
    """Read all annotations of a file."""
    names, least = str(options["names"]), least_confidence(options)
    for number, annotation in enumerate(annotations(raw, source)):
        name = f"{stem(source)}:{number}"
        if isinstance(annotation, dict) and isinstance(annotation.get("frame_dir"), str):
            name = _identity(annotation["frame_dir"]) or name
        try:
            yield _recording(raw, name, annotation, names, least or 0)
        except SkelfewError as error:
            yield Dropped(name, source, str(error))


def _identity(frame_dir: str) -> str:
    """Return a sample's ID: the path of its frames, without what leads to the root."""
    parts = PurePosixPath(frame_dir.replace("\\", "/")).parts
    parts = tuple(p for p in parts if p not in ("/", ".", "..") and not p.endswith(":"))
    # NTU RGB+D's names say all; folders before them differ from copy to copy.
    return parts[-1] if parts and name_fields(parts[-1]) else "/".join(parts)


def _recording(
    raw: RawFolder, name: str, annotation: object, names: str, least: float
) -> Recording:
    if not isinstance(annotation, dict):
        raise SkelfewError(f"an annotation is a {type(annotation).__name__}, expected a dict")
    label, keypoint = annotation.get("label"), annotation.get("keypoint")
    if not isinstance(label, int | np.integer) or isinstance(label, bool) or label < 0:
        raise SkelfewError(f"label {shown(label)} is not a whole number from 0")
    if (
        not isinstance(keypoint, np.ndarray)
        or keypoint.ndim != 4
        or keypoint.dtype.kind not in "fiu"
    ):
        shape = getattr(keypoint, "shape", None)
        raise SkelfewError(f"keypoint has shape {shape}, expected (bodies, frames, joints, 2 or 3)")
    total = annotation.get("total_frames", keypoint.shape[1])
    if not isinstance(total, int | np.integer) or total != keypoint.shape[1]:
        raise SkelfewError(
            f"total_frames is {shown(total)}, but keypoint has {keypoint.shape[1]} frames"
        )
    positions = keypoint.astype(np.float32)
    score = annotation.get("keypoint_score")
    if positions.shape[-1] == 2 and score is not None:
        if not isinstance(score, np.ndarray) or score.shape != positions.shape[:3]:
            raise SkelfewError(
                f"keypoint_score has shape {getattr(score, 'shape', None)}, expected "
                f"{positions.shape[:3]}"
            )
        positions = np.concatenate([positions, score[..., None].astype(np.float32)], axis=-1)
        positions[(score <= 0) | (score < least)] = 0
    kept, notes = most_seen(positions)
    positions = positions[kept]
    fields = name_fields(name)
    video = raw.find_video(
        f"{name}_rgb.avi", f"nturgb+d_rgb/{name}_rgb.avi", f"{name}.mp4", f"{name}.avi"
    )
    known = {k: str(v) for k, v in (fields or {}).items() if k != "action"}
    sample = Sample(
        sample_id=name,
        class_id=int(label) + 1,
        label=name_of(names_from(names, "ntu" if fields else ""), int(label) + 1),
        frames=positions.shape[1],
        video=video,
        end_frame=positions.shape[1] if video else 0,
        **known,  # type: ignore[arg-type]
    )
    in_video = _in_video(positions, annotation) if keypoint.shape[-1] == 2 else None
    return Recording(sample, Skeleton(positions, in_video), notes)


def _in_video(positions: np.ndarray, annotation: Document) -> np.ndarray:
    """Return joints (M, T, V, 2) in pixels of the original video, NaN where nothing was found."""
    pixels = positions[..., :2].copy()
    pixels[~positions.any(axis=-1)] = np.nan
    seen, original = annotation.get("img_shape"), annotation.get("original_shape")
    if not seen or not original:
        return pixels
    for size in (seen, original):
        if len(size := _numbers(size)) < 2 or min(size) <= 0:
            raise SkelfewError("img_shape or original_shape is no size of a picture")
    if _numbers(seen) != _numbers(original):
        pixels *= np.array([original[1] / seen[1], original[0] / seen[0]], dtype=np.float32)
    return pixels


def _numbers(size: object) -> tuple[float, ...]:
    """Return a size as numbers, empty if it is none."""
    if not isinstance(size, tuple | list) or len(size) > 3:
        return ()
    return tuple(size) if all(type(n) in (int, float) for n in size) else ()


READER = Reader(
    name="pyskl",
    layout="coco",
    sources=sources,
    read=read,
    defaults={"layout": "auto", "names": "auto", "min_confidence": "auto"},
    detect=detect,
)
