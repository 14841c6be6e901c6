"""Several teachers at once: caches joined by sample ID."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from small_world import DIM, FAST, NOVEL, make_world, write_cache

from skelfew.cache import CacheError, CacheWriter, JoinedCache, TeacherCache, join
from skelfew.cli.evaluate import main as evaluate_main
from skelfew.cli.train import main as train_main
from skelfew.data.manifest import Manifest


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def other(root: Path, name: str, dim: int = 8, failed: tuple[str, ...] = ()) -> Path:
    """Write a cache of another teacher for the same samples."""
    manifest = Manifest.read(root / "manifests" / "tiny.csv")
    draw = np.random.default_rng(dim)
    rows = draw.normal(size=(len(manifest), dim))
    path = root / "cache" / f"{name}.zarr"
    write_cache(path, manifest, rows, failed, (), True, draw.normal(size=(8, dim)))
    return path


def texts_only(root: Path, dim: int = 8) -> Path:
    manifest = Manifest.read(root / "manifests" / "tiny.csv")
    classes = [{"class_id": c, "label": n, "prompt": n} for c, n in manifest.classes.items()]
    provenance = {"dataset": "tiny", "manifest_sha256": manifest.sha256, "classes": classes}
    provenance["teacher"] = {"name": "text"}
    path, values = root / "cache" / "text.zarr", np.random.default_rng(5).normal(size=(8, dim))
    rows = np.array([values[s.class_id - 1] for s in manifest])
    with CacheWriter.create_or_resume(
        path, manifest.ids, dim=dim, provenance=provenance, video=False, class_text=values
    ) as cache:
        cache.write(slice(None), None, rows[:, None], np.ones(len(rows), np.uint8))
        cache.finish()
    return path


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_world(tmp_path, trained=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_vectors_are_put_after_each_other_or_averaged(world: Path) -> None:
    one = TeacherCache.open("cache/tiny.zarr")
    two, same = (TeacherCache.open(other(world, f"b{d}", d)) for d in (8, DIM))
    ids = [*one.row][5:9]
    for form in ("raw", "unit"):
        parts = [unit(c.targets(ids, "f_v+f_t", form)) for c in (one, two)]  # type: ignore[arg-type]
        joined = join([one, two])
        found = joined.targets(ids, "f_v+f_t", form)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, np.concatenate(parts, axis=-1), rtol=1e-6)
        assert joined.dim == found.shape[-1] == DIM + 8
    mean = join([one, same], "mean")
    parts = [unit(c.targets(ids, "f_v", "unit")) for c in (one, same)]
    np.testing.assert_allclose(mean.targets(ids, "f_v", "unit"), (parts[0] + parts[1]) / 2)
    assert mean.dim == DIM and set(mean.class_texts()) == set(range(1, 9))
    assert joined.attrs["digest"] != mean.attrs["digest"] != one.attrs["digest"]
    assert joined.attrs["teacher"]["name"] == "toy + toy"
    assert join([one]) is one


def test_a_teacher_without_video_gives_its_texts(world: Path) -> None:
    one, text = TeacherCache.open("cache/tiny.zarr"), TeacherCache.open(texts_only(world))
    joined = join([one, text])
    assert joined.representations == ("f_v+f_t", "f_t") and joined.video is not None
    ids = [*one.row][:3]
    found = joined.targets(ids, "f_v+f_t", "unit")
    np.testing.assert_allclose(found[..., DIM:], unit(text.targets(ids, "f_t")), rtol=1e-6)
    with pytest.raises(CacheError, match="no representation 'f_v' in all of the caches; there is"):
        joined.targets(ids, "f_v")


def test_caches_that_cannot_be_joined_are_refused(world: Path) -> None:
    one = TeacherCache.open("cache/tiny.zarr")
    two = TeacherCache.open(other(world, "b", failed=("c1n3",)))
    with pytest.raises(CacheError, match=r"b.zarr: 1 of 2 samples are not in.*c1n3 \(1 failed"):
        join([one, two]).rows(["c1n2", "c1n3"])
    assert join([one, two]).failed == ("c1n3",) and "c1n3" not in join([one, two])
    with pytest.raises(CacheError, match=r"width 24, .* of 8: their mean is undefined"):
        join([one, two], "mean")
    with pytest.raises(CacheError, match="share no finished sample"):
        join([one, two.renamed("^=x")])
    elsewhere = TeacherCache(two.row, two.video, two.text, {"dataset": "pku"})
    with pytest.raises(CacheError, match=r"of tiny, but .* of pku"):
        join([one, elsewhere])


def test_a_run_with_two_teachers_to_its_zero_shot_score(world: Path) -> None:
    other(world, "b")
    caches = ["--cache", "cache/tiny.zarr", "--cache", "cache/b.zarr"]
    given = [*caches, "--stages", "transfer", "--epochs", "1", "--run", "runs/two", *FAST]
    done = CliRunner().invoke(train_main, given)
    assert done.exit_code == 0, done.output
    assert "teacher toy + toy, width 32" in done.stderr
    cache = json.loads(Path("runs/two/inputs.json").read_text())["cache"]
    assert [Path(part["path"]).name for part in cache["parts"]] == ["tiny.zarr", "b.zarr"]
    assert cache["width"] == 32 and len(cache["digest"]) == 64
    given = json.loads(Path("runs/two/config.json").read_text())["inputs"]
    assert [Path(p).name for p in given["more_caches"]] == ["b.zarr"] and given["join"] == "concat"
    done = CliRunner().invoke(evaluate_main, ["--shots", "0", "--run", "runs/two", "--json"])
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout)["rows"][0]["results"][0]
    assert row["queries"] == 20 and row["novel"] == list(NOVEL)
    # Another way of joining is another input, which a run that goes on would notice.
    assert isinstance(join([TeacherCache.open(p) for p in caches[1::2]]), JoinedCache)
    done = CliRunner().invoke(train_main, [*caches[:2], "--join", "mean"])
    assert done.exit_code == 2 and "--join is for several --cache" in done.stderr
