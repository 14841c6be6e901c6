"""The actions of the demo world: named compositions of motions of body parts.

Right and left, several motions of one part and one motion of several parts recur all over the
list, so that what is learnt of the base classes says something about the novel ones.
"""

from dataclasses import dataclass

import numpy as np

from skelfew_extract.demoworld.body import Pose
from skelfew_extract.demoworld.motion import MOTIONS, apply

_MIRRORED = {"right": "left", "left": "right", "both": "both", "own": "own", "": ""}


@dataclass(frozen=True)
class Movement:
    """One motion by one side of one person.

    ``side`` is right, left or both; own for the hand that the performer prefers; "" for no side.
    ``person`` is 0, or 1 for the other person.
    """

    motion: str
    side: str = ""
    person: int = 0

    @property
    def part(self) -> str:
        return MOTIONS[self.motion].part


@dataclass(frozen=True)
class Action:
    """One class of the demo world; two persons are ``apart`` metres from each other, else 0."""

    class_id: int
    name: str
    steps: tuple[Movement, ...]
    seconds: float
    apart: float = 0.0

    @property
    def persons(self) -> int:
        return 2 if self.apart else 1

    def elements(self) -> set[tuple[str, str]]:
        """The class's motions, and the sides of the parts that move."""
        return {("motion", s.motion) for s in self.steps} | {
            (s.part, s.side) for s in self.steps if s.side
        }

    def mirrored(self) -> "Action":
        """Return the same action with left and right exchanged, under the same name."""
        steps = tuple(Movement(s.motion, _MIRRORED[s.side], s.person) for s in self.steps)
        return Action(self.class_id, self.name, steps, self.seconds, self.apart)


def poses(
    action: Action, phases: np.ndarray, beats: float = 1.0, own: str = "right"
) -> tuple[Pose, ...]:
    """Return the poses of an action's persons, no performer's own, at phases (T,) from 0 to 1.

    ``beats`` repetitions relative to usual, ``own`` the hand that the performer prefers.
    """
    out = tuple(Pose(len(phases)) for _ in range(action.persons))
    for step in action.steps:
        side = own if step.side == "own" else step.side
        apply(out[step.person], MOTIONS[step.motion], side, phases, beats)
    return out


def _list() -> tuple[Action, ...]:
    rows: list[tuple[str, tuple[Movement, ...], float, float]] = []

    def alone(name: str, seconds: float, *steps: tuple[str, str]) -> None:
        rows.append((name, tuple(Movement(*s) for s in steps), seconds, 0.0))

    def pair(name: str, seconds: float, apart: float, first: str, second: str) -> None:
        steps = []
        for person, words in enumerate((first, second)):
            motion, _, side = words.partition("/")
            steps.append(Movement(motion, side, person))
        rows.append((name, tuple(steps), seconds, apart))

    for side, hand, arm in (
        ("right", "right hand", "right arm"),
        ("left", "left hand", "left arm"),
        ("both", "both hands", "both arms"),
    ):
        alone(f"wave {hand}", 3.2, ("wave", side))
        alone(f"raise {arm}", 2.8, ("raise", side))
        alone(f"lower {arm}", 2.8, ("lower", side))
        alone(f"stretch {arm} sideways", 2.8, ("stretch", side))
        alone(f"circle {arm}", 3.2, ("circle", side))
        alone(f"push forward with {hand}", 2.8, ("push", side))
        alone(f"pull back with {hand}", 2.8, ("pull", side))
    for side in ("right", "left"):
        alone(f"punch with {side} hand", 2.8, ("punch", side))
        alone(f"throw overhand with {side} hand", 2.8, ("throw", side))
        alone(f"hammer with {side} hand", 3.0, ("hammer", side))
        alone(f"kick forward with {side} leg", 2.6, ("kick", side))
        alone(f"kick sideways with {side} leg", 2.6, ("kick sideways", side))
        alone(f"lift {side} knee", 2.8, ("lift", side))
        alone(f"swing {side} leg", 3.0, ("swing", side))
        alone(f"lean to the {side}", 2.8, ("lean", side))
        alone(f"twist to the {side}", 2.8, ("twist", side))
    alone("open both arms", 2.8, ("open", "both"))
    alone("close both arms", 2.8, ("close", "both"))
    alone("clap hands", 3.0, ("clap", "both"))
    alone("put on hat", 3.2, ("put on hat", "both"))
    alone("take off hat", 3.2, ("take off hat", "both"))
    alone("drink", 3.6, ("drink", "own"))
    alone("answer phone", 3.4, ("phone", "own"))
    alone("bow", 3.0, ("bow", ""))
    alone("sit down", 2.8, ("sit down", ""))
    alone("stand up", 2.8, ("stand up", ""))
    alone("squat", 2.8, ("squat", ""))
    alone("jump", 2.4, ("jump", ""))
    alone("march in place", 3.2, ("march", ""))
    alone("walk forward", 3.2, ("walk forward", ""))
    alone("pick up from the floor", 3.4, ("pick up", ""))
    alone("put down on the floor", 3.4, ("put down", ""))
    alone("squat and raise both arms", 3.0, ("squat", ""), ("raise", "both"))
    alone("walk forward and wave right hand", 3.4, ("walk forward", ""), ("wave", "right"))
    pair("push other person", 2.8, 0.78, "push/both", "stagger")
    pair("punch other person", 2.8, 0.80, "punch/own", "stagger")
    pair("kick other person", 2.6, 0.98, "kick/right", "stagger")
    pair("shake hands", 3.2, 0.95, "shake hands/right", "shake hands/right")
    pair("hug", 3.2, 0.70, "hug/both", "hug/both")
    pair("walk towards each other", 3.0, 0.75, "walk towards", "walk towards")
    pair("walk apart from each other", 3.0, 0.75, "walk apart", "walk apart")
    pair("wave to each other", 3.2, 1.10, "wave/right", "wave/right")
    pair("bow to each other", 3.0, 1.40, "bow", "bow")
    return tuple(Action(i, *row) for i, row in enumerate(rows, 1))


ACTIONS: tuple[Action, ...] = _list()
BY_NAME = {action.name: action for action in ACTIONS}

# Pairs that differ in nothing but the side, and in nothing but the direction of time.
MIRRORED_PAIRS: tuple[tuple[str, str], ...] = tuple(
    (a.name, a.name.replace("right", "left"))
    for a in ACTIONS
    if "right" in a.name and a.name.replace("right", "left") in BY_NAME
)
REVERSED_PAIRS: tuple[tuple[str, str], ...] = (
    *((f"raise {x}", f"lower {x}") for x in ("right arm", "left arm", "both arms")),
    *(
        (f"push forward with {x}", f"pull back with {x}")
        for x in ("right hand", "left hand", "both hands")
    ),
    ("open both arms", "close both arms"),
    ("put on hat", "take off hat"),
    ("sit down", "stand up"),
    ("pick up from the floor", "put down on the floor"),
    ("walk towards each other", "walk apart from each other"),
)

# The split of manifests/protocols/demo.json; everything else is a base class.
NOVEL = (
    "wave right hand", "wave left hand", "raise left arm", "lower left arm",
    "push forward with both hands", "pull back with both hands", "kick forward with left leg",
    "kick sideways with left leg", "lean to the right", "twist to the left", "kick other person",
    "bow to each other",
)  # fmt: skip
VALIDATION = (
    "stretch left arm sideways", "circle both arms", "throw overhand with left hand",
    "lift left knee", "squat and raise both arms", "wave to each other",
)  # fmt: skip


def describe(action: Action) -> list[str]:
    """Return a few descriptions of an action in words shared by all actions with its parts."""
    first, second = ([s for s in action.steps if s.person == person] for person in (0, 1))
    who = "two people, one" if second and first[0].motion != second[0].motion else "a person"
    if second and first[0].motion == second[0].motion:
        who = "two people facing each other, both"
    texts = [action.name]
    variants = max(len(MOTIONS[s.motion].phrases) for s in action.steps)
    for i in range(variants):
        text = f"{who} {_phrase(first, i)}"
        if second and first[0].motion != second[0].motion:
            text += f" and the other {_phrase(second, i)}"
        texts.append(text)
    texts.append(f"the action {action.name!r}: {_phrase(first, 0)}")
    return texts


def _phrase(steps: list[Movement], variant: int) -> str:
    words = []
    for step in steps:
        phrases = MOTIONS[step.motion].phrases
        words.append(phrases[variant % len(phrases)].format(**_words(step.side)))
    return " while ".join(words)


def _words(side: str) -> dict[str, str]:
    if side == "both":
        return {"hand": "both hands", "arm": "both arms", "leg": "both legs", "side": "middle"}
    word = f"the {side} " if side in ("right", "left") else "one "
    named = {part: word + part for part in ("hand", "arm", "leg", "knee", "foot")}
    return {**named, "side": side}
