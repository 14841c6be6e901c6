"""skelfew-cache merge, subset, class-mean, import, export: caches from other things."""

from pathlib import Path

import click

from skelfew.cli.cache_options import (
    cache_argument,
    local,
    made,
    manifest_option,
    overwrite_option,
    result,
)
from skelfew.cli.common import OK, guarded
from skelfew.cli.options import CONTEXT, FILE, PATH, flag, json_option, option, pairs


@click.command(context_settings=CONTEXT)
@click.argument("caches", nargs=-1, required=True)
@option("--out", "The result, a folder.", metavar="ZARR", type=PATH, required=True)
@manifest_option
@flag("--prefer-first", "Where values differ, take the earlier cache's.")
@overwrite_option
@json_option
@guarded
def merge(
    caches: tuple[str, ...],
    out: Path,
    manifest: Path | None,
    prefer_first: bool,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Make one cache of the shards of an extraction, or of caches that overlap.

    \b
    skelfew-cache merge cache/pku.shard-*.zarr --out cache/pku.zarr
    skelfew-cache merge a.zarr b.zarr --out both.zarr --manifest manifests/pku.csv

    The shards of `skelfew-extract --shard i/n` give the digest of the undivided extraction. Caches
    of other teachers or data are refused, and so are different values for one sample, by name.
    """
    from skelfew.cache.tools.merge import merge as run
    from skelfew.data.manifest import Manifest

    samples = None if manifest is None else Manifest.read(manifest)
    paths = [local(cache) for cache in caches]
    done = run(paths, out, manifest=samples, prefer_first=prefer_first, overwrite=overwrite)
    result(done, as_json, made(done))
    return OK


@click.command(context_settings=CONTEXT)
@cache_argument
@option("--out", "The result, a folder.", metavar="ZARR", type=PATH, required=True)
@option("--ids", "Keep these samples, one ID a line.", metavar="FILE", type=FILE)
@manifest_option
@option("--classes", "Keep these classes of --manifest.", metavar="1,2,7")
@overwrite_option
@json_option
@guarded
def subset(
    cache: str,
    out: Path,
    ids: Path | None,
    manifest: Path | None,
    classes: str | None,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Keep some samples of CACHE: listed ones, those of a manifest, or some of its classes.

    \b
    skelfew-cache subset cache/ntu120.zarr --manifest manifests/ntu60.csv --out cache/ntu60.zarr
    skelfew-cache subset cache/pku.zarr --ids some.txt --out cache/pku-some.zarr

    With --manifest, the result is a cache for that manifest: its order, its name, its hash.
    """
    from skelfew.cache.tools.merge import subset as run
    from skelfew.data.manifest import Manifest

    if ids is None and manifest is None:
        raise click.UsageError("say what to keep: --ids FILE, --manifest CSV")
    if classes is not None and manifest is None:
        raise click.UsageError("--classes needs --manifest, which says who is of which class")
    samples = None if manifest is None else Manifest.read(manifest)
    keep = None if ids is None else _ids(ids)
    if classes is not None and samples is not None:
        of_class = samples.subset(_numbers(classes)).ids
        keep = of_class if keep is None else [i for i in keep if i in set(of_class)]
    done = run(local(cache), out, keep, manifest=samples, overwrite=overwrite)
    result(done, as_json, f"{made(done)}\n{done['left_out']:,} samples left out")
    return OK


@click.command("class-mean", context_settings=CONTEXT)
@cache_argument
@option("--out", "The cache to make.", metavar="ZARR", type=PATH, required=True)
@option("--manifest", "Has the classes.", metavar="CSV", type=FILE, required=True)
@overwrite_option
@json_option
@guarded
def class_mean_command(
    cache: str, out: Path, manifest: Path, overwrite: bool, as_json: bool
) -> int:
    """Give every sample of CACHE the mean features of its class.

    \b
    skelfew-cache class-mean cache/pku.zarr --manifest manifests/pku.csv --out cache/pku-mean.zarr

    What the teacher saw of a class is kept, what it saw of one clip (room, clothes, camera) is
    averaged out. docs/results.md compares both as targets.
    """
    from skelfew.cache.tools.class_mean import class_mean
    from skelfew.data.manifest import Manifest

    done = class_mean(local(cache), out, Manifest.read(manifest), overwrite)
    result(done, as_json, f"{made(done)}\n{done['classes']:,} classes")
    return OK


def _ids(path: Path) -> list[str]:
    from skelfew.errors import SkelfewError
    from skelfew.io.files import read_lines

    try:
        return read_lines(path)
    except (OSError, ValueError) as error:
        raise SkelfewError(f"{path}: not a readable list of sample IDs ({error})") from None


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise click.UsageError(f"--classes {text}: expected numbers like 1,2,7") from None


@click.command("import", context_settings=CONTEXT)
@click.argument("file", type=PATH)
@option("--out", "The cache to make.", metavar="ZARR", type=PATH, required=True)
@option("--manifest", "The manifest of the samples.", metavar="CSV", type=FILE, required=True)
@option("--ids", "Array of IDs, or a text file, one ID a line.", metavar="NAME|FILE")
@option("--text", "Array of f_t, (N, D) or (N, V, D).  [default: text]", metavar="NAME")
@option("--video", "Array of f_v, likewise.  [default: video, if any]", metavar="NAME")
@option("--class-text", "Array (C, D), a row a class.", metavar="NAME")
@option("--rename-ids", "Rename the IDs, e.g. '_rgb$='.", metavar="PATTERN=TEXT")
@option("--teacher", "Which model made the features.", metavar="NAME", required=True)
@option("--weights", "Its weights: file, address, words.", metavar="TEXT", required=True)
@option(
    "--weights-sha256", "Their hash, if you know it.", metavar="HEX", default="", show_default=False
)
@flag("--untrained", "The weights are random.")
@option(
    "--preprocessing",
    "What was done to the clips: frames=16, crop=centre, ... or unknown=yes.",
    metavar="KEY=VALUE",
    multiple=True,
    required=True,
)
@option("--licence-note", "Kept for those who receive the cache.", default="", show_default=False)
@option(
    "--store-dtype", "Of the stored features.", default="float16", choices=["float16", "float32"]
)
@overwrite_option
@json_option
@guarded
def import_command(
    file: Path,
    out: Path,
    manifest: Path,
    ids: str | None,
    text: str | None,
    video: str | None,
    class_text: str | None,
    rename_ids: str | None,
    teacher: str,
    weights: str,
    weights_sha256: str,
    untrained: bool,
    preprocessing: tuple[str, ...],
    licence_note: str,
    store_dtype: str,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Make a cache of features that somebody computed elsewhere: FILE is .npz, .npy or .h5.

    \b
    skelfew-cache import clip.npz --out cache/pku.zarr --manifest manifests/pku.csv \\
        --teacher clip-vit-b16 --weights openai --preprocessing frames=8 --preprocessing crop=none
    skelfew-cache import videomae.h5 --ids names --text features ...

    What a receiver has to know is asked for here; later it cannot be found out. If the file has one
    feature a sample, of whatever kind, store it as f_t (--text). Samples that the file leaves out
    stay pending. No pickle is read.
    """
    from skelfew.cache.tools.importing import Origin, Source, import_features
    from skelfew.data.manifest import Manifest

    made_by = pairs("--preprocessing", preprocessing)
    origin = Origin(teacher, weights, weights_sha256, not untrained, made_by, licence_note)
    done = import_features(
        Source(file, ids, text, video, class_text),
        out,
        Manifest.read(manifest),
        origin,
        rule=rename_ids,
        dtype=store_dtype,
        overwrite=overwrite,
    )
    result(done, as_json, made(done))
    return OK


@click.command("export", context_settings=CONTEXT)
@cache_argument
@option("--out", "A .npz, .h5 or .npy file.", metavar="FILE", type=PATH, required=True)
@option(
    "--representation",
    "What a .npy gets.  [default: f_v+f_t, f_t if there is no f_v]",
    choices=["f_v+f_t", "f_v", "f_t"],
)
@overwrite_option
@json_option
@guarded
def export_command(
    cache: str, out: Path, representation: str | None, overwrite: bool, as_json: bool
) -> int:
    """Write the finished rows of CACHE for other programs.

    \b
    skelfew-cache export cache/pku.zarr --out pku.npz
    skelfew-cache export cache/pku.zarr --out pku.npy --representation f_v

    .npz and .h5 hold sample_id, video, text, class_text and the provenance as JSON; beside a .npy
    the sample IDs go to a text file.
    """
    from skelfew.cache.tools.exporting import export_features

    done = export_features(local(cache), out, representation, overwrite)
    result(done, as_json, f"{done['file']}: {done['samples']:,} samples, {done['bytes']:,} bytes")
    return OK
