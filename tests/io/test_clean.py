import json

import pytest

from skelfew.io.clean import json_text, markdown, one_line, printable

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


def test_markdown_has_no_html_links_or_code() -> None:
    text = markdown("<script>x</script> [a](javascript:b) ![p](http://c) `d` | e\nf &lt;")
    assert not any(part in text for part in ("<", "](", " `", "|", "\n"))
