"""ST-LSTM: an LSTM over joints and frames at once, all cells of an anti-diagonal in one step.

Sources: Liu et al., "Spatio-Temporal LSTM with Trust Gates for 3D Human Action Recognition", ECCV
2016, and facts of the authors' code (kinect59/Spatio-Temporal-LSTM): gates, first weights, walk.
Left out: trust gates, and that the first joint of a frame hears the last one of the frame before.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.data.joints.body_parts import body_parts
from skelfew.data.joints.layouts import Layout

_SPREAD = 0.08 * 128**0.5  # first weights are uniform in +-0.08 at the published width of 128
# The joints that the authors walk over, in the order in which the walk meets them; of names that
# stand together the first that a layout has.
_WALKED = (
    "spine_mid spine spine1 torso", "spine_shoulder shoulder_centre thorax neck", "head nose",
    *(f"{side}_{joint}" for side in ("right", "left") for joint in ("shoulder", "elbow", "tip")),
    "spine_base hip_centre pelvis mid_hip",
    *(f"{side}_{joint}" for side in ("right", "left") for joint in ("hip", "knee", "ankle")),
)  # fmt: skip
_TIPS = ("hand_tip", "hand", "wrist")  # what ends an arm
_FEWEST = 8  # of them; a layout that has fewer is walked over as a whole
_GATES = 5  # input, forget by joint, forget by frame, output, candidate


class STLSTM(nn.Module):
    """A cell hears the joint before it in the chain and the frame before it.

        (i, f_S, f_T, o) = sigmoid, u = tanh of W [x_jt; h_j-1,t; h_j,t-1] + b
        c_jt = i u + f_S c_j-1,t + f_T c_j,t-1,   h_jt = o tanh(c_jt)

    With shares r_jt of attention, c_jt = r i u + (1 - r)(f_S c_j-1,t + f_T c_j,t-1).
    """

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.inputs = nn.Linear(channels, _GATES * hidden)
        self.before = nn.Linear(2 * hidden, _GATES * hidden, bias=False)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -_SPREAD * hidden**-0.5, _SPREAD * hidden**-0.5)
        nn.init.ones_(self.inputs.bias[hidden : 3 * hidden])  # both forget gates begin open

    def forward(self, gates: Tensor, shares: Tensor | None = None) -> Tensor:
        """Return h (N, J, T, H) of gates (N, J, T, 5 H), made by ``inputs``, and shares r."""
        joints, frames = gates.shape[1:3]
        order, diagonals = _diagonals(joints, frames)
        order = order.to(gates.device)
        sizes = [last - first + 1 for first, last in diagonals]
        parts = gates.flatten(1, 2)[:, order].split(sizes, dim=1)
        weights = None if shares is None else shares.flatten(1)[:, order, None].split(sizes, dim=1)
        state = gates.new_zeros(len(gates), 2, 0, gates.shape[-1] // _GATES)  # h and c by joint
        outputs, before = [], 0
        for k, (first, last) in enumerate(diagonals):
            # Joints before - 1 to ... of the diagonal before this one; 0 where there is no cell.
            state = F.pad(state, (0, 0, 1, 1))
            by_joint = state[:, :, first - before : last - before + 1]
            by_frame = state[:, :, first - before + 1 : last - before + 2]
            heard = torch.cat([by_joint[:, 0], by_frame[:, 0]], dim=-1)
            i, f_s, f_t, o, u = (parts[k] + self.before(heard)).chunk(_GATES, dim=-1)
            new = i.sigmoid() * u.tanh()
            old = f_s.sigmoid() * by_joint[:, 1] + f_t.sigmoid() * by_frame[:, 1]
            if weights is not None:
                new, old = weights[k] * new, (1 - weights[k]) * old
            c = new + old
            h = o.sigmoid() * c.tanh()
            outputs.append(h)
            state, before = torch.stack([h, c], dim=1), first
        return torch.cat(outputs, dim=1)[:, order.argsort()].unflatten(1, (joints, frames))


def _diagonals(joints: int, frames: int) -> tuple[Tensor, list[tuple[int, int]]]:
    """Return all cells j * T + t, those of equal j + t together, and their first and last joint."""
    ranges = [(max(0, s - frames + 1), min(joints - 1, s)) for s in range(joints + frames - 1)]
    cells = [j * frames + s - j for s, (a, b) in enumerate(ranges) for j in range(a, b + 1)]
    return torch.tensor(cells), ranges


def walked(layout: Layout) -> list[int]:
    """Return the joints of the authors' walk that a layout has, 16 of Kinect's, in its order.

    A part of the body that none of them belongs to adds its first joint. All joints of a layout
    that has fewer than 8 of the 16.
    """
    found = []
    for names in _WALKED:
        names = " ".join(names.replace("tip", tip) for tip in _TIPS)
        known = (layout.joints.index(name) for name in names.split() if name in layout.joints)
        found += [joint for joint in [next(known, None)] if joint is not None]
    if len(found) < _FEWEST:
        return [*range(len(layout))]
    return found + [of[0] for of in body_parts(layout).values() if not {*of} & {*found}]


def traversal(layout: Layout, joints: Sequence[int] | None = None) -> list[int]:
    """Return joints as a walk along the bones and back meets them, 2 n - 1; None: all."""
    joints = joints or sorted(range(len(layout)), key=lambda joint: joint != layout.centre)
    near: dict[int, list[int]] = {joint: [] for joint in range(len(layout))}
    for bone in layout.bones:
        for one, other in (bone, bone[::-1]):
            near[one].append(other)
    ahead, order = [(joints[0], joints[0])], {joint: k for k, joint in enumerate(joints)}
    after: dict[int, list[int]] = {joint: [] for joint in joints}  # visited next to each
    seen = set()
    while ahead:
        joint, visited = ahead.pop()
        seen.add(joint)
        if joint in order and joint != visited:
            after[visited].append(joint)
        ahead += [(k, joint if joint in order else visited) for k in near[joint] if k not in seen]
    walk: list[int] = []
    path = [joints[0]]
    for following in after.values():
        following.sort(key=order.__getitem__, reverse=True)
    while path:
        walk.append(path[-1])
        if after[path[-1]]:
            path.append(after[path[-1]].pop())
        else:
            path.pop()
    return walk
