"""The teacher's input from a clip: the frames, and the part of them.

Source: Lu et al., "Cross-Modal Contrastive Pre-training for Few-Shot Skeleton Action
Recognition", Sec. V-B: sparsely sampled frames, cropped around the joints. The paper gives neither
margin nor shape; ours are one square box per clip around all bodies.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from skelfew.errors import SkelfewError

POLICIES = ("joints", "joints-or-centre", "centre")
# A skeleton and its video may differ by a few frames; a video that lacks more is cut off.
MIN_OVERLAP = 0.9
_MIN_SIDE = 32  # pixels


class CropError(SkelfewError):
    """A clip from which nothing can be cut; the message says why."""


class Box(NamedTuple):
    """A rectangle in pixels: left and top inside, right and bottom one past the end."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class CropSettings:
    """Settings of frame sampling and cropping."""

    frames: int = 8  # T, frames per clip
    size: int = 224  # side of the square that the teacher takes, pixels
    # Space around the joints, as a fraction of the larger side of their extent
    margin: float = 0.15
    # ``joints``: a clip without joints in the picture is an error; ``joints-or-centre``: it is cut
    # to the largest centred square; ``centre``: all clips are
    policy: str = "joints"
    interpolation: str = "bilinear"  # ``bilinear`` or ``bicubic``, as the teacher was trained
    views: int = 1  # V temporal views of a clip, each of ``frames`` frames of its own

    @property
    def pictures(self) -> int:
        """Frames that are decoded of a clip: those of view v are v, v + V, v + 2 V, ..."""
        return self.frames * self.views

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise CropError(f"crop policy {self.policy!r}; choose {', '.join(POLICIES)}")
        if not 0 <= self.margin <= 10:
            raise CropError(f"crop margin {self.margin} must be between 0 and 10")


def segment_midpoints(start: int, end: int, available: int, count: int) -> np.ndarray:
    """Return ``count`` frame numbers, the middles of equal parts of a segment, (count,) int64.

    Index i is start + floor((i + 0.5) n / count), n the frames that segment and video share
    (microsoft/VideoX, X-CLIP/datasets/pipeline.py). Short segments repeat frames. Raises CropError
    if the video holds less than nine tenths of the segment.
    """
    shared = min(end, available) - start
    if shared <= 0 or shared < MIN_OVERLAP * (end - start):
        raise CropError(
            f"the segment is frames {start} to {end}, but the video has {available}; it is "
            "truncated, or belongs to another recording"
        )
    return start + ((np.arange(count) + 0.5) * shared / count).astype(np.int64)


def clip_box(
    pixels: np.ndarray | None, width: int, height: int, settings: CropSettings
) -> tuple[Box, bool]:
    """Return the part of the picture to cut out of every frame, and whether joints gave it.

    The union of all joints (M, T, V, 2) in all frames (those outside the picture and NaN do not
    count), widened by the margin, made square, and shifted into the picture. Where it is larger
    than the picture it ends at its border, so that no joint is lost. Raises CropError if no joint
    lies in the picture and the policy is ``joints``.
    """
    points = np.empty((0, 2))
    if pixels is not None and settings.policy != "centre":
        points = np.asarray(pixels, dtype=np.float64).reshape(-1, 2)
        with np.errstate(invalid="ignore"):
            points = points[((points >= 0) & (points < (width, height))).all(axis=1)]
    if len(points):
        low, high = points.min(axis=0), points.max(axis=0)
        side = max((high - low).max() * (1 + 2 * settings.margin), _MIN_SIDE)
        middle = (low + high) / 2
    elif settings.policy == "joints":
        raise CropError(
            f"no joint lies in the {width}x{height} picture; --crop joints-or-centre takes the "
            "middle of such clips"
        )
    else:
        side, middle = min(width, height), np.array([width, height]) / 2
    left, right = _fit(middle[0], side, width)
    top, bottom = _fit(middle[1], side, height)
    return Box(left, top, right, bottom), len(points) > 0


def _fit(middle: float, side: float, limit: int) -> tuple[int, int]:
    """Place an interval of whole length ``side`` around ``middle`` inside 0..limit."""
    length = min(int(np.ceil(side)), limit)
    low = int(np.clip(np.round(middle - length / 2), 0, limit - length))
    return low, low + length


def crop_and_resize(
    frames: np.ndarray, box: Box, size: int, interpolation: str = "bilinear"
) -> np.ndarray:
    """Cut the box out of the frames (T, H, W, 3) and resize to (T, 3, size, size), uint8.

    Antialiased, bilinear like Pillow's, from which it differs by at most one grey level; without
    antialiasing, 1080p loses its detail on the way to 224.
    """
    import torch  # here, so that errors before the first clip are quick
    import torch.nn.functional as F

    part = np.ascontiguousarray(frames[:, box.top : box.bottom, box.left : box.right])
    images = torch.from_numpy(part).permute(0, 3, 1, 2)
    resized = F.interpolate(images, (size, size), mode=interpolation, antialias=True)
    return resized.contiguous().numpy()
