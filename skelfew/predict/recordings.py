"""Single recordings as files, in any format that a reader knows, without a table or a data set.

Which reader it is shows in the name: ``.skeleton`` (NTU RGB+D), ``.mat`` (UTD-MHAD), ``.txt`` and
``.txt.gz`` (PKU-MMD, MSR Action Pairs), ``.json`` with ``skeletons`` (NW-UCLA), ``.pkl`` (PYSKL),
``.npz`` with ``x_train`` or ``x_test`` (CTR-GCN). In videos (``.mp4``, ...) people are found
(docs/your-videos.md). All other arrays and keypoints are one's own (docs/datasets.md) and have the
joints that the caller says.
"""

import importlib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from skelfew.data.joints.layouts import Layout, load_layout
from skelfew.data.readers import (
    VIDEO_DOOR,
    VIDEO_SUFFIXES,
    Dropped,
    Options,
    RawFolder,
    Recording,
    load_reader,
    parse_options,
)
from skelfew.data.readers.bodies import fill_missing, most_seen
from skelfew.data.readers.own import check_options
from skelfew.data.readers.single import read_known
from skelfew.errors import SkelfewError
from skelfew.io.budget import open_zip
from skelfew.io.files import check_file

SUFFIXES = (
    ".npy", ".npz", ".csv", ".json", ".skeleton", ".mat", ".txt", ".txt.gz", ".pkl", ".pickle",
    *VIDEO_SUFFIXES,
)  # fmt: skip
_OF_VIDEOS = ("pose_model", "people", "visibility")


@dataclass(frozen=True)
class Clip:
    """One recording."""

    name: str  # its path as given, and which it is of several in one file
    # (M, T, V, C) float32, finite; a body that is absent in a frame is zero there
    positions: np.ndarray
    layout: Layout
    coordinates: int  # how many of the C values are a position: 3, or 2 in pictures
    notes: tuple[str, ...] = ()
    fps: float | None = None  # frames a second, where the file says it; else None
    # Joints in the pictures of a video (M, T, V, 2), NaN where not found; else None
    pixels: np.ndarray | None = None

    @property
    def frames(self) -> int:
        """Number of frames T."""
        return int(self.positions.shape[1])

    @property
    def shown(self) -> tuple[int, int]:
        """The first frame that shows somebody, and one past the last."""
        there = np.flatnonzero(self.positions.any(axis=(0, 2, 3)))
        return (int(there[0]), int(there[-1]) + 1) if len(there) else (0, 0)


def is_recording(path: Path) -> bool:
    """Return whether a path looks like one: a known suffix, or a folder with JSON files in it."""
    if path.name.startswith("."):
        return False
    if path.is_dir():
        return any(not p.name.startswith(".") for p in path.glob("*.json"))
    return path.name.lower().endswith(SUFFIXES)


def brings_layout(path: Path) -> bool:
    """Return whether a file that can be read says itself what its joints are."""
    if path.name.lower().endswith(VIDEO_SUFFIXES):
        return True
    names = [load_layout(name) for name in ("kinect-v2", "coco")]
    first, second = (next(iter(read_clips(path, layout))).layout for layout in names)
    return first.same_graph(second)


def read_clips(
    path: str | Path,
    layout: Layout,
    options: Mapping[str, str] | None = None,
    unsure: int | None = None,
) -> list[Clip]:
    """Read a file, or a folder of keypoints: one recording, or all that the file holds.

    NaN joints count as not found, as do those of confidence 0: they are interpolated in time.
    Options are those of ``skelfew-prepare own``; here ``nan`` is ``missing`` unless given.
    ``unsure`` says how many of three values that look like pixels and a confidence are coordinates;
    None raises. Raises SkelfewError that names the file: absent, damaged, no frames, no person, of
    no known format.
    """
    path = Path(path)
    if not path.exists():
        raise SkelfewError(f"{path}: no such recording")
    chosen: dict[str, str | int | float | bool] = {**load_reader("own").defaults, "nan": "missing"}
    for key, value in (options or {}).items():
        if key not in (*chosen, *_OF_VIDEOS) or key in ("table", "layout"):
            known = ", ".join(k for k in (*chosen, *_OF_VIDEOS) if k not in ("table", "layout"))
            raise SkelfewError(f"no option {key!r}; there are {known}")
        chosen[key] = value
    check_options(chosen)
    try:
        if not path.is_dir():
            check_file(path, most=None)
        clips = list(_read(path, layout, chosen, unsure))
        if not clips:
            raise SkelfewError("no recording in it")
        return [usable(clip, str(chosen["nan"])) for clip in clips]
    except SkelfewError as error:
        named = str(error).startswith(str(path))
        raise SkelfewError(str(error) if named else f"{path}: {error}") from None
    except OSError as error:
        raise SkelfewError(f"{path}: cannot be read ({error.strerror})") from None


def read_clip(
    path: str | Path,
    layout: Layout,
    options: Mapping[str, str] | None = None,
    unsure: int | None = None,
) -> Clip:
    """Read a file that holds a single recording; see ``read_clips``."""
    clips = read_clips(path, layout, options, unsure)
    if len(clips) != 1:
        raise SkelfewError(f"{path}: holds {len(clips)} recordings, expected one")
    return clips[0]


def _read(path: Path, layout: Layout, options: Options, unsure: int | None) -> Iterator[Clip]:
    name, lower = str(path), path.name.lower()
    if lower.endswith((".pkl", ".pickle")):
        yield from _pyskl(path, options)
    elif lower.endswith(VIDEO_SUFFIXES):
        yield _video(path, options, unsure)
    elif lower.endswith(".npz") and _holds_samples(path):
        yield from _ctrgcn(path)
    elif not path.is_dir() and (known := read_known(path, layout)) is not None:
        yield Clip(name, known[0], load_layout(known[1]), 3)
    else:
        yield _own(path, layout, options, unsure)


def _own(path: Path, layout: Layout, options: Options, unsure: int | None) -> Clip:
    from skelfew.data.readers import own

    loaded = own.load(path, layout, options, unsure)
    positions, notes = own.fill(loaded, options)
    return Clip(str(path), positions, layout, loaded.coordinates, notes=notes)


def _video(path: Path, options: Options, unsure: int | None) -> Clip:
    door = importlib.import_module(VIDEO_DOOR)
    asked = options["coordinates"]
    coordinates = int(asked) if asked != "auto" else unsure or 3
    given = [f"{key}={options[key]}" for key in _OF_VIDEOS if key in options]
    chosen = {**parse_options(door.READER, given), "coordinates": coordinates}
    joints, fps, notes = door.read_joints(path, chosen)
    layout = load_layout(door.READER.layout)
    return Clip(str(path), joints.positions, layout, coordinates, notes, fps or None, joints.pixels)


def _pyskl(path: Path, options: Options) -> Iterator[Clip]:
    from skelfew.data.readers import pyskl

    raw = RawFolder(path.resolve().parent)
    found = pyskl.annotations(raw, path.name)
    for annotation in found[:1]:
        keypoint = annotation.get("keypoint") if isinstance(annotation, dict) else None
        if not isinstance(keypoint, np.ndarray) or keypoint.ndim != 4:
            raise SkelfewError("its first annotation has no keypoint array")
        reader = pyskl.form(pyskl.READER, annotation, "auto")
        chosen = {**pyskl.READER.defaults, "min_confidence": options["min_confidence"]}
        for item in pyskl.read(raw, path.name, chosen):
            yield _several(path, item, load_layout(reader.layout), reader.coordinates, len(found))


def _holds_samples(path: Path) -> bool:
    try:
        with open_zip(path) as archive:
            return bool({"x_train.npy", "x_test.npy"} & set(archive.namelist()))
    except (zipfile.BadZipFile, OSError):
        return False


def _ctrgcn(path: Path) -> Iterator[Clip]:
    from skelfew.data.readers import ctrgcn_npz

    raw, options = RawFolder(path), ctrgcn_npz.READER.defaults
    for source in ctrgcn_npz.sources(raw, options):
        for item in ctrgcn_npz.read(raw, source, options):
            yield _several(path, item, load_layout("kinect-v2"), 3, 2)


def _several(
    path: Path, item: Recording | Dropped, layout: Layout, coordinates: int, count: int
) -> Clip:
    """Return one of the recordings of a file, called like the file if there is no other."""
    if isinstance(item, Dropped):
        raise SkelfewError(f"{item.sample_id}: {item.reason}")
    name = str(path) if count == 1 else f"{path}:{item.sample.sample_id}"
    return Clip(name, item.skeleton.positions, layout, coordinates)


def usable(clip: Clip, nan: str) -> Clip:
    """Fill in joints that are not numbers, and say what is odd; raise if no person is there."""
    positions, notes = clip.positions, clip.notes
    lost = ~np.isfinite(positions).all(axis=-1)
    if lost.any():
        frames = np.flatnonzero(lost.any(axis=(0, 2)))
        if nan != "missing":
            raise SkelfewError(f"NaN or infinity in {len(frames)} frames, first {frames[0]}")
        positions = np.where(lost[..., None], 0, positions)
        kept, more = most_seen(positions)
        positions, lost = positions[kept], lost[kept]
        lost |= ~positions.any(axis=(2, 3))[..., None]
        positions, share = fill_missing(positions, lost, clip.coordinates)
        notes += (*more, f"{share:.0%} of the joints are NaN; they are interpolated")
    there = positions.any(axis=(1, 2, 3))
    if not there.any():
        raise SkelfewError(f"no body in any of {positions.shape[1]} frames")
    positions = positions[there]
    points = positions[positions.any(axis=(2, 3))][..., : clip.coordinates]
    if (points == points[0, 0]).all():
        raise SkelfewError("all its joints lie in one point, in all frames")
    if empty := int((~positions.any(axis=(0, 2, 3))).sum()):
        notes += (f"{empty} of {positions.shape[1]} frames show no person",)
    if positions.shape[1] == 1:
        notes += ("one frame only: a posture, without any motion",)
    positions = np.ascontiguousarray(positions, dtype=np.float32)
    return replace(clip, positions=positions, notes=notes)
