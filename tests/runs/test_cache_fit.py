"""The right cache for the right data: what does not fit is explained before training starts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from small_world import DIM, FAST, make_world

from skelfew.cache import CacheError, CacheWriter, TeacherCache
from skelfew.cache.matching import match, rename
from skelfew.cli.train import main
from skelfew.config import InputConfig
from skelfew.data.manifest import Manifest
from skelfew.runs.cache_fit import InputError, changes
from skelfew.runs.inputs import Inputs, find_inputs

IDS = [f"S{i:03d}C001A{1 + i % 60:03d}" for i in range(100)]


# Renaming rules


@pytest.mark.parametrize(
    ("cache", "rule"),
    [
        ([f"{i}_rgb" for i in IDS], "_rgb$="),
        ([f"{i}_rgb.avi" for i in IDS], r"_rgb\.avi$="),
        ([f"ntu/{i}" for i in IDS], "^ntu/="),
        ([f"ntu/{i}.mp4" for i in IDS], r"^ntu/|\.mp4$="),
        ([i.lower() for i in IDS], None),
        ([i[1:] for i in IDS], "^=S"),
        ([i.removesuffix("1") for i in IDS if i.endswith("1")], "$=1"),
        ([i[1:].removesuffix("1") for i in IDS if i.endswith("01")], r"^(.*)$=S\g<1>1"),
    ],
)
def test_a_likely_renaming_is_found(cache: list[str], rule: str | None) -> None:
    found = match(cache, IDS)
    assert found.rule == rule
    if rule is not None:
        assert found.matched == 0 and found.matched_by_rule == len(cache)
        assert set(rename(cache, rule)) <= set(IDS)
        assert f"With --rename-ids '{rule}' {len(cache)} match" in found.explain()


def test_what_is_found_is_an_improvement() -> None:
    upper = match([i.upper() for i in ("a1", "b2")], ["a1", "b2"])
    assert (upper.rule, upper.matched_by_rule) == ("lower", 2)
    assert match(IDS, IDS).rule is None and match(IDS, IDS).matched == 100
    strange = match(["x", "y"], IDS)
    assert strange.rule is None and strange.only_cache == ("x", "y")
    text = strange.explain()
    assert "0 of the manifest's 100" in text and "only the cache has x, y" in text
    assert f"only the manifest has {', '.join(IDS[:3])}" in text


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("_rgb", "expected PATTERN=REPLACEMENT"),
        ("(=", "missing"),
        (r"a=\9", "group reference"),
        ("S.*=x", "gives 100 samples the ID 'x'"),
        (".*=", "IDs must stay unique"),
    ],
)
def test_rules_that_cannot_be_used(rule: str, message: str) -> None:
    with pytest.raises(CacheError, match=message):
        rename(IDS, rule)


# A cache and a manifest


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"), trained=True).parent.parent


def write(world: Path, name: str, ids: list[str] | None = None, **changed: Any) -> Path:
    """Write a cache like that of the world, but for what is changed."""
    manifest = Manifest.read(world / "manifests" / "tiny.csv")
    provenance = {
        "dataset": "tiny",
        "manifest_sha256": "f" * 64,
        "teacher": {"name": "toy", "weights_sha256": "e" * 64},
        "preprocessing": {"crop": "joints", "frames": 8},
        "classes": [{"class_id": c, "label": n} for c, n in manifest.classes.items()],
        **changed,
    }
    ids = ids or manifest.ids
    values = np.random.default_rng(0).normal(size=(len(ids), 1, DIM))
    path = world / "cache" / name
    with CacheWriter.create_or_resume(path, ids, dim=DIM, provenance=provenance) as cache:
        cache.write(slice(0, len(ids)), values, values, np.ones(len(ids)))
        cache.finish()
    return path


def find(world: Path, cache: Path, **options: Any) -> Inputs:
    given = InputConfig(cache=str(cache), manifest=str(world / "manifests" / "tiny.csv"),
                        store=str(world / "data" / "tiny.h5"), **options)  # fmt: skip
    return find_inputs(given, str(world / "manifests/protocols/tiny.json"))


def test_renamed_ids_are_explained_and_repaired(world: Path) -> None:
    ids = Manifest.read(world / "manifests" / "tiny.csv").ids
    path = write(world, "rgb.zarr", [f"{i}_rgb" for i in ids])
    with pytest.raises(InputError) as error:
        find(world, path)
    text = str(error.value)
    assert "0 of the manifest's 80 sample IDs" in text and "c1n0_rgb" in text
    assert "--rename-ids '_rgb$=' 80 match" in text
    inputs = find(world, path, rename_ids="_rgb$=")
    assert inputs.cache is not None
    np.testing.assert_array_equal(
        inputs.cache.targets(["c2n3"]), TeacherCache.open(path).targets(["c2n3_rgb"])
    )
    assert inputs.locations.rename_ids == "_rgb$="
    with pytest.raises(InputError, match="0 of the manifest's 80"):
        find(world, path, match="ids")


def test_another_manifest_is_explained(world: Path) -> None:
    path = write(world, "other.zarr")
    with pytest.raises(InputError, match=r"80 of the manifest's 80 .* classes, so other columns"):
        find(world, path)
    assert find(world, path, match="ids").match == "ids"
    few = write(world, "few.zarr", [f"c{c}n{i}" for c in (1, 2) for i in range(5)])
    with pytest.raises(InputError, match=r"10 of the manifest's 80 .* only the manifest has c1n5"):
        find(world, few)
    kick = [{"class_id": c, "label": f"action {c}" if c != 3 else "kick"} for c in range(1, 9)]
    path = write(world, "classes.zarr", classes=kick)
    for how in ("manifest", "ids"):
        with pytest.raises(InputError, match=r"class 3 is 'kick' in the cache, 'action 3' in"):
            find(world, path, match=how)


def test_other_skeletons_and_a_lying_width(world: Path) -> None:
    sha256 = Manifest.read(world / "manifests" / "tiny.csv").sha256
    path = write(world, "crop.zarr", manifest_sha256=sha256, skeletons_digest="d" * 64)
    with pytest.raises(InputError, match="cropped around skeletons of digest dddd"):
        find(world, path)
    assert find(world, path, match="ids").cache is not None
    path = write(world, "wide.zarr", manifest_sha256=sha256, teacher={"name": "toy", "dim": 512})
    with pytest.raises(InputError, match=f"teacher is 512 wide, but holds features of width {DIM}"):
        find(world, path)


def test_a_run_says_what_it_trains_on_and_what_has_changed(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)

    def train(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, [*arguments])
        return result.exit_code, result.stderr

    short = ["--stages=transfer", "--epochs=1", "--batch=8", *FAST]
    write(world, "a.zarr")
    status, output = train("--cache=cache/a.zarr", "--match=ids", "--name=a", *short)
    assert status == 0 and "note: teacher toy, width 24, weights eeeeeeeeeeee" in output
    assert "preprocessing: frames 8, crop joints" in output
    write(world, "b.zarr", teacher={"name": "other", "weights_sha256": "0" * 64})
    first = "--init=runs/a/encoder.safetensors"
    status, output = train("--cache=cache/b.zarr", "--match=ids", "--name=b", first, *short)
    assert status == 0 and 'learned from another teacher: name was "toy", is "other"' in output

    (world / "runs/a/encoder.safetensors").unlink()
    (world / "cache/a.zarr").rename(world / "cache/a.old")
    write(world, "a.zarr", preprocessing={"crop": "centre", "frames": 8})
    zarr.open_group(world / "cache/a.zarr", mode="r+")["text"][0, 0, 0] = 9  # type: ignore[index]
    old = TeacherCache.open(world / "cache/a.zarr")
    with CacheWriter.create_or_resume(old.path, list(old.row), dim=DIM, provenance=old.attrs) as c:
        c.finish()
    status, output = train("--resume=runs/a")
    assert status == 1 and "the cache has changed since the run began" in output
    assert 'preprocessing.crop "joints", now "centre"' in output


def test_changes_names_keys() -> None:
    before = {"digest": "a", "teacher": {"name": "x"}, "width": 512}
    now = {"digest": "b", "teacher": {"name": "x"}, "width": 768}
    assert changes(before, now) == "; width 512, now 768"
