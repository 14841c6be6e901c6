"""Options and helpers of the subcommands of skelfew-cache."""

from pathlib import Path

import click

from skelfew.cli.common import log, say, say_json
from skelfew.cli.options import FILE, flag, option
from skelfew.io.clean import one_line
from skelfew.io.files import Document

cache_argument = click.argument("cache")
manifest_option = option("--manifest", "Of the samples.", metavar="CSV", type=FILE)
overwrite_option = flag("--overwrite", "Replace a cache that is there.")


def result(document: Document, as_json: bool, text: str) -> None:
    """Print a result, as JSON or for people; a cache cannot put control characters into it."""
    if as_json:
        say_json(document)
        return
    say("\n".join(one_line(row) for row in text.split("\n")))


def local(address: str) -> Path:
    """Return where a cache lies on this machine, fetching it if it is an address."""
    from skelfew.cache.transport.fetch import local_path

    return local_path(address, log)


def made(done: Document) -> str:
    """Return a summary of a cache that was made."""
    return (
        f"{done['cache']}: {done['done']:,} of {done['samples']:,} samples done, "
        f"{done['failed']:,} failed, {done['pending']:,} pending\ndigest {done['digest']}"
        + (f"\nidentity {done['identity']}, of digest and teacher" if "identity" in done else "")
    )
