"""Random views of a skeleton: the matrices that training draws."""

import torch
from torch import Tensor

from skelfew.data.joints.layouts import Layout
from skelfew.errors import SkelfewError


def _about_x_and_y(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return Rx(x) and Ry(y), each (..., 3, 3), in the reference's sense of rotation."""
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    cos, sin = torch.cos(x), torch.sin(x)
    about_x = [[one, zero, zero], [zero, cos, sin], [zero, -sin, cos]]
    cos, sin = torch.cos(y), torch.sin(y)
    about_y = [[cos, zero, -sin], [zero, one, zero], [sin, zero, cos]]
    return _matrix(about_x), _matrix(about_y)


def _matrix(rows: list[list[Tensor]]) -> Tensor:
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def rotation_matrix(angles: Tensor) -> Tensor:
    """Return Rz Ry Rx (..., 3, 3) of angles (..., 3) in radians (CTR-GCN, feeders/tools.py)."""
    x, y, z = angles.unbind(dim=-1)
    about_x, about_y = _about_x_and_y(x, y)
    one, zero, cos, sin = torch.ones_like(z), torch.zeros_like(z), torch.cos(z), torch.sin(z)
    about_z = _matrix([[cos, sin, zero], [-sin, cos, zero], [zero, zero, one]])
    return about_z @ about_y @ about_x


def picture_matrix(angle: Tensor, factors: Tensor) -> Tensor:
    """Return a rotation (radians) after a stretch along x and y (..., 2, 2), for row vectors.

    What a tilted camera, and a body that turns or is nearer, do to joints in a picture. Ranges like
    PYSKL's ``RandomRot`` (0.3) and ``RandomScale`` (0.2), as its 2D form.
    """
    cos, sin = torch.cos(angle), torch.sin(angle)
    return factors[..., None] * _matrix([[cos, sin], [-sin, cos]])


def view_matrix(degrees: Tensor, scale: float = 1.0) -> Tensor:
    """Return Ry(b) Rx(a) scale (..., 3, 3) of degrees a and b (feeders/feeder_ucla.py).

    The reference also draws the scale, which the min-max normalisation that follows undoes.
    """
    about_x, about_y = _about_x_and_y(*torch.deg2rad(degrees).unbind(dim=-1))
    return about_y @ about_x * scale


def mirror(skeletons: Tensor, layout: Layout) -> Tensor:
    """Return mirror images of skeletons (N, C, T, V, M); SkelfewError if sides are unknown."""
    if not layout.mirror:
        raise SkelfewError(
            f"layout {layout.name} names no left_right joints; its skeletons have no mirror image"
        )
    order = list(range(len(layout)))
    for left, right in layout.mirror:
        order[left], order[right] = right, left
    turned = skeletons[:, :, :, order].clone()
    turned[:, 0].neg_()
    return turned


def turned(skeletons: Tensor, yaws: int, pitches: int, degrees: float) -> Tensor:
    """Return skeletons (N, 3, T, V, M) seen from a grid of viewpoints, (N, yaws * pitches, 3, ...).

    Each (x to the side, y up) is turned first about x by a pitch, then about y by a yaw; numbers of
    angles are odd, the middle angle is 0, ``degrees`` lie between two. Absent bodies stay zero.
    """
    if skeletons.shape[1] != 3:
        raise SkelfewError(
            f"joints of {skeletons.shape[1]} coordinates cannot be turned to other viewpoints"
        )
    steps = [(torch.arange(n) - n // 2) * degrees for n in (yaws, pitches)]
    yaw, pitch = torch.meshgrid(*(torch.deg2rad(s) for s in steps), indexing="ij")
    angles = torch.stack([pitch, yaw, torch.zeros_like(yaw)], dim=-1).flatten(0, 1)
    matrices = rotation_matrix(angles).to(skeletons)
    return torch.einsum("gij,njtvm->ngitvm", matrices, skeletons)


def sorted_draw(total: Tensor, size: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw ``size`` different numbers below each total (B,), ascending (B, size) (Floyd)."""
    drawn = torch.full((len(total), size), -1, dtype=torch.int64, device=total.device)
    for i in range(size):
        last = total - size + i
        random = torch.rand(len(total), generator=generator, dtype=torch.float64)
        candidate = (random.to(total.device) * (last + 1)).long()
        seen = (drawn == candidate[:, None]).any(dim=1)
        drawn[:, i] = torch.where(seen, last, candidate)
    return drawn.sort(dim=1).values
