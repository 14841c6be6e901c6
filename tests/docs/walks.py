"""Pages whose shell blocks are a walk through skelfew, one after the other in one folder."""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def blocks(page: str) -> dict[str, str]:
    """Return the shell blocks of a page by their names."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(r"<!-- walk: (\w+) -->\n```sh\n(.*?)```", text, re.DOTALL)
    assert len(found) == text.count("```sh"), "a block without a name is not run"
    return dict(found)
