"""What result documents say that is known without PyTorch, and which query was called what."""

from collections.abc import Iterable

FORMAT = "skelfew-result"
FORMAT_VERSION = 1
# The features of rows without an encoder: joint positions, aligned or as they were recorded, and
# what a teacher makes of the videos.
ALIGNED, RAW, TEACHER = UNTRAINED = ("aligned skeletons", "raw skeletons", "teacher's features")
TEXTS = "texts"  # the mode of zero shots, and the name of what then classifies


class Answers:
    """Which queries were taken for which class, for looking at them later."""

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
