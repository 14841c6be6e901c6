"""The one way files are written: whole, under their name only when complete, through no link.

A folder of others may hold links. A new file is made with O_EXCL and O_NOFOLLOW and takes the place
of what has its name, a link included; the file that the link leads to is left alone. Windows has no
O_NOFOLLOW: there a link is looked for before the file is opened.
"""

import csv
import errno
import io
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from skelfew.io.clean import cell


@contextmanager
def writing(path: str | Path, durable: bool = False) -> Iterator[BinaryIO]:
    """Yield a new file beside ``path`` that takes its place when the block ends without an error.

    Its ``name`` is for libraries that open files themselves. Missing folders are made. ``durable``
    waits until it lies on the disk. Raises OSError: it cannot be written, or another process does.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)  # of a killed process, or a link
    with cast(BinaryIO, open(partial, "xb", opener=no_link)) as file:
        mine = os.fstat(file.fileno())
        try:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
            file.close()
            if not path.parent.is_dir():
                raise FileNotFoundError(errno.ENOENT, "its folder was deleted", str(path))
            if not _is(partial, mine):
                raise OSError(errno.EBUSY, "another process writes this file", str(path))
            partial.replace(path)
        except BaseException:
            file.close()
            if _is(partial, mine):
                partial.unlink()
            raise


def check_place(*paths: str | Path | None) -> None:
    """Raise OSError now if a file could not be written at one of ``paths``; make nothing."""
    for path in [Path(place) for place in paths if place is not None]:
        above = next(folder for folder in path.absolute().parents if folder.exists())
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        try:
            with tempfile.TemporaryFile(dir=above):
                pass
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, replacing an older one only when complete."""
    with writing(path) as file:
        file.write(text.encode())


def write_json(path: str | Path, document: object) -> None:
    """Write a JSON file, replacing an older one only when complete."""
    write_text(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table, replacing an older one only when complete; see ``cell`` for its values."""
    with writing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([cell(value) for value in row] for row in rows)
        text.detach()


def append_line(path: str | Path, line: str, durable: bool = False) -> None:
    """Add a line to a file in one write, so that others reading and writing see whole lines.

    A line that was cut off stays alone. A file of two names is copied first, so that the other name
    keeps its content. Raises OSError: it cannot be written, is a link, or no regular file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise OSError(errno.ELOOP, "it is a link or no regular file", str(path))
    if path.exists() and path.stat().st_nlink > 1:
        with writing(path) as copy:
            copy.write(path.read_bytes())
    with open(path, "ab+", opener=no_link) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        end = file.seek(0, os.SEEK_END)
        cut = end and file.seek(end - 1) and file.read(1) != b"\n"
        file.write((b"\n" if cut else b"") + line.encode() + b"\n")
        file.flush()
        if durable:
            os.fsync(file.fileno())


def no_link(name: str, flags: int) -> int:
    """Open a file as ``open(..., opener=no_link)``; raise OSError if it is a link."""
    if not hasattr(os, "O_NOFOLLOW") and Path(name).is_symlink():
        raise OSError(errno.ELOOP, "it is a link", name)
    return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _is(path: Path, found: os.stat_result) -> bool:
    try:
        now = path.lstat()
    except OSError:
        return False
    return (now.st_dev, now.st_ino) == (found.st_dev, found.st_ino)
