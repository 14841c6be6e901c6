import io
import json
import re
from pathlib import Path

import pytest
from rich.table import Table

from skelfew.cli.common import console
from skelfew.io.clean import json_text, look_alike, markdown, one_line, printable

BAD = ["\x1b[2J", "\x9b31m", "\x07", "\x7f", "\u202e", "\u2066", "\u2028", "\ud800", "\U000e0001"]


@pytest.mark.parametrize("bad", BAD)
def test_nothing_moves_the_cursor_or_turns_the_text(bad: str) -> None:
    assert printable(f"a{bad}b").isprintable() and one_line(f"a{bad}\nb").isprintable()
    text = json_text({"name": f"a{bad}b"}, indent=None)
    assert text.isprintable() and json.loads(text) == {"name": f"a{bad}b"}


def test_honest_names_stay() -> None:
    for name in ("Händewaschen 洗手", "می‌روم", "👩‍🔬", "[/nope] :smile: $x$"):
        assert printable(name) == name
    assert printable("a\tb\u3000c\nd") == "a b c\nd"


def test_labels_that_look_alike() -> None:
    alike = ["Wave", "wave ", "\uff37ave", "wa\u200bve"]
    assert look_alike([*alike, "caf\u00e9", "cafe\u0301", "wave hands", "Wave"]) == [
        tuple(alike),
        ("caf\u00e9", "cafe\u0301"),
    ]


def test_markdown_has_no_html_links_or_code() -> None:
    text = markdown("<script>x</script> [a](javascript:b) ![p](http://c) `d` | e\nf &lt;")
    assert not any(part in text for part in ("<", "](", " `", "|", "\n"))


def test_tables_show_names_of_others_as_they_are() -> None:
    stream = io.StringIO()
    output = console(width=200, file=stream)
    bad = "[/nope] [link=http://e.org]x[/link] :smile: \x1b]8;;http://e.org\x1b\\ \u202e"
    table = Table("head " + bad, title="title " + bad)
    table.add_row("cell " + bad)
    for thing in (table, "line " + bad):
        output.print(thing)
    output.print("note " + bad, style="bold yellow")
    text = stream.getvalue()
    assert text.count("[/nope]") == 5 and text.count(":smile:") == 5
    assert all(line.isprintable() for line in text.split("\n"))


def test_text_and_files_go_through_their_doors() -> None:
    """No other module prints what is not cleaned, or writes files in a way of its own."""
    package = Path(__file__).parents[2]
    printing = re.compile(r"click\.echo\(|(?<![\w.])print\((?!printable\(|\s*\n?\s*f?\"(?!.*\{))")
    writing = re.compile(
        r"\.write_text\(|\.write_bytes\(|\.to_csv\(|save_file\(|(?<!archive)\.open\(\s*[\"'][wa]"
    )
    allowed = {"common.py", "writing.py", "interruption.py"}
    bad = []
    for path in [*(package / "skelfew").rglob("*.py"), *(package / "pipeline").rglob("*.py")]:
        code = re.sub(r'"""(.|\n)*?"""', "", path.read_text())
        code = re.sub(r"Path\(os\.devnull\)\.open\(.*", "", code)
        if path.name not in allowed and (printing.search(code) or writing.search(code)):
            bad.append(str(path.relative_to(package)))
    assert bad == []
