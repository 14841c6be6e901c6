"""skelfew-cache merge, subset, class-mean, import, export: caches from other things."""

from pathlib import Path

import click

from skelfew.cli.cache_options import (
    cache_argument,
    json_option,
    local,
    made,
    manifest_option,
    overwrite_option,
    result,
)
from skelfew.cli.common import CONTEXT, FILE, OK, PATH, guarded


@click.command(context_settings=CONTEXT)
@click.argument("caches", nargs=-1, required=True)
@click.option("--out", metavar="ZARR", type=PATH, required=True, help="The result, a folder.")
@manifest_option
@click.option("--prefer-first", is_flag=True, help="Where values differ, take the earlier cache's.")
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
@click.option("--out", metavar="ZARR", type=PATH, required=True, help="The result, a folder.")
@click.option("--ids", metavar="FILE", type=FILE, help="Keep these samples, one ID a line.")
@manifest_option
@click.option("--classes", metavar="1,2,7", help="Keep these classes of --manifest.")
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
@click.option("--out", metavar="ZARR", type=PATH, required=True, help="The cache to make.")
@click.option("--manifest", metavar="CSV", type=FILE, required=True, help="Has the classes.")
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
@click.option("--out", metavar="ZARR", type=PATH, required=True, help="The cache to make.")
@click.option("--manifest", metavar="CSV", type=FILE, required=True, help="Whose samples they are.")
@click.option("--ids", metavar="NAME|FILE", help="Array of IDs, or a text file, one ID a line.")
@click.option("--text", metavar="NAME", help="Array of f_t, (N, D) or (N, V, D).  [default: text]")
@click.option("--video", metavar="NAME", help="Array of f_v, likewise.  [default: video, if any]")
@click.option("--class-text", metavar="NAME", help="Array (C, D), a row a class.")
@click.option("--rename-ids", metavar="PATTERN=TEXT", help="Rename the IDs, e.g. '_rgb$='.")
@click.option("--teacher", metavar="NAME", required=True, help="Which model made the features.")
@click.option("--weights", metavar="TEXT", required=True, help="Its weights: file, address, words.")
@click.option("--weights-sha256", metavar="HEX", default="", help="Their hash, if you know it.")
@click.option("--untrained", is_flag=True, help="The weights are random.")
@click.option(
    "--preprocessing",
    metavar="KEY=VALUE",
    multiple=True,
    required=True,
    help="What was done to the clips: frames=16, crop=centre, ... or unknown=yes.",
)
@click.option("--licence-note", default="", help="Kept for those who receive the cache.")
@click.option(
    "--store-dtype",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    show_default=True,
    help="Of the stored features.",
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

    made_by = dict(_pair(entry) for entry in preprocessing)
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


def _pair(entry: str) -> tuple[str, str]:
    key, equals, value = entry.partition("=")
    if not equals or not key.strip():
        raise click.UsageError(f"--preprocessing {entry}: expected KEY=VALUE")
    return key.strip(), value.strip()


@click.command("export", context_settings=CONTEXT)
@cache_argument
@click.option("--out", metavar="FILE", type=PATH, required=True, help="A .npz, .h5 or .npy file.")
@click.option(
    "--representation",
    type=click.Choice(["f_v+f_t", "f_v", "f_t"]),
    help="What a .npy gets.  [default: f_v+f_t, f_t if there is no f_v]",
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
