"""Fixtures that several rooms use."""

import os
import tempfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"

# What commands remember goes to a folder of this test run; fonts are not collected anew for it.
os.environ.setdefault("MPLCONFIGDIR", str(Path("~/.cache/matplotlib").expanduser()))
_CACHE = tempfile.TemporaryDirectory(prefix="skelfew-cache-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference facts and real recordings beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent: the real recordings are not part of the repository")
    return SHARED


@pytest.fixture(scope="session")
def golden() -> Path:
    """Numbers of the reference implementations, and the published protocols."""
    return REPOSITORY / "tests" / "golden"
