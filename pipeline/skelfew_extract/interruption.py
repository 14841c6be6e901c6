"""Stopping politely: Ctrl-C and SIGTERM wait for the current block to be committed."""

import signal
import sys
import threading
from types import FrameType
from typing import Any


class Interruption:
    """While entered, remembers the first Ctrl-C or SIGTERM and does not raise; the second does."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        name = signal.Signals(number).name
        print(
            f"{name}: stopping after this block; once more to stop at once",
            file=sys.stderr,
            flush=True,
        )
