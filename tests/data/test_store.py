import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from skelfew.data.joints.layouts import LAYOUTS, layout_from_dict
from skelfew.data.store import Skeleton, SkeletonStore, StoreError
from skelfew.data.store_writer import SkeletonStoreWriter

RNG = np.random.default_rng(0)


def skeleton(bodies: int, frames: int, pixels: bool = True) -> Skeleton:
    shape = (bodies, frames, 25)
    positions = RNG.normal(size=(*shape, 3)).astype(np.float32)
    return Skeleton(positions, RNG.normal(size=(*shape, 2)).astype(np.float32) if pixels else None)


SKELETONS = {"one": skeleton(1, 7), "two": skeleton(2, 600), "three": skeleton(1, 1)}


def write(path: Path, skeletons: dict[str, Skeleton] = SKELETONS, **options: int) -> Path:
    options = {"pixels": True, **options}
    with SkeletonStoreWriter(path, "kinect-v2", 25, attrs={"dataset": "x"}, **options) as writer:
        for name, value in skeletons.items():
            writer.append(name, value)
    return path


def test_what_is_written_is_read_one_by_one_and_at_once(tmp_path: Path) -> None:
    with SkeletonStore(write(tmp_path / "s.h5")) as store:
        assert store.ids == list(SKELETONS) and len(store) == 3 and "two" in store
        assert store.frames.tolist() == [7, 600, 1] and store.bodies.tolist() == [1, 2, 1]
        for name, expected in SKELETONS.items():
            found = store[name]
            np.testing.assert_array_equal(found.positions, expected.positions)
            np.testing.assert_array_equal(found.pixels, expected.pixels)
            assert found.positions.dtype == np.float32
        rows, offset = store.read_all()
        assert offset.tolist() == [0, 7, 1207, 1208]
        np.testing.assert_array_equal(
            rows[7:1207].reshape(2, 600, 25, 3), SKELETONS["two"].positions
        )
        assert store.layout == "kinect-v2" and store.attrs["dataset"] == "x"


RIG = layout_from_dict(
    {"name": "rig", "joints": ["a", "b", "c"], "bones": [["a", "b"], ["c", "b"]], "centre": "b"}
)


def test_the_layout_travels_with_the_store(tmp_path: Path) -> None:
    path = tmp_path / "rig.h5"
    attrs = {"coordinates": 2, "units": "pixels"}
    with SkeletonStoreWriter(path, RIG, 3, attrs=attrs) as writer:
        writer.append("one", Skeleton(np.ones((1, 4, 3, 3), np.float32)))
    with SkeletonStore(path) as store:
        assert store.layout == "rig" and store.joint_layout == RIG
        assert store.coordinates == 2 and store.channels == 3
    with SkeletonStore(write(tmp_path / "s.h5")) as store:
        assert store.joint_layout == LAYOUTS["kinect-v2"] and store.coordinates == 3


@pytest.mark.parametrize(("units", "coordinates"), [("pixels", 2), ("metres", 3), (None, 3)])
def test_stores_of_earlier_versions_are_read(
    tmp_path: Path, units: str | None, coordinates: int
) -> None:
    """They name their layout, by a path if it is one's own, and say nothing of coordinates."""
    description = tmp_path / "rig.toml"
    content = RIG.to_dict()
    description.write_text("\n".join(f"{k} = {v!r}" for k, v in content.items()))
    path = tmp_path / "old.h5"
    with SkeletonStoreWriter(path, RIG, 3, attrs={"units": units} if units else {}) as writer:
        writer.append("one", Skeleton(np.ones((1, 4, 3, 3), np.float32)))
    with h5py.File(path, "r+") as file:
        del file.attrs["layout_description"]
        file.attrs["layout"] = str(description)
    with SkeletonStore(path) as store:
        assert store.joint_layout == RIG and store.coordinates == coordinates


def test_digest_is_of_the_content_not_the_compression(tmp_path: Path) -> None:
    one = SkeletonStore(write(tmp_path / "a.h5"))
    two = SkeletonStore(write(tmp_path / "b.h5", compress=False))
    other = SkeletonStore(write(tmp_path / "c.h5", {**SKELETONS, "three": skeleton(1, 1)}))
    assert one.attrs["digest"] == two.attrs["digest"] == two.content_digest()
    assert one.attrs["digest"] != other.attrs["digest"]
    assert (tmp_path / "a.h5").stat().st_size < (tmp_path / "b.h5").stat().st_size


@pytest.mark.parametrize("threads", [1, 3])
def test_packed_chunks_are_read_like_any(tmp_path: Path, threads: int) -> None:
    long = {f"s{i}": skeleton(1 + i % 2, 700 + i) for i in range(9)}  # several chunks and a rest
    path = write(tmp_path / "p.h5", long, threads=threads)
    with h5py.File(path) as file, SkeletonStore(path) as store:
        for name in ("positions", "pixels"):
            data = file[name]
            assert data.shape[0] % data.chunks[0] and data.shape[0] > 9 * data.chunks[0]
            assert (data.compression, data.compression_opts, data.shuffle) == ("gzip", 1, True)
            expected = [getattr(s, name).reshape(-1, *data.shape[1:]) for s in long.values()]
            np.testing.assert_array_equal(data[:], np.concatenate(expected))
        assert data.id.get_storage_size() < data.nbytes
        for sample_id, expected in long.items():
            np.testing.assert_array_equal(store[sample_id].positions, expected.positions)
        store.load()
        for sample_id, expected in long.items():
            np.testing.assert_array_equal(store[sample_id].positions, expected.positions)
            np.testing.assert_array_equal(store[sample_id].pixels, expected.pixels)
        assert store.content_digest() == store.attrs["digest"]


def test_damage_changes_the_digest(tmp_path: Path) -> None:
    path = write(tmp_path / "s.h5")
    with h5py.File(path, "r+") as file:
        file["positions"][1000, 3, 1] += 1e-3
    with SkeletonStore(path, check=False) as store:
        assert store.content_digest() != store.attrs["digest"]
    with pytest.raises(StoreError, match=r"changed since it was written.*skelfew-prepare"):
        SkeletonStore(path)
    with h5py.File(path, "r+") as file:
        del file.attrs["digest"]
    assert len(SkeletonStore(path)) == 3, "written by others, without a digest"


def test_content_is_checked_once_and_again_after_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("skelfew.io.vouched._SMALL", 0)
    path, times = write(tmp_path / "s.h5"), []
    whole = SkeletonStore.content_digest
    monkeypatch.setattr(
        SkeletonStore, "content_digest", lambda store: times.append(1) or whole(store)
    )
    SkeletonStore(path).close()
    assert not times, "its writer knows what it wrote"
    moved = path.rename(tmp_path / "moved.h5")
    for _ in range(3):
        SkeletonStore(moved).close()
    assert len(times) == 1
    with h5py.File(moved, "r+") as file:
        file["positions"][0, 0, 0] += 1
    for _ in range(2):
        with pytest.raises(StoreError, match=r"moved\.h5: changed since it was written"):
            SkeletonStore(moved)
    assert len(times) == 3


def test_pixels_are_nan_where_a_recording_has_none(tmp_path: Path) -> None:
    path = write(tmp_path / "s.h5", {"a": skeleton(1, 2, pixels=False), "b": skeleton(1, 3)})
    with SkeletonStore(path) as store:
        assert np.isnan(store["a"].pixels).all() and np.isfinite(store["b"].pixels).all()
        assert store.content_digest() == store.attrs["digest"]
    with SkeletonStore(write(tmp_path / "t.h5", pixels=False)) as store:
        assert store["one"].pixels is None


def test_arrays_may_be_reused_after_append(tmp_path: Path) -> None:
    buffer = np.ones((1, 4, 25, 3), np.float32)
    with SkeletonStoreWriter(tmp_path / "s.h5", "kinect-v2", 25) as writer:
        for i in range(3):
            buffer[:] = i
            writer.append(str(i), Skeleton(buffer))
    with SkeletonStore(tmp_path / "s.h5") as store:
        assert [store[str(i)].positions.max() for i in range(3)] == [0, 1, 2]
        assert store.content_digest() == store.attrs["digest"]


def test_an_interrupted_writer_leaves_the_old_store(tmp_path: Path) -> None:
    path = write(tmp_path / "s.h5")
    before = path.read_bytes()
    with (
        pytest.raises(KeyboardInterrupt),
        SkeletonStoreWriter(path, "kinect-v2", 25, pixels=True) as writer,
    ):
        writer.append("new", SKELETONS["one"])
        raise KeyboardInterrupt
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("shape", "pixels"),
    [((7, 25, 3), None), ((1, 7, 20, 3), None), ((1, 0, 25, 3), None), ((1, 7, 25, 3), (1, 7, 25))],
)
def test_wrong_shapes_are_refused(
    tmp_path: Path, shape: tuple[int, ...], pixels: tuple[int, ...] | None
) -> None:
    value = Skeleton(np.zeros(shape, np.float32), None if pixels is None else np.zeros(pixels))
    with pytest.raises(StoreError, match=re.escape(str(pixels or shape))):
        write(tmp_path / "s.h5", {"bad": value})


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="skelfew-prepare nothing"):
        SkeletonStore(tmp_path / "nothing.h5")
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(StoreError, match="not a readable HDF5 file"):
        SkeletonStore(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(StoreError, match="but not a skelfew-skeletons"):
        SkeletonStore(tmp_path / "other.h5")
    with h5py.File(write(tmp_path / "new.h5"), "r+") as file:
        file.attrs["format_version"] = 2
    with pytest.raises(StoreError, match="upgrade"):
        SkeletonStore(tmp_path / "new.h5")
    with h5py.File(write(tmp_path / "short.h5"), "r+") as file:
        file["positions"].resize(1000, axis=0)
    with pytest.raises(StoreError, match="1208 rows, but 1000 are stored"):
        SkeletonStore(tmp_path / "short.h5")
    with SkeletonStore(write(tmp_path / "s.h5")) as store, pytest.raises(StoreError, match="'no'"):
        store["no"]
