"""Progress that people can read: a live bar on a terminal, else a line a minute on stderr."""

import sys
import time

from skelfew.io.clean import printable

_EVERY = 60.0  # seconds between lines where stderr is not a terminal


class Progress:
    """Counts done items (not those ``done`` before); shows rate, time left and a note."""

    def __init__(
        self,
        description: str,
        total: int,
        unit: str = "items",
        done: int = 0,
        shown: bool = True,
    ):
        self.description, self.total, self.unit = printable(description), total, unit
        self.done, self._before = done, done
        self._start = self._last = time.monotonic()
        self._bar = None
        self._shown = shown
        if shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(
                printable(description), total=total, completed=done, note=""
            )

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._shown and error[0] is None and self.done > self._before:
            print(printable(self._line("")), file=sys.stderr, flush=True)

    @property
    def rate(self) -> float:
        """Items per second since the start of this run."""
        return (self.done - self._before) / max(time.monotonic() - self._start, 1e-9)

    def advance(self, items: int = 1, note: str = "") -> None:
        """Count ``items`` more as done and show ``note``, e.g. ``loss 0.42``."""
        self.done += items
        if self._bar is not None:
            self._bar.update(
                self._task, completed=self.done, note=printable(f"{self._speed()}  {note}")
            )
        elif self._shown and time.monotonic() - self._last >= _EVERY:
            self._last = time.monotonic()
            print(printable(self._line(note)), file=sys.stderr, flush=True)

    def _speed(self) -> str:
        left = (self.total - self.done) / self.rate if self.rate > 0 else float("inf")
        clock = "?" if left == float("inf") else f"{int(left) // 60}:{int(left) % 60:02d}"
        return f"{self.rate:.1f} {self.unit}/s, {clock} left"

    def _line(self, note: str) -> str:
        return f"{self.description}: {self.done}/{self.total} ({self._speed()}) {note}".rstrip()
