"""Decoding in parallel, in order, whatever the videos do.

A thread of the parent hands clips to worker processes and puts the results into a queue of limited
length, so that decoding overlaps encoding and memory stays bounded. A worker that exceeds the
time limit is killed and replaced; one that dies gets a successor and its clip a second chance.
"""

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

from skelfew.errors import SkelfewError
from skelfew.io.processes import spawning
from skelfew_extract.clips import ClipReport, ClipTask, DecodeSettings
from skelfew_extract.engines.decode_worker import serve

_START_LIMIT = 300.0  # seconds for a worker to import PyTorch on a busy machine
_START_ATTEMPTS = 3
_TICK = 0.2  # seconds between looks at the clock


@dataclass(frozen=True)
class DecodedClip:
    """A clip as the teacher takes it, uint8 (T V, 3, S, S), or why there is none."""

    report: ClipReport
    pictures: np.ndarray | None


def decode_clips(
    tasks: Iterable[ClipTask], settings: DecodeSettings, workers: int, ahead: int = 16
) -> Generator[DecodedClip, None, None]:
    """Yield the clips of ``tasks`` in their order; failures are clips without pictures.

    Tasks are drawn one by one, from another thread than the caller's; up to ``ahead`` clips are
    decoded before the caller takes them. Close the iterator (or run it to its end) to end the
    processes.
    """
    with closing(DecoderPool(settings, workers)) as pool:
        yield from pool.decode(tasks, ahead)


@dataclass
class _DecodeProcess:
    process: Any  # multiprocessing.context.SpawnProcess
    pipe: Connection
    deadline: float
    ready: bool = False
    position: int | None = None  # of the task it works on


class DecoderPool:
    """Decoding processes that serve one stream of clips after the other, until ``close``."""

    def __init__(self, settings: DecodeSettings, count: int):
        self.settings, self.count = settings, count
        self.workers: list[_DecodeProcess] = []
        self._context = spawning()  # forked decoders deadlock

    def decode(
        self, tasks: Iterable[ClipTask], ahead: int = 16
    ) -> Generator[DecodedClip, None, None]:
        """Yield the clips of ``tasks`` in their order; closed early, it ends processes at work."""
        pump = _Pump(iter(tasks), self, max(ahead, self.count))
        pump.start()
        try:
            while (item := pump.results.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                pump.room.release()
                yield item
        finally:
            pump.stop.set()
            pump.join()

    def start(self, work: int) -> None:
        """Start processes until there is one for each of ``work`` clips, or ``count``."""
        while len(self.workers) < min(self.count, work):
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=serve, args=(theirs, self.settings), daemon=True)
            process.start()
            theirs.close()  # so that the worker's end closes when it dies
            self.workers.append(_DecodeProcess(process, ours, time.monotonic() + _START_LIMIT))

    def stop(self, worker: _DecodeProcess) -> None:
        """End a process, whatever it does."""
        self.workers.remove(worker)
        if worker.process.is_alive():
            worker.process.kill()
        worker.process.join()
        worker.pipe.close()

    def close(self) -> None:
        """End all processes."""
        for worker in list(self.workers):
            self.stop(worker)


class _Pump(threading.Thread):
    """Moves tasks to workers and results, in order, to ``results``."""

    def __init__(self, tasks: Iterator[ClipTask], pool: DecoderPool, ahead: int):
        super().__init__(name="decode-pump", daemon=True)
        self.results: queue.Queue[DecodedClip | BaseException | None] = queue.Queue()
        self.room = threading.Semaphore(ahead)
        self.stop = threading.Event()
        self._pool, self._settings = pool, pool.settings
        self._tasks: Iterator[ClipTask] | None = tasks
        self._waiting: deque[tuple[int, ClipTask]] = deque()
        self._given: dict[int, ClipTask] = {}
        self._finished: dict[int, DecodedClip] = {}
        self._retried: set[int] = set()
        self._taken = self._passed_on = self._bad_starts = 0

    def run(self) -> None:
        """Serve until every task is answered or ``stop`` is set; then end who is still at work."""
        try:
            while not self.stop.is_set():
                self._draw()
                if self._tasks is None and not self._waiting and not self._given:
                    break
                self._pool.start(len(self._waiting) + len(self._given))
                self._dispatch()
                self._listen()
            self.results.put(None)
        except BaseException as error:  # raised again in the thread that waits for clips
            self.results.put(error)
        finally:
            for worker in [w for w in self._pool.workers if w.position is not None]:
                self._pool.stop(worker)

    def _draw(self) -> None:
        """Take tasks while the caller has room for their results."""
        while (
            self._tasks
            and len(self._waiting) < self._pool.count
            and self.room.acquire(blocking=False)
        ):
            task = next(self._tasks, None)
            if task is None:
                self._tasks = None
                return
            self._waiting.append((self._taken, task))
            self._taken += 1

    def _dispatch(self) -> None:
        for worker in self._pool.workers:
            if worker.ready and worker.position is None and self._waiting:
                position, task = self._waiting.popleft()
                self._given[position] = task
                worker.position = position
                worker.deadline = time.monotonic() + self._settings.timeout
                # If it died meanwhile, its closed pipe says so next.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    worker.pipe.send(task)

    def _listen(self) -> None:
        """Wait a moment for messages, deaths and missed deadlines."""
        busy = [w for w in self._pool.workers if not w.ready or w.position is not None]
        if not busy:
            self.stop.wait(_TICK / 10)  # the caller has all it can hold
            return
        ready = set(wait([w.pipe for w in busy], timeout=_TICK))
        now = time.monotonic()
        for worker in busy:
            if worker.pipe in ready:
                if not self._receive(worker):
                    self._bury(worker, died=True)
            elif now > worker.deadline:
                self._bury(worker, died=False)

    def _receive(self, worker: _DecodeProcess) -> bool:
        """Take what a worker sent; return False if it is dead."""
        try:
            message = worker.pipe.recv()
            worker.deadline = float("inf")
            if message == "ready":
                worker.ready, self._bad_starts = True, 0
                return True
            pictures = None
            if not message.stage:
                crop = self._settings.crop
                shape = (crop.pictures, 3, crop.size, crop.size)
                pictures = np.frombuffer(worker.pipe.recv_bytes(), dtype=np.uint8).reshape(shape)
        except (EOFError, ConnectionResetError, BrokenPipeError):
            return False
        assert worker.position is not None
        self._finish(worker.position, DecodedClip(message, pictures))
        worker.position = None
        return True

    def _bury(self, worker: _DecodeProcess, died: bool) -> None:
        """Remove a dead or hanging worker; its clip is tried once more if it died, else failed."""
        self._pool.stop(worker)
        code = worker.process.exitcode
        if not worker.ready:
            self._bad_starts += 1
            if self._bad_starts >= _START_ATTEMPTS:
                raise SkelfewError(
                    f"decoding processes do not start (exit code {code}); is there memory for "
                    f"{self._pool.count} of them? try --workers 1"
                )
        if worker.position is None:
            return
        position = worker.position
        if not died:
            self._fail(position, f"timed out after {self._settings.timeout:g} s")
        elif position in self._retried:
            self._fail(position, f"its decoding process died twice (exit code {code})")
        else:
            self._retried.add(position)
            self._waiting.appendleft((position, self._given.pop(position)))

    def _fail(self, position: int, why: str) -> None:
        task = self._given[position]
        report = ClipReport(task.row, "decode", f"{task.video}: {why}")
        self._finish(position, DecodedClip(report, None))

    def _finish(self, position: int, clip: DecodedClip) -> None:
        """Pass a result on as soon as all before it are there."""
        del self._given[position]
        self._finished[position] = clip
        while self._passed_on in self._finished:
            self.results.put(self._finished.pop(self._passed_on))
            self._passed_on += 1
