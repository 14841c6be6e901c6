"""Training on a cache with several temporal views of a clip."""

from pathlib import Path

import numpy as np
import torch
from small_world import FAST, make_world

from skelfew.cache import CacheWriter, TeacherCache
from skelfew.cli.train import configure
from skelfew.training.resolve import open_inputs, resolve
from skelfew.training.run import make_stage, prepare
from skelfew.training.stages.direct import Direct


def with_views(path: Path, out: Path, views: int) -> Path:
    """Write the cache again, every row ``views`` times, each time longer by one."""
    cache = TeacherCache.open(path)
    assert cache.video is not None
    scale = np.arange(1, views + 1)[None, :, None]
    with CacheWriter.create_or_resume(
        out, list(cache.row), dim=cache.dim, views=views, provenance=cache.attrs
    ) as writer:
        writer.write(
            slice(None), cache.video * scale, cache.text * scale, np.ones(len(cache), np.uint8)
        )
        writer.finish()
    return out


def test_a_view_is_drawn_for_every_sample_and_step_by_the_seed(tmp_path: Path) -> None:
    cache = with_views(make_world(tmp_path), tmp_path / "cache" / "views.zarr", 4)
    settings = tuple(f.removeprefix("--set=") for f in FAST if f.startswith("--set="))
    given = {"cache": str(cache), "stages": "direct", "encoder": "agcn", "width": 0.125}
    given |= {"frames": 8, "target_form": "raw", "representation": "f_v", "threads": 1}
    given["protocol"] = str(tmp_path / "manifests" / "protocols" / "tiny.json")
    config = configure("recommended", given, settings)
    resolved = resolve(config, open_inputs(config))

    def stage() -> Direct:
        made = make_stage("direct", resolved, prepare(resolved))
        assert isinstance(made, Direct)
        return made

    one, again = stage(), stage()  # as a run that goes on makes it anew
    targets = one.data.targets
    assert targets is not None and targets.shape[1] == 4
    seen = []
    for epoch in range(3):
        batch, same = one.draw(epoch, 0), again.draw(epoch, 0)
        assert batch.targets is not None and same.targets is not None
        assert torch.equal(batch.targets, same.targets) and torch.equal(batch.rows, same.rows)
        views = (batch.targets.norm(dim=1) / targets[batch.rows, 0].norm(dim=1)).round().long() - 1
        assert torch.equal(batch.targets, targets[batch.rows, views])
        seen.append(views[batch.rows.argsort()])
    assert set(torch.cat(seen).tolist()) == {0, 1, 2, 3}
    assert not torch.equal(seen[0], seen[1])
