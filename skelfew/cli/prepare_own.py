"""``skelfew-prepare own``: one's own recordings, listed in a table."""

import re
from pathlib import Path

import click

from skelfew.cli.common import guarded, log
from skelfew.cli.options import CONTEXT, FILE, PATH, option
from skelfew.cli.prepare_options import output_options
from skelfew.data.readers import READERS

_TAKEN = {"check", "list", "split"}


@click.command(context_settings=CONTEXT)
@option("--table", "CSV file with a row a sample.", required=True, type=FILE)
@option("--layout", "Joint layout, or a file of your own.", required=True, metavar="NAME|TOML")
@option("--name", "Name of the data set.  [default: the table's]")
@option("--videos", "Folder of the videos, if they do not lie beside the table.", type=PATH)
@output_options(
    "NAME", "coordinates=2|3, order=tvc|..., missing=keep, nan=missing. Can be repeated."
)
@guarded
def own(
    table: Path,
    layout: str,
    name: str | None,
    videos: Path | None,
    out: Path | None,
    data: Path | None,
    workers: int | None,
    options: tuple[str, ...],
    as_json: bool,
) -> int:
    """Prepare your own recordings.

    \b
    skelfew-prepare own --table gestures.csv --layout coco
    skelfew-prepare own --table gestures.csv --layout my-rig.toml --name gestures-2

    A row of the table names a recording (.npy, .npz, .csv, or keypoints in JSON, a file or a folder
    of them) and a label and, optionally, a video, a segment and more; paths are relative to the
    table. docs/own-data.md walks through it, docs/datasets.md has the details.
    """
    from skelfew.cli.prepare import report
    from skelfew.data.prepare.walk import Outputs, prepare, usable_cpus
    from skelfew.data.readers import RawFolder, load_reader, parse_options
    from skelfew.errors import SkelfewError

    name = name or (out.stem if out else table.stem)
    if name in {*READERS, *_TAKEN} - {"own"} or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise SkelfewError(
            f"a data set cannot be called {name!r}: letters, digits, - _ and . will do, and no "
            "name that skelfew-prepare list shows; choose another with --name"
        )
    if not table.is_file():
        raise SkelfewError(f"{table}: no such table; docs/own-data.md shows one")
    outputs = Outputs(out or Path(f"manifests/{name}.csv"), data or Path(f"data/{name}.h5"))
    if table.resolve() == outputs.manifest.resolve():
        raise SkelfewError(
            f"{table}: the manifest would be written over the table; keep the table elsewhere"
        )
    chosen = parse_options(load_reader("own"), options)
    chosen |= {"table": table.name, "layout": layout}
    raw = RawFolder(table.resolve().parent, videos)
    return report(prepare("own", raw, outputs, chosen, workers or usable_cpus(), log), as_json)
