"""Fuzz targets: what files of others could do besides being read wrongly.

Links and odd files in folders, names that are paths, recorded places, text that reaches a terminal,
a table or a page, and claims of more than a budget has. Each target checks what came of an input.
"""

import csv
import html.parser
import io
import json
import os
import re
from pathlib import Path
from typing import Any

from cache_targets import stores
from edits import Draw, Files, Link, edited, packed_bomb
from engine import Target
from head_targets import reports
from hypothesis import strategies as st

from skelfew.cache import TeacherCache
from skelfew.cache.tools.pack import pack
from skelfew.cli.common import console
from skelfew.config import preset
from skelfew.data.manifest import Manifest
from skelfew.errors import SkelfewError
from skelfew.io import budget, clean
from skelfew.io.files import BROKEN, parse_json
from skelfew.io.paths import below
from skelfew.io.writing import append_line, write_text
from skelfew.report.collect import find_runs, read_run
from skelfew.report.page import make_page
from skelfew.report.table import as_text, rows_of
from skelfew.runs.folder import Run
from skelfew.runs.recorded import opens

_PLACES = (
    "log.txt", "metrics.jsonl", "metrics.jsonl.partial", "config.json", "config.json.partial",
    "environment.json", "inputs.json", "results", "results/x.json", "features", "explain",
    "explain/a.png", "explain/deep/er/a.svg", "encoder.safetensors", "checkpoint.safetensors",
    "text", "text/c", "text/zarr.json", "video/c.0.0.0", "sample_id", "zarr.json", "new/x",
)  # fmt: skip
_ENDS = ("../secret", "../../secret", "../..", ".", "..", "/dev/zero", "/dev/full", "absent",
         "/etc/passwd", "/proc/self/environ", "fifo:", "hard:../secret", "socket:")  # fmt: skip


@st.composite
def odd_folders(draw: Draw) -> Files:
    """A run or a cache, with a link, a pipe, a socket or a second name for a file in it."""
    files = dict((reports() + stores()[2:3])[draw(st.integers(0, 1))])
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.sampled_from(_PLACES))
        for name in [n for n in files if n == place or n.startswith(place + "/")]:
            del files[name]
        files[place] = Link(draw(st.sampled_from(_ENDS)))
    return files


def use_folder(folder: Path, out: Path) -> None:
    """Write to a run as training and scoring do, or copy a cache: only what lies there changes."""
    refused: SkelfewError | None = None
    try:
        run = Run.open(folder)
        run.append({"epoch": 1})
        run.log("a line", show=False)
        run.write_config(preset("paper"))
        run.write_environment()
        run.keep_rows(1)
        write_text(run.path / "results" / "x.json", "{}")
        make_page([read_run(run)])
    except SkelfewError as error:
        refused = error
    except OSError as error:  # as a command says it
        refused = SkelfewError(str(error))
    for name in ("log.txt", "results/x.json"):  # the writers, without the look at the whole folder
        for write in (append_line, write_text):
            try:
                write(folder / name, "a line")
            except OSError:
                continue
    for action in (TeacherCache.open, lambda path: pack(path, out / "c.zip")):
        try:
            action(folder)
        except SkelfewError as error:
            refused = refused or error
    if refused is not None:
        raise refused


@st.composite
def names(draw: Draw) -> Files:
    part = st.sampled_from((
        "a", "..", ".", "", "/", "\\", "C:", "c:x", "~", "~root", "$HOME", "%2e%2e", "a\0b", "a\n",
        "\u202e", "\u2215", "\uff0e\uff0e", "..\u200b", " ..", ".. ", "...", "CON", "nul.txt",
        "x" * 255, "é" * 128, "x" * 256, "out", "link", "link/x", "-rf", "\ud800", "a" * 30,
    ))  # fmt: skip
    text = draw(st.sampled_from(("/", "//", "\\", ""))).join(draw(st.lists(part, max_size=70)))
    return {"name": text.encode("utf-8", "surrogatepass"), "link": Link("../secret")}


def use_name(folder: Path, out: Path) -> None:
    """A name leads below the folder or is refused, and so is a place that a run recorded."""
    name = (folder / "name").read_bytes().decode("utf-8", "surrogatepass")
    inside = folder.resolve()
    if opens(name, folder):
        real = Path(os.path.realpath(name))
        assert any(real.is_relative_to(root) for root in (inside, Path.cwd())), name
        assert "://" not in name and not name.startswith(("//", "\\\\"))
    path = below(folder, name)
    assert path.resolve().is_relative_to(inside) and path.resolve() != inside, name


@st.composite
def reports_with_text(draw: Draw) -> Files:
    """A scored run some of whose names, notes and values are text made to harm."""
    files = dict(reports()[0])
    text = _text(draw)
    for name in draw(st.lists(st.sampled_from(sorted(files)), min_size=1, max_size=3)):
        content = files[name]
        if not isinstance(content, bytes) or not name.endswith((".json", ".txt")):
            continue
        found = sorted(set(re.findall(rb'"(action \d|tiny|one|cosine|[a-z]+ \w+)"', content)))
        if found:
            quoted = json.dumps(text).encode()
            chosen = draw(st.sampled_from(found))
            content = content.replace(b'"' + chosen + b'"', quoted)
        files[name] = (
            content if name.endswith(".json") else content + text.encode("utf-8", "replace")
        )
    return {**files, "text": text.encode("utf-8", "surrogatepass")}


def _text(draw: Draw) -> str:
    pieces = st.sampled_from((
        "\x1b[2J", "\x1b]8;;http://e.org\x1b\\", "\x9b31m", "\x07", "\b\b", "\r", "\n", "\t",
        "\x7f", "\u202e", "\u2066", "\u200f", "\u2028", "\ud800", "\U000e0041", "=1+1",
        "+cmd|' /C calc'!A0", "-1", "@SUM(1)", "'=x", "</script>", "&lt;",
        "<script>alert(1)</script>", "<!--", "]]>", '"', "'",
        "`", "|", "](javascript:x)", "![x](http://e.org)", "[x]: http://e.org", "[/nope]", "[bold]",
        ":smile:", "$x$", "\\input{/etc/passwd}", "%", "{{x}}", "${x}", "\\u003c", "a", "é",
    ))  # fmt: skip
    return "".join(draw(st.lists(pieces, min_size=1, max_size=6)))


class _Page(html.parser.HTMLParser):
    """The scripts and the outside addresses of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts, self.outside = 0, [""][:0]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.outside += [f"on {n}" for n, _ in attrs if n.startswith("on")]
        self.outside += [v for n, v in attrs if n in ("href", "src") and v and v[:1] != "#"
                         and not v.startswith("data:image/")]  # fmt: skip


def use_text(folder: Path, out: Path) -> None:
    """Text arrives on no terminal as escapes, in no table as a formula, on no page as markup."""
    text = (folder / "text").read_bytes().decode("utf-8", "surrogatepass")
    screen = io.StringIO()
    console(file=screen, width=200).print(text)
    rows: list[dict[str, Any]] = []
    facts = [read_run(run) for run in find_runs([folder])]
    rows = rows_of(facts)
    for printed in (screen.getvalue(), clean.printable(text), clean.json_text(rows),
                    clean.printable(as_text(rows, "latex"))):  # fmt: skip
        assert all(line.replace("\u200c", "").isprintable() for line in printed.split("\n")), text
    for line in as_text(rows, "markdown").split("\n"):
        assert "<" not in line and "](" not in line and line.isprintable(), line
    for cells in csv.reader(io.StringIO(as_text(rows, "csv"))):
        for cell in cells:
            assert cell[:1] not in tuple("=@\t\r") or clean.cell(cell) == cell, cell
    page = _Page()
    page.feed(make_page(facts))
    assert page.scripts == 2 and not page.outside, page.outside


@st.composite
def claims(draw: Draw) -> Files:
    """Counts and sizes beyond what a file of some kilobytes can need."""
    many = draw(st.sampled_from((0, 1, 50, 9_000, 70_000, 300_000)))
    deep = draw(st.sampled_from((1, 900, 100_000)))
    kind = draw(st.sampled_from(("csv", "json", "toml", "safetensors", "packed", "manifest")))
    if kind == "csv":
        return {"x.csv": b"," * many + b"\n" + b"a,b\n" * draw(st.sampled_from((1, many)))}
    if kind == "manifest":
        row = draw(st.sampled_from(("{0},1,a,1\n", "x{0},1,a,{0}\n", '"{0}\n",1,a,1\n')))
        rows = "".join(row.format(i) for i in range(min(many, 200_000)))
        head = "sample_id,class_id,label,frames" + ",x" * draw(st.sampled_from((0, 9, many)))
        return {"m.csv": f"{head}\n{rows}".encode()}
    if kind == "json":
        piece = draw(st.sampled_from((
            b"[" * deep, b'{"a":' * deep, b"[" + b"[]," * many + b"1]", b"9" * many,
            b"1e" + b"9" * 50, b'"' + b"\\u0000" * many + b'"', b"[" + b'{"a":1},' * many + b"1]",
        )))  # fmt: skip
        return {"x.json": edited(draw, piece, 1) if draw(st.booleans()) else piece}
    if kind == "toml":
        piece = draw(st.sampled_from((b"a" + b".a" * deep + b"=1", b"a=" + b"[" * deep, b"a=" +
                                      b"9" * many, b"[a]\n" * 2, b"a={b=" * deep)))  # fmt: skip
        return {"x.toml": piece}
    if kind == "safetensors":
        header = json.dumps({f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
                             for i in range(min(many, 70_000))}).encode()  # fmt: skip
        size = draw(st.sampled_from((len(header), 2**40, 2**63, 0)))
        return {"x.safetensors": size.to_bytes(8, "little") + header}
    return {"x.gz": packed_bomb(draw)}


def use_claims(folder: Path, out: Path) -> None:
    """What is claimed is counted before it is worked through."""
    from skelfew.data.joints.layouts import load_layout
    from skelfew.runs.folder import read_config

    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        try:
            if path.suffix == ".csv":
                budget.check_table(path)
                Manifest.read(path)
            elif path.suffix == ".json":
                parse_json(content)
            elif path.suffix == ".toml":
                for read in (read_config, load_layout):
                    try:
                        read(path)
                    except SkelfewError:
                        continue
            elif path.suffix == ".safetensors":
                budget.check_safetensors(path)
            else:
                budget.gunzip(content, 1 << 24)
        except (*BROKEN, budget.zlib.error) as error:
            raise SkelfewError(str(error)[:200]) from None


TARGETS = [
    Target("odd-folders", odd_folders(), use_folder, lambda: (reports(), stores())),
    Target("names", names(), use_name),
    Target("text", reports_with_text(), use_text, reports),
    Target("claims", claims(), use_claims),
]
