"""NTU RGB+D 60 and 120: ``.skeleton`` files, body selection and denoising.

Source: Shahroudy et al. (2016), Liu et al. (2019); selection and denoising as the field does it
since VA-LSTM, which CTR-GCN and the seed paper follow. Numbers below are theirs.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from skelfew.data.facts import class_names, missing_skeletons
from skelfew.data.manifest import Sample
from skelfew.data.readers import Dropped, Options, RawFolder, Reader, Recording
from skelfew.data.readers.ntu_text import JOINTS, SkeletonText, TextError, parse
from skelfew.data.readers.raw import folder, stem
from skelfew.data.store import Skeleton
from skelfew.errors import SkelfewError

_NAME = re.compile(
    r"S(?P<setup>\d{3})C(?P<view>\d{3})P(?P<subject>\d{3})R(?P<replication>\d{3})A(?P<action>\d{3})"
)
_MISSING = ("ntu120", "ntu60", "none")
SHORT_TRACK = 11  # a body seen in at most so many frames is noise
WIDE_FRAME = 0.8  # a frame is noise if the body is wider than this part of its height
NOISY_FRAMES = 0.69754  # a body with at least this part of noisy frames is noise


@dataclass(frozen=True)
class Track:
    """One body over time, as the field counts it: gaps in which it is unseen are closed."""

    first: int
    positions: np.ndarray  # (T, 25, 3) joints in the frames ``first .. first + T - 1``.
    pixels: np.ndarray  # (T, 25, 2) joints in the colour video
    motion: float  # variance of all points, summed over x, y and z; 0 if there is no other body

    @property
    def last(self) -> int:
        return self.first + len(self.positions) - 1


def sources(raw: RawFolder, options: Options) -> list[str]:
    """List the ``.skeleton`` files."""
    if options["missing"] not in _MISSING:
        raise SkelfewError(
            f"--option missing={options['missing']}: expected one of {', '.join(_MISSING)}"
        )
    return raw.names("*.skeleton")


def read(raw: RawFolder, source: str, options: Options) -> Iterator[Recording | Dropped]:
    """Read one file; its video is ``ID_rgb.avi`` beside it or in ``nturgb+d_rgb/``."""
    name = stem(source)
    fields = name_fields(name)
    if fields is None:
        yield Dropped(name, source, "its name is not like S001C002P003R001A001.skeleton")
        return
    labels, action = class_names("ntu"), fields["action"]
    if action not in labels:
        yield Dropped(name, source, f"action A{action:03} is out of range; there are A001 to A120")
        return
    missing = str(options["missing"])
    if missing != "none" and name in missing_skeletons(missing):
        reason = f"on the official list of missing skeletons ({missing})"
        yield Dropped(name, source, reason, expected=True)
        return
    try:
        text = parse(raw.read(source))
        skeleton = select_bodies(tracks(text), text.frames)
    except TextError as error:
        yield Dropped(name, source, str(error))
        return
    beside = folder(source)
    folders = (beside, "nturgb+d_rgb/", f"{beside}nturgb+d_rgb/", "")
    video = raw.find_video(*(f"{where}{name}_rgb.avi" for where in folders))
    sample = Sample(
        sample_id=name,
        class_id=action,
        label=labels[action],
        frames=skeleton.positions.shape[1],
        video=video,
        end_frame=text.declared if video else 0,
        subject=str(fields["subject"]),
        view=str(fields["view"]),
        replication=str(fields["replication"]),
        setup=str(fields["setup"]),
    )
    yield Recording(sample, skeleton)


def name_fields(name: str) -> dict[str, int] | None:
    """Return what a name like ``S001C002P003R001A001`` says; None if it is another name."""
    match = _NAME.fullmatch(name)
    return {key: int(text) for key, text in match.groupdict().items()} if match else None


def tracks(text: SkeletonText) -> list[Track]:
    """Return the bodies of a file in order of appearance; raise TextError if there are none."""
    if not text.body:
        raise TextError(f"no body in any of {text.declared} frames")
    rows: dict[bytes, list[int]] = {}
    for row, body in enumerate(text.body):
        rows.setdefault(body, []).append(row)
    found = []
    for body, seen in rows.items():
        frames = [text.frame[row] for row in seen]
        if len(set(frames)) < len(frames):
            raise TextError(f"body {body.decode(errors='replace')} appears twice in one frame")
        positions = text.positions[seen]
        motion = _motion(positions) if len(rows) > 1 else 0.0
        found.append(Track(frames[0], positions, text.pixels[seen], motion))
    return found


def _motion(positions: np.ndarray) -> float:
    return float(positions.reshape(-1, 3).var(axis=0).sum())


def select_bodies(bodies: list[Track], frames: int) -> Skeleton:
    """Return the one or two actors among bodies in order of appearance."""
    skeleton = actors(bodies, frames)
    if len(bodies) == 1:
        return skeleton
    shown = skeleton.positions.any(axis=(0, 2, 3))
    assert skeleton.pixels is not None
    return Skeleton(skeleton.positions[:, shown], skeleton.pixels[:, shown])


def actors(bodies: list[Track], frames: int) -> Skeleton:
    """As ``select_bodies``, in all the frames."""
    if len(bodies) == 1:
        return _paste([bodies], frames)
    kept = _without_wide(_without_short(bodies))
    if len(kept) == 1:
        return _paste([kept], frames)
    return _two_actors(sorted(kept, key=lambda b: b.motion, reverse=True), frames)


def _without_short(bodies: list[Track]) -> list[Track]:
    kept = [b for b in bodies if len(b.positions) > SHORT_TRACK]
    # All are short: the reference fails here; the longest is the best guess.
    return kept or [max(bodies, key=lambda b: len(b.positions))]


def _without_wide(bodies: list[Track]) -> list[Track]:
    """Drop bodies that are mostly wider than high (furniture), but never the last one."""
    kept: list[Track] = []
    for i, body in enumerate(bodies):
        if len(kept) + len(bodies) - i == 1:
            return [*kept, body]
        extent = np.ptp(body.positions, axis=1)
        clean = extent[:, 0] <= WIDE_FRAME * extent[:, 1]
        if 1 - clean.mean() >= NOISY_FRAMES:
            continue
        motion = body.motion
        if not clean.all():
            motion = min(motion, _motion(body.positions[clean]))
        kept.append(Track(body.first, body.positions, body.pixels, motion))
    return kept


def _two_actors(bodies: list[Track], frames: int) -> Skeleton:
    """Give each body, by falling motion, to the first of two actors that it does not overlap."""
    actors: tuple[list[Track], list[Track]] = ([bodies[0]], [])
    # As in the reference, the second actor is there from frame 0 on once anybody plays it.
    spans = [[bodies[0].first, bodies[0].last], [0, 0]]
    for body in bodies[1:]:
        for actor, span in zip(actors, spans, strict=True):
            if min(span[1], body.last) - max(span[0], body.first) <= 0:
                actor.append(body)
                span[:] = min(span[0], body.first), max(span[1], body.last)
                break
    return _paste(list(actors), frames)


def _paste(actors: list[list[Track]], frames: int) -> Skeleton:
    positions = np.zeros((len(actors), frames, JOINTS, 3), dtype=np.float32)
    pixels = np.full((len(actors), frames, JOINTS, 2), np.nan, dtype=np.float32)
    for slot, actor in enumerate(actors):
        for body in actor:
            positions[slot, body.first : body.last + 1] = body.positions
            pixels[slot, body.first : body.last + 1] = body.pixels
    return Skeleton(positions, pixels)


def preprocessing(most: int) -> dict[str, str | int]:
    """Return what ``auto`` puts for a missing body: zeros in NTU-60's scripts, a copy in 120's."""
    return {"missing_body": "zeros" if most <= 60 else "duplicate"}


READER = Reader(
    name="ntu",
    layout="kinect-v2",
    sources=sources,
    read=read,
    pixels=True,
    defaults={"missing": "ntu120"},
    preprocessing=preprocessing,
)
