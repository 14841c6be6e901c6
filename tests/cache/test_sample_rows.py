"""Sample IDs as bytes and as strings give the same rows, and the same refusals."""

from pathlib import Path

import numpy as np
import pytest

from skelfew.cache import DONE, FAILED, CacheError, CacheWriter, TeacherCache
from skelfew.cache.format.sample_rows import SampleRows, rows_of
from skelfew.cache.format.storage import arrays_of, open_group

COUNT = 1300  # more than one chunk, the last of them not full
NTU = [f"S001C{i // 100:03d}P001R001A{i % 100:03d}" for i in range(COUNT)]


def store(path: Path, names: list[str]) -> Path:
    given: dict[str, object] = {"dataset": "toy", "manifest_sha256": "m", "classes": []}
    status = np.full(len(names), DONE, np.uint8)
    status[3] = FAILED
    features = np.arange(len(names), dtype=np.float32).reshape(-1, 1, 1) * 1e30
    with CacheWriter.create_or_resume(
        path, names, dim=1, provenance=given, dtype="float32"
    ) as cache:
        cache.write(slice(0, len(names)), features, features, status)
    return path


@pytest.mark.parametrize(
    ("names", "packed"),
    [
        (NTU, True),
        (NTU[::-1], False),
        ([f"a{i}_s1" for i in range(COUNT)], False),
        ([f"ü{i:04d}" for i in range(COUNT)], False),
        ([f"a/{i:04d}" for i in range(COUNT)], False),
    ],
    ids=["ntu", "descending", "lengths", "unicode", "slashes"],
)
def test_rows_are_those_of_a_dictionary(tmp_path: Path, names: list[str], packed: bool) -> None:
    path = store(tmp_path / "c.zarr", names)
    rows = rows_of(arrays_of(path, open_group(path)))
    assert (rows._packed is not None) == packed
    cache = TeacherCache.open(path)
    done = [name for i, name in enumerate(names) if i != 3]
    some = [done[i] for i in (5, 1298, 0, 5)]
    assert cache.rows(some).tolist() == [5, 1298, 0, 5], "before there is a dictionary"
    assert cache.rows([]).shape == (0,)
    assert cache.rows(done).tolist() == list(range(COUNT - 1)), "and with it"
    assert list(cache.row) == done and cache.failed == (names[3],)
    numbers = [i for i in range(COUNT) if i != 3]
    expected = np.array(numbers, dtype=np.float32)[:, None, None] * 1e30
    np.testing.assert_array_equal(cache.targets(done, "f_v"), expected)


@pytest.mark.parametrize("wrong", ["", "S001", NTU[3], "é" * 20, "\ud800" * 20, "T" + NTU[0][1:]])
def test_an_id_that_is_not_there_is_named(tmp_path: Path, wrong: str) -> None:
    cache = TeacherCache.open(store(tmp_path / "c.zarr", NTU))
    with pytest.raises(CacheError, match="1 of 2 samples are not in the cache"):
        cache.rows([NTU[0], wrong])
    assert wrong not in cache.row


def test_a_nul_at_the_end_is_another_id() -> None:
    rows = SampleRows(
        np.frombuffer(b"".join(b"%03d" % i for i in range(99)), np.uint8).reshape(-1, 3)
    )
    assert rows.find(["007"]).tolist() == [7]
    with pytest.raises(KeyError):
        rows.find(["07\0"])
