"""Whether the skeletons of a data set can be what they are declared to be.

Wrong joint orders, units and axes give a store that trains and scores without a word. Here their
traces are looked for: in a body, joints that are connected lie near each other, the head is above
the feet, bones keep their length and are alike on both sides. Thresholds lie far outside of what
NTU RGB+D, PKU-MMD, NW-UCLA and UTD-MHAD show.
"""

import hashlib
import importlib
import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from skelfew.data.joints.layouts import Layout
from skelfew.data.manifest import Manifest
from skelfew.data.prepare.joint_order import other_order
from skelfew.errors import SkelfewError
from skelfew.io.clean import look_alike
from skelfew.io.files import shown
from skelfew.io.paths import below

_NAMED = 5  # how many samples a finding names
_LOOKS, _FRAMES = 1000, 8  # samples that geometry is measured on at most, and frames of each
_NUMBERS = 1 << 22  # squared distances held at a time
_EMPTY, _EMPTY_SAMPLE = 0.25, 0.5  # share of frames without a body: of all, of one sample
_FEW = 0.1  # share of samples that may be odd
_UNFOUND = 0.3  # share of joints that were not found
_UNSURE = 0.3  # median confidence
_PROBED = 300  # videos that are looked into
_EQUAL = 0.2  # share of samples equal to another of their class; NW-UCLA has 6 %
_STILL = 5  # frames that have to be equal
_OTHER = 5.0  # times the size of the others
_UNEVEN, _VARYING = 1.8, 0.35  # left to right; deviation of a bone's length as a share of it
_LONG = 0.1  # bones of this share of the body are measured
_LEAN, _ALONG, _MIRRORED = 35, 0.6, 0.7  # degrees, beyond those of NTU RGB+D's cameras; shares
_SHUFFLED, _MOVES = 0.75, 0.02  # of the distance of any two frames; of the body's size
_SIZES = (
    (300, 3000, "millimetres"), (90, 300, "centimetres"), (30, 90, "inches"), (8, 30, "decimetres"),
    (3, 8, "feet"),
)  # fmt: skip
_STANDS = 1e-4  # of the body's size that a joint moves which never moves
_FLAT = 5e-3  # of the body's size: its extent along an axis in which it has none


class Survey:
    """Gathers samples of a data set, one at a time, and says what is implausible about them."""

    def __init__(self, layout: Layout, coordinates: int):
        self.layout, self.coordinates = layout, coordinates
        self._looks: list[np.ndarray] = []
        self._step = 1
        self._count = self._frames = self._empty = 0
        self._rest: np.ndarray = np.zeros(len(layout), dtype=np.int64)
        self._moving = self._boxed = 0
        self._samples: defaultdict[str, list[str]] = defaultdict(list)
        self._sizes: dict[str, float] = {}
        self._found: list[float] = []
        self._sure: list[float] = []
        self._same: dict[bytes, tuple[str, int]] = {}
        self.equal: list[tuple[str, str]] = []

    def add(self, sample_id: str, positions: np.ndarray, class_id: int = 0) -> None:
        """Take the joints (M, T, V, C) of a sample, and its class."""
        shown: np.ndarray = np.asarray(positions.any(axis=(2, 3)))
        empty = int((~shown.any(axis=0)).sum())
        self._frames += shown.shape[1]
        self._empty += empty
        self._count += 1
        digest = hashlib.sha256(positions.tobytes()).digest()
        if digest in self._same:
            first_id, first_class = self._same[digest]
            self.equal.append((first_id, sample_id))
            if first_class != class_id:
                self._samples["labels"].append(f"{first_id} = {sample_id}")
        self._same.setdefault(digest, (sample_id, class_id))
        if empty > _EMPTY_SAMPLE * shown.shape[1]:
            self._samples["empty"].append(sample_id)
        first = int(shown.sum(axis=1).argmax())
        body = positions[first, shown[first]].astype(np.float64)
        if not len(body) or not np.isfinite(body).all():
            return
        points = body[..., : self.coordinates].copy()
        if positions.shape[-1] > self.coordinates:
            confidence = body[..., self.coordinates]
            self._found.append(float((confidence > 0).mean()))
            if (confidence > 0).any():
                self._sure.append(float(np.median(confidence[confidence > 0])))
            points[~(confidence > 0)] = np.nan
        self._move(sample_id, points)
        if _shuffled(points):
            self._samples["shuffled"].append(sample_id)
        chosen = np.linspace(0, len(points) - 1, min(_FRAMES, len(points))).astype(int)
        look = points[chosen]
        spread = _extent(look)
        if spread.size and np.isfinite(size := float(np.median(spread))):
            self._sizes[sample_id] = size
            if (self._count - 1) % self._step == 0:
                self._looks.append(look)
        if len(self._looks) > 2 * _LOOKS:
            self._looks, self._step = self._looks[::2], 2 * self._step

    def _move(self, sample_id: str, points: np.ndarray) -> None:
        """Note joints that keep their place to the last digit while others move."""
        if len(points) < _STILL:
            return
        known = np.isfinite(points).all(axis=(0, 2))
        rest = np.zeros(len(self.layout), dtype=bool)
        size = np.nanmax(_extent(points[:1]), initial=0)
        rest[known] = (np.ptp(points[:, known], axis=0) <= _STANDS * size).all(axis=-1)
        # Joints that are given from one of them in each frame leave that one at the origin.
        origin = np.flatnonzero(known & ~points.any(axis=(0, 2)))
        if len(origin) == 1 and known.sum() > 1 and not rest.all():
            others = np.delete(points[:1], origin, axis=1)
            far = np.linalg.norm(np.nanmean(others, axis=(0, 1)))
            rest[origin] = far > np.nanmax(_extent(others), initial=0)
        if known.all() and points.shape[-1] == 3:
            ends = np.array([points.min(axis=(0, 1)), points.max(axis=(0, 1))])
            self._boxed += any(np.allclose(ends.T, box, atol=1e-5) for box in ((-1, 1), (0, 1)))
        if known.any() and rest[known].all():
            self._samples["frozen"].append(sample_id)
        else:
            self._moving += 1
            self._rest += rest

    def findings(self) -> list[str]:
        """Return what is implausible, with the likely cause; nothing for good data."""
        found = []
        share = self._empty / max(self._frames, 1)
        if share > _EMPTY:
            found.append(f"{share:.0%} of all frames show no person")
        if names := self._samples["empty"]:
            found.append(f"more than half of the frames show no person in {_few(names)}")
        if pairs := self._samples["labels"]:
            found.append(f"samples of different classes have equal skeletons: {_few(pairs)}")
        elif len(self.equal) > _EQUAL * self._count:
            pairs = [f"{one} = {other}" for one, other in self.equal]
            found.append(f"samples with equal skeletons: {_few(pairs)}")
        if self._found and (lost := 1 - float(np.mean(self._found))) > _UNFOUND:
            found.append(f"{lost:.0%} of the joints were not found; is only part of the body seen?")
        if self._sure and (sure := float(np.median(self._sure))) < _UNSURE:
            found.append(f"the median confidence of the joints is {sure:.2f}")
        if names := self._samples["frozen"]:
            found.append(f"nothing moves in {_few(names)}")
        if len(names := self._samples["shuffled"]) > _FEW * self._count + 1:
            found.append(
                "successive frames are no nearer to each other than any two: looks like frames in "
                f"a wrong order, or different people in turn: {_few(names)}"
            )
        still = np.flatnonzero(2 * self._rest > max(self._moving, 1))
        if len(still):
            names = [self.layout.joints[j] for j in still]
            found.append(f"joints that never move while others do: {_few(names)}")
            return found  # they distort what is measured below
        return found + self._units() + self._shape()

    def _units(self) -> list[str]:
        if not self._sizes:
            return []
        sizes = np.array(list(self._sizes.values()))
        typical, found = float(np.median(sizes)), []
        unlike = (sizes > _OTHER * typical) | (_OTHER * sizes < typical)
        if unlike.any():
            names = [name for name, odd in zip(self._sizes, unlike, strict=True) if odd]
            found.append(
                f"bodies of another size than the others' {typical:.3g}, so perhaps in another "
                f"unit: {_few(names)}"
            )
        if self.coordinates == 2:
            if typical < 2:
                found.append(
                    f"bodies are {typical:.2g} pixels large; looks like shares of the picture"
                )
            return found
        joints = np.concatenate([look.reshape(-1, 3) for look in self._looks])
        whole = self._joint("head", "nose") is not None and self._feet() is not None
        low = 0.3 if whole else 0.01
        for smallest, largest, unit in _SIZES:
            if smallest < typical <= largest:
                found.append(f"bodies are {typical:.3g} metres large; looks like {unit}")
        if typical > _SIZES[0][1] or typical < low:
            found.append(f"bodies are {typical:.3g} metres large; looks like scaled coordinates")
        elif np.nanmin(joints) >= 0 and np.nanmax(joints) <= 1:
            found.append("all coordinates lie between 0 and 1: shares of a picture, not metres")
        elif 2 * self._boxed > len(sizes):
            found.append("each axis of each recording fills a box: looks like scaled coordinates")
        thick = np.nanmedian(
            [
                np.nanmedian(np.nanmax(k, axis=1) - np.nanmin(k, axis=1), axis=0)
                for k in self._looks
            ],
            axis=0,
        )
        if (flat := np.flatnonzero(thick < _FLAT * typical)).size:
            found.append(
                f"bodies have no extent along {'xyz'[flat[0]]}: looks like 2D joints, or an axis "
                "that is lost; --option coordinates=2 is for joints in pictures (own data)"
            )
        return found

    def _shape(self) -> list[str]:
        """Return what is odd about joint order, axes and bones."""
        if not self._looks:
            return []
        frames = np.concatenate(self._looks)
        most = max(1, _NUMBERS // len(self.layout) ** 2)
        frames = frames[np.linspace(0, len(frames) - 1, min(most, len(frames))).astype(int)]
        size = _extent(frames)
        frames = frames[size > 0] / size[size > 0, None, None]
        known = np.isfinite(frames).any(axis=(0, 2))
        if not len(frames) or not known.all() or len(self.layout) < 5:
            return []
        squares = np.square(frames[:, :, None] - frames[:, None]).sum(axis=-1)
        with np.errstate(all="ignore"):
            distances = np.nan_to_num(np.nanmedian(squares, axis=0), nan=1.0)
        if order := other_order(distances, self.layout):
            return [order]
        if (upright := self.upright()) is not None:
            return [upright]
        return [f for f in (self._mirrored(frames), *self._bones()) if f]

    def _joint(self, *names: str) -> int | None:
        return next((self.layout.joints.index(n) for n in names if n in self.layout.joints), None)

    def _pair(self, *names: str) -> tuple[int, int] | None:
        """Return the left and the right joint of the first of some names."""
        for name in names:
            left, right = self._joint(f"left_{name}"), self._joint(f"right_{name}")
            if left is not None and right is not None:
                return left, right
        return None

    def _feet(self) -> tuple[int, int] | None:
        return self._pair("ankle", "foot", "heel")

    def upright(self) -> str | None:
        """Return what is odd about the direction from feet to head, which few real clips show."""
        head, feet = self._joint("head", "nose", "neck"), self._feet()
        if head is None or feet is None or not self._looks:
            return None
        frames = np.concatenate(self._looks)
        up = frames[:, head] - frames[:, list(feet)].mean(axis=1)
        with np.errstate(all="ignore"):
            up /= np.linalg.norm(up, axis=1, keepdims=True)
        up = up[np.isfinite(up).all(axis=1)] * (1 if self.coordinates == 3 else [1, -1])
        if not len(up) or (up[:, 1] > math.cos(math.radians(_LEAN))).mean() > _FEW:
            return None  # somebody stands
        middle = np.median(up, axis=0)
        axis, turn = int(np.abs(middle).argmax()), ""
        along = f"{'-' if middle[axis] < 0 else ''}{'xyz'[axis]}"
        if self.coordinates == 3:
            turn = f"; --option up={along} turns one's own"
        if along == "-y":
            way = "down, as in pictures" if self.coordinates == 3 else "up, not down"
            return f"the head is below the feet: looks like a y axis that points {way}{turn}"
        if axis != 1 and abs(middle[axis]) > _ALONG:
            cause = "swapped axes" if self.coordinates == 3 else "turned pictures or swapped axes"
            return f"the head is not above the feet but along {along}: looks like {cause}{turn}"
        if axis == 1 and self.coordinates == 3:
            return (
                f"bodies lean by {math.degrees(math.acos(middle[1])):.0f} degrees: looks like a "
                "tilted camera, whose recordings have to be turned, or people who sit or lie"
            )
        return None

    def _mirrored(self, frames: np.ndarray) -> str | None:
        """Return a finding if feet point to the back of a body whose right is as declared."""
        hips, shoulders = self._pair("hip"), self._pair("shoulder")
        toes, heels = self._pair("foot", "big_toe", "foot_index"), self._pair("heel", "ankle")
        if self.coordinates == 2 or None in (hips, shoulders, toes, heels):
            return None
        assert hips and shoulders and toes and heels
        right = sum(frames[:, b] - frames[:, a] for a, b in (hips, shoulders))
        up = sum(frames[:, s] - frames[:, h] for s, h in zip(shoulders, hips, strict=True))
        ahead = [sum(frames[:, t] - frames[:, h] for t, h in zip(toes, heels, strict=True))]
        nose, ears = self._joint("nose"), self._pair("ear")
        if nose is not None and ears is not None:
            ahead.append(frames[:, nose] - frames[:, list(ears)].mean(axis=1))
        back = np.cross(right, up)
        if np.mean([np.sum(back * way, axis=-1) > 0 for way in ahead]) > _MIRRORED:
            return (
                "the feet point backwards: looks like left and right joints exchanged, or mirrored "
                "coordinates (two axes swapped, or one with the wrong sign)"
            )
        return None

    def _bones(self) -> list[str]:
        if self.coordinates == 2:  # foreshortened
            return []
        parents = list(self.layout.parents)
        lengths = [
            np.linalg.norm(k - k[:, parents], axis=-1) / _extent(k)[:, None] for k in self._looks
        ]
        typical = np.median(np.concatenate(lengths), axis=0)
        found = []
        uneven = [
            self.layout.joints[left].removeprefix("left_")
            for left, right in self.layout.mirror
            if max(typical[left], typical[right]) > _LONG
            and max(typical[left], typical[right])
            > _UNEVEN * max(min(typical[left], typical[right]), 1e-9)
        ]
        if uneven:
            found.append(
                f"bones differ in length between left and right: to {_few(uneven)}; looks like a "
                "joint in the wrong place"
            )
        absolute = [np.linalg.norm(k - k[:, parents], axis=-1) for k in self._looks if len(k) > 2]
        long = typical > _LONG
        if absolute and long.any():
            spread = [a.std(axis=0) / np.maximum(a.mean(axis=0), 1e-9) for a in absolute]
            varying = float(np.median(np.median(spread, axis=0)[long]))
            if varying > _VARYING:
                found.append(
                    f"bones change their length by {varying:.0%} within a recording: looks like "
                    "coordinates scaled frame by frame or axis by axis, or a mix of people"
                )
        return found


def labels_alike(manifest: Manifest) -> list[str]:
    """Return a finding for classes whose names differ in case or spaces only."""
    return [
        f"classes {' and '.join(map(shown, group))} differ in case or spaces only; if they are one "
        "class, a split may put its samples on both sides"
        for group in look_alike(manifest.classes.values())
    ]


def unlike_videos(manifest: Manifest, folder: Path | None, reader: str = "") -> list[str]:
    """Return a finding if recordings are a tenth longer or shorter than their videos in ``folder``.

    Of videos with several samples, or of which a later part is used, only the end counts; shorter
    ones have to agree, since segments are shorter too. Skeletons that the reader ``video`` finds
    are of their videos. Without PyAV (skelfew_extract) there is nothing to compare with.
    """
    uses = Counter(s.video for s in manifest if s.video)
    samples = [s for s in manifest if s.video]
    if folder is None or not samples or reader == "video":
        return []
    try:
        probe = importlib.import_module("skelfew_extract.frames").probe
    except ImportError:
        return []
    unlike = []
    for sample in samples[:: -(-len(samples) // _PROBED)]:
        try:
            length = probe(below(folder, sample.video, links=True)).frames
        except (SkelfewError, OSError):
            continue
        whole = uses[sample.video] == 1 and sample.start_frame == 0
        if sample.end_frame >= 1.1 * length or (whole and sample.end_frame <= 0.9 * length):
            unlike.append((sample.sample_id, sample.end_frame, length))
    ratio = float(np.median([length / end for _, end, length in unlike] or [1]))
    agree = [u for u in unlike if u[1] > u[2] or abs(u[2] / u[1] / ratio - 1) < _LONG]
    if 2 * len(agree) <= len(unlike):
        return []
    names = [f"{name} {end} beside {length}" for name, end, length in agree]
    return [
        f"skeletons and videos differ in frames by a tenth or more, in {_few(names)}; the video "
        f"seems to have {ratio:.3g} frames for one of the skeleton: say so with --option "
        f"video_step={ratio:.3g} (own data), or cut the video"
    ]


def _shuffled(points: np.ndarray) -> bool:
    """Whether the steps of joints (T, V, C) are as large as between any two frames."""
    if len(points) < _FRAMES:
        return False
    order = np.random.default_rng(0).permutation(len(points))
    with np.errstate(all="ignore"):
        step, far = (
            np.median(np.nan_to_num(np.nanmean(np.abs(np.diff(p, axis=0)), axis=(1, 2))))
            for p in (points, points[order])
        )
    return bool(far > _MOVES * np.median(_extent(points)) and step > _SHUFFLED * far)


def _extent(frames: np.ndarray) -> np.ndarray:
    """Return the longest side of the box around the joints of each frame (T, V, C), (T,)."""
    low = np.where(np.isnan(frames), np.inf, frames).min(axis=1)
    high = np.where(np.isnan(frames), -np.inf, frames).max(axis=1)
    return np.asarray((high - low).max(axis=-1))


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    return f"{len(names)}: {shown}" if len(names) > 1 else shown
