"""Make a cache in which every sample has the mean features of its class.

    python pipeline/class_mean_cache.py cache/demo.zarr --manifest manifests/demo.csv \
        --out cache/demo-class-mean.zarr

A control for the evidence tables: what is left of a teacher that knows the class of a clip as well
as before, but nothing of the clip itself. The mean is over the finished samples of a class, of f_v
and f_t each scaled to length 1; it is scaled to length 1 again.
"""

from pathlib import Path

import click
import numpy as np

from skelfew.cache import DONE, CacheWriter, TeacherCache
from skelfew.cache.history import carried, step
from skelfew.cli.common import guarded
from skelfew.data.manifest import Manifest


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("cache")
@click.option("--manifest", required=True, type=click.Path(path_type=Path), help="Has the classes.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Cache to write.")
@guarded
def main(cache: str, manifest: Path, out: Path) -> int:
    """Replace the features of each sample of CACHE by the mean of its class."""
    source = TeacherCache.open(cache)
    class_of = {sample.sample_id: sample.class_id for sample in Manifest.read(manifest)}
    ids = list(source.row)
    classes = np.array([class_of[sample_id] for sample_id in ids])
    done = step("class_mean", inputs=[{"name": cache, "digest": source.attrs.get("digest")}])
    with CacheWriter.create_or_resume(
        out,
        ids,
        dim=source.dim,
        provenance=carried(source.attrs, done),
        class_text=source.class_text,
        video=source.video is not None,
    ) as writer:
        means = {
            kind: class_means(source.targets(ids, kind, "unit")[:, 0], classes)[:, None]
            for kind in ("f_v", "f_t")
            if kind in source.representations
        }
        status = np.full(len(ids), DONE, dtype=np.uint8)
        writer.write(slice(None), means.get("f_v"), means["f_t"], status)
        digest = writer.finish()
    click.echo(f"{out}: {len(ids):,} samples, {len(set(classes))} classes, digest {digest}")
    return 0


def class_means(features: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return for each row (n, D) the mean over the rows of its class, of length 1."""
    _, place = np.unique(classes, return_inverse=True)
    sums = np.zeros((place.max() + 1, features.shape[1]))
    np.add.at(sums, place, features)
    return np.asarray((sums / np.linalg.norm(sums, axis=1, keepdims=True))[place], dtype=np.float32)


if __name__ == "__main__":
    main()
