"""The control cache of the evidence tables: every sample knows its class and nothing more."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from small_world import BASE, EACH, make_world

from skelfew.cache import CacheError, TeacherCache
from skelfew.cache.tools.class_mean import class_mean
from skelfew.cli.cache import main
from skelfew.data.manifest import Manifest


def test_every_sample_has_the_mean_direction_of_its_class(tmp_path: Path) -> None:
    cache = make_world(tmp_path, failed=("c1n3",))
    out = tmp_path / "cache" / "mean.zarr"
    asked = ["class-mean", str(cache), "--out", str(out)]
    done = CliRunner().invoke(main, [*asked, "--manifest", str(tmp_path / "manifests/tiny.csv")])
    assert done.exit_code == 0, done.output
    assert "79 of 79 samples done" in done.output
    before, after = TeacherCache.open(cache), TeacherCache.open(out)
    assert "c1n3" not in after
    for class_id in BASE:
        ids = [f"c{class_id}n{i}" for i in range(EACH) if f"c{class_id}n{i}" in after]
        for kind in ("f_v", "f_t"):
            mean = before.targets(ids, kind, "unit")[:, 0].mean(axis=0)
            found = after.targets(ids, kind)[:, 0]
            np.testing.assert_allclose(
                found, np.tile(mean / np.linalg.norm(mean), (len(ids), 1)), atol=1e-3
            )
    assert [s["name"] for s in after.attrs["provenance:steps"]][-1] == "class_mean"


def test_a_manifest_of_other_samples_is_refused(tmp_path: Path) -> None:
    cache = make_world(tmp_path)
    samples = Manifest.read(tmp_path / "manifests" / "tiny.csv")
    some = Manifest("some", tuple(samples)[5:])
    with pytest.raises(CacheError, match="5 of its 80 finished samples are not in the manifest"):
        class_mean(cache, tmp_path / "mean.zarr", some)
    assert not (tmp_path / "mean.zarr").exists()
