"""skelfew-cache pack, unpack, push, pull: caches on their way."""

from pathlib import Path

import click

from skelfew.cli.cache_options import overwrite_option, result
from skelfew.cli.common import OK, guarded, log
from skelfew.cli.options import CONTEXT, PATH, json_option, option


@click.command(context_settings=CONTEXT)
@click.argument("cache", type=PATH)
@option("--out", "[default: CACHE.zip]", metavar="ZIP", type=PATH)
@overwrite_option
@json_option
@guarded
def pack(cache: Path, out: Path | None, overwrite: bool, as_json: bool) -> int:
    """Make one file of CACHE, after checking its digest; equal caches give equal files.

    \b
    skelfew-cache pack cache/pku.zarr            makes cache/pku.zarr.zip
    """
    from skelfew.cache.tools.pack import pack as run

    done = run(cache, out, overwrite)
    result(done, as_json, f"{done['cache']}: {done['bytes']:,} bytes\ndigest {done['digest']}")
    return OK


@click.command(context_settings=CONTEXT)
@click.argument("cache", type=PATH)
@option("--out", "[default: its name without .zip]", metavar="ZARR", type=PATH)
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
    from skelfew.cache.tools.pack import unpack as run

    done = run(cache, out, overwrite)
    result(done, as_json, f"{done['cache']}: {done['bytes']:,} bytes\ndigest {done['digest']}")
    return OK


@click.command(context_settings=CONTEXT)
@click.argument("cache", type=PATH)
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
    from skelfew.cache.transport.push import push as run

    done = run(cache, address, overwrite)
    pinned = f"{done['to']}#digest={done['digest']}" if done["digest"] else done["to"]
    done["pull"] = f"skelfew-cache pull '{pinned}'"
    state = f"{done['files']:,} files sent" if done["files"] else "was there already"
    result(done, as_json, f"{done['to']}: {state}\n{done['pull']}")
    if done["pending"]:
        log(f"{done['pending']:,} samples are still pending in it")
    return OK


@click.command(context_settings=CONTEXT)
@click.argument("address")
@option("--out", "[default: cache/NAME]", metavar="PATH", type=PATH)
@option("--digest", "What the digest must be, if you know it.", metavar="HEX")
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
    from skelfew.cache.transport.fetch import pull as run

    done = run(address, out, digest, overwrite, log)
    text = f"{done['cache']}: {done['bytes']:,} bytes\ndigest {done['digest'] or 'not recorded'}"
    result(done, as_json, text)
    return OK
