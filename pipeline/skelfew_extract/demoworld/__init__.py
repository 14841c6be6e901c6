"""The demo world: people of capsules perform named actions before cameras (docs/demo-world.md)."""

from skelfew_extract.demoworld.actions import ACTIONS, NOVEL, VALIDATION, describe
from skelfew_extract.demoworld.reader import READER, Spec, generate, specs

__all__ = ["ACTIONS", "NOVEL", "READER", "VALIDATION", "Spec", "describe", "generate", "specs"]
