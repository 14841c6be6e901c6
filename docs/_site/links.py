"""A hook of MkDocs: pages that lie outside docs/, and links between them that work on GitHub too.

README.md is the first page, cache/README.md the cache format, CHANGELOG.md the changelog. A link
to another file of the repository becomes its name.
"""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = {
    "README.md": "index.md",
    "cache/README.md": "cache-format.md",
    "CHANGELOG.md": "changelog.md",
}
_LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside docs/."""
    for path, name in OUTSIDE.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=relinked(text, PurePosixPath(path))))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn the links of a page of docs/ to files outside."""
    if page.file.src_uri in OUTSIDE.values():
        return markdown
    return relinked(markdown, PurePosixPath("docs") / page.file.src_uri)


def relinked(text: str, path: PurePosixPath) -> str:
    """Return a page of the repository with the links that the site needs.

    A link to a file that is not there stays, so that the strict build fails.
    """

    def replaced(found: re.Match[str]) -> str:
        words, target, anchor = found[1], found[2], found[3] or ""
        if ":" in target:
            return found[0]
        place = normpath(str(path.parent / target))
        inside = PurePosixPath(place)
        if place in OUTSIDE:
            return f"[{words}]({_from(path, OUTSIDE[place])}{anchor})"
        if (ROOT / place).is_dir():
            return f"{words} (`{place}/` in the repository)"
        if inside.parts[0] == "docs" and str(path) in OUTSIDE:
            return f"[{words}]({PurePosixPath(*inside.parts[1:])}{anchor})"
        if inside.parts[0] != "docs" and (ROOT / place).is_file():
            return f"{words} (`{place}` in the repository)"
        return found[0]

    return _LINK.sub(replaced, text)


def _from(path: PurePosixPath, name: str) -> str:
    depth = 0 if str(path) in OUTSIDE else len(path.parts) - 2
    return "../" * depth + name
