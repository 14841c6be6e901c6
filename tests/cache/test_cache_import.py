"""Features from elsewhere become a cache, and a cache becomes files for other programs."""

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from small_caches import DIM, features, filled, ids

from skelfew.cache import CacheError, TeacherCache, content_digest
from skelfew.cache.tools.card import card
from skelfew.cache.tools.foreign import columns
from skelfew.cli.cache import main
from skelfew.data.manifest import Manifest, Sample

ORIGIN = ["--teacher=clip", "--weights=openai", "--preprocessing=frames=8"]


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    names = [*ids(10), "sample_last"]
    samples = tuple(Sample(n, 1 + i % 2, ("wave", "kick")[i % 2], 9) for i, n in enumerate(names))
    Manifest("world", samples).write(tmp_path / "world.csv")
    return Manifest.read(tmp_path / "world.csv")


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    return result.exit_code, result.stdout, result.stderr


def bring(file: Path, *options: object) -> tuple[int, str, str]:
    where = file.parent
    return run("import", file, "--out", where / "new.zarr", "--manifest", where / "world.csv",
               *ORIGIN, *options)  # fmt: skip


def write(path: Path, **arrays: Any) -> Path:
    """Write an npz or an HDF5 file."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                texts = values.astype(object) if values.dtype.kind == "U" else values
                file[name] = texts
    return path


@pytest.mark.parametrize("name", ["f.npz", "f.h5"])
def test_features_of_others(tmp_path: Path, manifest: Manifest, name: str) -> None:
    order = np.random.default_rng(0).permutation(10)
    file = write(
        tmp_path / name,
        names=np.array(ids(10))[order],
        text=features(10, 2)[order][:, 0].astype(np.float64),
        video=features(10, 1)[order],
        class_text=np.eye(2, DIM),
    )
    status, out, err = bring(file, "--ids=names", "--licence-note=ask Ada")
    assert status == 0, err
    assert "10 of 11 samples done, 0 failed, 1 pending" in out
    cache = TeacherCache.open(tmp_path / "new.zarr")
    assert cache.video is not None and cache.pending == 1
    np.testing.assert_array_equal(cache.video, features(10, 1).astype(np.float16))
    np.testing.assert_array_equal(cache.text, features(10, 2).astype(np.float16))
    np.testing.assert_array_equal(cache.class_text, np.eye(2, DIM))
    attrs = cache.attrs
    assert attrs["manifest_sha256"] == manifest.sha256 and attrs["dataset"] == "world"
    assert attrs["teacher"]["name"] == "clip" and attrs["teacher"]["dim"] == DIM
    assert attrs["preprocessing"] == {"frames": "8"} and attrs["licence_note"] == "ask Ada"
    assert [s["name"] for s in attrs["provenance:steps"]] == ["import"]
    assert run("verify", tmp_path / "new.zarr", "--manifest", tmp_path / "world.csv")[0] == 0


def test_npy_with_a_list_of_ids(tmp_path: Path, manifest: Manifest) -> None:
    np.save(tmp_path / "f.npy", features(3)[:, 0])
    (tmp_path / "ids.txt").write_text("".join(f"{i}_rgb.avi\n" for i in ids(3)))
    status, _, err = bring(tmp_path / "f.npy", "--ids", tmp_path / "ids.txt")
    assert status == 1 and "--rename-ids '_rgb\\.avi$=' 3 match" in err
    status, _, err = bring(tmp_path / "f.npy", "--ids", tmp_path / "ids.txt", "--rename-ids",
                           r"_rgb\.avi$=", "--store-dtype=float32")  # fmt: skip
    assert status == 0, err
    cache = TeacherCache.open(tmp_path / "new.zarr")
    assert cache.representations == ("f_t",)
    np.testing.assert_array_equal(cache.targets(ids(3), "f_t"), features(3))


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"video": features(10)}, [], "no array for f_t; .* say --text NAME"),
        ({"x": features(10)}, ["--text=y"], "no array 'y'; it has x"),
        ({"text": features(10)}, [], "no array of sample IDs"),
        ({"text": features(10), "ids": np.array(ids(9))}, [], "9 IDs, 9 of them different"),
        ({"text": features(3), "ids": np.array(["a", "a", "b"])}, [], "3 IDs, 2 of them"),
        ({"text": features(3)[:, 0, 0], "ids": np.array(ids(3))}, [], "shape \\(3,\\); expected"),
        ({"text": features(3), "ids": np.arange(3.0)}, [], "are no text"),
        ({"text": np.full((2, 3), np.nan), "ids": np.array(ids(2))}, [], "f_t of sample_00000 is"),
        (
            {"text": np.full((2, 3), 1e6), "ids": np.array(ids(2))},
            [],
            "f_t of sample_00000 is too large for float16 .*--store-dtype float32",
        ),
        ({"text": features(3), "video": features(2), "ids": np.array(ids(3))}, [], "f_v has shape"),
        ({"text": features(3), "class_text": np.eye(3), "ids": np.array(ids(3))}, [], r"\(2, 6\)"),
        ({"text": features(1), "ids": np.array(["other"])}, [], "only the cache has other"),
        ({"text": np.arange(9).reshape(3, 3), "ids": np.array(ids(3))}, [], "of type int64"),
    ],
)
@pytest.mark.parametrize("kind", ["npz", "h5"])
def test_what_does_not_fit_is_named(
    tmp_path: Path, manifest: Manifest, kind: str, arrays: Any, options: list[str], message: str
) -> None:
    status, _, err = bring(write(tmp_path / f"f.{kind}", **arrays), *options)
    assert status == 1 and len(err.splitlines()) == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(err)
    assert not (tmp_path / "new.zarr").exists()


def test_provenance_is_asked_for(tmp_path: Path, manifest: Manifest) -> None:
    file = write(tmp_path / "f.npz", text=features(3), ids=np.array(ids(3)))
    for left_out in range(3):
        given = [option for i, option in enumerate(ORIGIN) if i != left_out]
        status, _, err = run("import", file, "--out", tmp_path / "n.zarr", "--manifest",
                             tmp_path / "world.csv", *given)  # fmt: skip
        assert status == 2 and ORIGIN[left_out].split("=")[0] in err


def test_no_pickle_is_read(tmp_path: Path, manifest: Manifest) -> None:
    np.savez(tmp_path / "f.npz", text=features(1), ids=np.array([print], dtype=object))
    np.save(tmp_path / "f.npy", np.array([print], dtype=object))
    (tmp_path / "g.npy").write_bytes(pickle.dumps(print))
    for name, message in (
        ("f.npz", "can run code"),
        ("f.npy", "can run"),
        ("g.npy", "not a NumPy"),
    ):
        status, _, err = bring(tmp_path / name, "--ids", "ids")
        assert status == 1 and message in err


def test_hdf5_links_and_lies_are_refused(tmp_path: Path, manifest: Manifest) -> None:
    secret = write(tmp_path / "secret.h5", text=features(3))
    file = write(tmp_path / "f.h5", ids=np.array(ids(3)))
    with h5py.File(file, "a") as opened:
        opened["external"] = h5py.ExternalLink(str(secret), "/text")
        opened["soft"] = h5py.SoftLink("/external")
        (tmp_path / "raw").write_bytes(features(3).tobytes())
        opened.create_dataset(
            "outside", (3, 1, DIM), "<f4", external=[(str(tmp_path / "raw"), 0, 72)]
        )
        layout = h5py.VirtualLayout((3, 1, DIM), "<f4")
        layout[:] = h5py.VirtualSource(str(secret), "text", (3, 1, DIM))
        opened.create_virtual_dataset("virtual", layout)
        opened.create_dataset("huge", (10**9, 1, 512), "<f4", chunks=(1024, 1, 512))
        opened.create_dataset("chunk", (10**6, 1, 512), "<f4", chunks=(10**6, 1, 512))
    refused = {
        "external": "is a link",
        "soft": "is a link",
        "outside": "other files",
        "virtual": "other files",
        "huge": "claims shape",
        "chunk": "claims shape",
    }
    for name, message in refused.items():
        status, _, err = bring(file, f"--text={name}")
        assert status == 1 and message in err, (name, err)


def test_numpy_lies_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", features(3))
    whole = (tmp_path / "f.npy").read_bytes()
    (tmp_path / "short.npy").write_bytes(whole[:-1])
    (tmp_path / "wide.npy").write_bytes(whole.replace(b"(3, 1, 6)", b"(3, 1,10)"))
    np.save(tmp_path / "fortran.npy", np.asfortranarray(features(30).reshape(30, -1)))
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("text.npy", bytes(40_000_000))
    (tmp_path / "no.npz").write_text("no")
    for name, message in (("short.npy", "damaged"), ("wide.npy", "damaged"), ("no.npz", "not a"),
                          ("fortran.npy", "Fortran"), ("bomb.npz", "would unpack")):  # fmt: skip
        with pytest.raises(CacheError, match=message), columns(tmp_path / name) as found:
            found["text"]()


# Export


@pytest.mark.parametrize("kind", ["npz", "h5"])
def test_exported_and_imported_again(
    path: Path, tmp_path: Path, manifest: Manifest, kind: str
) -> None:
    filled(path, class_text=np.eye(2, DIM))
    assert run("export", path, "--out", tmp_path / f"x.{kind}")[0] == 0
    few = Manifest("world", manifest.samples[:10])
    few.write(tmp_path / "world.csv")
    status, _, err = bring(tmp_path / f"x.{kind}")
    assert status == 0, err
    assert content_digest(tmp_path / "new.zarr") == content_digest(path)
    status, _, err = run("export", path, "--out", tmp_path / f"x.{kind}")
    assert status == 1 and "--overwrite" in err


def test_another_teacher_has_another_identity(tmp_path: Path, manifest: Manifest) -> None:
    filled(tmp_path / "c.zarr", class_text=np.eye(2, DIM))
    assert run("export", tmp_path / "c.zarr", "--out", tmp_path / "x.npz")[0] == 0
    cards = []
    for teacher in ("one", "other", "one"):
        arguments = ("--teacher", teacher, "--overwrite", "--json")
        status, out, err = bring(tmp_path / "x.npz", *arguments)
        assert status == 0, err
        done = json.loads(out)
        assert card(done["cache"])["identity"] == done["identity"]
        cards.append((done["digest"], done["identity"]))
    assert len({digest for digest, _ in cards}) == 1 and cards[0] == cards[2] != cards[1]


def test_export_for_numpy(path: Path, tmp_path: Path) -> None:
    filled(path, failed=(3,))
    assert run("export", path, "--out", tmp_path / "x.npz")[0] == 0
    with np.load(tmp_path / "x.npz", allow_pickle=False) as loaded:
        assert loaded["sample_id"].tolist() == [i for i in ids(10) if i != "sample_00003"]
        assert loaded["video"].dtype == np.float16 and loaded["video"].shape == (9, 1, DIM)
        assert json.loads(str(loaded["provenance"]))["dataset"] == "world"
    assert run("export", path, "--out", tmp_path / "x.npy", "--representation=f_v+f_t")[0] == 0
    cache = TeacherCache.open(path)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), cache.targets(list(cache.row)))
    assert (tmp_path / "x.ids.txt").read_text().split() == list(cache.row)
    status, _, err = run("export", path, "--out", tmp_path / "x.mat")
    assert status == 1 and ".npz, .h5 and .npy" in err
