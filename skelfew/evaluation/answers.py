"""Parts of result documents that need no PyTorch, and the answer to each query."""

from collections.abc import Iterable
from typing import Literal

FORMAT = "skelfew-result"
FORMAT_VERSION = 1
# The features of rows without an encoder: joint positions, aligned or as they were recorded, and
# what a teacher makes of the videos.
ALIGNED, RAW, TEACHER = UNTRAINED = ("aligned skeletons", "raw skeletons", "teacher's features")
TEXTS: Literal["texts"] = "texts"  # the mode of zero shots, and the name of what then classifies
Mode = Literal["exemplars", "draws", "medoids", "episodes", "texts"]
Scored = Literal["novel", "validation"]  # which classes


class Answers:
    """The class that each query was taken for."""

    def __init__(self) -> None:
        self._cells: dict[tuple[int, int], dict[str, None]] = {}

    def add(self, ids: Iterable[str], truth: Iterable[int], predicted: Iterable[int]) -> None:
        """Add queries by ID with their true classes and with those that they were taken for."""
        for sample_id, true, taken in zip(ids, truth, predicted, strict=True):
            self._cells.setdefault((true, taken), {})[sample_id] = None

    def to_dict(self) -> dict[str, dict[str, list[str]]]:
        """Return ``{true class: {taken for: [sample IDs]}}`` for JSON."""
        document: dict[str, dict[str, list[str]]] = {}
        for (true, taken), ids in sorted(self._cells.items()):
            document.setdefault(str(true), {})[str(taken)] = list(ids)
        return document
