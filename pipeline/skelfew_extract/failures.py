"""``NAME.failures.csv``: which samples failed, at which stage, and why."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from skelfew.errors import SkelfewError
from skelfew.io.files import brief, read_csv
from skelfew.io.writing import write_csv

COLUMNS = ("sample_id", "stage", "message")
UNRECORDED = ("unknown", "failed in a run whose failures file is gone")


@dataclass
class Failures:
    """Failures of a cache: stage and message by ID, of its rows of status "failed"."""

    path: Path
    reasons: dict[str, tuple[str, str]]

    @classmethod
    def beside(cls, cache: Path, failed: Iterable[str]) -> "Failures":
        """Return the known reasons of the samples that ``cache`` marks as failed."""
        path = cache.with_name(cache.name.removesuffix(".zarr") + ".failures.csv")
        known: dict[str, tuple[str, str]] = {}
        if path.exists():
            try:
                known = {name: (stage, why) for name, stage, why in read_csv(path, COLUMNS)}
            except (OSError, ValueError) as error:
                raise SkelfewError(
                    f"{path}: not a readable list of failures ({brief(error)}); move it away"
                ) from None
        return cls(path, {s: known.get(s, UNRECORDED) for s in failed})

    def update(self, failed: dict[str, tuple[str, str]], succeeded: Iterable[str]) -> None:
        """Add failures, forget those that succeeded now, and write the file if that changes it."""
        gone = [s for s in succeeded if self.reasons.pop(s, None) is not None]
        self.reasons.update(failed)
        if failed or gone:
            self.write()

    def write(self) -> None:
        """Replace the file at once, or remove it when nothing has failed."""
        if not self.reasons:
            self.path.unlink(missing_ok=True)
            return
        try:
            write_csv(self.path, COLUMNS, ((s, *reason) for s, reason in self.reasons.items()))
        except OSError as error:
            raise SkelfewError(
                f"{self.path}: cannot be written ({error.strerror}); put that right and run the "
                "same command again"
            ) from None
