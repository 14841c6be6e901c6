"""Runs units in worker processes; whatever stops it, the next start goes on from there."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TextIO

from skelfew.io.clean import printable
from skelfew.io.files import Document
from skelfew.io.processes import spawning
from skelfew.reproduce.records import Records
from skelfew.reproduce.summary import MODES, scored_by
from skelfew.reproduce.units import Unit

_GRACE = 120.0  # seconds that workers have to save their state


def execute(
    units: list[Unit],
    records: Records,
    folder: Path,
    jobs: int = 1,
    keep: bool = False,
    say: Callable[[str], None] = lambda text: print(printable(text), file=sys.stderr, flush=True),
    devices: Sequence[str] = (),
) -> bool:
    """Run all units that have no record yet; return whether it was asked to stop.

    ``keep`` leaves weights and features in the run folders; ``say`` gets a line for each finished
    unit; the processes take ``devices`` in turn, the units' own if there is one device or none.
    """
    todo = [u for u in units if not records.settled(u.key)]
    if not todo:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    in_turn = devices if len(devices) > 1 else (None,)
    return _Engine(todo, records, folder, min(jobs, len(todo)), keep, say, in_turn).run()


class _RowProcess:
    """A process that does one unit after the other."""

    def __init__(self, folder: Path, keep: bool, device: str | None):
        context = spawning()
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_work, args=(theirs, folder, keep), daemon=False
        )
        self.process.start()
        theirs.close()
        self.unit: Unit | None = None
        self.device = device

    def give(self, unit: Unit) -> None:
        self.unit = unit
        if self.device is not None and unit.config is not None:
            unit = replace(unit, config=replace(unit.config, device=self.device))
        self.connection.send(unit)

    def stop(self) -> None:
        """Ask it to save its state and end."""
        if self.unit is None:
            self.connection.close()
        elif self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, signal.SIGTERM)


@dataclass
class _Engine:
    todo: list[Unit]
    records: Records
    folder: Path
    jobs: int
    keep: bool
    say: Callable[[str], None]
    devices: Sequence[str | None]

    def __post_init__(self) -> None:
        self.all, self.clips = len(self.todo), sum(u.total for u in self.todo)
        self.done, self.spent_clips, self.started = 0, 0, time.monotonic()
        self.workers: list[_RowProcess] = []
        self.interrupted = False

    def run(self) -> bool:
        try:
            self._loop()
        except KeyboardInterrupt:
            self.interrupted = True
            self.todo.clear()
            self.say("stopping: running units save their state")
            for worker in self.workers:
                worker.stop()
            self._drain()
        finally:
            for worker in self.workers:
                worker.connection.close()
            for worker in self.workers:
                worker.process.join(_GRACE)
        return self.interrupted

    def _loop(self) -> None:
        self.workers = [
            _RowProcess(self.folder, self.keep, self.devices[k % len(self.devices)])
            for k in range(self.jobs)
        ]
        for worker in list(self.workers):
            self._next(worker)
        while any(w.unit for w in self.workers):
            for worker in self._ready(None):
                self._collect(worker)
                self._next(worker)

    def _ready(self, timeout: float | None) -> list[_RowProcess]:
        by_connection = {w.connection: w for w in self.workers if w.unit is not None}
        return [by_connection[c] for c in wait(list(by_connection), timeout)]  # type: ignore[index]

    def _drain(self) -> None:
        """Take what workers that were asked to stop still have to say."""
        until = time.monotonic() + _GRACE
        while any(w.unit for w in self.workers) and time.monotonic() < until:
            for worker in self._ready(1.0):
                self._collect(worker)

    def _next(self, worker: _RowProcess) -> None:
        if worker.process.exitcode is not None or not worker.process.is_alive():
            self.workers.remove(worker)
            if not self.todo:
                return
            worker = _RowProcess(self.folder, self.keep, worker.device)
            self.workers.append(worker)
        self.records.refresh()
        while self.todo:
            unit = self.todo.pop(0)
            if not self.records.settled(unit.key):  # else: another command has done it meanwhile
                worker.give(unit)
                return
            self.clips -= unit.total
            self.all -= 1

    def _collect(self, worker: _RowProcess) -> None:
        unit, worker.unit = worker.unit, None
        assert unit is not None
        try:
            kind, value = worker.connection.recv()
        except (EOFError, OSError):
            if self.interrupted:
                return  # it was asked to stop while it had no state to save
            worker.process.join(10)
            code = worker.process.exitcode
            kind, value = "failed", {
                "error": f"the worker process ended (exit code {code}); out of memory?",
                "kind": "WorkerDied",
            }  # fmt: skip
        if kind == "interrupted":
            self.interrupted = True
            return
        if kind == "busy":
            self.todo.append(unit)  # by then the other command may have done it
            return
        if kind == "failed":
            value = {
                "key": unit.key,
                "rows": list(unit.rows),
                "dataset": unit.dataset,
                "split": unit.split,
                "seed": unit.seed,
                "classes": unit.classes,
                "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                **value,
            }
        self.records.append(value)
        self.done += 1
        self.spent_clips += unit.total
        self.say(self._line(unit, value))

    def _line(self, unit: Unit, record: Document) -> str:
        what = f"error: {record['error']}" if "error" in record else accuracies(unit, record)
        seconds = f", {record['seconds']:.0f} s" if "seconds" in record else ""
        left = self.all - self.done
        text = f"{self.done}/{self.all} {', '.join(unit.rows)}, {unit.dataset} "
        text += f"{unit.unit}: {what}{seconds}"
        if left and self.spent_clips:
            elapsed = time.monotonic() - self.started
            rest = elapsed * (self.clips - self.spent_clips) / self.spent_clips
            text += f"; {left} left, about {duration(rest)}"
        return text


def accuracies(unit: Unit, record: Document) -> str:
    """Return what the classifiers of a unit's rows reached, by exemplars / draws or by texts."""
    classes = "novel" if "novel" in record["scores"] else "validation"
    parts = []
    for shots, cells in record["scores"][classes].items():
        for name in dict.fromkeys(scored_by(c, shots) for c in unit.classifiers):
            modes = [f"{100 * cells[name][m]['micro']:.1f}" for m in MODES if m in cells[name]]
            parts.append(f"{shots}-shot {name} {' / '.join(modes)} %")
    return ", ".join(parts) + (" (validation classes)" if classes == "validation" else "")


def duration(seconds: float) -> str:
    """Return ``42 s``, ``5 min``, ``2 h 05 min`` or ``30 days``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes >= 48 * 60:
        return f"{minutes / 1440:,.0f} days"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _work(connection: Connection, folder: Path, keep: bool) -> None:
    """Body of a worker process."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C goes to the parent alone, which asks each worker once
    threading.Thread(target=_follow_parent, daemon=True).start()
    with Path(os.devnull).open("w", encoding="utf-8") as quiet:
        _serve(connection, folder, keep, quiet)


def _serve(connection: Connection, folder: Path, keep: bool, quiet: TextIO) -> None:
    from skelfew.errors import SkelfewError
    from skelfew.reproduce.work import Busy, do

    sys.stderr = quiet  # runs keep their own log.txt
    while True:
        try:
            unit = connection.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            return
        try:
            answer: tuple[str, Any] = ("done", do(unit, folder, keep))
        except KeyboardInterrupt:  # Interrupted among it
            answer = ("interrupted", None)
        except Busy:
            answer = ("busy", None)
        except SkelfewError as error:
            answer = ("failed", {"error": str(error), "kind": type(error).__name__})
        except Exception as error:
            text = f"{type(error).__name__}: {error} (a bug in skelfew)"
            answer = ("failed", {"error": text, "kind": type(error).__name__})
        try:
            connection.send(answer)
        except OSError:
            return  # the parent is gone


def _follow_parent() -> None:
    """End this process, state saved, when the parent has been killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
