"""Videos as a data set: FOLDER/ACTION/clip.mp4, or a table with a row a segment.

Also the door to all else that the commands want of videos and cameras: they import it by name.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np

from skelfew.data.manifest import Sample
from skelfew.data.readers import VIDEO_SUFFIXES, Dropped, Options, RawFolder, Reader, Recording
from skelfew.data.readers.own_table import ListedClip, read_table
from skelfew.data.store import Skeleton
from skelfew.errors import SkelfewError
from skelfew.io.clean import look_alike
from skelfew.io.files import file_sha256
from skelfew.io.paths import below
from skelfew_extract.annotate import Annotator, Span, annotate
from skelfew_extract.camera import video_writer
from skelfew_extract.live import live
from skelfew_extract.pose import find_model
from skelfew_extract.poses import MOST_PEOPLE, VISIBLE, Poses, poses_of, skeleton_of

__all__ = [
    "READER", "Annotator", "Span", "annotate", "live", "read_joints", "read_video", "video_writer",
]  # fmt: skip

DEFAULTS: Options = {
    "pose_model": "lite", "people": MOST_PEOPLE, "visibility": VISIBLE, "coordinates": 3,
    "table": "",
}  # fmt: skip
_SHAPE = "the folder holds a folder for each action, and in that the videos of it"


def sources(raw: RawFolder, options: Options) -> list[str]:
    """List the videos, and rows of a table that cannot be used."""
    _check(options)
    rows, bad = _rows(raw, str(options["table"]))
    return sorted(rows) + sorted(bad)


def depends(raw: RawFolder, options: Options) -> str:
    """Return a hash of the pose model, and of the table if there is one."""
    table = str(options["table"])
    parts = [find_model(str(options["pose_model"])), *([raw.path / table] if table else [])]
    return " ".join(map(file_sha256, parts))


def detect(reader: Reader, raw: RawFolder, options: Options) -> Reader:
    """Fetch the model, once for all processes, and say what the joints are."""
    _check(options)
    _of_folder.cache_clear()  # videos may have changed since an earlier run of this process
    find_model(str(options["pose_model"]))
    return reader if options["coordinates"] == 3 else replace(reader, units="pixels")


def read(raw: RawFolder, source: str, options: Options) -> Iterator[Recording | Dropped]:
    """Read the segments of one video, or report a bad row of the table."""
    good, bad = _rows(raw, str(options["table"]))
    if source in bad:
        yield bad[source]
        return
    for row in good[source]:
        try:
            yield read_video(below(raw.video_folder, source, links=True), options, row)
        except SkelfewError as error:
            yield Dropped(row.sample_id, source, str(error))


def read_video(path: Path, options: Options = DEFAULTS, row: ListedClip | None = None) -> Recording:
    """Read one video, or the segment of it that a row of a table names.

    Raises SkelfewError: it cannot be decoded, no person is in it, the segment is past its end.
    """
    options = {**DEFAULTS, **options}
    return _read(video_poses(path, options), path, options, row)


def _read(poses: Poses, path: Path, options: Options, row: ListedClip | None) -> Recording:
    row = row or _row(path.name, path.stem, path.parent.name or "video", 1)
    end = poses.frames if row.end is None else row.end
    if end > poses.frames or row.start >= end:
        raise SkelfewError(
            f"{path}: the segment {row.start} to {end} is past the end: the video has "
            f"{poses.frames} frames"
        )
    try:
        skeleton, first, notes = skeleton_of(
            poses, row.start, end, int(options["coordinates"]), float(options["visibility"])
        )
    except SkelfewError as error:
        raise SkelfewError(f"{path}: {error}") from None
    frames = skeleton.positions.shape[1]
    sample = Sample(
        sample_id=row.sample_id,
        class_id=row.class_id,
        label=row.label,
        frames=frames,
        bodies=len(skeleton.positions),
        video=row.recording,
        start_frame=first,
        end_frame=first + frames,
        **row.about,
    )
    return Recording(sample, skeleton, notes)


def video_poses(path: Path, options: Options) -> Poses:
    """Return the poses in a video, with the model and the number of people of the options."""
    _check(options)
    if not path.is_file():
        raise SkelfewError(f"{path}: no such video")
    return poses_of(path, find_model(str(options["pose_model"])), int(options["people"]))


def read_joints(path: Path, options: Options) -> tuple[Skeleton, float, tuple[str, ...]]:
    """Return the joints in all frames of a video, zero where no person is; its rate; notes."""
    options = {**DEFAULTS, **options}
    poses = video_poses(path, options)
    recording = _read(poses, path, options, None)
    start, end = recording.sample.start_frame, recording.sample.end_frame
    gap = [(0, 0), (start, poses.frames - end), (0, 0), (0, 0)]
    assert recording.skeleton.pixels is not None
    positions = np.pad(recording.skeleton.positions, gap)
    pixels = np.pad(recording.skeleton.pixels, gap, constant_values=np.nan)
    return Skeleton(positions, pixels), poses.fps, recording.notes


def _check(options: Options) -> None:
    if options["coordinates"] not in (2, 3):
        raise SkelfewError(f"coordinates is {options['coordinates']}, expected 2 or 3")
    if not 1 <= int(options["people"]) <= 16:
        raise SkelfewError(f"people is {options['people']}, expected 1 to 16")
    if not 0 <= float(options["visibility"]) <= 1:
        raise SkelfewError(f"visibility is {options['visibility']}, expected 0 to 1")


def _rows(
    raw: RawFolder, table: str
) -> tuple[Mapping[str, list[ListedClip]], Mapping[str, Dropped]]:
    """Return the rows by video, and those of a table that cannot be used."""
    if table:
        path = raw.path / table
        changed = path.stat().st_mtime_ns if path.is_file() else 0
        return _of_table(path, changed)
    return _of_folder(raw.video_folder), {}


@lru_cache(maxsize=4)
def _of_table(
    path: Path, changed: int
) -> tuple[Mapping[str, list[ListedClip]], Mapping[str, Dropped]]:
    rows, bad = read_table(path)
    found: dict[str, list[ListedClip]] = {}
    for row in rows:
        found.setdefault(row.recording, []).append(row)
    lines = [(f"{path.name}:{b.line}", b) for b in bad]
    return found, {source: Dropped(b.name, source, b.reason) for source, b in lines}


@lru_cache(maxsize=4)
def _of_folder(folder: Path) -> Mapping[str, list[ListedClip]]:
    if not folder.is_dir():
        raise SkelfewError(f"{folder}: not a folder; {_SHAPE}")
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )  # fmt: skip
    if loose := [name for name in names if "/" not in name]:
        raise SkelfewError(
            f"{folder / loose[0]}: lies beside the folders of the actions; {_SHAPE}, so move it "
            "into one, or list the videos in a --table"
        )
    labels = sorted({name.split("/", 1)[0] for name in names})
    if alike := look_alike(labels):
        raise SkelfewError(
            f"{folder}: the folders {' and '.join(map(repr, alike[0]))} are one action written in "
            "two ways; put their videos into one"
        )
    ids = {name: "-".join(PurePosixPath(name).with_suffix("").parts) for name in names}
    often, number = Counter(ids.values()), {label: i + 1 for i, label in enumerate(labels)}
    return {
        name: [
            _row(
                name,
                # clip.mp4 beside clip.mov: the suffix tells them apart
                ids[name] if often[ids[name]] == 1 else "-".join(PurePosixPath(name).parts),
                label := name.split("/", 1)[0],
                number[label],
            )
        ]
        for name in names
    }


def _row(recording: str, sample_id: str, label: str, class_id: int) -> ListedClip:
    return ListedClip(0, sample_id, recording, label, class_id, 0, None, "", 0, {})


READER = Reader(
    name="video",
    layout="mediapipe-33",
    sources=sources,
    read=read,
    pixels=True,
    defaults=DEFAULTS,
    detect=detect,
    depends=depends,
)
