"""Limits on one foreign file: every reader counts here, before it does the work.

A file of a few bytes can claim, or unpack to, anything. A reader takes what it is about to hold
in memory from one ``ReadBudget`` a file, and counts what it is about to walk through. With at
most 64 MB of file, what is held stays below 768 MiB; benchmarks/hostile.py measures that.
"""

import threading
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from skelfew.errors import SkelfewError

FLOOR, FACTOR = 512 << 20, 4  # bytes that may be held: these, and so many for each byte stored
STALL_SECONDS, STALL_BYTES = 60.0, 1 << 16  # no progress: fewer bytes in so many seconds
# How many there may be of a kind; and one more for so many bytes of the file.
COUNTS: dict[str, tuple[int, int]] = {
    "entries of a zip": (60_000, 1 << 12),
    "members of a gzip file": (50_000, 1 << 12),
    "frames of a chunk": (10_000, 1 << 12),
    "chunks of an array": (20_000, 1 << 11),
    "columns": (10_000, 1 << 14),
    "files of a folder": (1_000_000, 1),
    "rows": (900_000, 1 << 10),
    "tensors": (20_000, 1 << 16),
    "groups and arrays": (10_000, 1 << 16),
    "instructions of a pickle": (1_000_000, 1 << 4),
}
_OBJECT, _LIST, _VALUE = 240, 72, 40  # bytes of a JSON object, list, value
_ROW, _CELL = 400, 24  # bytes of a row of a table, and more for each column
_SMALL, _SHORT_ROW = 64 << 20, 16
_HEADER = 1 << 24  # bytes of the header of a safetensors file
_T = TypeVar("_T")


class ReadBudget:
    """Memory and work that reading the file ``where`` may still use; beyond it is an ``error``."""

    def __init__(self, where: object, stored: int, error: type[Exception] = SkelfewError):
        self.where, self._stored, self.error = where, stored, error
        self.left = FLOOR + FACTOR * stored
        self._counts: dict[str, int] = {}

    def hold(self, size: int, what: str = "it") -> None:
        """Count bytes that are about to be held in memory until the end."""
        self.check(size, what)
        self.left -= size

    def check(self, size: int, what: str = "it") -> None:
        """Raise the error if so many bytes are more than what is left."""
        if size > self.left:
            raise self.error(
                f"{self.where}: {what} would need {size} bytes of memory, with {self._stored} "
                f"stored {self.left} are allowed; damaged, or made to harm"
            )

    def count(self, kind: str, number: int = 1) -> None:
        """Count what is about to be walked through, of a kind in ``COUNTS``."""
        self._counts[kind] = total = self._counts.get(kind, 0) + number
        least, share = COUNTS[kind]
        if total > (most := least + self._stored // share):
            raise self.error(f"{self.where}: more than {most} {kind}; damaged, or made to harm")


def open_zip(path: Any, error: type[Exception] = zipfile.BadZipFile) -> zipfile.ZipFile:
    """Open a zip whose directory is of a believable size; its entries are counted before."""
    size = Path(path).stat().st_size
    with Path(path).open("rb") as file:
        end: Any = zipfile._EndRecData(file)  # type: ignore[attr-defined]
        if end is not None:
            length, budget = end[5], ReadBudget(path, size, error)
            budget.check(8 * length, "its directory")
            file.seek(max(end[9] - length - (76 if end[0] == b"PK\x06\x06" else 0), 0))
            budget.count("entries of a zip", file.read(length + 76).count(b"PK\x01\x02"))
    return zipfile.ZipFile(path)


def gunzip(content: bytes, most: int, budget: ReadBudget | None = None) -> bytes:
    """Return what gzip data unpack to, member by member, ``most`` bytes at most.

    Raises ValueError if they unpack to more, or to too many members, zlib.error if damaged,
    EOFError.
    """
    view, at, parts, total = memoryview(content), 0, [], 0
    budget = budget or ReadBudget("gzip data", len(content), ValueError)
    while at < len(view):
        if not view[at]:  # members may be filled up with zeros
            at += 1
            continue
        budget.count("members of a gzip file")
        member, piece = zlib.decompressobj(31), b""
        while not member.eof:
            if not piece:
                piece = bytes(view[at : at + (1 << 16)])
                at += len(piece)
            part = member.decompress(piece, 1 << 20)
            if not (part or piece or member.eof):
                raise EOFError("gzip data are cut off")
            total += len(part)
            if total > most:
                raise budget.error(
                    f"{budget.where}: {len(content)} bytes that would unpack to far more; it "
                    f"unpacks to more than {most}; damaged, or made to harm"
                )
            parts.append(part)
            piece = member.unconsumed_tail
        at -= len(member.unused_data)
    return b"".join(parts)


def json_bytes(text: str | bytes) -> int:
    """Return how many bytes of memory the values of a JSON text would need, at most."""
    signs: Any = (b"{", b"[", b",") if isinstance(text, bytes) else ("{", "[", ",")
    sizes = (_OBJECT, _LIST, _VALUE)
    return sum(text.count(sign) * size for sign, size in zip(signs, sizes, strict=True))


def check_json(text: str | bytes) -> None:
    """Raise ValueError if the values of a JSON text would need too much memory."""
    ReadBudget("JSON", 0, ValueError).check(json_bytes(text), "its values")


def check_lines(
    text: bytes, line: int, word: int = 0, error: type[Exception] = SkelfewError
) -> None:
    """Raise an error if objects for each line and word (bytes each) of a text are too much."""
    words = len(text) - len(text.translate(None, b" \t\n\r\x0b\x0c"))
    needed = (text.count(b"\n") + text.count(b"\r")) * line + words * word
    ReadBudget("the recording", len(text), error).check(needed, "its lines")


def check_table(path: Path, error: type[Exception] = ValueError) -> None:
    """Count columns and rows of a CSV file; raise if they are too many."""
    size = path.stat().st_size
    budget, rows = ReadBudget(path, size, error), 0
    with path.open("rb") as file:
        budget.count("columns", columns := file.readline(1 << 24).count(b",") + 1)
        while block := file.read(1 << 20):
            rows += block.count(b"\n") + block.count(b"\r")
    rows -= min(rows, size // _SHORT_ROW if size > _SMALL else 0)  # all may be short there
    budget.count("rows", rows)
    budget.hold(rows * (_ROW + _CELL * columns), "its rows")


def check_safetensors(path: str | Path) -> None:
    """Count the tensors of a safetensors file before it is opened; raise OSError."""
    path = Path(path)
    budget = ReadBudget(path, path.stat().st_size, OSError)
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _HEADER + path.stat().st_size // 64:
            raise OSError(f"a header of {size} bytes; damaged, or made to harm")
        budget.count("tensors", file.read(size).count(b'"data_offsets"'))


def with_progress(
    action: Callable[[Callable[[int], None]], _T], stalled: Exception, more: float = 0.0
) -> _T:
    """Return what an action returns; raise ``stalled`` when it makes no progress.

    It runs in a thread of its own, which may be left behind, and is called with what counts bytes.
    ``more`` are seconds to wait beyond ``STALL_SECONDS``, for bytes that nothing counts on their
    way.
    """
    got, done = [0], threading.Event()
    result: list[tuple[Any, BaseException | None]] = []

    def work() -> None:
        def count(more: int) -> None:
            if done.is_set():
                raise stalled
            got[0] += more

        try:
            result.append((action(count), None))
        except BaseException as error:
            result.append((None, error))
        done.set()

    threading.Thread(target=work, daemon=True, name="transfer").start()
    since, before = time.monotonic(), 0
    while not done.wait(0.05 if not before else 0.5):
        if got[0] - before >= STALL_BYTES:
            since, before = time.monotonic(), got[0]
        elif time.monotonic() - since > STALL_SECONDS + more:
            done.set()
            raise stalled
    value, error = result[0]
    if error is not None:
        raise error
    return cast("_T", value)
