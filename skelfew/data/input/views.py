"""Views of skeletons for self-supervised training: what a batch of network input is turned into.

All functions take x (B, C, T, V, M), each sample with numbers of its own, and return a new tensor.
Points that are zero in all channels are absent, and stay zero where noise is added. ``coordinates``
says how many of the C channels are positions: with 2 (joints in a picture) turns and shears stay
in the picture, and a third channel, a confidence, is left as it is.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from skelfew.data.input.augment import rotation_matrix

_BLUR = 15  # frames that the smoothing looks at


def uniform(
    shape: Sequence[int], low: float, high: float, generator: torch.Generator | None
) -> Tensor:
    """Return numbers drawn from [low, high), float64 on the processor, the same on every device."""
    drawn = torch.rand(tuple(shape), generator=generator, dtype=torch.float64)
    return low + (high - low) * drawn


def chosen(count: int, share: float, generator: torch.Generator | None) -> Tensor:
    """Return which of ``count`` samples something happens to, each with chance ``share``: bool."""
    return uniform((count,), 0, 1, generator) < share


def crop_resize(x: Tensor, share: Tensor, place: Tensor) -> Tensor:
    """Stretch a part of each clip (B, C, T, V, M) over all T frames, linearly in time.

    Its length is a ``share`` (B,) of the clip, in (0, 1]; ``place`` (B,) is 0 for its beginning.
    """
    frames = x.shape[2]
    steps = (torch.arange(frames, dtype=torch.float64) + 0.5) / frames
    position = (place * (1 - share))[:, None] + share[:, None] * steps
    position = (position * frames - 0.5).clamp(0, frames - 1).to(x.device)
    before = position.long()
    weight = (position - before).to(x.dtype)[:, None, :, None, None]
    return _take(x, before).lerp(_take(x, (before + 1).clamp(max=frames - 1)), weight)


def reflected_crop(x: Tensor, start: Tensor) -> Tensor:
    """Shift each clip (B, C, T, V, M) in time; what leaves at one end is reflected at the other.

    T frames, from ``start`` (B,) on, of a clip with T // 6 mirrored frames added at both ends (the
    middle is the clip itself). Source: AimCLR's ``temperal_crop``.
    """
    frames = x.shape[2]
    position = torch.arange(frames) + (start.long() - frames // 6)[:, None]
    position = torch.where(position < 0, -1 - position, position)
    position = torch.where(position >= frames, 2 * frames - 1 - position, position)
    return _take(x, position.to(x.device))


def transformed(x: Tensor, matrices: Tensor, coordinates: int) -> Tensor:
    """Return all points, as row vectors, times a matrix per sample (B, 3, 3)."""
    matrices = matrices[:, :coordinates, :coordinates].to(x.device, x.dtype)
    points = torch.einsum("bctvm,bcd->bdtvm", x[:, :coordinates], matrices)
    return torch.cat([points, x[:, coordinates:]], dim=1)


def shear_matrix(first: Tensor, second: Tensor) -> Tensor:
    """Return shears (B, 3, 3) for row vectors from two triples of numbers (B, 3) each.

    Source: AimCLR's ``shear``, which draws each of the six from U(-0.5, 0.5).
    """
    one = torch.ones_like(first[:, 0])
    rows = [
        [one, first[:, 1], first[:, 2]],
        [first[:, 0], one, second[:, 2]],
        [second[:, 0], second[:, 1], one],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def sheared(
    x: Tensor, amplitude: float, coordinates: int, generator: torch.Generator | None
) -> Tensor:
    """Return clips under shears of random size."""
    drawn = uniform((2, len(x), 3), -amplitude, amplitude, generator)
    return transformed(x, shear_matrix(*drawn), coordinates)


def turned(x: Tensor, angles: Tensor, coordinates: int) -> Tensor:
    """Return clips turned by angles about x, y, z in radians (B, 3)."""
    if coordinates == 2:
        angles = angles * angles.new_tensor([0.0, 0.0, 1.0])
    return transformed(x, rotation_matrix(angles).transpose(-1, -2), coordinates)


def swapped(
    x: Tensor, pairs: Sequence[tuple[int, int]], which: Tensor, reflect: bool = False
) -> Tensor:
    """Exchange left and right joints, ``pairs``, of the samples of x in ``which`` (B,) bool.

    ``reflect`` turns the sign of x too, which makes a real mirror image; AimCLR does not.
    """
    order = list(range(x.shape[3]))
    for left, right in pairs:
        order[left], order[right] = right, left
    other = x[:, :, :, order]
    if reflect:
        other = torch.cat([-other[:, :1], other[:, 1:]], dim=1)
    return _where(which, other, x)


def reversed_in_time(x: Tensor, which: Tensor) -> Tensor:
    """Play the samples in ``which`` (B,) bool backwards."""
    return _where(which, x.flip(2), x)


def noisy(
    x: Tensor, deviation: float, which: Tensor, coordinates: int, generator: torch.Generator | None
) -> Tensor:
    """Add normal noise to the points that are there, in the samples in ``which`` (B,) bool."""
    points = x[:, :coordinates]
    noise = torch.randn(points.shape, generator=generator).to(x.device, x.dtype)
    noise = deviation * noise * (x != 0).any(dim=1, keepdim=True)
    return _where(which, torch.cat([points + noise, x[:, coordinates:]], dim=1), x)


def smoothed(x: Tensor, sigma: Tensor, which: Tensor, coordinates: int) -> Tensor:
    """Filter the samples in ``which`` (B,) bool along time with exp(-t^2 / 2 sigma^2), 15 frames.

    Source: AimCLR's ``gaus_filter``. Its weights sum to 1 for the smallest sigma (B,), 0.1 frames,
    and to 5 for the largest, 2: it enlarges the body too; frames outside are zero.
    """
    offset = torch.arange(_BLUR, dtype=torch.float64) - _BLUR // 2
    weights = torch.exp(-offset.square() / (2 * sigma[:, None].square())).to(x.device, x.dtype)
    padded = F.pad(x[:, :coordinates], (0, 0, 0, 0, _BLUR // 2, _BLUR // 2))
    windows = padded.unfold(2, _BLUR, 1)  # (B, C, T, V, M, 15)
    filtered = torch.einsum("bctvmk,bk->bctvm", windows, weights)
    return _where(which, torch.cat([filtered, x[:, coordinates:]], dim=1), x)


def without_axis(x: Tensor, axis: Tensor, which: Tensor) -> Tensor:
    """Set one coordinate (B,) of the samples in ``which`` (B,) bool to zero."""
    kept = torch.ones(len(x), x.shape[1])
    kept[torch.arange(len(x))[which], axis[which].long()] = 0
    return x * kept.to(x.device, x.dtype)[:, :, None, None, None]


def without_joints(x: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """Set each joint to zero throughout its clip with chance ``share``."""
    kept = uniform((len(x), 1, 1, x.shape[3], 1), 0, 1, generator) >= share
    return x * kept.to(x.device)


def without_frames(x: Tensor, share: float, place: Tensor) -> Tensor:
    """Set ``share`` of the frames in a row to zero, at ``place`` (B,), 0 first to 1 last."""
    frames = x.shape[2]
    gone = round(share * frames)
    first = (place * (frames - gone)).round()[:, None]
    at = torch.arange(frames)
    kept = (at < first) | (at >= first + gone)
    return x * kept.to(x.device)[:, None, :, None, None]


def _take(x: Tensor, frames: Tensor) -> Tensor:
    """Return frames (B, L) of clips (B, C, T, V, M) as (B, C, L, V, M)."""
    index = frames[:, None, :, None, None].expand(-1, x.shape[1], -1, *x.shape[3:])
    return x.gather(2, index)


def _where(which: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(which.to(one.device)[:, None, None, None, None], one, other)
