"""A folder for recordings of one's own."""

from pathlib import Path

import pytest
from own_world import LAYOUT


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a layout of joints and a folder for recordings."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rig.toml").write_text(LAYOUT)
    (tmp_path / "mine").mkdir()
    return tmp_path
