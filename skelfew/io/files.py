"""Small files that may come from anybody: read whole, after a look at what they are.

A name may lead to a device that never ends, a pipe that never begins, or a file of more bytes than
there is memory. What is wrong is an OSError or a ValueError, for callers to put into words.
"""

import csv
import errno
import hashlib
import json
import lzma
import os
import stat
import struct
import tomllib
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from skelfew.io.budget import FACTOR, ReadBudget, check_json, check_table, gunzip
from skelfew.io.clean import printable, uncell

Document = dict[str, Any]  # a JSON object
Values = Mapping[str, Any]  # one that is only read, or settings by name
_T = TypeVar("_T", bound=Hashable)
MOST_BYTES = 1 << 28  # of a text that is read whole
_SHOWN = 160
_TOML_STEPS, _LINE = 4_000_000, 80
_SLACK = 1 << 24  # bytes that any entry of a zip may unpack to
MOST_UNPACKED = 40 << 20  # of one recording; the longest of PKU-MMD have some 10 MB
# What reading a damaged archive raises.
BROKEN = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, ValueError,
    RuntimeError, IndexError, KeyError, OverflowError, MemoryError,
)  # fmt: skip


def check_file(path: Path, most: int | None = MOST_BYTES) -> int:
    """Return the size of a file; OSError if absent, no regular file, or larger than ``most``."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    if most is not None and found.st_size > most:
        reason = f"its {found.st_size} bytes are more than the {most} that are read"
        raise OSError(errno.EFBIG, reason, str(path))
    return found.st_size


def entries(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield the regular files of a folder, by name below it, with their sizes; follow no link.

    A process may be writing to it: files that are on their way come and go and are left out. Raises
    ValueError if a link, a device or a pipe is among them, OSError if it cannot be read.
    """
    todo, budget = [(folder, "")], ReadBudget(folder, 0, ValueError)
    while todo:
        place, before = todo.pop()
        try:
            with os.scandir(place) as found:
                for entry in found:
                    budget.count("files of a folder")
                    name = before + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        todo.append((Path(entry.path), name + "/"))
                    elif not entry.is_file(follow_symlinks=False):
                        what = "a symbolic link" if entry.is_symlink() else "no regular file"
                        raise ValueError(f"{brief(name)} is {what}; copy the file itself there")
                    elif not name.endswith(".partial"):
                        yield name, entry.stat(follow_symlinks=False).st_size
        except (FileNotFoundError, NotADirectoryError):
            continue


def read_text(path: Path, most: int = MOST_BYTES, encoding: str = "utf-8") -> str:
    """Return the text of a file; raise OSError, or ValueError if it is not text."""
    check_file(path, most)
    return path.read_text(encoding=encoding)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file; raise OSError as ``check_file``."""
    check_file(path)
    return path.read_bytes()


def parse_json(
    text: str | bytes, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None
) -> Any:
    """Return the value of a JSON text.

    Raises ValueError: it is not JSON, is nested too deeply, has too many values, or holds half of a
    surrogate pair, which no file can be written with.
    """
    check_json(text)
    try:
        value = json.loads(text, object_pairs_hook=pairs)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    escaped = b"\\ud" if isinstance(text, bytes) else "\\ud"
    if escaped in text.lower():  # type: ignore[operator]
        json.dumps(value, ensure_ascii=False).encode()  # UnicodeEncodeError is a ValueError
    return value


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """Return the value of a JSON file; raise OSError, or ValueError if it is not JSON."""
    return parse_json(read_text(path, most))


def read_json_object(path: Path) -> Document:
    """Return ``read_json`` of a file that holds an object."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"it holds {shown(value)}, expected an object")
    return value


def read_toml(path: Path, most: int = 1 << 20) -> dict[str, Any]:
    """Return the groups of a TOML file; raise OSError, or ValueError if it is not TOML.

    The parser goes through all parts of a dotted name for each value that stands below it.
    """
    text = read_text(path, most)
    parts = max(line.count(".") for line in text.split("\n"))
    if (parts + 1) * (parts + text.count("=")) > _TOML_STEPS:
        raise ValueError("its names have too many parts")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_lines(path: Path) -> list[str]:
    """Return the stripped lines of a text that are not blank; OSError, ValueError if it is none."""
    text = read_text(path)
    ReadBudget(path, len(text), ValueError).hold(_LINE * (text.count("\n") + 1), "its lines")
    return [line for part in text.split("\n") if (line := part.strip())]


def read_csv(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Return columns of a table that ``write_csv`` wrote; OSError, ValueError if it is none."""
    check_file(path)
    check_table(path)
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        try:
            if missing := set(columns) - set(rows.fieldnames or ()):
                raise ValueError(f"it has no column {min(missing)}")
            found = [[row[column] for column in columns] for row in rows]
        except csv.Error as error:
            raise ValueError(str(error)) from None
    return [tuple(map(uncell, values)) for values in found if None not in values]


def duplicates(values: Iterable[_T]) -> list[_T]:
    """Return the values that are there more than once, in the order of their first place."""
    return [value for value, count in Counter(values).items() if count > 1]


def shown(value: object, most: int = _SHOWN) -> str:
    """Return ``repr(value)`` for a message: on one line, short, and soon, however nested it is."""
    import reprlib

    brief = reprlib.Repr()
    brief.maxlevel, brief.maxstring, brief.maxother, brief.maxlong = 3, most, most, most
    try:
        text = " ".join(brief.repr(value).split())
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= most else text[: most - 3] + "..."


def brief(value: object) -> str:
    """Return ``str(value)`` for a message: its first line, without control characters, short."""
    text = printable(str(value).split("\n", 1)[0][:200])
    text = text or type(value).__name__
    return text if len(text) <= 120 else text[:117] + "..."


def read_limited(file: Any, most: int) -> bytes:
    """Return what is left of a stream; raise ValueError if that is more than ``most`` bytes."""
    parts, left = [], most + 1
    while left > 0 and (part := file.read(min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    if left <= 0:
        raise ValueError(f"it unpacks to more than {most} bytes; damaged, or made to harm")
    return b"".join(parts)


def check_member(info: zipfile.ZipInfo) -> None:
    """Raise ValueError if an entry of a zip claims to unpack to far more than it is packed."""
    if info.file_size > FACTOR * info.compress_size + _SLACK:
        raise ValueError(
            f"{info.compress_size} bytes that would unpack to {info.file_size}; damaged, or made "
            "to harm"
        )


def gunzipped(content: bytes) -> bytes:
    """Return what a gzip file unpacks to; raise one of ``BROKEN`` if that is damaged or absurd."""
    return gunzip(content, MOST_UNPACKED)


def check_picture(content: bytes, suffix: str) -> None:
    """Raise ValueError unless a content is a whole PNG, or an SVG without entities."""
    if suffix == ".svg":
        text = content.decode("utf-8").lstrip("\ufeff \t\r\n")
        if not text.startswith(("<?xml", "<svg")) or "<svg" not in text or "<!ENTITY" in text:
            raise ValueError("it is no SVG")
        return
    place, kind = 8, b""
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR":
        raise ValueError("it is no PNG")
    while place + 12 <= len(content) and kind != b"IEND":
        length = int.from_bytes(content[place : place + 4], "big")
        kind, end = content[place + 4 : place + 8], place + 8 + length
        if zlib.crc32(content[place + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            break
        place = end + 4
    if kind != b"IEND" or place != len(content):
        raise ValueError("it is no PNG, or damaged")


def check_deflated(content: bytes) -> None:
    """Raise ValueError if zlib data unpack to absurdly much; damage is for others to find."""
    unpacker, total = zlib.decompressobj(), 0
    most = MOST_UNPACKED
    try:
        while content and not unpacker.eof:
            total += len(unpacker.decompress(content, 1 << 20))
            content = unpacker.unconsumed_tail
            if total > most:
                raise ValueError(f"it unpacks to more than {most} bytes; damaged, or made to harm")
    except zlib.error:
        return
