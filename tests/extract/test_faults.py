"""What a failing disk does to an extraction, and how damage to its cache is repaired.

Kills, dying and hanging decoders are in test_extract.py and test_engine.py; all of it at length is
in benchmarks/faults.py.
"""

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from extraction_world import SmallTeacher, make_world, open_world, settings
from skelfew_extract.extract import extract

from skelfew.cache import CacheError, TeacherCache
from skelfew.cache.tools.verify import verify

pytestmark = pytest.mark.usefixtures("kept_decoders")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"), 8)


@pytest.fixture(scope="module")
def whole(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cache") / "spots.zarr"
    extract(open_world(world), SmallTeacher(), out, settings(batch=4))
    return out


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let writes beyond ``size`` bytes of a file fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_ends_it_and_room_lets_it_go_on(
    world: Path, whole: Path, tmp_path: Path
) -> None:
    recordings, out = open_world(world), tmp_path / "spots.zarr"
    for size, left in ((100, 0), (20_000, 8)):  # the metadata do not fit; the features do not
        with (
            files_of_at_most(size),
            pytest.raises(CacheError, match=r"spots.zarr: cannot be written \(File too large\)"),
        ):
            extract(recordings, SmallTeacher(), out, settings(batch=4))
        assert out.exists() == (left > 0)
    cache = TeacherCache.open(out)
    assert len(cache) == 0 and cache.pending == 8
    summary = extract(recordings, SmallTeacher(), out, settings(batch=4))
    assert summary.digest == TeacherCache.open(whole).attrs["digest"]
    assert not list(tmp_path.rglob("*.partial"))


def test_damage_is_found_and_just_those_rows_extracted_again(
    world: Path, whole: Path, tmp_path: Path
) -> None:
    recordings, out = open_world(world), Path(shutil.copytree(whole, tmp_path / "spots.zarr"))
    digest, before = TeacherCache.open(whole).attrs["digest"], TeacherCache.open(whole)
    chunk = out / "video" / "c.0.0.0"
    content = bytearray(chunk.read_bytes())
    content[40] ^= 1
    chunk.write_bytes(content)
    report = {c["check"]: c for c in verify(out)["checks"] if not c["ok"]}
    assert set(report) == {"digest", "finite"} and len(report["finite"]["samples"]) == 8
    summary = extract(recordings, SmallTeacher(), out, settings(batch=4, repair=True))
    assert (summary.damaged, summary.extracted, summary.restored) == (8, 8, True)
    assert summary.digest == digest and not verify(out)["problems"]
    np.testing.assert_array_equal(TeacherCache.open(out).video, before.video)
    nothing = extract(recordings, SmallTeacher(), out, settings(batch=4, repair=True))
    assert (nothing.damaged, nothing.extracted, nothing.restored) == (0, 0, None)
