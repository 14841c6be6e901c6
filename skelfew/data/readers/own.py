"""One's own recordings, listed in a table: arrays, CSV files, keypoints of pose estimators.

The formats are described in docs/datasets.md, section own. A recording is read once, however many
segments the table cuts out of it.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from skelfew.data.joints.layouts import Layout, load_layout
from skelfew.data.manifest import Sample
from skelfew.data.readers import Dropped, Options, RawFolder, Reader, Recording
from skelfew.data.readers.arrays import ORDERS, coordinates_of, read_csv, read_npy, read_npz
from skelfew.data.readers.bodies import (
    UPS,
    fill_missing,
    least_confidence,
    most_seen,
    turned_up,
    two_bodies,
)  # fmt: skip
from skelfew.data.readers.keypoint_json import read_file, read_folder
from skelfew.data.readers.mediapipe import from_mediapipe
from skelfew.data.readers.own_table import BadRow, ListedClip, read_table
from skelfew.data.readers.single import read_known, read_mat
from skelfew.data.store import Skeleton
from skelfew.errors import SkelfewError
from skelfew.io.files import read_bytes
from skelfew.io.paths import below

_CHOICES = {
    "coordinates": ("auto", "2", "3"),
    "order": ("auto", *ORDERS),
    "missing": ("interpolate", "keep"),
    "nan": ("drop", "missing"),
    "up": tuple(UPS),
}
_TRIED, _ENOUGH = 50, 5  # recordings looked into to tell the kind, and of these readable ones
_MANY_LOST = 0.1  # share of joints that is worth a note
_LEAST = 0.1  # confidence of a joint that was found, in arrays and tables of any estimator
# Layouts of pose estimators that look for joints in a picture.
PICTURES = {
    "coco", "coco-wholebody-133", "halpe-26", "openpose-18", "openpose-25", "openpose-25-hands"
}  # fmt: skip
_NO_PIXELS = 2  # coordinates that are all smaller than this are shares of the picture


@dataclass(frozen=True)
class JointKind:
    """Format of the joints of a data set, the same for all recordings."""

    channels: int
    coordinates: int
    example: str


@dataclass(frozen=True)
class Loaded:
    """One recording as read: joints (M, T, V, C), which of them were not found, and so on."""

    positions: np.ndarray
    missing: np.ndarray
    coordinates: int
    step: float = 1  # frames of the video from one to the next
    notes: tuple[str, ...] = ()
    first: int = 0  # frame of the video that the first frame is, by the names of the files


def sources(raw: RawFolder, options: Options) -> list[str]:
    """List the recordings that the table names, and rows of it that cannot be used."""
    check_options(options)
    rows, bad = _table(raw, options)
    return sorted(rows) + list(bad)


def check_options(options: Options) -> None:
    """Raise SkelfewError if an option has an impossible value."""
    for key, choices in _CHOICES.items():
        if options[key] not in choices:
            raise SkelfewError(f"--option {key}={options[key]}: expected {', '.join(choices)}")
    least_confidence(options)
    _video_step(options)


def _video_step(options: Options) -> float:
    """Return how many frames of the video one of the skeleton is."""
    if not 0 < (step := float(options.get("video_step", 1))) < 1e4:
        raise SkelfewError(f"--option video_step={step}: expected frames of the video, e.g. 2")
    return step


def depends(raw: RawFolder, options: Options) -> str:
    """Return a hash of the table and of the state of the folders that it names."""
    digest = hashlib.sha256(read_bytes(raw.path / str(options["table"])))
    for recording in sorted(_table(raw, options)[0]):
        folder = below(raw.path, recording, links=True)
        if folder.is_dir():
            state = folder.stat()
            digest.update(f"{recording} {state.st_mtime_ns}".encode())
    return digest.hexdigest()


def detect(reader: Reader, raw: RawFolder, options: Options) -> Reader:
    """Take the layout from the options, and channels and units from the recordings."""
    layout = load_layout(str(options["layout"]))
    _kind.cache_clear()  # recordings may have changed since an earlier run of this process
    sources(raw, options)
    kind = _kind(raw.path, tuple(sorted(options.items())))
    if kind is None:
        return replace(reader, layout=layout)
    if kind.coordinates == 3:
        return replace(reader, layout=layout, channels=3)
    videos = any(row.video for rows in _table(raw, options)[0].values() for row in rows)
    return replace(reader, layout=layout, channels=kind.channels, units="pixels", pixels=videos)


def read(raw: RawFolder, source: str, options: Options) -> Iterator[Recording | Dropped]:
    """Read one recording and cut out the segments that the table lists; or report a bad row."""
    good, bad = _table(raw, options)
    if source in bad:
        yield Dropped(bad[source].name, source, bad[source].reason)
        return
    rows = good[source]
    try:
        loaded = load(
            below(raw.path, source, links=True), load_layout(str(options["layout"])), options
        )
        loaded = replace(loaded, step=loaded.step * _video_step(options))
        kind = _kind(raw.path, tuple(sorted(options.items())))
        _check_kind(loaded, kind)
        filled, notes = fill(loaded, options)
    except SkelfewError as error:
        yield from (Dropped(row.sample_id, source, str(error)) for row in rows)
        return
    for row in rows:
        try:
            yield _recording(raw, row, loaded, filled, notes)
        except SkelfewError as error:
            yield Dropped(row.sample_id, source, f"line {row.line} of the table: {error}")


Table = tuple[dict[str, list[ListedClip]], dict[str, BadRow]]


def _table(raw: RawFolder, options: Options) -> Table:
    """Return the rows by recording, and those that cannot be used by the name of their source."""
    path = raw.path / str(options["table"])
    try:
        state = path.stat()
    except OSError as error:
        raise SkelfewError(f"{path}: cannot read the table ({error.strerror})") from None
    return _table_of(path, state.st_mtime_ns, state.st_size)


@cache
def _table_of(path: Path, modified: int, size: int) -> Table:
    rows, bad = read_table(path)
    by_recording: dict[str, list[ListedClip]] = {}
    for row in rows:
        by_recording.setdefault(row.recording, []).append(row)
    return by_recording, {f"{path.name}:{row.line}": row for row in bad}


@cache
def _kind(
    folder: Path, options: tuple[tuple[str, str | int | float | bool], ...]
) -> JointKind | None:
    """Tell the kind of a data set: what most of its first recordings that can be read are."""
    known = dict(options)
    rows, _ = _table(RawFolder(folder), known)
    layout = load_layout(str(known["layout"]))
    found: dict[tuple[int, int], list[str]] = {}
    for recording in sorted(rows)[:_TRIED]:
        try:
            loaded = load(below(folder, recording, links=True), layout, known)
        except SkelfewError:
            continue
        found.setdefault((loaded.positions.shape[-1], loaded.coordinates), []).append(recording)
        if sum(map(len, found.values())) == _ENOUGH:
            break
    if not found:
        return None
    kind = max(found, key=lambda k: len(found[k]))
    return JointKind(*kind, found[kind][0])


def _check_kind(loaded: Loaded, kind: JointKind | None) -> None:
    found = (loaded.positions.shape[-1], loaded.coordinates)
    if kind is not None and found != (kind.channels, kind.coordinates):
        raise SkelfewError(
            f"{_name(*found)} for each joint, but {kind.example} has "
            f"{_name(kind.channels, kind.coordinates)}; a data set holds one kind"
        )


def _name(channels: int, coordinates: int) -> str:
    if coordinates == 3:
        return "x, y, z"
    return "x, y" if channels == 2 else "x, y, confidence"


def load(path: Path, layout: Layout, options: Options, unsure: int | None = None) -> Loaded:
    """Read a recording of any format; raise SkelfewError, which does not name the file."""
    if path.is_dir():
        return _keypoints(path, layout, options)
    if not path.is_file():
        raise SkelfewError("no such file or folder")
    if (known := read_known(path, layout)) is not None:
        return _known(*known, layout, options)
    if path.suffix.lower() == ".json":
        return _keypoints(path, layout, options)
    positions, given = _array(path, layout, str(options["order"]))
    asked, notes = str(options["coordinates"]), tuple[str, ...]()
    least = least_confidence(options)
    if layout.name == "mediapipe-33":
        positions, coordinates, notes = from_mediapipe(positions, asked)
        least = 0.5 if least is None else least
    elif positions.shape[-1] == 4:
        given = 3
        coordinates = coordinates_of(positions, given, asked, unsure)
    else:
        unsure = 2 if unsure is None and layout.name in PICTURES else unsure
        coordinates = coordinates_of(positions, given, asked, unsure)
    missing: np.ndarray = np.zeros(positions.shape[:3], dtype=bool)
    if options["nan"] == "missing":
        missing |= np.isnan(positions).any(axis=-1)
    if positions.shape[-1] > coordinates:
        confidence = positions[..., coordinates]
        least = _LEAST if least is None else least
        missing |= (confidence <= 0) | (confidence < least)
        if missing.all() and positions.any():
            raise SkelfewError(
                f"no joint of confidence {least:g} or more in any of {positions.shape[1]} frames; "
                "--option min_confidence= sets another threshold"
            )
    if coordinates == 3:
        positions = positions[..., :3]
    positions = np.where(missing[..., None], 0, positions)
    missing |= ~(positions != 0).any(axis=(2, 3), keepdims=True)[..., 0]
    kept, more = most_seen(positions)
    return Loaded(positions[kept], missing[kept], coordinates, notes=notes + more)


def _array(path: Path, layout: Layout, order: str) -> tuple[np.ndarray, int | None]:
    """Return joints (M, T, V, C) of an array or a table, and C's coordinates if the file tells."""
    match path.suffix.lower():
        case ".npy":
            return read_npy(path, layout, order), None
        case ".npz":
            return read_npz(path, layout, order)
        case ".mat":
            return read_mat(path, layout, order), None
        case ".csv" | ".txt" | ".tsv":
            return read_csv(path, layout)
        case other:
            raise SkelfewError(
                f"{other or 'no suffix'}: expected .npy, .npz, .mat, .csv, .txt, .json, .skeleton, "
                "or a folder of JSON"
            )


def _known(positions: np.ndarray, name: str, layout: Layout, options: Options) -> Loaded:
    if not layout.same_graph(load_layout(name)):
        raise SkelfewError(f"its joints are {name}, not {layout.name}; use --layout {name}")
    if options["coordinates"] == "2":
        raise SkelfewError("its joints are x, y, z; not for coordinates=2")
    kept, notes = most_seen(positions)
    positions = positions[kept]
    seen: np.ndarray = np.asarray(positions.any(axis=(2, 3)))
    missing = np.repeat(~seen[..., None], positions.shape[2], axis=2)
    return Loaded(positions, missing, 3, notes=notes)


def _keypoints(path: Path, layout: Layout, options: Options) -> Loaded:
    if options["coordinates"] == "3":
        raise SkelfewError("keypoints in JSON are x, y, confidence; not for coordinates=3")
    reader = read_folder if path.is_dir() else read_file
    frames = reader(path, len(layout), least_confidence(options))
    positions, notes = two_bodies(frames.people)
    notes = frames.notes + notes
    return Loaded(positions, positions[..., 2] <= 0, 2, frames.step, notes, frames.first)


def fill(loaded: Loaded, options: Options) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return joints (M, T, V, C) with those filled in that were not found, and notes."""
    positions = turned_up(loaded.positions, loaded.coordinates, str(options["up"]))
    if options["missing"] == "keep":
        return positions, loaded.notes
    positions, _ = fill_missing(positions, loaded.missing, loaded.coordinates)
    return positions, loaded.notes + filling(loaded.missing)


def filling(missing: np.ndarray) -> tuple[str, ...]:
    """Return notes on joints (M, T, V) that ``fill_missing`` fills in."""
    there: np.ndarray = np.asarray(~missing.all(axis=2))
    lost: np.ndarray = missing & there[..., None]
    never: np.ndarray = np.asarray(
        (lost.sum(axis=1) == there.sum(axis=1, keepdims=True)) & there.any(axis=1, keepdims=True)
    )
    between = (int(lost.sum()) - int(lost.sum(axis=1)[never].sum())) / max(
        int(there.sum()) * missing.shape[2], 1
    )
    notes: tuple[str, ...] = ()
    if between > _MANY_LOST:
        notes = (f"{between:.0%} of the joints were not found; they are interpolated",)
    if never.any():
        count = int(never.sum())
        notes += (f"{count} joints were never found; they are at the middle of the others",)
    return notes


def _recording(
    raw: RawFolder, row: ListedClip, loaded: Loaded, filled: np.ndarray, notes: tuple[str, ...]
) -> Recording:
    total = filled.shape[1]
    end = total if row.end is None else row.end
    if end > total or row.start >= end:
        raise SkelfewError(
            f"the segment {row.start} to {end} is past the end: the recording has {total} frames"
        )
    there = filled[:, row.start : end].any(axis=(1, 2, 3))
    if not there.any():
        raise SkelfewError(f"no body in any of {end - row.start} frames")
    positions = filled[there, row.start : end]
    odd = np.flatnonzero(~np.isfinite(positions).all(axis=(0, 2, 3)))
    if len(odd):
        raise SkelfewError(
            f"not finite: NaN or infinity in {len(odd)} frames, first {odd[0]}; --option "
            "nan=missing takes such joints as not found"
        )
    video, first = "", row.video_start
    if row.video:
        video = raw.find_video(row.video)
        if first is None:
            first = loaded.first
            if video and first:
                notes += (f"the files begin at frame {first}, and so does the video's segment",)
        if not video:
            notes += (f"video {row.video} is not in {raw.video_folder}; kept without it",)
    pixels = None
    if loaded.coordinates == 2 and video:
        if np.nanmax(np.abs(loaded.positions[..., :2])) < _NO_PIXELS:
            notes += ("joints are no pixels, so that there is nothing to crop the video by",)
        else:
            pixels = loaded.positions[there, row.start : end, :, :2].copy()
            pixels[loaded.missing[there, row.start : end]] = np.nan
    sample = Sample(
        sample_id=row.sample_id,
        class_id=row.class_id,
        label=row.label,
        frames=end - row.start,
        video=video,
        start_frame=round((first or 0) + row.start * loaded.step) if video else 0,
        end_frame=round((first or 0) + end * loaded.step) if video else 0,
        **row.about,  # type: ignore[arg-type]
    )
    return Recording(sample, Skeleton(positions, pixels), notes)


READER = Reader(
    name="own",
    layout="",
    sources=sources,
    read=read,
    defaults={
        "table": "",
        "layout": "",
        **{key: choices[0] for key, choices in _CHOICES.items()},
        "min_confidence": "auto",
        "video_step": 1.0,
    },
    detect=detect,
    depends=depends,
)
