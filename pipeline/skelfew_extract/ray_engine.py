"""Extraction on a Ray cluster: decoding on its processors, copies of the teacher, one writer here.

Ray Data streams windows of rows through two stages: tasks that decode (each with a decoding
process of its own, watched by the rules of engine.py) and actors that hold a teacher each. It
starts no more tasks than memory has room for, runs again what dies with a process or a node, and
hands over blocks as they get ready; ``extract.fill`` commits them in this process. This is the only
importer of ray.
"""

import json
import logging
import os
import socket
import subprocess
import sys
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
from skelfew.files import brief
from skelfew_extract.engine import Crew
from skelfew_extract.extract import fill
from skelfew_extract.recordings import Recordings
from skelfew_extract.settings import Settings
from skelfew_extract.summary import Summary
from skelfew_extract.teachers import Teacher
from skelfew_extract.windows import Block, Card, Encoder, Window, collect, windows_of

try:
    import ray
    import ray.data
except ImportError as missing:
    raise SkelfewError(
        f"--engine ray needs {missing.name}, which is not installed; pip install 'skelfew[ray]'"
    ) from None

_KNOCK, _ANSWER = 10.0, 60.0  # seconds for a computer to answer at all, and for Ray
_PATIENCE = 30.0  # seconds between words about waiting for a place
_ATTEMPTS = 4  # at a window that ends the teacher's process; Ray itself would go on for ever
_MOST_PARTS = 10_000  # what Ray Data keeps a list of; beyond, a task decodes several windows

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Cluster:
    """The Ray cluster that this process is connected to.

    Attributes:
        name: How errors call it.
        nodes: Machines.
        cpus: Processor cores that Ray may give away, of all nodes.
        gpus: The same for GPUs.
    """

    name: str
    nodes: int
    cpus: int
    gpus: int

    def choose_device(self, asked: str) -> str:
        """Return ``cpu`` or ``cuda``; raise SkelfewError if the cluster cannot have it so."""
        if asked not in ("auto", "cpu", "cuda"):
            raise SkelfewError(
                f"--device {asked}: Ray picks a GPU for each copy of the teacher; --device cuda"
            )
        device = ("cuda" if self.gpus else "cpu") if asked == "auto" else asked
        if device == "cuda" and not self.gpus:
            raise SkelfewError(
                f"--device cuda: {self.name} has no GPU; start a node that has, or --device cpu"
            )
        needed = 1 if device == "cuda" else 2
        if self.cpus < needed:
            what = "one to decode" + ("" if device == "cuda" else ", one for the teacher")
            raise SkelfewError(
                f"{self.name} has {self.cpus} processor cores, but {needed} are needed ({what}); "
                "start another node, or ray start --num-cpus"
            )
        return device

    def default_workers(self, device: str) -> int:
        """Return how many clips to decode at once: processors must also encode, GPUs wait."""
        return self.cpus if device == "cuda" else max(self.cpus // 2, 1)

    def teachers(self, device: str) -> int:
        """Return how many copies of the teacher may run: one a GPU, or one a node."""
        return self.gpus if device == "cuda" else min(self.nodes, self.cpus // 2)


@contextmanager
def joined() -> Iterator[Cluster]:
    """Connect to the cluster at RAY_ADDRESS; without that, start one here and end it afterwards.

    Raises:
        SkelfewError: If there is no cluster at that address, or it is of another version.
    """
    ours = not ray.is_initialized()
    if ours:
        _connect(os.environ.get("RAY_ADDRESS") or "local")
    try:
        total = ray.cluster_resources()
        nodes = sum(1 for node in ray.nodes() if node["Alive"])
        address = ray.get_runtime_context().gcs_address
        yield Cluster(
            f"the Ray cluster at {address}",
            nodes,
            int(total.get("CPU", 0)),
            int(total.get("GPU", 0)),
        )
    finally:
        if ours:
            ray.shutdown()


def _connect(address: str) -> None:
    if address.startswith("ray://"):
        raise SkelfewError(
            f"RAY_ADDRESS {address}: the only writer must be on a node of the cluster; run this "
            "command there, with the address as host:port"
        )
    options: dict[str, Any] = {}
    if address == "local":
        # On a single core, too, decoding and encoding take turns.
        cores = max(os.cpu_count() or 1, 2)
        options = {"num_cpus": cores, "include_dashboard": False}
    else:
        _look_for(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report itself to its makers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ side warns of its Python side
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ray.exceptions.RayError, RuntimeError, ValueError, OSError) as error:
        what = "started here" if address == "local" else f"joined at RAY_ADDRESS {address}"
        raise SkelfewError(f"no Ray cluster could be {what} ({brief(error)})") from error


def _look_for(address: str) -> None:
    """Raise SkelfewError unless another process can connect; ray.init may wait for ever."""
    try:
        if address != "auto":
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), _KNOCK).close()
        code = "import ray, sys; ray.init(sys.argv[1], log_to_driver=False, logging_level='ERROR')"
        trial = [sys.executable, "-c", code, address]
        subprocess.run(trial, capture_output=True, text=True, timeout=_ANSWER, check=True)
        return
    except subprocess.TimeoutExpired:
        why = f"nothing that Ray understands has answered for {_ANSWER:g} s"
    except subprocess.CalledProcessError as error:
        why = brief((error.stderr or error.stdout).strip().split("\n")[-1])
    except (OSError, ValueError, OverflowError) as error:
        why = brief(error)
    raise SkelfewError(
        f"RAY_ADDRESS {address}: no Ray cluster can be joined there ({why}); it is the host:port "
        "that `ray start --head` printed, to be used on one of the nodes, with the same Ray and "
        "Python, and RAY_AUTH_MODE=token if the cluster asks for a token; without "
        "RAY_ADDRESS a cluster is started here"
    )


@dataclass(frozen=True)
class Troupe:
    """Copies of one teacher, and how each of them is made.

    Attributes:
        build: Returns the teacher; called on the nodes, so it must be importable there.
        device: ``cpu`` or ``cuda``.
        folder: In which relative paths are meant.
        threads: Of PyTorch, on processors.
    """

    build: Callable[[], Teacher]
    device: str
    folder: Path
    threads: int

    @classmethod
    def from_here(cls, build: Callable[[], Teacher], device: str) -> "Troupe":
        """Return a troupe whose members compute as this process would."""
        return cls(build, device, Path.cwd(), torch.get_num_threads())

    def member(self) -> Teacher:
        """Return a copy of the teacher, in the process that calls this."""
        _go_to(self.folder)
        if self.device == "cpu":
            torch.set_num_threads(self.threads)
        return self.build()

    @property
    def place(self) -> dict[str, Any]:
        """What Ray is to reserve for one."""
        return {"num_cpus": 0, "num_gpus": 1} if self.device == "cuda" else {"num_cpus": 1}


def introduce(troupe: Troupe, labels: list[str]) -> Card:
    """Return the card of a member of the troupe, which is made for this on a node.

    Raises:
        SkelfewError: If the teacher or its weights are not to be had there.
    """
    with _plain_errors():
        card = ray.remote(**troupe.place)(_introduce).remote(troupe, labels)
        while not ray.wait([card], timeout=_PATIENCE)[0]:
            log("waiting for Ray to find a place for the teacher, and for it to be loaded")
        found: Card = ray.get(card)
        return found


def _introduce(troupe: Troupe, labels: list[str]) -> Card:
    return Card.of(troupe.member(), labels)


def extract_on(
    cluster: Cluster,
    recordings: Recordings,
    troupe: Troupe,
    card: Card,
    out: Path,
    settings: Settings,
) -> Summary:
    """Fill the cache ``out``, going on where an earlier run stopped, of whichever engine.

    Args:
        cluster: From :func:`joined`.
        recordings: Opened here; their files must be at the same place on all nodes.
        troupe: The teachers.
        card: From :func:`introduce`.
        out: The cache, which this process alone writes.
        settings: ``workers`` is how many clips are decoded at once on all nodes together.

    Raises:
        CacheError, KeyboardInterrupt: As ``extract.extract`` does.
        SkelfewError: If nodes do not see the files, or the same window ended several processes.
    """
    manifest = recordings.manifest
    skeletons = None if recordings.skeletons is None else recordings.skeletons.path

    def blocks(todo: np.ndarray) -> Generator[Block, None, None]:
        windows = [{"start": s, "rows": rows} for s, rows in windows_of(todo, settings.batch)]
        if windows:
            with _plain_errors():
                plan = _Plan(manifest, skeletons, recordings.videos, troupe, card, settings)
                yield from _stream(windows, plan, cluster.teachers(troupe.device))

    return fill(recordings, card, out, settings, blocks)


@dataclass(frozen=True)
class _Plan:
    """What the processes of the nodes must know; Ray keeps one copy a node."""

    manifest: Manifest
    skeletons: Path | None
    videos: Path
    troupe: Troupe
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
    windows: list[dict[str, Any]], known: _Plan, teachers: int
) -> Generator[Block, None, None]:
    """Yield the blocks of the windows as they get ready."""
    plan, attempts = ray.put(known), ray.remote(num_cpus=0)(_Attempts).remote()
    crop, batch = known.settings.decode.crop, known.settings.batch
    window_bytes = batch * crop.pictures * 3 * crop.size**2
    ray.data.DataContext.get_current().enable_progress_bars = False
    for name in ("ray.data", "ray.util"):
        logging.getLogger(name).setLevel(logging.ERROR)
    one_window: dict[str, Any] = {
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
        **known.troupe.place,
        **one_window,
    )
    for columns in data.iter_batches(batch_size=1, batch_format="numpy"):
        yield _block(columns)


# In the processes of the nodes


@dataclass(frozen=True)
class _Decoder:
    """What a process of a node keeps from one window to the next."""

    plan: str  # which it is for
    known: _Plan
    recordings: Recordings
    crew: Crew


_decoder: _Decoder | None = None


def _decode(columns: Columns, plan: list["ray.ObjectRef"]) -> Columns:
    """Return the pictures of a window, and what became of its rows. Runs in a task."""
    here = _decoder_for(plan[0])
    manifest, settings = here.known.manifest, here.known.settings
    rows = [int(row) for row in columns["rows"][0]]
    tasks = [here.recordings.task(row) for row in rows if manifest.samples[row].video]
    clips = here.crew.decode(tasks, len(rows))
    window = collect(int(columns["start"][0]), rows, manifest, clips, settings)
    return {
        "start": np.array([window.start]),
        "pictures": window.pictures[None],
        "notes": _notes(window),
    }


def _decoder_for(plan: "ray.ObjectRef") -> _Decoder:
    """Return what stands ready in this process, made ready for ``plan`` if it is not."""
    global _decoder
    if _decoder is None or _decoder.plan != plan.hex():
        if _decoder is not None:
            _decoder.crew.close()
        known: _Plan = ray.get(plan)
        _go_to(known.troupe.folder)
        crew = Crew(known.settings.decode, 1)
        _decoder = _Decoder(plan.hex(), known, known.recordings(), crew)
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
        known: _Plan = ray.get(plan[0])
        teacher = known.troupe.member()
        if teacher.describe() != known.card.description:
            raise SkelfewError(
                f"the teacher on the node {socket.gethostname()} is not that of the others; are "
                "weights and versions the same on all nodes?"
            )
        self.attempts = attempts
        self.encoder = Encoder(teacher, known.card, known.manifest, known.settings)

    def __call__(self, columns: Columns) -> Columns:
        """Return the features of a window, float32 (1, 2, B, V, D), and what became of its rows."""
        start, pictures = int(columns["start"][0]), columns["pictures"][0]
        rows, reasons, centred = _read(columns)
        if ray.get(self.attempts.begin.remote(start)) > _ATTEMPTS:
            raise SkelfewError(
                f"the teacher's process ended {_ATTEMPTS} times at rows {rows[0]} to {rows[-1]}; "
                "is there memory for it? try a smaller --batch"
            )
        window = Window(start, tuple(rows), pictures, reasons, centred)
        block = self.encoder.encode(window)
        shape = (2, len(pictures), *block.video.shape[1:])
        features = np.zeros(shape, dtype=np.float32)  # of one shape, as columns have
        features[:, block.rows - start] = block.video, block.text
        return {"start": columns["start"], "features": features[None], "notes": _notes(block)}


def _block(columns: Columns) -> Block:
    rows, reasons, centred = _read(columns)
    places = np.array(rows) - int(columns["start"][0])
    video, text = columns["features"][0][:, places]
    return Block(np.array(rows), video, text, reasons, centred)


def _notes(found: Window | Block) -> np.ndarray:
    """Return rows and reasons as a column of one text."""
    notes = {
        "rows": [int(row) for row in found.rows],
        "reasons": [[int(row), *reason] for row, reason in found.reasons.items()],
        "centred": found.centred,
    }
    return np.array([json.dumps(notes)])


def _read(columns: Columns) -> tuple[list[int], dict[int, tuple[str, str]], int]:
    notes = json.loads(columns["notes"][0])
    reasons = {row: (stage, message) for row, stage, message in notes["reasons"]}
    return notes["rows"], reasons, notes["centred"]


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
    """Raise what a person can mend as such, without Ray's wrapping."""
    try:
        yield
    except ray.exceptions.RayError as error:
        cause: BaseException | None = error
        while isinstance(cause, ray.exceptions.RayError):
            cause = getattr(cause, "cause", None) or cause.__cause__
        if isinstance(cause, SkelfewError):
            raise SkelfewError(str(cause)) from error
        if isinstance(cause, Exception):
            raise cause from error
        raise SkelfewError(
            f"Ray gave up ({type(error).__name__}: {brief(error)}); what was done is kept, and the "
            "same command goes on from there"
        ) from error
