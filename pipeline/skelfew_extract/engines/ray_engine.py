"""Extraction on a Ray cluster: decoding on its processors, copies of the teacher, one writer here.

Ray Data streams windows of rows through two stages: tasks that decode (each with a decoding
process of its own, watched by the rules of engine.py) and actors that hold a teacher each. It
starts no more tasks than memory has room for, runs again what dies with a process or a node, and
hands over blocks as they get ready; ``extract.fill`` commits them in this process.

Errors of ours travel in the rows: Ray would wrap them beyond recognition.
"""

import json
import logging
import os
import socket
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skelfew.cli.common import log
from skelfew.data.manifest import Manifest
from skelfew.data.store import SkeletonStore
from skelfew.errors import SkelfewError
from skelfew.io.files import Document, brief
from skelfew_extract.engines.pool import DecoderPool
from skelfew_extract.engines.ray_cluster import Cluster, ray
from skelfew_extract.extract import fill
from skelfew_extract.recordings import Recordings
from skelfew_extract.settings import Settings
from skelfew_extract.summary import ExtractionSummary
from skelfew_extract.teachers import Teacher
from skelfew_extract.windows import Block, Card, Encoder, Window, collect, windows_of

_PATIENCE = 30.0  # seconds between words about waiting for a place
_ATTEMPTS = 4  # at a window that ends the teacher's process; Ray itself would go on for ever
_MOST_PARTS = 10_000  # what Ray Data keeps a list of; beyond, a task decodes several windows

_NOTHING = np.zeros(1, dtype=np.uint8)  # in place of pictures or features that there are not

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class TeacherFactory:
    """Copies of one teacher, and how each of them is made."""

    # Returns the teacher; called on the nodes, so it must be importable there
    build: Callable[[], Teacher]
    device: str  # ``cpu`` or ``cuda``
    folder: Path  # in which relative paths are meant
    threads: int  # of PyTorch, on processors

    @classmethod
    def from_here(cls, build: Callable[[], Teacher], device: str) -> "TeacherFactory":
        """Return a factory of teachers that compute as this process would."""
        return cls(build, device, Path.cwd(), torch.get_num_threads())

    def make(self) -> Teacher:
        """Return a copy of the teacher, in the process that calls this."""
        _go_to(self.folder)
        if self.device == "cpu":
            torch.set_num_threads(self.threads)
        return self.build()

    @property
    def place(self) -> Document:
        """Resources that Ray reserves for one teacher."""
        return {"num_cpus": 0, "num_gpus": 1} if self.device == "cuda" else {"num_cpus": 1}


def teacher_card(factory: TeacherFactory, labels: list[str]) -> Card:
    """Return the card of a teacher, made for this on a node; SkelfewError if that fails."""
    with _plain_errors():
        card = ray.remote(**factory.place)(_teacher_card).remote(factory, labels)
        while not ray.wait([card], timeout=_PATIENCE)[0]:
            log("waiting for Ray to find a place for the teacher, and for it to be loaded")
        return ray.get(card)


def _teacher_card(factory: TeacherFactory, labels: list[str]) -> Card:
    return Card.of(factory.make(), labels)


def extract_on(
    cluster: Cluster,
    recordings: Recordings,
    factory: TeacherFactory,
    card: Card,
    out: Path,
    settings: Settings,
) -> ExtractionSummary:
    """Fill the cache ``out``, going on where an earlier run stopped, of whichever engine.

    The files of ``recordings`` must be at the same place on all nodes; ``settings.workers`` is how
    many clips are decoded at once on all nodes together. Raises what ``extract.extract`` does, and
    SkelfewError if nodes do not see the files, or the same window ended several processes.
    """
    manifest = recordings.manifest
    skeletons = None if recordings.skeletons is None else recordings.skeletons.path

    def blocks(todo: np.ndarray) -> Generator[Block, None, None]:
        windows = [{"start": s, "rows": rows} for s, rows in windows_of(todo, settings.batch)]
        if windows:
            with _plain_errors():
                plan = _RayPlan(manifest, skeletons, recordings.videos, factory, card, settings)
                yield from _stream(windows, plan, cluster.teachers(factory.device))

    return fill(recordings, card, out, settings, blocks)


@dataclass(frozen=True)
class _RayPlan:
    """Settings of the processes on the nodes; Ray keeps one copy a node."""

    manifest: Manifest
    skeletons: Path | None
    videos: Path
    factory: TeacherFactory
    card: Card
    settings: Settings

    def recordings(self) -> Recordings:
        """Open the recordings on a node."""
        if not self.videos.is_dir():
            raise SkelfewError(
                f"{self.videos}: no such folder of videos on the node {socket.gethostname()}; all "
                "nodes must see it there"
            )
        store = None if self.skeletons is None else SkeletonStore(self.skeletons)
        return Recordings(self.manifest, store, self.videos)


def _stream(
    windows: list[Document], known: _RayPlan, teachers: int
) -> Generator[Block, None, None]:
    """Yield the blocks of the windows as they get ready."""
    plan, attempts = ray.put(known), ray.remote(num_cpus=0)(_Attempts).remote()
    crop, batch = known.settings.decode.crop, known.settings.batch
    window_bytes = batch * crop.pictures * 3 * crop.size**2
    ray.data.DataContext.get_current().enable_progress_bars = False
    for name in ("ray.data", "ray.util"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    one_window: Document = {
        "batch_size": 1,
        "batch_format": "numpy",
        "zero_copy_batch": False,
    }
    decode: Any = _decode  # Ray's types know functions of one argument only
    parts = min(len(windows), _MOST_PARTS)
    data: ray.data.Dataset = ray.data.from_items(windows, override_num_blocks=parts)
    data = data.map_batches(
        decode,
        fn_kwargs={"plan": [plan]},  # in a list, for Ray would send what a bare one refers to
        compute=ray.data.TaskPoolStrategy(size=known.settings.workers),
        num_cpus=1,
        memory=4 * window_bytes,  # also keeps Ray from making one stage of the two
        **one_window,
    )
    data = data.map_batches(
        _Seat,
        fn_constructor_args=([plan], attempts),
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=teachers),
        **known.factory.place,
        **one_window,
    )
    for columns in data.iter_batches(batch_size=1, batch_format="numpy"):
        _raise_message(columns)
        yield _block(columns)


# In the processes of the nodes


@dataclass(frozen=True)
class _Decoder:
    """Objects that a process keeps from one window to the next."""

    plan: str  # which it is for
    known: _RayPlan
    recordings: Recordings
    pool: DecoderPool


_decoder: _Decoder | None = None


def _decode(columns: Columns, plan: list["ray.ObjectRef"]) -> Columns:
    """Return the pictures of a window, and what became of its rows. Runs in a task."""
    try:
        here = _decoder_for(plan[0])
        manifest, settings = here.known.manifest, here.known.settings
        rows = [int(row) for row in columns["rows"][0]]
        tasks = [here.recordings.task(row) for row in rows if manifest.samples[row].video]
        clips = here.pool.decode(tasks, len(rows))
        window = collect(int(columns["start"][0]), rows, manifest, clips, settings)
        return _columns(columns["start"], _notes(window), pictures=window.pictures)
    except Exception as error:
        return _columns(columns["start"], _message(error), pictures=_NOTHING)


def _decoder_for(plan: "ray.ObjectRef") -> _Decoder:
    """Return what this process has prepared for ``plan``; prepare it first if needed."""
    global _decoder
    if _decoder is None or _decoder.plan != plan.hex():
        if _decoder is not None:
            _decoder.pool.close()
        known: _RayPlan = ray.get(plan)
        _go_to(known.factory.folder)
        pool = DecoderPool(known.settings.decode, 1)
        _decoder = _Decoder(plan.hex(), known, known.recordings(), pool)
    return _decoder


class _Attempts:
    """An actor that counts how often each window was begun."""

    def __init__(self) -> None:
        self._count: Counter[int] = Counter()

    def begin(self, start: int) -> int:
        """Count one more attempt at the window; return how many there were."""
        self._count[start] += 1
        return self._count[start]


class _Seat:
    """The place of a copy of the teacher: an actor, and the GPU that Ray gives to it."""

    def __init__(self, plan: list["ray.ObjectRef"], attempts: Any):
        self.plan, self.attempts = plan[0], attempts
        self.encoder: Encoder | None = None

    def __call__(self, columns: Columns) -> Columns:
        """Return the features of a window, float32 (1, 2, B, V, D), and what became of its rows."""
        if "error" in _read(columns):
            return _columns(columns["start"], _read(columns), features=_NOTHING)
        try:
            return self._encode(columns)
        except Exception as error:
            return _columns(columns["start"], _message(error), features=_NOTHING)

    def _encode(self, columns: Columns) -> Columns:
        start, pictures = int(columns["start"][0]), columns["pictures"][0]
        rows, reasons, centred = _of_notes(_read(columns))
        if ray.get(self.attempts.begin.remote(start)) > _ATTEMPTS:
            raise SkelfewError(
                f"the teacher's process ended {_ATTEMPTS} times at rows {rows[0]} to {rows[-1]}; "
                "is there memory for it? try a smaller --batch"
            )
        self.encoder = self.encoder or self._take_the_teacher_in()
        block = self.encoder.encode(Window(start, tuple(rows), pictures, reasons, centred))
        shape = (2, len(pictures), *block.video.shape[1:])
        features = np.zeros(shape, dtype=np.float32)  # of one shape, as columns have
        features[:, block.rows - start] = block.video, block.text
        return _columns(columns["start"], _notes(block), features=features)

    def _take_the_teacher_in(self) -> Encoder:
        known: _RayPlan = ray.get(self.plan)
        teacher = known.factory.make()
        if teacher.describe() != known.card.description:
            raise SkelfewError(
                f"the teacher on the node {socket.gethostname()} is not that of the others; are "
                "weights and versions the same on all nodes?"
            )
        return Encoder(teacher, known.card, known.manifest, known.settings)


def _columns(start: np.ndarray, notes: Document, **arrays: np.ndarray) -> Columns:
    """Return the row of a window: arrays of one row each."""
    rows = {name: array[None] for name, array in arrays.items()}
    return {"start": start, "notes": np.array([json.dumps(notes)]), **rows}


def _notes(found: Window | Block) -> Document:
    """Return rows and reasons as JSON can hold them."""
    return {
        "rows": [int(row) for row in found.rows],
        "reasons": [[int(row), *reason] for row, reason in found.reasons.items()],
        "centred": found.centred,
    }


def _read(columns: Columns) -> Document:
    return json.loads(columns["notes"][0])


def _of_notes(notes: Document) -> tuple[list[int], dict[int, tuple[str, str]], int]:
    reasons = {row: (stage, message) for row, stage, message in notes["reasons"]}
    return notes["rows"], reasons, notes["centred"]


def _message(error: Exception) -> Document:
    """Return an error as JSON can hold it; if it is a bug, with its traceback."""
    if isinstance(error, SkelfewError):
        return {"error": str(error), "traceback": ""}
    where = f"{type(error).__name__}: {error} (on the node {socket.gethostname()})"
    return {"error": where, "traceback": traceback.format_exc()}


def _raise_message(columns: Columns) -> None:
    notes = _read(columns)
    if "error" not in notes:
        return
    if not notes["traceback"]:
        raise SkelfewError(notes["error"])
    bug = RuntimeError(notes["error"])
    bug.add_note(notes["traceback"])
    raise bug


def _block(columns: Columns) -> Block:
    rows, reasons, centred = _of_notes(_read(columns))
    places = np.array(rows) - int(columns["start"][0])
    video, text = columns["features"][0][:, places]
    return Block(np.array(rows), video, text, reasons, centred)


def _go_to(folder: Path) -> None:
    """Let relative paths mean here what they mean to the command."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise SkelfewError(
            f"{folder}: cannot be entered on the node {socket.gethostname()} ({error.strerror}); "
            "run the command in a folder that all nodes see"
        ) from None


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Raise what Ray raises in words that say what to do."""
    try:
        yield
    except (ray.exceptions.RayError, ray.data.exceptions.SystemException) as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, SkelfewError):
            raise SkelfewError(str(cause)) from error
        shown = error.__cause__ or error
        raise SkelfewError(
            f"Ray gave up ({type(shown).__name__}: {brief(shown)}); what was done is kept, and the "
            "same command goes on from there"
        ) from error
