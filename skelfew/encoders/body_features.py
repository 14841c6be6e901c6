"""Input features of TCN-Oneshot: distances between joints, their places, angles of bones.

Source: Sabater et al., "One-shot action recognition in challenging therapy scenarios", CVPR
Workshops 2021. Their code is under the GPL; this is written from a description of it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.data.joints.layouts import Layout
from skelfew.errors import SkelfewError

_TORSO = 0.4  # what the torso is scaled to
_SHORTEST = 0.01  # a shorter one is taken for this long, so that nothing grows without bound
_NARROWEST = 1e-4  # squared sine of the angle between two axes, likewise
# Names that layouts have for the ends and the middle of the torso; the first that is there counts.
_TOPS = ("spine_shoulder", "shoulder_centre", "thorax", "neck")
_MIDDLES = ("spine_mid", "spine", "torso", "spine2")
_BASES = ("spine_base", "hip_centre", "pelvis", "mid_hip")
_HIPS = ("left_hip", "right_hip")


class BodyFeatures(nn.Module):
    """Turns the joints of a body (N, T, V, 3) into features of its frames (N, T, F).

    Frame by frame, the body is scaled so that its torso measures 0.4: the way from the joint
    between the shoulders by the middle of the spine to its base. The body's own frame begins
    half-way between the hips: x to the left hip, z to the joint between the shoulders, both of
    length one, y = x cross z; x and z are not made orthogonal. A joint is origin + a x + b y + c z,
    and (a, b, c) are its coordinates: the inverse of the frame, as in the authors' code. The
    features, all of these coordinates, are

    - the distances of all pairs of joints, V (V - 1) / 2;
    - the coordinates of all joints, 3 V;
    - elevation atan2(z, hypot(x, y)) and azimuth atan2(y, x) of the way from
      each joint to the next in the order of the layout, which are not the bones (as in the authors'
      code), 2 (V - 1).

    That is 423 for ``kinect-v2``. A frame of zeros has features of zero.

    Args:
        layout: Names its hips and a joint between the shoulders. Without a joint at the base of the
            spine the point between the hips takes its place; one in the middle may be absent.
        axes: ``inverse``; or ``unit``, as in earlier versions: joints are projected on x, y and z,
            all of length one, and distances measured before that.

    Raises:
        SkelfewError: The layout lacks one of these joints.
    """

    def __init__(self, layout: Layout, axes: str = "inverse"):
        super().__init__()
        self.axes = axes
        index = {name: i for i, name in enumerate(layout.joints)}

        def first(names: tuple[str, ...]) -> int | None:
            return next((index[name] for name in names if name in index), None)

        top = first(_TOPS)
        if top is None or any(name not in index for name in _HIPS):
            raise SkelfewError(
                f"layout {layout.name} lacks joints that tcn measures a body by: it must name "
                f"{' and '.join(_HIPS)}, and one of {', '.join(_TOPS)}; use another encoder"
            )
        self.left, self.right = (index[name] for name in _HIPS)
        self.top, self.middle, self.base = top, first(_MIDDLES), first(_BASES)
        joints = len(layout)
        self.pairs = torch.triu_indices(joints, joints, 1).tolist()
        self.size = joints * (joints - 1) // 2 + 3 * joints + 2 * (joints - 1)

    def forward(self, joints: Tensor) -> Tensor:
        """Return the features (N, T, F) of a body (N, T, V, 3)."""
        joints = joints * (_TORSO / self._torso(joints).clamp(min=_SHORTEST))[..., None, None]
        origin = self._between_hips(joints)
        x = F.normalize(joints[:, :, self.left] - origin, dim=-1)
        z = F.normalize(joints[:, :, self.top] - origin, dim=-1)
        y = torch.linalg.cross(x, z)
        if self.axes == "unit":
            axes = torch.stack([x, F.normalize(y, dim=-1), z], dim=-1)
            places, measured = (joints - origin[:, :, None]) @ axes, joints
        else:
            along = (joints - origin[:, :, None]) @ torch.stack([x, y, z], dim=-1)
            lean = (x * z).sum(dim=-1)[..., None]  # cosine of the angle between x and z
            a, b, c = along.unbind(dim=-1)
            square = (1 - lean.square()).clamp(min=_NARROWEST)
            measured = places = (
                torch.stack([a - lean * c, b, c - lean * a], dim=-1) / square[..., None]
            )
        first, second = self.pairs
        distances = torch.linalg.vector_norm(measured[:, :, first] - measured[:, :, second], dim=-1)
        return torch.cat([distances, places.flatten(2), _angles(places.diff(dim=2))], dim=-1)

    def _torso(self, joints: Tensor) -> Tensor:
        """Return the length of the torso (N, T)."""
        base = joints[:, :, self.base] if self.base is not None else self._between_hips(joints)
        way = [joints[:, :, self.top], base]
        if self.middle is not None:
            way.insert(1, joints[:, :, self.middle])
        return torch.linalg.vector_norm(torch.stack(way, dim=2).diff(dim=2), dim=-1).sum(dim=2)

    def _between_hips(self, joints: Tensor) -> Tensor:
        return (joints[:, :, self.left] + joints[:, :, self.right]) / 2


def _angles(ways: Tensor) -> Tensor:
    """Return elevations, then azimuths (N, T, 2 W) of directions (N, T, W, 3); of 0, both are 0.

    Gradients are finite everywhere, also straight up, where the azimuth has none.
    """
    x, y, z = ways.unbind(dim=-1)
    flat = torch.linalg.vector_norm(ways[..., :2], dim=-1)
    upright, nowhere = flat == 0, (flat == 0) & (z == 0)
    elevation = torch.atan2(z, flat.masked_fill(nowhere, 1))
    azimuth = torch.atan2(y, x.masked_fill(upright, 1))
    return torch.cat([elevation, azimuth], dim=-1)
