"""A trained and scored run, and a real browser to look at its page."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from report_world import HOSTILE, make_report_world

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``runs/one``; its class names try to break out of the page. Leave it."""
    root = tmp_path_factory.mktemp("report")
    run = make_report_world(root, HOSTILE)
    (run / "explain").mkdir()
    Image.new("RGB", (40, 30), "navy").save(run / "explain" / "c7n1_cosine.png")
    return root


@pytest.fixture
def copy(world: Path, tmp_path: Path) -> Path:
    """A copy of the world to change."""
    root = tmp_path / "world"
    shutil.copytree(world, root)
    return root


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven by playwright; its event loop must be gone before other modules run."""
    named = os.environ.get("SKELFEW_BROWSER")
    found = named or next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        pytest.skip(
            f"no browser: none of {', '.join(_BROWSERS)} is on the path; install one "
            "(apt-get install chromium) or set SKELFEW_BROWSER to look at the page for real"
        )
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found, args=_FLAGS.split())
        yield chromium
        chromium.close()
