"""Where a test has its cache."""

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A place for a cache, with nothing at it."""
    return tmp_path / "c.zarr"
