"""``--shard i/n``: the part of a manifest that one of n machines takes."""

import re
from dataclasses import dataclass
from pathlib import Path

from skelfew.errors import SkelfewError


@dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``of``, counted from 1: consecutive rows, whatever the batch size."""

    index: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read ``2/3``; raise SkelfewError if it is something else."""
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise SkelfewError(f"--shard {text}: expected i/n with i from 1 to n, such as 2/3")
        return cls(int(found[1]), int(found[2]))

    def rows(self, count: int) -> tuple[int, int]:
        """Return first row and one past the last, of ``count`` rows."""
        if self.of > count:
            raise SkelfewError(f"--shard {self.index}/{self.of}: there are only {count} samples")
        return count * (self.index - 1) // self.of, count * self.index // self.of

    def out(self, whole: Path) -> Path:
        """Return where the shard goes: ``NAME.shard-i-of-n.zarr`` beside the whole."""
        name = whole.name.removesuffix(".zarr")
        return whole.with_name(f"{name}.shard-{self.index}-of-{self.of}.zarr")
