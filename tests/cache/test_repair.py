"""Damaged stores: what a repair takes back, what it leaves alone, and that it can be killed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from small_caches import DIM, PROVENANCE, features, ids

from skelfew.cache import DONE, FAILED, CacheError, CacheWriter, TeacherCache, content_digest
from skelfew.cache.format.history import steps_of
from skelfew.cache.tools import repair as module

COUNT = 2500  # three chunks
VIDEO, TEXT, CLASSES = features(COUNT, 1), features(COUNT, 2), np.eye(2, DIM, dtype=np.float32)
SETTLED = np.where(np.arange(COUNT) % 100 == 7, FAILED, DONE)


def opened(path: Path, repairing: bool = False) -> CacheWriter:
    return CacheWriter.create_or_resume(
        path, ids(COUNT), dim=DIM, provenance=PROVENANCE, class_text=CLASSES, repairing=repairing
    )


def go_on(path: Path, repairing: bool = False) -> tuple[int, list[int]]:
    """Do what an extraction does; return how many rows were damaged, and which were written."""
    with opened(path, repairing) as cache:
        todo = cache.pending()
        cache.write(todo, VIDEO[todo], TEXT[todo], SETTLED[todo])
        cache.finish()
        return cache.damaged, todo.tolist()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "c.zarr"
    go_on(path)
    return path


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "c.zarr"))


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 4
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def done(first: int, stop: int) -> list[int]:
    return [i for i in range(first, stop) if SETTLED[i] == DONE]


@pytest.mark.parametrize("how", [flip, cut, empty, Path.unlink])
@pytest.mark.parametrize(
    ("chunk", "again"),
    [
        ("video/c.1.0.0", done(1024, 2048)),
        ("text/c.2.0.0", done(2048, COUNT)),
        ("status/c.1", [i for i in range(1024, 2048) if SETTLED[i] == FAILED]),
        ("sample_id/c.0", []),
        ("class_text/c.0.0", []),
    ],
)
def test_just_the_damaged_rows_are_extracted_again(
    whole: Path, store: Path, chunk: str, again: list[int], how: Callable[[Path], Any]
) -> None:
    if chunk.startswith("class_text") and how is Path.unlink:
        pytest.skip("an absent chunk is zeros, which the digest alone tells from a text")
    how(store / chunk)
    assert go_on(store, repairing=True) == (len(again), again)
    recorded = TeacherCache.open(whole).attrs["digest"]
    attrs = TeacherCache.open(store).attrs
    assert attrs["digest"] == content_digest(store) == recorded and attrs["complete"] is True
    last = steps_of(attrs)[-1]
    assert last["name"] == "repair"
    assert last["parameters"] == {"samples": len(again), "digest_before": recorded}
    for name in ("video", "text"):
        for number in range(3):
            key = f"{name}/c.{number}.0.0"
            assert (store / key).read_bytes() == (whole / key).read_bytes()
    if how is not Path.unlink:
        assert (store.with_name("c.zarr.damaged") / chunk).is_file(), "nothing is thrown away"
    assert go_on(store, repairing=True) == (0, [])


def test_damaged_chunks_are_refused_and_say_what_helps(store: Path) -> None:
    flip(store / "video/c.0.0.0")
    with pytest.raises(CacheError, match="checksum"):
        TeacherCache.open(store)
    with opened(store) as cache, pytest.raises(CacheError, match="skelfew-extract --repair"):
        cache.write(np.array([3]), VIDEO[[3]], TEXT[[3]], np.array([DONE]))
    flip(store / "status/c.0")
    with pytest.raises(CacheError, match=r"c.zarr: damaged .* skelfew-extract --repair"):
        opened(store)


def test_a_repair_can_be_killed(whole: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each of its steps; another repair ends in the same content."""
    cut(store / "video/c.1.0.0")
    flip(store / "text/c.1.0.0")
    flip(store / "text/c.2.0.0")

    class Killed(BaseException):
        pass

    set_aside = module._set_aside
    for survive in (0, 1):
        calls = iter(range(9))

        def dying(
            path: Path, key: str, keep: bool, calls: Any = calls, survive: int = survive
        ) -> None:
            if next(calls) == survive:
                raise Killed
            set_aside(path, key, keep)

        monkeypatch.setattr(module, "_set_aside", dying)
        with pytest.raises(Killed):
            go_on(store, repairing=True)
    monkeypatch.undo()
    with opened(store, repairing=True) as cache:
        assert cache.pending().tolist() == done(1024, COUNT)
        todo = cache.pending()[:50]
        cache.write(todo, VIDEO[todo], TEXT[todo], SETTLED[todo])
    with opened(store) as cache:  # killed here; going on needs no --repair
        assert cache.digest_before == content_digest(whole)
    assert go_on(store)[1] == done(1024, COUNT)[50:]
    assert content_digest(store) == content_digest(whole)


def test_rows_that_are_not_finite_are_taken_back_alone(whole: Path, store: Path) -> None:
    zarr.open_group(store, mode="r+")["video"][5, 0, 1] = np.nan  # type: ignore[index]
    assert go_on(store, repairing=True) == (1, [5])
    assert content_digest(store) == content_digest(whole)


def test_what_cannot_be_repaired_is_refused_untouched(store: Path, tmp_path: Path) -> None:
    zarr.open_group(store, mode="r+")["text"][5, 0, 1] += 1  # type: ignore[index]
    before = {p: p.read_bytes() for p in store.rglob("*") if p.is_file()}
    with pytest.raises(CacheError, match="which rows have changed is not known"):
        opened(store, repairing=True)
    with pytest.raises(CacheError, match="nothing to repair"):
        opened(tmp_path / "absent.zarr", repairing=True)
    cut(store / "video/c.0.0.0")
    with pytest.raises(CacheError, match="made with dataset"):
        CacheWriter.create_or_resume(
            store,
            ids(COUNT),
            dim=DIM,
            provenance={**PROVENANCE, "dataset": "other"},
            repairing=True,
        )
    before[store / "video/c.0.0.0"] = (store / "video/c.0.0.0").read_bytes()
    assert before == {p: p.read_bytes() for p in store.rglob("*") if p.is_file()}


def test_stores_without_checksums_are_repaired_where_they_cannot_be_read(store: Path) -> None:
    """As skelfew wrote them before: a chunk that is cut off is seen, a flipped bit is not."""
    for name in ("video", "text"):
        file = store / name / "zarr.json"
        metadata = json.loads(file.read_text())
        metadata["codecs"] = [c for c in metadata["codecs"] if c["name"] != "crc32c"]
        file.write_text(json.dumps(metadata))
        for chunk in (store / name).glob("c.*"):
            chunk.write_bytes(chunk.read_bytes()[:-4])
    recorded = TeacherCache.open(store).attrs["digest"]
    assert content_digest(store) == recorded
    cut(store / "video/c.1.0.0")
    assert go_on(store, repairing=True) == (len(done(1024, 2048)), done(1024, 2048))
    assert content_digest(store) == recorded
