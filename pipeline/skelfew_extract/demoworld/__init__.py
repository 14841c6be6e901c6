"""The demo world: people of capsules who perform named actions before three cameras.

It makes a data set out of nothing, so that nothing need be downloaded: docs/demo-world.md.
"""

from skelfew_extract.demoworld.actions import ACTIONS, NOVEL, VALIDATION, describe
from skelfew_extract.demoworld.reader import READER, Spec, generate, specs

__all__ = ["ACTIONS", "NOVEL", "READER", "VALIDATION", "Spec", "describe", "generate", "specs"]
