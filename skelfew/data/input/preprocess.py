"""Preprocessing of one clip, step by step, as CTR-GCN's data/ and feeders/ do it.

These are the plain forms; ``skelfew.data.input.bank`` does the same for whole batches at once.
Clips are (M, T, V, C): bodies, frames, joints, coordinates. A body absent in a frame is all zeros
there. ``coordinates`` says how many of the C channels are positions: the rest, e.g. the confidence
of a 2D pose estimator, is left as it is. Joints in pictures (2 coordinates) are scaled to the size
of the body too, see ``to_body_size``.
"""

from collections.abc import Sequence
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from skelfew.data.input import MissingBody, Stream

MISSING_BODY, STREAMS = get_args(MissingBody), get_args(Stream)
# Training crops are at least this long where the clip is (a constant of the reference's feeder).
SHORTEST_CROP = 64
# Frames without anybody that are filled in; see ``counted_frames``.
BRIDGED = 5


def seen(clip: Tensor) -> Tensor:
    """Return in which frames which body is there (M, T) bool."""
    return (clip != 0).flatten(2).any(dim=2)


def found(clip: Tensor, coordinates: int = 3) -> Tensor:
    """Return which joints are there (M, T, V) bool: all of a body that is, without confidences."""
    if clip.shape[-1] > coordinates:
        return (clip != 0).any(dim=-1)
    return seen(clip)[..., None].expand(clip.shape[:-1])


def centre(clip: Tensor, root: int, coordinates: int = 3) -> Tensor:
    """Move the origin to the root joint of the first body in its first frame.

    Source: CTR-GCN, data/ntu/seq_transformation.py, ``seq_translation``.

    One shift for all bodies and frames: no rotation, no scaling. Absent bodies stay zero. If the
    first body is never there, the next one gives the origin. Joints that were not ``found`` stay
    zero; if the root is one of them, the mean of those found is the origin.
    """
    there = seen(clip)
    if not there.any():
        return clip.clone()
    body, frame = there.nonzero()[0].tolist()
    origin = clip[body, frame, root, :coordinates]
    joints = found(clip, coordinates)
    if not joints[body, frame, root]:
        origin = clip[body, frame, joints[body, frame], :coordinates].mean(dim=0)
    moved = clip.clone()
    moved[..., :coordinates] -= origin
    moved[~joints] = 0
    return moved


def to_body_size(clip: Tensor) -> Tensor:
    """Divide x and y by the size of the first body that is there; before ``centre``.

    Its size is the median, over the frames that show it, of the longer side of the box around its
    joints: pixels become body lengths, whatever the resolution and the distance of the camera.
    One factor for all bodies and frames keeps an approach to the camera visible, and the median
    keeps single bad frames from mattering. Our choice: PYSKL divides by half the size of the
    picture (``PreNormalize2D``), which leaves the distance in. A body without extent is not scaled.
    """
    there = seen(clip)
    if not there.any():
        return clip.clone()
    first = int(there.any(dim=1).long().argmax())
    joints = found(clip, 2)[first, there[first]][..., None]
    points = clip[first, there[first], :, :2]
    low = points.masked_fill(~joints, torch.inf).amin(dim=1)
    high = points.masked_fill(~joints, -torch.inf).amax(dim=1)
    size = (high - low).amax(dim=-1).median()
    scaled = clip.clone()
    if size > 0:
        scaled[..., :2] /= size
    return scaled


def align(clip: Tensor, bodies: int, missing_body: str = "duplicate") -> Tensor:
    """Give the clip exactly ``bodies`` bodies; surplus ones are dropped.

    Slots whose body is never there are filled with zeros (NTU-60's scripts), a copy of the first
    body that is (NTU-120's), or, for ``mask``, zeros that a ``masked_mean`` encoder leaves out.
    """
    filled = clip.new_zeros(bodies, *clip.shape[1:])
    kept = clip[:bodies]
    filled[: len(kept)] = kept
    there = seen(filled).any(dim=1)
    if missing_body == "duplicate" and there.any():
        filled[~there] = filled[int(there.nonzero()[0])].clone()
    return filled


def counted_frames(clip: Tensor, coordinates: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Move the frames that count to the front: the one rule for frames that show no person.

    Such frames before the first and after the last frame that shows somebody do not count. Between
    them, up to ``BRIDGED`` in a row are filled in, linearly in time, with the bodies and joints
    found on both sides; longer gaps are cut out, as the field's scripts do (CTR-GCN's
    ``get_raw_skes_data.py``). No branch, so that a graph can hold it.

    Args:
        clip: (M, T, V, C).
        coordinates: How many of the C are a position.

    Returns:
        The clip with all other frames at the end and zero, which frame each is (T,) int64, and how
        many count, a number.
    """
    shown = seen(clip).any(dim=0)
    frame = torch.arange(clip.shape[1], device=clip.device)
    length = torch.ones_like(frame).sum()
    listed = torch.where(shown, frame, frame + length).sort().indices
    rank, total = shown.long().cumsum(dim=0), shown.sum()
    before = listed[(rank - 1).clamp(min=0)]
    after = listed[torch.where(shown, rank - 1, rank).minimum(total - 1).clamp(min=0)]
    gap = after - before - 1
    bridged = ~shown & (before < frame) & (frame < after) & (gap <= BRIDGED)
    weight = ((frame - before) / (gap + 1).clamp(min=1)).to(clip.dtype)[:, None, None]
    joints = found(clip, coordinates)
    both = (joints[:, before] & joints[:, after])[..., None]
    between = torch.where(both, clip[:, before].lerp(clip[:, after], weight), 0)
    kept = shown | bridged
    order = torch.where(kept, frame, frame + length).sort().indices
    return torch.where(bridged[:, None, None], between, clip)[:, order], order, kept.sum()


def central_window(valid: Tensor, interval: float = 0.95) -> tuple[Tensor, Tensor]:
    """Return start and length (...,) of the central ``interval`` of ``valid`` frames."""
    start = ((1 - interval) * valid.double() / 2).long()
    return start, valid - 2 * start


def random_window(valid: Tensor, portion: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """Return start and length (...,) of a crop (``valid_crop_resize`` of feeders/tools.py).

    ``portion`` of the ``valid`` frames, ``SHORTEST_CROP`` at least; ``place`` in [0, 1) is where.
    """
    length = (valid * portion).floor().long().clamp(min=SHORTEST_CROP).minimum(valid)
    return (place * (valid - length + 1)).long(), length


def resized_positions(crop: Tensor, frames: int) -> Tensor:
    """Return where in crops (...,) the frames that they are resized to lie, (..., frames) float64.

    Frame centres lie at half-integers and the beginning is clamped, as in ``crop_resize``.
    """
    steps = torch.arange(frames, dtype=torch.float64, device=crop.device)
    return ((steps + 0.5) * (crop[..., None] / frames) - 0.5).clamp(min=0)


def crop_resize(clip: Tensor, start: int, length: int, frames: int) -> Tensor:
    """Crop frames start .. start + length - 1 and resize to (M, frames, V, C), linear in time.

    Frame centres lie at half-integers and the ends are clamped, as in bilinear image resizing.
    """
    m, _, v, c = clip.shape
    crop = clip[:, start : start + length].permute(0, 2, 3, 1).reshape(1, -1, length)
    resized = F.interpolate(crop, size=frames, mode="linear", align_corners=False)
    return resized.reshape(m, v, c, frames).permute(0, 3, 1, 2)


def fit_to_box(clip: Tensor, coordinates: int = 3) -> Tensor:
    """Scale each coordinate to [-1, 1] over the whole clip (feeders/feeder_ucla.py).

    A coordinate that never changes becomes 0 (the reference divides by zero). Absent bodies do
    not count and stay zero.
    """
    there = seen(clip)
    fitted = clip.clone()
    if there.any():
        points = clip[there][..., :coordinates]
        low, high = points.amin(dim=(0, 1)), points.amax(dim=(0, 1))
        extent = torch.where(high > low, high - low, 1)
        centred = 2 * (points - low) / extent - 1
        fitted[..., :coordinates][there] = torch.where(high > low, centred, 0)
    return fitted


def spread_frames(total: Tensor, length: int) -> Tensor:
    """Return ``length`` frame numbers (..., length) from first to last of each total."""
    last = total.double()[..., None] - 1
    steps = torch.arange(length, dtype=torch.float64, device=total.device)
    # As numpy.linspace rounds, and its last value is exact: a frame may hang on the last bit.
    frames = steps * (last / max(length - 1, 1))
    if length > 1:
        frames[..., -1:] = last
    return frames.long()


def stream(x: Tensor, name: str, parents: Sequence[int], coordinates: int = 3) -> Tensor:
    """Return joints, bones or the motion of either (one of ``STREAMS``) of (..., T, V, C)."""
    if name.startswith("bone"):
        x = bones(x, parents, coordinates)
    return motion(x, coordinates) if name.endswith("motion") else x


def bones(x: Tensor, parents: Sequence[int], coordinates: int = 3) -> Tensor:
    """Return child minus parent for every joint of (..., V, C); zero for the centre."""
    difference = x.clone()
    difference[..., :coordinates] -= x[..., list(parents), :coordinates]
    return difference


def motion(x: Tensor, coordinates: int = 3) -> Tensor:
    """Return next frame minus this one for (..., T, V, C); zero in the last frame."""
    difference = x.clone()
    difference[..., :-1, :, :coordinates] = x[..., 1:, :, :coordinates]
    difference[..., :coordinates] -= x[..., :coordinates]
    return difference
