"""ST-LSTM: an LSTM over joints and frames at once, all cells of an anti-diagonal in one step.

Source: Liu et al., "Spatio-Temporal LSTM with Trust Gates for 3D Human Action Recognition", ECCV
2016, without the trust gates; written from a description, unverified.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.data.joints.layouts import Layout

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
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)
        nn.init.zeros_(self.inputs.bias)

    def forward(self, gates: Tensor, shares: Tensor | None = None) -> Tensor:
        """Return h (N, J, T, H).

        Args:
            gates: What ``inputs`` makes of the input (N, J, T, channels): (N, J, T, 5 H).
            shares: r (N, J, T) in 0 to 1; None for none.
        """
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


def traversal(layout: Layout) -> list[int]:
    """Return the joints as a walk along the bones meets them, from the centre and back, 2 V - 1."""
    children: dict[int, list[int]] = {joint: [] for joint in range(len(layout))}
    for child, parent in layout.bones:
        children[parent].append(child)
    walk, ahead = [layout.centre], [iter(children[layout.centre])]
    while ahead:
        following = next(ahead[-1], None)
        if following is not None:
            walk.append(following)
            ahead.append(iter(children[following]))
        else:
            ahead.pop()
            if ahead:
                walk.append(layout.parents[walk[-1]])
    return walk
