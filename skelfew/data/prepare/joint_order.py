"""Whether joints fit another order than the declared one."""

import numpy as np

from skelfew.data.joints.layouts import LAYOUTS, Layout, layout_from_dict

_BETTER, _KNOWN = 0.97, 0.95  # squared bone lengths under another order, as a share of these
_NEAR = 0.25  # of a squared bone: joints of the face; a tree of bones does not tell them apart


def other_order(distances: np.ndarray, layout: Layout) -> str | None:
    """Return a finding if the joints fit another order better than the layout's.

    The squared lengths of the bones (from ``distances`` between joints, (V, V)), summed, are
    smallest for the right order. First the other layouts of as many joints are tried, then
    exchanges of two joints that do not lie side by side, as long as they help.
    """
    joints = np.arange(len(layout))
    total = distances[joints, list(layout.parents)].sum()
    fits = {
        other.name: distances[joints, list(other.parents)].sum() / total
        for other in (*LAYOUTS.values(), *_ORDERS)
        if len(other) == len(layout) and other.joints != layout.joints
    }
    best = min(fits, key=lambda name: fits[name], default="")
    adjacent = np.zeros_like(distances)
    adjacent[joints, list(layout.parents)] = 1
    np.fill_diagonal(adjacent, 0)
    adjacent += adjacent.T
    order, cost = joints.copy(), total
    for _ in joints:
        now = distances[np.ix_(order, order)]
        near = adjacent @ now
        own = np.diag(near)
        change = near + near.T - own[:, None] - own[None] + 2 * adjacent * now
        change[now < _NEAR * total / len(joints)] = 0
        one, other = np.unravel_index(change.argmin(), change.shape)
        if change[one, other] >= -1e-3 * total:
            break
        order[[one, other]] = order[[other, one]]
        cost += change[one, other]
    if best and fits[best] < _KNOWN and fits[best] <= 1.1 * cost / total:
        return (
            f"looks like another joint order: {best} fits better than {layout.name} (its bones are "
            f"{1 - np.sqrt(fits[best]):.0%} shorter)"
        )
    if cost > _BETTER * total:
        return None
    moved = np.flatnonzero(order != joints)
    if len(moved) == 2:
        one, other = (layout.joints[j] for j in moved)
        return f"looks like another joint order: {one} and {other} exchanged"
    examples = [
        f"{layout.joints[j]} where {layout.joints[order[j]]} is declared" for j in moved[:3]
    ]
    return (
        f"looks like another joint order: {len(moved)} of {len(layout)} joints lie elsewhere, e.g. "
        f"{', '.join(examples)}; is it really {layout.name}?"
    )


def _reordered(name: str, words: str) -> Layout:
    """Return Kinect v1's joints in another order."""
    base, joints = LAYOUTS["kinect-v1"].to_dict(), words.split()
    return layout_from_dict({**base, "name": name, "joints": joints})


# Orders that files of 20 joints are met in, beside the layouts.
_ORDERS = (
    _reordered(
        "MSR Action3D",
        "left_shoulder right_shoulder shoulder_centre spine left_hip right_hip hip_centre "
        "left_elbow right_elbow left_wrist right_wrist left_hand right_hand left_knee right_knee "
        "left_ankle right_ankle left_foot right_foot head",
    ),
    _reordered(
        "UTD-MHAD's files",
        "head shoulder_centre spine hip_centre left_shoulder left_elbow left_wrist left_hand "
        "right_shoulder right_elbow right_wrist right_hand left_hip left_knee left_ankle left_foot "
        "right_hip right_knee right_ankle right_foot",
    ),
)
