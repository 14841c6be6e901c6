"""Reading sources in blocks, in parallel and resumably. Used by ``skelfew.data.prepare.walk``."""

import hashlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from multiprocessing import parent_process
from pathlib import Path
from types import FrameType

import numpy as np
from filelock import FileLock, Timeout

from skelfew.data.joints.layouts import Layout
from skelfew.data.manifest import Sample, bad_id
from skelfew.data.readers import Dropped, Options, RawFolder, Recording, load_reader
from skelfew.data.readers.raw import stem
from skelfew.data.store import Skeleton
from skelfew.data.store_writer import SkeletonStoreWriter
from skelfew.errors import SkelfewError
from skelfew.io.processes import spawning
from skelfew.io.writing import write_text
from skelfew.progress import Progress

_BLOCKS, _BLOCK_SIZE = 64, 200  # about so many blocks, of at most so many sources


@dataclass(frozen=True)
class ReadSample:
    """A sample of a part: its manifest row, where it comes from, what is odd about it."""

    sample: Sample
    source: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class BlockResult:
    """The result of one block: its samples, in the order of its uncompressed store."""

    store: Path
    rows: tuple[ReadSample, ...]
    dropped: tuple[Dropped, ...]

    @classmethod
    def read(cls, folder: Path, block: int) -> "BlockResult":
        """Read a part that is done."""
        content = json.loads(_rows_file(folder, block).read_text(encoding="utf-8"))
        rows = [
            ReadSample(Sample(**r["sample"]), r["source"], tuple(r["notes"]))
            for r in content["rows"]
        ]
        dropped = [Dropped(**d) for d in content["dropped"]]
        return cls(_store_file(folder, block), tuple(rows), tuple(dropped))


def _store_file(folder: Path, block: int) -> Path:
    return folder / f"{block:05}.h5"


def _rows_file(folder: Path, block: int) -> Path:
    return folder / f"{block:05}.json"


@dataclass(frozen=True)
class ReadPlan:
    """Sources and settings of a preparation; all that the parts depend on."""

    reader: str
    layout: Layout
    channels: int
    pixels: bool  # whether joints in the video are stored
    options: Options
    raw: RawFolder
    sources: tuple[str, ...]
    depends: str = ""  # what the reader says that the samples depend on besides

    def blocks(self) -> list[tuple[str, ...]]:
        """Cut the sources into blocks, independently of the number of workers."""
        size = min(_BLOCK_SIZE, -(-len(self.sources) // _BLOCKS))
        return [self.sources[i : i + size] for i in range(0, len(self.sources), size)]

    def fingerprint(self) -> str:
        """Hash what the parts depend on, with the sizes of the source files."""
        digest = hashlib.sha256()
        layout = self.layout.to_dict()
        parts = [self.reader, layout, self.channels, self.pixels, version("skelfew"), self.depends]
        parts += [sorted(self.options.items()), str(self.raw.path.resolve())]
        parts += [str(self.raw.video_folder.resolve())]
        digest.update(json.dumps(parts).encode())
        for source in self.sources:
            digest.update(f"\n{source} {self.raw.size(source)}".encode())
        return digest.hexdigest()

    @contextmanager
    def claimed(self, folder: Path, log: Callable[[str], None]) -> Iterator[None]:
        """Hold the folder of parts for this run alone; parts of another plan are thrown away."""
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f".{folder.stem}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise SkelfewError(
                f"{folder}: another skelfew-prepare is at work on it; wait for it to end"
            ) from None
        try:
            note, fingerprint = folder / "plan.txt", self.fingerprint()
            done = sum(1 for _ in folder.glob("*.json"))
            if note.exists() and note.read_text() == fingerprint:
                log(f"{folder}: going on; {done} of {len(self.blocks())} blocks are done")
            else:
                if done:
                    log(f"{folder}: recordings or options have changed; starting anew")
                shutil.rmtree(folder)
                folder.mkdir()
                write_text(note, fingerprint)
            yield
            shutil.rmtree(folder)
        finally:
            lock.release()


def read_blocks(plan: ReadPlan, folder: Path, workers: int) -> list[BlockResult]:
    """Read all blocks that are not done yet and return the parts in the order of the blocks."""
    blocks = plan.blocks()
    todo = [i for i in range(len(blocks)) if not _rows_file(folder, i).exists()]
    left = sum(len(blocks[i]) for i in todo)
    with Progress("prepare", len(plan.sources), "files", done=len(plan.sources) - left) as progress:
        if min(workers, len(todo)) > 1:
            _read_in_processes(plan, folder, todo, min(workers, len(todo)), progress)
        else:
            for block in todo:
                read_block(plan, folder, block)
                progress.advance(len(blocks[block]))
    return [BlockResult.read(folder, i) for i in range(len(blocks))]


def _read_in_processes(
    plan: ReadPlan, folder: Path, todo: list[int], workers: int, progress: Progress
) -> None:
    blocks = plan.blocks()
    pool = ProcessPoolExecutor(workers, spawning(), initializer=_start_worker)
    waiting = iter(todo)
    running: dict[Future[None], int] = {}
    try:
        with _interrupts_noted() as interrupts:
            while not interrupts.is_set():
                # A few blocks ahead, so that a failure or Ctrl-C leaves little work behind.
                for block in waiting:
                    with _interrupts_held():  # inherited by the workers that this starts
                        running[pool.submit(read_block, plan, folder, block)] = block
                    if len(running) >= 2 * workers:
                        break
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    block = running.pop(future)
                    future.result()
                    progress.advance(len(blocks[block]))
            if interrupts.is_set():
                raise KeyboardInterrupt
    except BrokenProcessPool:
        raise SkelfewError(
            f"a worker process died while reading {plan.raw.path}, perhaps for want of memory; "
            "run the same command again to go on, with fewer --workers"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupts_noted() -> Iterator[threading.Event]:
    """Set an event at Ctrl-C besides raising: what a callback of the pool raises is lost."""
    noted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return

    def note(number: int, frame: FrameType | None) -> None:
        noted.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back, not lose it, while workers start; they inherit that and never see it."""
    if threading.current_thread() is not threading.main_thread() or os.name == "nt":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    # Ctrl-C goes to the whole group. The parent alone answers it: workers finish their block and
    # are not missed in the middle of one. A worker whose parent was killed must not live on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def read_block(plan: ReadPlan, folder: Path, block: int) -> None:
    """Read one block of sources into its part."""
    joints = len(plan.layout)
    rows: list[ReadSample] = []
    dropped: list[Dropped] = []
    with SkeletonStoreWriter(
        _store_file(folder, block), plan.layout, joints, plan.channels, plan.pixels, compress=False
    ) as writer:
        seen: set[str] = set()
        for source in plan.blocks()[block]:
            for item in _read_source(plan, source):
                if isinstance(item, Recording):
                    item = checked(item, source, joints, plan.channels)
                if isinstance(item, Recording) and item.sample.sample_id in seen:
                    reason = "duplicate: an earlier recording has the same sample_id"
                    item = Dropped(item.sample.sample_id, source, reason)
                if isinstance(item, Dropped):
                    dropped.append(item)
                    continue
                seen.add(item.sample.sample_id)
                writer.append(item.sample.sample_id, item.skeleton)
                rows.append(ReadSample(item.sample, source, item.notes))
    content = {
        "rows": [asdict(row) for row in rows],
        "dropped": [asdict(d) for d in dropped],
    }
    write_text(_rows_file(folder, block), json.dumps(content))


def _read_source(plan: ReadPlan, source: str) -> Iterator[Recording | Dropped]:
    try:
        yield from load_reader(plan.reader).read(plan.raw, source, plan.options)
    except SkelfewError as error:
        yield Dropped(stem(source), source, str(error))
    except Exception as error:
        raise RuntimeError(f"{source}: {type(error).__name__}: {error}") from error


def checked(recording: Recording, source: str, joints: int, channels: int) -> Recording | Dropped:
    """Fill in frames and bodies and add notes; or say why the recording cannot be used."""
    name, skeleton = recording.sample.sample_id, recording.skeleton
    shape = skeleton.positions.shape
    if (fault := bad_id([name])) is not None:
        return Dropped(stem(source), source, f"its ID {fault}")
    if len(shape) != 4 or shape[2:] != (joints, channels) or 0 in shape:
        expected = f"(bodies, frames, {joints}, {channels})"
        return Dropped(name, source, f"wrong shape: {shape}, expected {expected}")
    finite = np.isfinite(skeleton.positions).all(axis=(0, 2, 3))
    if not finite.all():
        where = np.flatnonzero(~finite)
        return Dropped(
            name, source, f"not finite: NaN or infinity in {len(where)} frames, first {where[0]}"
        )
    if not skeleton.positions.any():
        return Dropped(name, source, f"no body in any of {shape[1]} frames")
    sample = replace(recording.sample, bodies=shape[0], frames=shape[1])
    notes = recording.notes + oddities(skeleton)
    return replace(recording, sample=sample, notes=notes)


def oddities(skeleton: Skeleton) -> tuple[str, ...]:
    """Return what is odd about a usable skeleton: a single frame, frames without any body."""
    notes = []
    if skeleton.positions.shape[1] == 1:
        notes.append("one frame only")
    empty = int((~skeleton.positions.any(axis=(0, 2, 3))).sum())
    if empty:
        notes.append(f"{empty} frames without a body")
    return tuple(notes)
