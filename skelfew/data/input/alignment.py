"""Alignment of bodies: where the origin is, which way a body faces, and how large it is.

Beyond ``preprocess.centre``, which moves the whole recording once. One function does it for any
number of padded recordings without a branch, so that an exported graph has the same steps.
"""

import re
from typing import get_args

import torch
from torch import Tensor

from skelfew.data.input import Facing, Root, Size
from skelfew.data.joints.layouts import Layout

ROOTS, FACINGS, SIZES = (get_args(choices) for choices in (Root, Facing, Size))
_SIDES = ("shoulder", "hip")
_HEAD = re.compile("head|nose|(left|right)_(eye|ear)")


def sides(layout: Layout) -> list[tuple[int, int]]:
    """Return the (left, right) shoulders and hips of a layout; empty unless it has both pairs."""
    index = {name: i for i, name in enumerate(layout.joints)}
    names = [(f"left_{part}", f"right_{part}") for part in _SIDES]
    if not all(name in index for pair in names for name in pair):
        return []
    return [(index[left], index[right]) for left, right in names]


def origin_joints(layout: Layout) -> list[int]:
    """Return the joints whose mean is the origin: the root; if a head, shoulders and hips."""
    pairs = sides(layout)
    if _HEAD.fullmatch(layout.joints[layout.root]) and pairs:
        return [joint for pair in pairs for joint in pair]
    return [layout.root]


def alignment(
    x: Tensor,
    there: Tensor,
    found: Tensor,
    layout: Layout,
    *,
    root: str = "first",
    facing: str = "recorded",
    size: str = "recorded",
) -> tuple[Tensor, Tensor]:
    """Return the origins (B, T, k) and matrices (B, k, k) that align recordings.

    An aligned joint is (joint - origin) @ matrix. All bodies of a recording share both, so that
    what lies between them stays visible; both come from its first body.

    Args:
        x: Positions (B, M, T, V, k), k 3 or 2.
        there: Which bodies are there (B, M, T) bool.
        found: Which joints were found (B, M, T, V) bool.
        root: ``first``: the origin is that of the first frame; ``each``: of each frame; ``level``:
            of each frame to the side and in depth, of the first frame in height.
        facing: ``recorded``, or ``camera``: turned about y so that hips and shoulders, on average
            over the recording, lie along x, the left ones at smaller x (Kinect's). As
            recorded in 2D, and without hips and shoulders.
        size: ``recorded``, or ``body``: divided by the mean length of a bone, the median over the
            frames. In 2D sizes are divided out before (``preprocess.to_body_size``).
    """
    k = x.shape[-1]
    rows = torch.arange(len(x), device=x.device)
    first = there.any(dim=2).long().argmax(dim=1)
    body, shown, seen = x[rows, first], there[rows, first], found[rows, first]
    # The origin of a frame is that of the first body that is there in it.
    in_frame = there.long().argmax(dim=1)[:, None, :, None]  # (B, 1, T, 1)
    now = x.gather(1, in_frame[..., None].expand(-1, -1, -1, *x.shape[3:]))[:, 0]
    known = found.gather(1, in_frame.expand(-1, -1, -1, x.shape[3]))[:, 0]
    chosen = torch.zeros(len(layout), dtype=torch.bool, device=x.device)
    chosen[origin_joints(layout)] = True
    used = torch.where((known & chosen).any(dim=-1, keepdim=True), known & chosen, known)
    origin = (now * used[..., None]).sum(dim=2) / used.sum(dim=2).clamp(min=1)[..., None]
    anybody = there.any(dim=1).long().argmax(dim=1)
    start = origin[rows, anybody][:, None]
    if root == "first":
        origin = start.expand_as(origin)
    elif root == "level":
        height = torch.arange(k, device=x.device) == 1
        origin = torch.where(height, start, origin)
    matrix = torch.eye(k, dtype=x.dtype, device=x.device).expand(len(x), k, k)
    pairs = sides(layout)
    if facing == "camera" and k == 3 and pairs:
        left, right = ([pair[i] for pair in pairs] for i in (0, 1))
        both = (seen[:, :, left] & seen[:, :, right] & shown[..., None])[..., None]
        across = ((body[:, :, right] - body[:, :, left]) * both).sum(dim=(1, 2))
        length = torch.hypot(across[:, 0], across[:, 2])
        safe = length.clamp(min=torch.finfo(x.dtype).tiny)
        cos = torch.where(length > 0, across[:, 0] / safe, 1)
        sin = torch.where(length > 0, across[:, 2] / safe, 0)
        zero, one = torch.zeros_like(cos), torch.ones_like(cos)
        turn = [[cos, zero, -sin], [zero, one, zero], [sin, zero, cos]]
        matrix = torch.stack([torch.stack(row, dim=-1) for row in turn], dim=-2)
    if size == "body" and k == 3:
        child, parent = ([bone[i] for bone in layout.bones] for i in (0, 1))
        bones = torch.linalg.vector_norm(body[:, :, child] - body[:, :, parent], dim=-1)
        known = seen[:, :, child] & seen[:, :, parent]
        lengths = (bones * known).sum(dim=2) / known.sum(dim=2).clamp(min=1)
        usable = shown & (lengths > 0)
        ordered = torch.where(usable, lengths, torch.inf).sort(dim=1).values
        middle = (usable.sum(dim=1) - 1).clamp(min=0) // 2
        median = ordered.gather(1, middle[:, None])
        matrix = matrix / torch.where(median.isfinite(), median, 1)[..., None]
    return origin, matrix
