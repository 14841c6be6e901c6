"""The articulated body: from pose channels to the 25 joints of a Kinect v2.

Coordinates are those of NTU RGB+D's cameras: x to the right of the image, y up, z away from the
camera, metres. Kinect images are mirrored, so the left hand of somebody who faces the camera is
left in the image, and a body that faces the camera has its right at +x and its front at -z.
"""

from dataclasses import dataclass, field

import numpy as np

from skelfew.data.joints.layouts import LAYOUTS

LAYOUT = LAYOUTS["kinect-v2"]
JOINT = {name: i for i, name in enumerate(LAYOUT.joints)}
SIDES = {"right": 1.0, "left": -1.0}
# Where an idle hand hangs: outwards, up, forwards from its shoulder, in arm lengths.
HANGING = np.array([0.10, -0.98, 0.05])


@dataclass(frozen=True)
class Proportions:
    """Lengths of one subject's body in metres."""

    height: float = 1.70
    shoulders: float = 0.37
    hips: float = 0.20
    arms: float = 1.0
    legs: float = 1.0
    girth: float = 1.0

    @property
    def thigh(self) -> float:
        return 0.245 * self.height * self.legs

    @property
    def shin(self) -> float:
        return 0.235 * self.height * self.legs

    @property
    def leg(self) -> float:
        return self.thigh + self.shin

    @property
    def upper_arm(self) -> float:
        return 0.165 * self.height * self.arms

    @property
    def forearm(self) -> float:
        return 0.145 * self.height * self.arms

    @property
    def arm(self) -> float:
        return self.upper_arm + self.forearm

    @property
    def ankle(self) -> float:
        return 0.045 * self.height

    @property
    def spine(self) -> float:
        return 0.29 * self.height


@dataclass
class Pose:
    """Pose of a body over T frames; every channel starts at standing idle."""

    frames: int
    # (T, 3) position: metres to its right, metres forwards, yaw to the right
    place: np.ndarray = field(init=False)
    # (T, 3) pelvis off its standing place: right, up, forwards, in leg lengths
    hips: np.ndarray = field(init=False)
    # (T, 3) radians: lean forwards, lean to the right, twist to the right
    torso: np.ndarray = field(init=False)
    # (T, 3) radians on top of the torso: nod forwards, tilt right, turn right
    head: np.ndarray = field(init=False)
    # By side, (T, 3) wrist seen from the shoulder in the chest's axes: outwards, up, forwards, in
    # arm lengths. A side that is absent hangs down.
    hands: dict[str, np.ndarray] = field(default_factory=dict)
    # By side, (3,) where the elbow points: outwards, up, forwards
    elbows: dict[str, np.ndarray] = field(default_factory=dict)
    # By side, (T, 3) ankle off its standing place: outwards, up, forwards, leg lengths
    feet: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for channel in ("place", "hips", "torso", "head"):
            setattr(self, channel, np.zeros((self.frames, 3)))
        self.feet = {side: np.zeros((self.frames, 3)) for side in SIDES}


def turn(vectors: np.ndarray, axis: str, angle: np.ndarray) -> np.ndarray:
    """Rotate (..., 3) vectors: ``lean`` forwards, ``tilt`` to the right or ``yaw`` to the right."""
    first, second = {"lean": (1, 2), "tilt": (1, 0), "yaw": (2, 0)}[axis]
    sign = -1.0 if axis in ("lean", "yaw") else 1.0
    cos, sin = np.cos(angle), sign * np.sin(angle)
    turned = np.array(np.broadcast_to(vectors, np.broadcast_shapes(vectors.shape, (*cos.shape, 3))))
    a, b = turned[..., first].copy(), turned[..., second].copy()
    turned[..., first] = cos * a - sin * b
    turned[..., second] = sin * a + cos * b
    return turned


def two_bones(
    start: np.ndarray, target: np.ndarray, first: float, second: float, pole: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Place a two-bone limb: return middle joint and end, (T, 3) each.

    The end is at ``target``, or as near to it as the bones (metres) reach; the middle joint lies
    towards ``pole`` (T, 3), a direction.
    """
    way = target - start
    distance = np.linalg.norm(way, axis=-1, keepdims=True)
    along = way / np.maximum(distance, 1e-9)
    reach = np.clip(distance, 1.02 * abs(first - second) + 0.02, 0.9995 * (first + second))
    x = (reach**2 + first**2 - second**2) / (2 * reach)
    y = np.sqrt(np.maximum(first**2 - x**2, 0))
    across = pole - (pole * along).sum(-1, keepdims=True) * along
    across /= np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-9)
    return start + x * along + y * across, start + reach * along


def joints(pose: Pose, body: Proportions) -> np.ndarray:
    """Return the joints of a pose, (T, 25, 3) metres; the floor is y = 0."""
    out = np.zeros((pose.frames, len(JOINT), 3))
    up, right = np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0])
    front = np.array([0.0, 0.0, -1.0])
    axes = {"right": right, "up": up, "forward": front}
    yaw = pose.place[:, 2]
    pelvis = {name: turn(axis, "yaw", yaw) for name, axis in axes.items()}
    lean, tilt, twist = pose.torso.T

    def bent(share: float, frame: np.ndarray) -> np.ndarray:
        frame = turn(turn(frame, "yaw", share * twist), "tilt", share * tilt)
        return turn(turn(frame, "lean", share * lean), "yaw", yaw)

    chest = {name: bent(1.0, axis) for name, axis in axes.items()}
    stand = np.array([0.0, body.ankle + 0.985 * body.leg, 0.0])
    ground = np.stack([pose.place[:, 0], np.zeros(pose.frames), -pose.place[:, 1]], -1)
    hips = pose.hips * body.leg
    base = ground + stand + _combine(hips, pelvis, 1.0)
    mid = base + bent(0.6, up) * 0.48 * body.spine
    top = mid + chest["up"] * 0.52 * body.spine
    nod, roll, look = pose.head.T
    out[:, JOINT["spine_base"]], out[:, JOINT["spine_mid"]] = base, mid
    out[:, JOINT["spine_shoulder"]] = top
    out[:, JOINT["neck"]] = top + chest["up"] * 0.045 * body.height
    skull = turn(turn(turn(up, "tilt", roll), "lean", nod), "yaw", look)
    skull = (
        skull[:, :1] * chest["right"]
        + skull[:, 1:2] * chest["up"]
        - skull[:, 2:] * chest["forward"]
    )
    gaze = turn(front, "yaw", look)
    gaze = (
        gaze[:, :1] * chest["right"] + gaze[:, 1:2] * chest["up"] - gaze[:, 2:] * chest["forward"]
    )
    out[:, JOINT["head"]] = out[:, JOINT["neck"]] + (skull + 0.18 * gaze) * 0.085 * body.height

    for side, sign in SIDES.items():
        shoulder = top + sign * chest["right"] * body.shoulders / 2 - chest["up"] * 0.03
        hanging = side not in pose.hands
        frame = pelvis if hanging else chest
        hand = np.broadcast_to(HANGING, (pose.frames, 3)) if hanging else pose.hands[side]
        pole = pose.elbows.get(side, np.array([0.45, -0.7, -0.55]))
        pole = np.broadcast_to(pole, (pose.frames, 3))
        elbow, wrist = two_bones(
            shoulder,
            shoulder + _combine(hand * body.arm, frame, sign),
            body.upper_arm,
            body.forearm,
            _combine(pole, frame, sign),
        )
        forearm = (wrist - elbow) / body.forearm
        inwards = -sign * frame["right"]
        parts = (shoulder, elbow, wrist, wrist + 0.07 * forearm, wrist + 0.15 * forearm)
        names = ("shoulder", "elbow", "wrist", "hand", "hand_tip")
        for name, position in zip(names, parts, strict=True):
            out[:, JOINT[f"{side}_{name}"]] = position
        out[:, JOINT[f"{side}_thumb"]] = wrist + 0.06 * forearm + 0.04 * inwards

        hip = base + sign * pelvis["right"] * body.hips / 2
        foot = pose.feet[side] * body.leg
        standing = np.array([0.55 * body.hips, body.ankle, 0.0])
        knee, ankle = two_bones(
            hip,
            ground + _combine(standing + foot, pelvis, sign),
            body.thigh,
            body.shin,
            _combine(np.broadcast_to([0.12, 0.05, 1.0], (pose.frames, 3)), pelvis, sign),
        )
        shin = (ankle - knee) / body.shin
        lifted = np.clip(pose.feet[side][:, 1:2] / 0.2, 0, 1)
        toe = pelvis["forward"] + 0.25 * sign * pelvis["right"]
        toe = toe - lifted * (toe * shin).sum(-1, keepdims=True) * shin
        toe /= np.maximum(np.linalg.norm(toe, axis=-1, keepdims=True), 1e-9)
        down = 0.5 * body.ankle * ((1 - lifted) * -up + lifted * shin)
        for name, position in zip(
            ("hip", "knee", "ankle", "foot"),
            (hip, knee, ankle, ankle + 0.13 * toe + down),
            strict=True,
        ):
            out[:, JOINT[f"{side}_{name}"]] = position
    return out


def _combine(local: np.ndarray, frame: dict[str, np.ndarray], sign: float) -> np.ndarray:
    """Turn (T, 3) outwards, up, forwards into the axes of ``frame``."""
    return (
        sign * local[:, :1] * frame["right"]
        + local[:, 1:2] * frame["up"]
        + local[:, 2:] * frame["forward"]
    )


def mirrored(positions: np.ndarray) -> np.ndarray:
    """Return (..., 25, 3) joints as in a mirror: x negated, left and right joints exchanged."""
    order = np.arange(len(JOINT))
    for one, other in LAYOUT.mirror:
        order[one], order[other] = other, one
    return positions[..., order, :] * np.array([-1.0, 1.0, 1.0])
