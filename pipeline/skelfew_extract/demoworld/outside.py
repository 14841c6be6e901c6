"""Training clips of the demo's teacher that the demo's students never see: compositions of actions.

The paper's teacher learnt from Kinetics, which has other actions than the few-shot classes. The
counterpart here: two actions of the demo world at once ("circle left arm and bow"), or two people
who do different things. No composition contains a novel or validation class of the demo's split.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from skelfew_extract.demoworld.actions import ACTIONS, NOVEL, VALIDATION, Action, Movement
from skelfew_extract.demoworld.reader import Spec

# Class ids of compositions start here, far from those of the demo world itself.
FIRST_ID = 1001
_ARMS_TAKEN = ("march", "walk forward", "pick up", "put down")


def _parts(action: Action) -> set[tuple[str, str]]:
    """The parts that an action keeps busy, arms and legs by side."""
    busy = set()
    for step in action.steps:
        sides = ("right", "left") if step.side in ("both", "own") else (step.side,)
        busy |= {(step.part, side) for side in sides} if step.part in ("arm", "leg") else set()
        if step.part in ("torso", "body"):
            busy.add((step.part, ""))
        if step.part == "body":
            busy |= {("leg", "right"), ("leg", "left")}
        if step.motion in _ARMS_TAKEN:
            busy |= {("arm", "right"), ("arm", "left")}
    return busy


def _compositions() -> Iterator[Action]:
    held_out = {*NOVEL, *VALIDATION}
    single = [a for a in ACTIONS if len(a.steps) == 1 and a.persons == 1 and a.name not in held_out]
    found = []
    for first, second in combinations(single, 2):
        if not _parts(first) & _parts(second):
            # Motions of the whole body are written first, so that an arm's own motion remains.
            ordered = tuple(sorted((*first.steps, *second.steps), key=lambda s: s.part != "body"))
            seconds = max(first.seconds, second.seconds)
            found.append((f"{first.name} and {second.name}", ordered, seconds, 0.0))
    duets = []
    for first, second in combinations([a for a in single if not _walks(a)], 2):
        steps = (*first.steps, Movement(second.steps[0].motion, second.steps[0].side, 1))
        name = f"one person {first.name} and the other {second.name}"
        duets.append((name, steps, max(first.seconds, second.seconds), 1.2))
    rng = np.random.default_rng(7)
    chosen = [found[i] for i in sorted(rng.permutation(len(found))[:320])]
    chosen += [duets[i] for i in sorted(rng.permutation(len(duets))[:40])]
    for i, row in enumerate(chosen):
        yield Action(FIRST_ID + i, *row)


def _walks(action: Action) -> bool:
    return action.steps[0].motion == "walk forward"


OUTSIDE: tuple[Action, ...] = tuple(_compositions())


@dataclass(frozen=True, order=True)
class OutsideSpec(Spec):
    """A sample of a composition, to be made by ``skelfew_extract.demoworld.reader.generate``."""

    @property
    def action(self) -> Action:
        return OUTSIDE[self.class_id - FIRST_ID]
