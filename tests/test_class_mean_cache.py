"""The control cache of the evidence tables: every sample knows its class and nothing more."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from small_world import BASE, EACH, make_world

from skelfew.cache import TeacherCache

SCRIPT = Path(__file__).parents[1] / "pipeline" / "class_mean_cache.py"


def test_every_sample_has_the_mean_direction_of_its_class(tmp_path: Path) -> None:
    cache = make_world(tmp_path, failed=("c1n3",))
    out = tmp_path / "cache" / "mean.zarr"
    asked = ["--manifest", str(tmp_path / "manifests" / "tiny.csv"), "--out", str(out)]
    subprocess.run([sys.executable, SCRIPT, cache, *asked], check=True)
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
