"""Fixtures that several rooms use."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from warm import Warm

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


def pytest_configure(config: pytest.Config) -> None:
    """Start one warm Python for all workers of pytest-xdist."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        started = Warm()
        config.add_cleanup(started.close)
        os.environ["SKELFEW_WARM"] = str(started.folder)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests, dealt to the workers, which get equal parts."""
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    slow = [f for f in files if any(i.get_closest_marker("slow") for i in files[f])]
    rest = [i for f in files if f not in slow for i in files[f]]
    items.clear()
    for worker in range(workers):
        items += [i for f in slow[worker::workers] for i in files[f]]
        items += rest[len(rest) * worker // workers : len(rest) * (worker + 1) // workers]


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """A Python, and the commands of skelfew, that start at once."""
    found = os.environ.get("SKELFEW_WARM")
    started = Warm(Path(found) if found else None)
    yield started
    started.close()


@pytest.fixture(scope="session")
def commands(warm: Warm) -> dict[str, str]:
    """An environment whose path leads to the commands of skelfew, as in a shell of its users."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{warm.folder}:{os.environ['PATH']}"}


@pytest.fixture(scope="session")
def _decoders() -> Iterator[dict[Any, Any]]:
    pools: dict[Any, Any] = {}
    yield pools
    for pool in pools.values():
        pool.end()


@pytest.fixture
def kept_decoders(_decoders: dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes that decode outlive an extraction, for the next one with equal settings."""
    from skelfew_extract.engines import pool

    class Kept(pool.DecoderPool):
        end = pool.DecoderPool.close

        def close(self) -> None:
            pass

    def kept(settings: Any, count: int) -> Kept:
        found = _decoders.pop((settings, count), None) or Kept(settings, count)
        _decoders[settings, count] = found  # the last one used
        while len(_decoders) > 3:
            _decoders.pop(next(iter(_decoders))).end()
        return found

    monkeypatch.setattr(pool, "DecoderPool", kept)
