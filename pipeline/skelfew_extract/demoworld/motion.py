"""Motions of single body parts as curves over a phase p from 0 to 1.

A motion knows no side: a wave is a wave of the right, the left or both hands. Actions
(actions.py) put motions of several parts together.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from skelfew_extract.demoworld import arms, whole
from skelfew_extract.demoworld.body import SIDES, Pose
from skelfew_extract.demoworld.curves import Curve


@dataclass(frozen=True)
class Motion:
    """One motion of one body part."""

    part: str  # arm, leg, torso, head or body
    # From phases (T,) and a number of beats relative to usual to channels: ``hand``, ``foot`` (T,
    # 3) of the part's side, ``elbow`` (3,), and ``place``, ``hips``, ``torso``, ``head`` of Pose,
    # whose sideways components are given for the right side
    curve: Curve
    phrases: tuple[str, ...]  # what it is called; ``{part}`` becomes e.g. "the right hand".

    def backwards(self, *phrases: str) -> "Motion":
        """Return the same motion reversed in time."""
        return Motion(self.part, lambda p, beats: self.curve(1 - p, beats), phrases)


def apply(pose: Pose, motion: Motion, side: str, p: np.ndarray, beats: float = 1.0) -> None:
    """Write a motion into a pose; ``side`` is right, left, both, or "" where there is none."""
    channels = motion.curve(p, beats)
    sides = tuple(SIDES) if side == "both" else (side,) if side else ()
    sign = SIDES.get(side, 1.0)
    for name, sideways in (("place", (0, 2)), ("hips", (0,)), ("torso", (1, 2)), ("head", (1, 2))):
        if name in channels:
            change = channels[name].copy()
            change[:, sideways] *= 0.0 if side == "both" else sign
            setattr(pose, name, getattr(pose, name) + change)
    for one in SIDES:
        # Motions of the whole body move the limbs of a side by name; others their own side.
        hand = channels.get(f"{one}_hand", channels.get("hand") if one in sides else None)
        foot = channels.get(f"{one}_foot", channels.get("foot") if one in sides else None)
        if hand is not None:
            pose.hands[one] = hand
        if one in sides and "elbow" in channels:
            pose.elbows[one] = channels["elbow"]
        if foot is not None:
            pose.feet[one] = foot


def _of(part: str) -> Callable[..., Motion]:
    """Return what makes a motion of a part from its curve and phrases."""
    return lambda curve, *phrases: Motion(part, curve, phrases)


_arm, _leg, _torso, _body = map(_of, ("arm", "leg", "torso", "body"))
MOTIONS: dict[str, Motion] = {
    "wave": _arm(arms.wave, "waving {hand}", "moving {hand} from side to side in the air"),
    "raise": _arm(arms.raise_, "raising {arm} up above the head", "lifting {arm} up high"),
    "stretch": _arm(arms.stretch, "stretching {arm} out sideways", "lifting {arm} sideways"),
    "punch": _arm(arms.punch, "punching with {hand}", "hitting forward with {hand}"),
    "circle": _arm(arms.circle, "circling {arm}", "swinging {arm} around in big circles"),
    "push": _arm(
        arms.push, "pushing forward with {hand}", "stretching {hand} out forward from the chest"
    ),
    "throw": _arm(
        arms.throw,
        "throwing overhand with {hand}",
        "swinging {hand} from behind the head forward and down",
    ),
    "hammer": _arm(arms.hammer, "hammering with {hand}", "beating up and down with {hand}"),
    "open": _arm(arms.open_, "opening {arm}", "spreading {arm} from the front out to the side"),
    "clap": _arm(arms.clap, "clapping {hand}", "beating the hands together in front of the chest"),
    "put on hat": _arm(
        arms.hat,
        "putting on a hat",
        "moving {hand} from the front up to the top of the head and then down",
    ),
    "drink": _arm(arms.drink, "drinking", "moving {hand} to the mouth and tipping the head back"),
    "phone": _arm(arms.phone, "answering the phone", "holding {hand} to the ear"),
    "shake hands": _arm(
        arms.shake_hand, "shaking hands", "holding out {hand} and moving it up and down"
    ),
    "hug": _arm(arms.hug, "hugging", "putting {arm} around the other person"),
    "kick": _leg(
        whole.kick_forward, "kicking forward with {leg}", "swinging {leg} up to the front"
    ),
    "kick sideways": _leg(
        whole.kick_sideways, "kicking sideways with {leg}", "swinging {leg} up to the side"
    ),
    "lift": _leg(whole.lift, "lifting {knee}", "raising {knee} up to the waist"),
    "swing": _leg(whole.swing, "swinging {leg}", "moving {leg} forward and back"),
    "bow": _torso(whole.bent("x", 68.0), "bowing", "leaning the upper body forward and down"),
    "lean": _torso(
        whole.bent("y", 34.0), "leaning to the {side}", "bending the upper body to the {side}"
    ),
    "twist": _torso(
        whole.bent("z", 68.0), "twisting to the {side}", "turning the upper body to the {side}"
    ),
    "sit down": _body(whole.sit, "sitting down", "lowering the body to a seat"),
    "squat": _body(whole.squat, "squatting", "bending the knees down low and rising again"),
    "jump": _body(whole.jump, "jumping", "leaping up from the floor"),
    "march": _body(
        whole.march, "marching in place", "lifting one knee after the other on the spot"
    ),
    "walk forward": _body(whole.walk, "walking forward", "stepping ahead with both legs"),
    "walk towards": _body(whole.approach, "walking towards the other person", "coming nearer"),
    "pick up": _body(
        whole.pick,
        "picking something up from the floor",
        "bending down, taking something with both hands and rising",
    ),
    "stagger": _body(whole.stagger, "staggering back", "being knocked backward"),
}
MOTIONS |= {
    "lower": MOTIONS["raise"].backwards("lowering {arm} from above the head", "letting {arm} down"),
    "pull": MOTIONS["push"].backwards(
        "pulling back with {hand}", "drawing {hand} back to the chest"
    ),
    "close": MOTIONS["open"].backwards(
        "closing {arm}", "bringing {arm} from the side together in front"
    ),
    "take off hat": MOTIONS["put on hat"].backwards(
        "taking off a hat", "moving {hand} up to the top of the head and then to the front"
    ),
    "stand up": MOTIONS["sit down"].backwards("standing up", "rising from a seat"),
    "put down": MOTIONS["pick up"].backwards(
        "putting something down on the floor", "bending down with something in both hands"
    ),
    "walk apart": MOTIONS["walk towards"].backwards(
        "walking apart", "stepping away from the other person"
    ),
}
