"""One small data set for all trainings."""

from pathlib import Path

import pytest
from small_world import make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of a small data set. Leave it."""
    return make_world(tmp_path_factory.mktemp("world"))
