"""skelfew-cache: look at teacher caches, check them, and pass them on."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from skelfew.cli.common import CONTEXT, OK, PARTIAL, guarded, log

_CACHE = click.argument("cache")
_OUT = click.Path(path_type=Path)
_MANIFEST = click.option(
    "--manifest", metavar="CSV", type=click.Path(dir_okay=False, path_type=Path)
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace a cache that is there.")


@click.group(context_settings=CONTEXT)
def main() -> None:
    """Look at teacher caches, check them, and pass them on.

    \b
    skelfew-cache info cache/pku.zarr
    skelfew-cache verify cache/pku.zarr --manifest manifests/pku.csv
    skelfew-cache pack cache/pku.zarr                      to send it as one file
    skelfew-cache push cache/pku.zarr ssh://lab/data/caches/
    skelfew-cache pull https://lab.example.org/pku.zarr.zip
    skelfew-cache merge cache/pku.shard-*.zarr --out cache/pku.zarr

    CACHE is a folder, a zip, or the address of one (https://, s3://, ssh://, file://), of which a
    copy is kept in cache/.remote. cache/README.md specifies the format, docs/sharing.md is a guide.
    Nothing that a cache holds is executed.
    """


def result(document: dict[str, Any], as_json: bool, text: str) -> None:
    """Print a result, as JSON or for people."""
    click.echo(json.dumps(document, indent=1, ensure_ascii=False) if as_json else text)


def local(address: str) -> Path:
    """Return where a cache lies on this machine, fetching it if it is an address."""
    from skelfew.cache.fetch import local_path

    return local_path(address, log)


@main.command(context_settings=CONTEXT)
@_CACHE
@json_option
@guarded
def info(cache: str, as_json: bool) -> int:
    """Show what CACHE is: data set, teacher, preprocessing, how complete, size, licence note.

    \b
    skelfew-cache info cache/pku.zarr
    skelfew-cache info pku.zarr.zip --json

    Reads no features. The digest shown is the recorded one; `verify` compares it with the content.
    """
    from skelfew.cache.card import card, lines

    document = card(local(cache))
    rows = lines(document)
    width = max(len(name) for name, _ in rows)
    result(document, as_json, "\n".join(f"{name:<{width}}  {text}" for name, text in rows))
    return OK


@main.command(context_settings=CONTEXT)
@_CACHE
@_MANIFEST
@click.option("--digest", metavar="HEX", help="What the digest should be, if you were told.")
@click.option(
    "--allow",
    multiple=True,
    type=click.Choice(["norms", "duplicates", "manifest"]),
    help="Report this check without failing. Can be repeated.",
)
@json_option
@guarded
def verify(
    cache: str, manifest: Path | None, digest: str | None, allow: tuple[str, ...], as_json: bool
) -> int:
    """Check CACHE: digest, unreadable or infinite rows, norms, duplicate vectors, sample IDs.

    \b
    skelfew-cache verify cache/pku.zarr
    skelfew-cache verify cache/pku.zarr --manifest manifests/pku.csv
    skelfew-cache verify pku.zarr.zip --digest 52e79726d228df12...

    Exit status 3 if a check fails. Equal f_v of two samples fail, equal f_t do not: a text may be
    the same for all samples of a class.
    """
    from skelfew.cache.verify import verify as run
    from skelfew.data.manifest import Manifest

    report = run(local(cache), None if manifest is None else Manifest.read(manifest), digest)
    for check in report["checks"]:
        check["allowed"] = check["check"] in allow
    failed = [c for c in report["checks"] if not c["ok"] and not c["allowed"]]
    text = "\n".join(f"{_mark(c):<7} {c['check']:<10}  {c['text']}" for c in report["checks"])
    counts = f"{report['done']:,} done, {report['failed']:,} failed, {report['pending']:,} pending"
    result(report, as_json, f"{text}\n{report['path']}: {counts}")
    if failed:
        log(f"{len(failed)} checks failed")
        return PARTIAL
    return OK


def _mark(check: dict[str, Any]) -> str:
    return "ok" if check["ok"] else "allowed" if check["allowed"] else "FAILED"


@main.command(context_settings=CONTEXT)
@click.argument("a")
@click.argument("b")
@click.option(
    "--min-cosine",
    type=click.FloatRange(-1, 1),
    help="Exit status 3 if a common sample falls below it.",
)
@json_option
@guarded
def compare(a: str, b: str, min_cosine: float | None, as_json: bool) -> int:
    """Compare caches A and B: the cosine of every common sample, and what differs in provenance.

    \b
    skelfew-cache compare cache/pku.zarr cache/pku-bf16.zarr
    skelfew-cache compare old.zarr new.zarr --min-cosine 0.999
    """
    from skelfew.cache.compare import compare as run

    report = run(local(a), local(b))
    result(report, as_json, _compared(report))
    lows = [f["min"] for f in report["features"].values() if f and f["min"] is not None]
    if min_cosine is not None and (not lows or min(lows) < min_cosine):
        log(f"smallest cosine {min(lows) if lows else 'unknown'}, asked for {min_cosine}")
        return PARTIAL
    return OK


def _compared(report: dict[str, Any]) -> str:
    rows = [
        f"A {report['a']}",
        f"B {report['b']}",
        f"samples  {report['common']:,} in both, {report['only_a']['count']:,} only in A, "
        f"{report['only_b']['count']:,} only in B",
    ]
    for symbol, f in report["features"].items():
        if f is None:
            rows.append(f"{symbol}      widths or views differ; no cosine")
        elif f["min"] is not None:
            rows.append(
                f"{symbol}      cosine {f['min']:.6f} to 1, median {f['median']:.6f}; "
                f"{f['equal']:,} equal in every bit; least similar "
                f"{f['least_similar'][0]['sample_id']}"
            )
    rows += [f"differs  {d['key']}: {d['a']} | {d['b']}" for d in report["provenance"]]
    return "\n".join(rows if report["provenance"] else [*rows, "provenance is the same"])


@main.command(context_settings=CONTEXT)
@click.argument("caches", nargs=-1, required=True)
@click.option("--out", metavar="ZARR", type=_OUT, required=True, help="The result, a folder.")
@_MANIFEST
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
    from skelfew.cache.merge import merge as run
    from skelfew.data.manifest import Manifest

    samples = None if manifest is None else Manifest.read(manifest)
    paths = [local(cache) for cache in caches]
    done = run(paths, out, manifest=samples, prefer_first=prefer_first, overwrite=overwrite)
    result(done, as_json, _made(done))
    return OK


@main.command(context_settings=CONTEXT)
@_CACHE
@click.option("--out", metavar="ZARR", type=_OUT, required=True, help="The result, a folder.")
@click.option(
    "--ids",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep these samples, one ID a line.",
)
@_MANIFEST
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
    from skelfew.cache.merge import subset as run
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
    result(done, as_json, f"{_made(done)}\n{done['left_out']:,} samples left out")
    return OK


def _ids(path: Path) -> list[str]:
    from skelfew.errors import SkelfewError

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SkelfewError(f"{path}: not a readable list of sample IDs ({error})") from None
    return [line.strip() for line in lines if line.strip()]


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise click.UsageError(f"--classes {text}: expected numbers like 1,2,7") from None


def _made(done: dict[str, Any]) -> str:
    return (
        f"{done['cache']}: {done['done']:,} of {done['samples']:,} samples done, "
        f"{done['failed']:,} failed, {done['pending']:,} pending\ndigest {done['digest']}"
    )


@main.command(context_settings=CONTEXT)
@click.argument("cache", type=click.Path(path_type=Path))
@click.option("--out", metavar="ZIP", type=_OUT, help="[default: CACHE.zip]")
@overwrite_option
@json_option
@guarded
def pack(cache: Path, out: Path | None, overwrite: bool, as_json: bool) -> int:
    """Make one file of CACHE, after checking its digest; equal caches give equal files.

    \b
    skelfew-cache pack cache/pku.zarr            makes cache/pku.zarr.zip
    """
    from skelfew.cache.pack import pack as run

    done = run(cache, out, overwrite)
    result(done, as_json, f"{done['cache']}: {done['bytes']:,} bytes\ndigest {done['digest']}")
    return OK


@main.command(context_settings=CONTEXT)
@click.argument("cache", type=click.Path(path_type=Path))
@click.option("--out", metavar="ZARR", type=_OUT, help="[default: its name without .zip]")
@overwrite_option
@json_option
@guarded
def unpack(cache: Path, out: Path | None, overwrite: bool, as_json: bool) -> int:
    """Make a folder of a zip, after checking its entries, then its digest.

    \b
    skelfew-cache unpack pku.zarr.zip --out cache/pku.zarr

    Entries that lead out of the folder, links and encrypted ones are refused. skelfew-train reads
    a zip as it is; a folder is only needed to go on with an extraction.
    """
    from skelfew.cache.pack import unpack as run

    done = run(cache, out, overwrite)
    result(done, as_json, f"{done['cache']}: {done['bytes']:,} bytes\ndigest {done['digest']}")
    return OK


@main.command(context_settings=CONTEXT)
@click.argument("cache", type=click.Path(path_type=Path))
@click.argument("address")
@overwrite_option
@json_option
@guarded
def push(cache: Path, address: str, overwrite: bool, as_json: bool) -> int:
    """Copy CACHE to another folder, an ssh host or an S3 bucket, after checking its digest.

    \b
    skelfew-cache push cache/pku.zarr /mnt/lab/caches/
    skelfew-cache push cache/pku.zarr ssh://lab/data/caches/pku.zarr.zip
    skelfew-cache push cache/pku.zarr s3://lab/caches/

    An ADDRESS that ends in a slash is a folder to put it into; one that ends in .zip gets one file.
    The last line printed is what the receiver types.
    """
    from skelfew.cache.push import push as run

    done = run(cache, address, overwrite)
    pinned = f"{done['to']}#digest={done['digest']}" if done["digest"] else done["to"]
    done["pull"] = f"skelfew-cache pull '{pinned}'"
    state = f"{done['files']:,} files sent" if done["files"] else "was there already"
    result(done, as_json, f"{done['to']}: {state}\n{done['pull']}")
    if done["pending"]:
        log(f"{done['pending']:,} samples are still pending in it")
    return OK


@main.command(context_settings=CONTEXT)
@click.argument("address")
@click.option("--out", metavar="PATH", type=_OUT, help="[default: cache/NAME]")
@click.option("--digest", metavar="HEX", help="What the digest must be, if you were told.")
@overwrite_option
@json_option
@guarded
def pull(address: str, out: Path | None, digest: str | None, overwrite: bool, as_json: bool) -> int:
    """Fetch a cache and check its digest before it appears; a zip stays a zip.

    \b
    skelfew-cache pull https://lab.example.org/caches/pku.zarr
    skelfew-cache pull 's3://lab/caches/pku.zarr#digest=52e79726...'
    skelfew-cache pull ssh://lab/data/caches/pku.zarr.zip --out cache/pku.zarr.zip
    skelfew-cache pull /mnt/lab/caches/pku.zarr

    A transfer that broke off goes on where it was. Without a digest from its sender, the content is
    compared with the digest that the cache itself records, which shows damage but not deceit.
    """
    from skelfew.cache.fetch import pull as run

    done = run(address, out, digest, overwrite, log)
    text = f"{done['cache']}: {done['bytes']:,} bytes\ndigest {done['digest'] or 'not recorded'}"
    result(done, as_json, text)
    return OK


if __name__ == "__main__":
    sys.exit(main())
