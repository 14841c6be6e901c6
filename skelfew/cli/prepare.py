"""``skelfew-prepare``: raw recordings to manifest and skeleton store."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skelfew.cli.common import OK, PARTIAL, guarded, log, say, say_json
from skelfew.cli.options import CONTEXT, FILE, PATH, json_option, option, version_option
from skelfew.cli.prepare_options import output_options
from skelfew.data.readers import READERS
from skelfew.io.files import Document

if TYPE_CHECKING:
    from skelfew.data.prepare.walk import Prepared


class _DataSets(click.Group):
    """A group in which every reader is a command too, without importing it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*READERS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name == "own":
            from skelfew.cli.prepare_own import own

            return own
        return _data_set(name) if name in READERS else super().get_command(ctx, name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Point to ``own`` where the name is that of somebody's own data set."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            ctx.fail(
                f"no data set or command {args[0]!r}; skelfew-prepare list shows the data sets, "
                "and skelfew-prepare own --table TABLE prepares one of your own"
            )
        return super().resolve_command(ctx, args)


@click.group(cls=_DataSets, context_settings=CONTEXT)
@version_option
def main() -> None:
    """Turn raw recordings into a manifest and a skeleton store.

    \b
    skelfew-prepare nw-ucla --raw ~/downloads/all_sqe.zip
    skelfew-prepare own --table my.csv --layout coco
    skelfew-prepare check nw-ucla

    Writes manifests/NAME.csv (one row per sample), NAME.dropped.csv and NAME.notes.csv (what was
    left out or is odd, and why), NAME.local.json (where the videos lie) and data/NAME.h5 (the
    skeletons). docs/datasets.md says where each data set comes from and how it is read.
    """


def _data_set(name: str) -> click.Command:
    """Return the command that prepares the data set ``name``."""
    about = "Prepare the made-up demo world." if name == "demo" else f"Prepare {name}."

    @click.command(name, help=about, context_settings=CONTEXT)
    @option(
        "--raw",
        "Folder or zip file of the recordings." if name != "demo" else "Where to put it.",
        type=PATH,
    )
    @option("--videos", "Folder of the videos, if not in --raw.", type=PATH)
    @_of_videos(name)
    @output_options(name, "Of this reader; skelfew-prepare list shows them. Can be repeated.")
    @guarded
    def command(**arguments: Any) -> int:
        return _prepare(name, **arguments)

    return command


def _of_videos(name: str) -> Any:
    """Return a decorator: the options that ``video`` has and other data sets do not."""
    if name != "video":
        return lambda command: command
    table = click.option("--table", type=FILE, help="Rows of recording, label, start, end, ...")
    model = click.option("--pose-model", metavar="lite|full|heavy|FILE", help="[default: lite]")
    return lambda command: table(model(command))


def _prepare(
    name: str,
    raw: Path | None,
    videos: Path | None,
    out: Path | None,
    data: Path | None,
    workers: int | None,
    options: tuple[str, ...],
    as_json: bool,
    table: Path | None = None,
    pose_model: str | None = None,
) -> int:
    from skelfew.data.prepare.walk import Outputs, prepare, usable_cpus
    from skelfew.data.readers import RawFolder, load_reader, parse_options

    reader = load_reader(name)
    outputs = Outputs(out or Path(f"manifests/{name}.csv"), data or Path(f"data/{name}.h5"))
    chosen = parse_options(reader, options)
    if pose_model is not None:
        chosen["pose_model"] = pose_model
    if table is not None:
        raw, videos = table.resolve().parent, raw or videos
        chosen["table"] = table.name
    if raw is None:
        if reader.needs_raw:
            raise click.UsageError(
                f"--raw is missing: the folder or zip file of {name}'s recordings "
                "(docs/datasets.md says where to get it)"
            )
        raw = outputs.store.with_name(f"{outputs.store.stem}-raw")
    if not reader.needs_raw:
        raw.mkdir(parents=True, exist_ok=True)
    prepared = prepare(name, RawFolder(raw, videos), outputs, chosen, workers or usable_cpus(), log)
    return report(prepared, as_json)


def report(prepared: "Prepared", as_json: bool) -> int:
    """Print what was prepared and return the exit status."""
    from skelfew.data.prepare.walk import summary

    document = summary(prepared)
    if as_json:
        say_json(document)
    else:
        from skelfew.cli.prepare_table import print_summary

        print_summary(document, prepared.manifest.classes)
    if prepared.damaged:
        dropped = prepared.outputs.dropped
        log(f"{prepared.damaged} damaged recordings were left out; see {dropped}")
        return PARTIAL
    return OK


@main.command("list", context_settings=CONTEXT)
@json_option
@guarded
def list_data_sets(as_json: bool) -> int:
    """Show the data sets that can be prepared, their layouts and options."""
    from skelfew.data.readers import load_reader

    rows: list[Document] = []
    for name in READERS:
        try:
            reader = load_reader(name)
        except ModuleNotFoundError as error:
            rows.append({"name": name, "layout": "", "options": {}, "missing": str(error)})
            continue
        options = {k: v for k, v in reader.defaults.items() if v != ""}
        row = {"name": name, "layout": str(reader.layout or "--layout"), "options": options}
        rows.append({**row, "missing": ""})
    if as_json:
        say_json(rows)
        return OK
    for entry in rows:
        text = entry["missing"] or " ".join(f"{k}={v}" for k, v in entry["options"].items())
        say(f"{entry['name']:<12} {entry['layout']:<12} {text}".rstrip())
    return OK


@main.command(context_settings=CONTEXT)
@click.argument("name")
@option("--manifest", "[default: manifests/NAME.csv]", type=FILE)
@option("--data", "[default: data/NAME.h5]", type=FILE)
@json_option
@guarded
def check(name: str, manifest: Path | None, data: Path | None, as_json: bool) -> int:
    """Count and compare what was prepared; exit status 3 if something does not fit."""
    from skelfew.data.prepare.check import check as run
    from skelfew.data.prepare.walk import Outputs

    outputs = Outputs(manifest or Path(f"manifests/{name}.csv"), data or Path(f"data/{name}.h5"))
    document, classes = run(outputs)
    if as_json:
        say_json(document)
    else:
        from skelfew.cli.prepare_table import print_summary

        print_summary(document, classes)
    problems = document["problems"]
    assert isinstance(problems, list)
    for problem in problems:
        log(f"problem: {problem}")
    return PARTIAL if problems else OK


@main.command(context_settings=CONTEXT)
@click.argument("name")
@option("--novel", "How many novel classes to draw, or their numbers: 3,7.", required=True)
@option("--validation", "Likewise.", default="0")
@option("--shots", "Exemplars to draw per class, at most.", default=5)
@option("--seed", "Of the draws.", default=0)
@option("--manifest", "[default: manifests/NAME.csv]", type=FILE)
@option("--out", "[default: manifests/protocols/NAME.json]", type=FILE)
@guarded
def split(
    name: str,
    novel: str,
    validation: str,
    shots: int,
    seed: int,
    manifest: Path | None,
    out: Path | None,
) -> int:
    """Make a few-shot protocol for a data set that has none.

    A single number draws so many classes; a list with commas, like "3," or "3,7", names them.
    """
    from skelfew.data.manifest import Manifest
    from skelfew.data.protocols.files import write_protocol
    from skelfew.data.protocols.splits import make_split
    from skelfew.errors import SkelfewError

    target = out or Path(f"manifests/protocols/{name}.json")
    if target.exists():
        raise SkelfewError(f"{target}: exists already; name another file with --out")
    samples = Manifest.read(manifest or Path(f"manifests/{name}.csv"))
    document = make_split(samples, _classes(novel), _classes(validation), seed, shots)
    write_protocol(document, target)
    say(str(target))
    return OK


def _classes(text: str) -> int | list[int]:
    from skelfew.errors import SkelfewError

    try:
        return [int(c) for c in text.split(",") if c.strip()] if "," in text else int(text)
    except ValueError:
        raise SkelfewError(f"{text!r} is neither a number nor class numbers like 3,7") from None
