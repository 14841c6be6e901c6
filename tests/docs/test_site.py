"""The site of docs/: built strictly, every link in it leads somewhere, and so does it on GitHub."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import skelfew

REPOSITORY = Path(__file__).resolve().parents[2]
pytest.importorskip("mkdocs")


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "a" and given.get("href"):
            self.links.append(str(given["href"]))
        if given.get("id"):
            self.anchors.add(str(given["id"]))


def test_the_site(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")]
    about = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=about, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    root = (tmp_path / "site").resolve()
    pages = {path: Page(path) for path in root.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 25
    checked = 0
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            place = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = place / "index.html" if place.is_dir() else place
            assert place.is_file(), f"{path.relative_to(root)}: {link}"
            if parts.fragment and place in pages:
                anchors = pages[place].anchors | {"__skip"}
                assert unquote(parts.fragment) in anchors, f"{path.relative_to(root)}: {link}"
            checked += 1
    assert checked > 500
    api = pages[root / "api" / "index.html"].anchors
    assert {f"skelfew.{name}" for name in skelfew.__all__} <= {a.replace("/", "") for a in api}
    text = (root / "index.html").read_text(encoding="utf-8")
    assert 'href="cache-format/"' in text and "skelfew demo" in text


def test_links_work_in_the_repository_too() -> None:
    paths = [*(REPOSITORY / "docs").rglob("*.md"), REPOSITORY / "README.md"]
    for path in [*paths, REPOSITORY / "cache" / "README.md"]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", path.read_text()):
            if ":" not in target:
                assert (path.parent / target).exists(), f"{path}: {target}"
