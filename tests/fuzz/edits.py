"""What is done to valid files to make hostile ones: strategies over bytes, JSON and zips."""

import gzip
import io
import json
import math
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st


@dataclass(frozen=True)
class Link:
    """A symbolic link among files; ``../secret`` is a file beside the folder.

    ``hard:FILE`` is another name for a file, ``fifo:`` a pipe, ``socket:`` a socket.
    """

    to: str


Files = Mapping[str, "bytes | Link"]
Draw = Callable[[Any], Any]

NUMBERS = (
    0, 1, -1, 2, 3, 7, 15, 16, 255, 256, 1024, 65_536, 10**6, 10**9, 2**31 - 1, 2**31, 2**32, 2**40,
    2**62, 2**63 - 1, 2**63, 2**64, -(2**31), -(2**63), 10**30, 0.5, -0.0, 1e-320, 1e308, math.nan,
    math.inf, -math.inf,
)  # fmt: skip
TEXTS = (
    "", " ", "a", "0", "-1", "1e9", "nan", "../x", "..", "/etc/passwd", "C:\\x", "a/b", "a\\b",
    "x\x00y", "a\nb", "\u2028", "\ud800", "é" * 300, "x" * 5000, "zarr", "string", "float16",
    "float64", "object", "|O", "uint8", "bytes", "numcodecs.pickle", "pickle", "sharding_indexed",
    "gzip", "zstd", "blosc", "vlen-utf8", "v2", "null", "true", "__class__", "file:///etc/passwd",
)  # fmt: skip
OBJECTS: tuple[Any, ...] = (
    None, True, False, [], {}, [[]], [None], {"": None}, [[[[[[]]]]]], [0] * 100,
    {"name": "numcodecs.pickle", "configuration": {}},
    {"name": "sharding_indexed", "configuration": {"chunk_shape": [1], "codecs": [],
                                                   "index_codecs": []}},
    {"name": "gzip", "configuration": {"level": 5}},
    {"name": "zstd", "configuration": {"level": 0, "checksum": False}},
    {"name": "blosc", "configuration": {"typesize": 0, "cname": "lz4", "clevel": 5,
                                        "shuffle": "shuffle", "blocksize": 0}},
)  # fmt: skip
TOKENS = (
    b"0", b"-1", b"9" * 20, b"9" * 5000, b"1e400", b"nan", b"inf", b" ", b"\n", b"\r\n", b",", b'"',
    b"\x00", b"\xff", b"\xef\xbb\xbf", b"../", b"{", b"[" * 2000, b"}", b"O", b"(10000000000, )",
    b"<f8", b"|O", b"_", b"\xd9\xa3", b".", b"+", b"1_0",
)  # fmt: skip
_WORDS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1)


def nasty() -> st.SearchStrategy[Any]:
    """An unexpected value in a JSON document."""
    return st.one_of(st.sampled_from(NUMBERS), st.sampled_from(TEXTS), st.sampled_from(OBJECTS))


def edited(draw: Draw, content: bytes, times: int = 4) -> bytes:
    """Return bytes after one to four edits."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, times))):
        data = bytearray(_edit(draw, bytes(data)))
    return bytes(data)


def _edit(draw: Draw, data: bytes) -> bytes:
    at = draw(st.integers(0, max(len(data) - 1, 0)))
    kind = draw(st.sampled_from(("flip", "cut", "drop", "repeat", "copy", "token", "number",
                                 "word", "head")))  # fmt: skip
    size = draw(st.sampled_from((1, 2, 4, 8, 30, 200, 3000)))
    if kind == "flip":
        return data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
    if kind == "cut":
        return data[:at]
    if kind == "drop":
        return data[:at] + data[at + size :]
    if kind == "repeat":
        return data[:at] + data[at : at + size] * draw(st.sampled_from((2, 3, 50))) + data[at:]
    if kind == "copy":
        to = draw(st.integers(0, len(data)))
        return data[:to] + data[at : at + size] + data[to + size :]
    if kind == "token":
        return data[:at] + draw(st.sampled_from(TOKENS)) + data[at:]
    if kind == "number":
        found = re.search(rb"\d+(\.\d+)?", data[at:] + data[:at])
        if found is not None:
            start = (at + found.start()) % max(len(data), 1)
            new = draw(st.sampled_from(NUMBERS) | st.integers(0, 300))
            return data[:start] + str(new).encode() + data[start + len(found[0]) :]
    if kind == "head":
        at = at % min(64, max(len(data), 1))
    width = draw(st.sampled_from((1, 2, 4, 8)))
    word = draw(st.sampled_from(_WORDS)) & (2 ** (8 * width) - 1)
    order = draw(st.sampled_from(("little", "big")))
    return data[:at] + word.to_bytes(width, order) + data[at + width :]


def edited_tree(draw: Draw, document: Any, times: int = 2) -> Any:
    """Return a JSON document with a value or a key changed, once or twice."""
    document = json.loads(json.dumps(document))
    if not isinstance(document, dict | list):
        return draw(nasty())
    for _ in range(draw(st.integers(1, times))):
        places = _places(document)
        if not places:
            return draw(nasty())
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        kind = draw(st.sampled_from(("set", "set", "number", "delete", "wrap", "rename", "more")))
        value = holder[key]
        if kind == "delete":
            del holder[key]
        elif kind == "wrap":
            holder[key] = draw(st.sampled_from(([value], {"a": value}, [value] * 3)))
        elif kind == "rename" and isinstance(holder, dict):
            holder[draw(st.sampled_from(TEXTS))] = holder.pop(key)
        elif kind == "more" and isinstance(holder, list):
            holder.insert(key, json.loads(json.dumps(value)))
        elif kind == "number":
            holder[key] = draw(st.sampled_from(NUMBERS))
        else:
            holder[key] = draw(nasty())
    return document


def _places(document: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    todo = [document]
    while todo:
        here = todo.pop()
        keys = list(here) if isinstance(here, dict) else range(len(here))
        for key in keys:
            found.append((here, key))
            if isinstance(here[key], dict | list):
                todo.append(here[key])
    return found


def edited_json(draw: Draw, content: bytes) -> bytes:
    """Return JSON with its values changed, now and then its bytes."""
    if draw(st.integers(0, 4)) == 0:
        return edited(draw, content)
    return json.dumps(edited_tree(draw, json.loads(content))).encode()


def edited_file(draw: Draw, name: str, content: bytes) -> bytes:
    """Return a file changed in the way that suits its kind, or byte by byte."""
    kind = name.rpartition(".")[2]
    if draw(st.integers(0, 2)):
        try:
            if kind in ("json", "jsonl"):
                return edited_json(draw, content)
            if kind in ("zip", "npz"):
                return edited_zip(draw, content)
            if kind == "npy":
                return npy(draw)
            if kind == "safetensors":
                return edited_safetensors(draw, content)
        except Exception:  # it has been edited before and is no such file any more
            return edited(draw, content)
    return edited(draw, content)


def packed_bomb(draw: Draw) -> bytes:
    """Return compressed bytes that unpack to far more than a chunk, or in far more pieces."""
    zeros = zlib.compress(bytes(1 << 20), 9)
    gz = gzip.compress(bytes(1 << 20), mtime=0)
    repeat = struct.pack("<I", 1 << 1 | (1 << 17) << 3)[:3] + b"\0"  # a block of 128 KiB of zeros
    blocks = repeat * draw(st.sampled_from((1, 40, 20_000)))
    frame = b"\x28\xb5\x2f\xfd\0\x70" + blocks[:-4] + bytes([repeat[0] | 1]) + repeat[1:]
    skipped = struct.pack("<II", 0x184D2A50, 0)
    claim = struct.pack("<I", draw(st.sampled_from((0, 20, 1024, 2**31, 2 * 10**8))))
    return draw(st.sampled_from((
        zeros * 50, gz * draw(st.sampled_from((1, 300))), gzip.compress(b"", mtime=0) * 100_000,
        frame, frame * 2, skipped * 50_000 + frame, skipped, claim + bytes(4 * 1024),
        gzip.compress(claim + bytes(4 * 1024)), gzip.compress(gz * 50),
    )))  # fmt: skip


def npy(draw: Draw) -> bytes:
    """Return a NumPy file with any header and few bytes."""
    number = st.sampled_from((0, 1, 2, 3, 20, 25, 150, 10**6, 10**9, 2**40, 2**63, -1, True, 1.5))
    shape = tuple(draw(st.lists(number, max_size=5)))
    dtypes = ("<f4", "<f8", "<f2", ">f4", "|O", "<U3", "|S8", "<i8", "|b1", "|V8", "<M8[s]", "<f16",
              "<c8", [("a", "<f4")], "|S0", "<U0", "", "x", None)  # fmt: skip
    header = {"descr": draw(st.sampled_from(dtypes)), "fortran_order": draw(st.booleans()),
              "shape": shape}  # fmt: skip
    text = repr(header).encode() + b"\n"
    version = draw(st.sampled_from((1, 1, 2, 3)))
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + bytes(draw(st.integers(0, 400)))


def edited_zip(draw: Draw, content: bytes) -> bytes:
    """Return an archive with an entry changed, added, renamed, linked, or lying about its size."""
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        entries = [(info.filename, old.read(info)) for info in old.infolist()]
    at = draw(st.integers(0, len(entries) - 1))
    name, data = entries[at]
    kind = draw(st.sampled_from(("edit", "name", "bomb", "link", "twice", "more", "lie", "nest",
                                 "method", "empties")))  # fmt: skip
    mode, method = stat.S_IFREG | 0o644, zipfile.ZIP_STORED
    if kind == "edit":
        data = edited_file(draw, name, data)
    elif kind == "empties":
        entries += [(f"{name}.{i}", b"") for i in range(draw(st.sampled_from((100, 70_000))))]
    elif kind == "name":
        name = draw(st.sampled_from(("../../canary", "/tmp/skelfew-canary", "..\\x", "a/../../y",
                                     "C:/x", "", "/", "x\x00y", "\ud7ff", "zarr.json/x",
                                     "./zarr.json", "x" * 3000, "c.zarr//tmp/skelfew-canary",
                                     "a//b", "a/./b", "a\nb", "a/b/")))  # fmt: skip
    elif kind == "bomb":
        data, method = data + bytes(50_000_000), zipfile.ZIP_DEFLATED
    elif kind == "link":
        mode, data = stat.S_IFLNK | 0o777, b"../../secret"
    elif kind == "nest":
        data = content
    elif kind == "method":
        method = draw(st.sampled_from((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED)))
    new = io.BytesIO()
    with zipfile.ZipFile(new, "w", allowZip64=True) as archive:
        for i, entry in enumerate(entries):
            changed = i == at and kind not in ("twice", "more")
            info = zipfile.ZipInfo((name or "x") if changed else entry[0])
            info.external_attr = (mode if changed else stat.S_IFREG | 0o644) << 16
            archive.writestr(info, data if changed else entry[1], method if changed else 0)
        if kind in ("twice", "more"):
            extra = name if kind == "twice" else draw(st.sampled_from(("x/y", "zarr.json/", "a")))
            archive.writestr(zipfile.ZipInfo(extra), b"{}")
    packed = new.getvalue()
    if kind == "lie":  # in the sizes of the central directory and the local headers
        mark = draw(st.sampled_from((b"PK\x01\x02", b"PK\x03\x04")))
        where = [m.start() for m in re.finditer(re.escape(mark), packed)]
        start = where[draw(st.integers(0, len(where) - 1))] + 4
        width = 42 if mark[2] == 1 else 26
        offset = start + draw(st.integers(0, width - 4))
        packed = (
            packed[:offset]
            + edited(draw, packed[offset : offset + 4], 1)[:4].ljust(4, b"\xff")
            + packed[offset + 4 :]
        )
    return packed


def edited_safetensors(draw: Draw, content: bytes) -> bytes:
    """Return a safetensors file with its header's values changed, its length field kept true."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    inner = header.get("__metadata__", {})
    if inner and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(inner)))
        try:
            value = json.dumps(edited_tree(draw, json.loads(inner[key])))
        except ValueError:
            value = str(draw(st.sampled_from(TEXTS[:30]))).replace("\ud800", "?")
        inner[key] = value
    else:
        header = edited_tree(draw, header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


@st.composite
def hostile(draw: Draw, seeds: "Callable[[], list[Files]]", extra: Any = None) -> Files:
    """One of some valid sets of files with one or two of the files changed."""
    sets = seeds()
    files = dict(sets[draw(st.integers(0, len(sets) - 1))])
    for _ in range(draw(st.integers(1, 2))):
        names = sorted(files)
        if not names:
            break
        name = names[draw(st.integers(0, len(names) - 1))]
        content = files[name]
        kind = draw(st.integers(0, 20))
        if kind == 0:
            del files[name]
        elif kind == 1:
            files[name] = Link(draw(st.sampled_from(("../secret", "/dev/zero", "absent", "."))))
        elif kind == 20:
            files[name] = packed_bomb(draw)
        elif kind == 2 and extra is not None:
            files.update(draw(extra))
        elif isinstance(content, bytes):
            files[name] = edited_file(draw, name, content)
    return files
