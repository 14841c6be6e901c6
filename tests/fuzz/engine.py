"""Running hostile inputs under limits: one child process a target, watched by its parent.

An input is a function of target, seed and number, so that any of them can be had again. A target
holds if it returns or raises SkelfewError, within seconds and bounded memory, and leaves nothing
outside the folder that it was given.
"""

import mmap
import os
import pickle
import random
import resource
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edits import Files, Link
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

from skelfew.errors import SkelfewError

SECONDS = 5.0  # of processor time for an input
MEMORY = 1 << 30  # that an input may add to what the process had
_WALL_SECONDS = 60.0  # for one that sleeps; others may use the machine too
_ADDRESS_SPACE = 24 << 30
_ENTROPY = 1 << 14
_LONGEST = 3000  # characters of an error message
_CANARY = Path("/tmp/skelfew-canary")
_MEMORY_DISK = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@dataclass(frozen=True)
class Target:
    """A reader and what it is fed.

    Attributes:
        name: As in the table of docs/security.md.
        inputs: Strategy of files.
        run: Opens what lies in the first folder, as a user would; may write to the second.
        prepare: Loads what the reader needs, before the clock runs.
    """

    name: str
    inputs: SearchStrategy[Files]
    run: Callable[[Path, Path], Any]
    prepare: Callable[[], Any] = lambda: None


@dataclass(frozen=True)
class Failure:
    """An input on which a target failed."""

    target: str
    seed: int
    number: int
    kind: str
    detail: str


@dataclass(frozen=True)
class Outcome:
    """What came of the inputs of a target.

    Attributes:
        target: Its name.
        tried: How many inputs.
        read: How many of them were read without complaint; the others were refused.
        failures: The others.
        seconds: Of wall time.
    """

    target: str
    tried: int
    read: int
    failures: list[Failure]
    seconds: float


def try_inputs(target: Target, numbers: range, seed: int = 0) -> Outcome:
    """Feed a target the inputs of these numbers."""
    began = time.monotonic()
    target.prepare()
    failures: list[Failure] = []
    shared = mmap.mmap(-1, 24)
    start, read = numbers.start, 0
    while start < numbers.stop:
        shared[:] = bytes(24)
        with tempfile.TemporaryDirectory(prefix="fuzz-", dir=_MEMORY_DISK) as scratch:
            left = range(start, numbers.stop)
            found, kind = _watched(target, left, seed, shared, Path(scratch))
        number, ok = _word(shared, 0), _word(shared, 8)
        failures += found
        read += ok
        if kind is None:
            break
        failures.append(Failure(target.name, seed, number, kind, ""))
        start = number + 1
    return Outcome(target.name, len(numbers), read, failures, time.monotonic() - began)


def _word(shared: mmap.mmap, at: int) -> int:
    return int.from_bytes(shared[at : at + 8], "little")


def _watched(
    target: Target, numbers: range, seed: int, shared: mmap.mmap, scratch: Path
) -> tuple[list[Failure], str | None]:
    """Run inputs in a child; return failures, and why it had to be ended, None if it was not."""
    notes = tempfile.TemporaryFile()  # noqa: SIM115  closed below
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _child(target, numbers, seed, shared, scratch, notes)
            status = 0
        except BaseException as error:
            number = _word(shared, 0)
            pickle.dump(Failure(target.name, seed, number, "engine", repr(error)), notes)
            notes.flush()
        finally:
            os._exit(status)
    ended, kind, since, last = False, None, time.monotonic(), -1
    base, spent = 0, 0.0
    while not ended:
        time.sleep(0.02)
        pid, status = os.waitpid(child, os.WNOHANG)
        ended = pid != 0
        if ended:
            break
        number, now = _word(shared, 0), time.monotonic()
        held = _resident(child)
        busy = _busy(child)
        if number != last:
            since, last, spent, base = now, number, busy, held
        if busy - spent > SECONDS or now - since > _WALL_SECONDS:
            kind = "slow"
        elif held - base > MEMORY:
            kind = "memory"
        if kind is not None:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            ended = True
    if kind is None and os.WIFSIGNALED(status):
        kind = f"crash ({signal.Signals(os.WTERMSIG(status)).name})"
    elif kind is None and os.WEXITSTATUS(status):
        kind = "the child ended"
    found: list[Failure] = []
    with notes:
        notes.seek(0)
        while True:
            try:
                found.append(pickle.load(notes))
            except EOFError:
                break
    return found, kind


def _resident(process: int) -> int:
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * resource.getpagesize()


def _busy(process: int) -> float:
    """Return the seconds of processor time of a process."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _child(
    target: Target, numbers: range, seed: int, shared: mmap.mmap, scratch: Path, notes: IO[bytes]
) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MEMORY, MEMORY))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    os.chdir(scratch)
    kept: list[Files] = []
    draw_one = _drawer(target.inputs, kept)
    for number in numbers:
        shared[0:8] = number.to_bytes(8, "little")
        files = make_input(draw_one, kept, target.name, seed, number)
        failure, ok = _one(target, files, scratch / "box")
        shared[8:16] = (_word(shared, 8) + ok).to_bytes(8, "little")
        if failure is not None:
            pickle.dump(Failure(target.name, seed, number, *failure), notes)
            notes.flush()


def _drawer(inputs: SearchStrategy[Files], kept: list[Files]) -> Any:
    @settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(inputs)
    def take(files: Files) -> None:
        kept.append(files)

    return take.hypothesis.fuzz_one_input  # type: ignore[attr-defined]


def make_input(draw_one: Any, kept: list[Files], name: str, seed: int, number: int) -> Files:
    """Return the files of target, seed and number."""
    for attempt in range(100):
        kept.clear()
        draw_one(random.Random(f"{name} {seed} {number} {attempt}").randbytes(_ENTROPY))
        if kept:
            return kept[0]
    raise RuntimeError(f"{name}: the strategy gives nothing")


def input_of(target: Target, seed: int, number: int) -> Files:
    """Return one input, to look at."""
    kept: list[Files] = []
    return make_input(_drawer(target.inputs, kept), kept, target.name, seed, number)


def _one(target: Target, files: Files, box: Path) -> tuple[tuple[str, str] | None, bool]:
    """Feed one input; return what is wrong, if anything, and whether it was read."""
    given_, out = box / "in", box / "out"
    if box.exists():
        shutil.rmtree(box)
    out.mkdir(parents=True)
    (box / "secret").write_text("secret")
    lay(files, given_)
    ok = False
    try:
        target.run(given_, out)
        ok = True
    except SkelfewError as error:
        text = str(error)
        if not text.strip() or len(text) > _LONGEST:
            return ("message", f"{len(text)} characters: {text[:100]}"), False
    except Exception as error:
        where = traceback.extract_tb(sys.exc_info()[2])
        ours = [f"{Path(f.filename).name}:{f.lineno}" for f in where if "skelfew" in f.filename]
        text = f"{type(error).__name__}: {str(error)[:200]} [{' < '.join(reversed(ours[-3:]))}]"
        return ("exception", text), False
    strays = sorted({p.name for p in box.iterdir()} - {"in", "out", "secret"})
    strays += sorted({p.name for p in box.parent.iterdir()} - {box.name})
    strays += [str(_CANARY)] if _CANARY.exists() else []
    if strays or (box / "secret").read_text() != "secret":
        return ("outside", f"wrote {strays or 'to secret'}"), ok
    return None, ok


def _lay_odd(path: Path, to: str) -> None:
    kind, colon, rest = to.partition(":")
    if kind == "hard" and colon:
        path.hardlink_to(path.parent / rest)
    elif colon:
        os.mknod(path, 0o600 | (stat.S_IFIFO if kind == "fifo" else stat.S_IFSOCK))
    else:
        path.symlink_to(to)


def lay(files: Files, folder: Path) -> None:
    """Write an input to a folder; names that a file system cannot have are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Link):
                _lay_odd(path, content.to)
            else:
                path.write_bytes(content)
        except (OSError, ValueError):
            continue
