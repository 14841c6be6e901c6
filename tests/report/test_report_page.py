"""docs/report.md runs as printed; what it needs is in the wheel."""

import re
import shlex
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder
from report_world import run_report

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / "docs" / "report.md").read_text(encoding="utf-8")


def test_the_commands(copy: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    lines = [line for block in blocks for line in block.strip().splitlines()]
    assert len(lines) == 7
    for line in lines:
        command, *arguments = shlex.split(line)
        assert command == "skelfew-report"
        assert "one" in run_report(copy, *arguments).stdout
    assert "Map of the embeddings" in (copy / "report.html").read_text(encoding="utf-8")


def test_the_python(copy: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    printed = StringIO()
    with chdir(copy), redirect_stdout(printed):
        exec(compile(code, "docs/report.md", "exec"), {})
    assert printed.getvalue().startswith("| run | test |")
    assert (copy / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_wheel_has_what_a_page_is_made_from() -> None:
    packed = {
        file.distribution_path for file in WheelBuilder(str(REPOSITORY)).recurse_included_files()
    }
    wanted = {f"skelfew/report/{name}" for name in ("page.html", "page.css", "page.js", "page.py")}
    assert wanted <= packed
