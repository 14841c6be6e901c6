"""``skelfew-extract``: videos to a teacher cache."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from skelfew.cli.common import OK, PARTIAL, guarded, log, say_json
from skelfew.cli.options import (
    CONTEXT,
    COUNT,
    FILE,
    FOLDER,
    PATH,
    data_sets,
    flag,
    given_options,
    json_option,
    offering,
    option,
)
from skelfew.io.files import Document
from skelfew_extract.ended import ended
from skelfew_extract.teachers import TEACHERS

_PAPER_TEACHER = "xclip-base-patch16"
_TEXT = "text"
# Options that mean nothing to a teacher that only reads.
_OF_VIDEOS = (
    "data", "videos", "shard", "precision", "batch", "crop", "margin", "views", "workers",
    "decoder", "timeout", "engine", "preview", "preview_count", "preview_only",
)  # fmt: skip


@click.command(context_settings=CONTEXT)
@click.argument("dataset", shell_complete=offering(data_sets))
@option("--manifest", "[default: manifests/DATASET.csv]", type=FILE)
@option("--data", "Skeletons, to crop by.  [default: data/DATASET.h5]", type=FILE)
@option("--videos", "[default: as noted by skelfew-prepare]", type=FOLDER)
@option("--out", "[default: cache/DATASET.zarr]", type=PATH)
@option(
    "--teacher",
    "Which model (docs/teachers.md); open_clip:MODEL/TAG is any of open_clip; 'text' reads "
    "class names and needs no video.",
    default=_PAPER_TEACHER,
    shell_complete=offering(lambda: TEACHERS),
)
@option(
    "--weights",
    "Its weights: file, folder or hub repository.  [default: the usual places, then the hub]",
    metavar="PATH|HUB",
)
@option(
    "--descriptions",
    "With --teacher text: sentences about each class, JSON or CSV.  [default: class names]",
    metavar="FILE|NAME",
)
@flag("--untrained", "Random weights instead, for trials; the cache says so.")
@option("--seed", "Of the random weights.", default=0)
@option("--device", "auto, cpu, cuda, cuda:1, ...", default="auto")
@option(
    "--precision",
    "auto: bfloat16 where that is faster and as good.",
    default="auto",
    choices=["auto", "float32", "bfloat16"],
)
@option("--batch", "Clips per batch.  [default: 8; 64 on a GPU]", type=COUNT)
@option(
    "--crop",
    "What to cut out: the square around all joints of the clip, or the picture's centre.",
    default="joints",
    choices=["joints", "joints-or-centre", "centre"],
)
@option(
    "--margin",
    "Space around the joints, as a fraction of their larger extent.",
    type=click.FloatRange(min=0, max=10),
    default=0.15,
)
@option(
    "--views",
    "Temporal views of a clip, of which training draws one a step.",
    type=click.IntRange(1, 64),
    default=1,
)
@option("--workers", "Decoding processes.  [default: by the cores]", type=COUNT)
@option(
    "--decoder",
    "auto: decord where installed, PyAV where decord fails. Same pictures either way.",
    default="auto",
    choices=["auto", "decord", "pyav"],
)
@option(
    "--timeout",
    "Seconds after which a clip that is still being decoded fails.",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
)
@option(
    "--store-dtype", "Of the stored features.", default="float16", choices=["float16", "float32"]
)
@option(
    "--engine",
    "ray: on the Ray cluster at RAY_ADDRESS, or on one started here (docs/cluster.md).",
    default="local",
    choices=["local", "ray"],
)
@flag("--retry-failed", "Try samples again that failed earlier.")
@flag("--repair", "Look for damaged rows first, and extract just those again.")
@option("--limit", "Only the first so many samples.", type=COUNT)
@option(
    "--shard",
    "Only part I of N, for one of N machines; goes to cache/DATASET.shard-I-of-N.zarr.",
    metavar="I/N",
)
@option("--preview", "First write contact sheets (PNG) there.", type=FOLDER, metavar="DIR")
@option("--preview-count", "How many.", default=8, type=COUNT)
@flag("--preview-only", "Stop after the contact sheets.")
@option(
    "--licence-note",
    "Kept in the cache for its receivers, e.g. terms.",
    default="",
    show_default=False,
)
@json_option
@guarded
def main(
    dataset: str,
    manifest: Path | None,
    data: Path | None,
    videos: Path | None,
    out: Path | None,
    teacher: str,
    weights: str | None,
    descriptions: str | None,
    untrained: bool,
    seed: int,
    device: str,
    precision: str,
    batch: int | None,
    crop: str,
    margin: float,
    views: int,
    workers: int | None,
    decoder: str,
    timeout: float,
    engine: str,
    store_dtype: str,
    retry_failed: bool,
    repair: bool,
    limit: int | None,
    shard: str | None,
    preview: Path | None,
    preview_count: int,
    preview_only: bool,
    licence_note: str,
    as_json: bool,
) -> int:
    """Let a frozen teacher watch every video of DATASET once and keep what it says.

    \b
    skelfew-extract pku --preview previews/pku        with weights from the usual places
    skelfew-extract pku --weights k400_16_8.pth       with the authors' checkpoint
    skelfew-extract demo --untrained                  with random weights, to try the path
    skelfew-extract pku --teacher open_clip:ViT-B-16-quickgelu/openai    mean of CLIP's frames
    skelfew-extract nw-ucla --teacher text            from class names alone, without videos
    skelfew-extract nw-ucla --teacher text --descriptions nw-ucla    from sentences about them

    From each clip 8 frames are cut around the joints and given to the teacher (X-CLIP); its video
    feature f_v and text feature f_t go to cache/DATASET.zarr, which skelfew-train reads. Afterwards
    no video is needed any more. cache/README.md specifies the format.

    Stop it at any time and run the same command again: it goes on where it was. Videos that cannot
    be read are listed in cache/DATASET.failures.csv; then the exit status is 3, the rest is done,
    and --retry-failed tries them again.

    If `skelfew-cache verify` finds damage, --repair extracts the damaged rows again and leaves the
    others unchanged. What could not be read goes to cache/DATASET.zarr.damaged.

    On three machines, --shard 1/3, 2/3 and 3/3 share the work; `skelfew-cache merge` makes of the
    shards what one machine alone would have made. Or let Ray spread it: --engine ray.
    """
    if preview_only and preview is None:
        raise click.UsageError("--preview-only needs --preview DIR")
    manifest = manifest or Path("manifests") / f"{dataset}.csv"
    named = out is not None
    out = out or Path("cache") / f"{dataset}.zarr"
    if descriptions is not None and teacher != _TEXT:
        raise click.UsageError(f"--descriptions is for --teacher {_TEXT}; others read class names")
    if teacher == _TEXT:
        return _extract_text(
            manifest,
            out,
            weights,
            descriptions,
            untrained,
            seed,
            device,
            store_dtype,
            repair,
            limit,
            licence_note,
            as_json,
        )
    from skelfew_extract.recordings import Recordings
    from skelfew_extract.shard import Shard

    part = None if shard is None else Shard.parse(shard)
    if part is not None and not named:
        out = part.out(out)
    recordings = Recordings.open(manifest, data or Path("data") / f"{dataset}.h5", videos, crop)

    from skelfew_extract.clips import DecodeSettings
    from skelfew_extract.crop import CropSettings
    from skelfew_extract.settings import Settings
    from skelfew_extract.weight_files import same_teacher

    chosen: dict[str, Any] = {"weights": weights, "untrained": untrained, "seed": seed}

    def settings(frames: int, size: int, interpolation: str, many: int, on: str) -> Settings:
        cut = CropSettings(frames, size, margin, crop, interpolation, views)
        return Settings(
            decode=DecodeSettings(cut, decoder, timeout),
            workers=workers or many,
            batch=batch or (64 if on.startswith("cuda") else 8),
            store_dtype=store_dtype,
            retry_failed=retry_failed,
            repair=repair,
            limit=limit,
            shard=part,
            licence_note=licence_note,
        )

    def same(attrs: Document) -> bool:
        made, skeletons = attrs["preprocessing"], recordings.skeletons
        kind = str(made["interpolation"]).partition(",")[0]
        wanted = settings(made["frames"], made["size"], kind, 1, "").preprocessing(
            recordings.manifest
        )
        digest = None if skeletons is None else skeletons.attrs.get("digest")
        return (
            same_teacher(attrs["teacher"], teacher, precision=precision, **chosen)
            and attrs["skeletons_digest"] == digest
            and {key: made[key] for key in made if key not in ("mean", "std")} == wanted
        )

    if preview is None and not repair:
        from skelfew_extract.finished import finished

        rows = settings(0, 0, "", 1, "").rows(len(recordings.manifest))
        samples = recordings.manifest
        summary = finished(
            out, samples, same, rows, dtype=store_dtype, views=views, retry=retry_failed
        )
        if summary is not None:
            return ended(summary, as_json, repair)
    from skelfew_extract.extract import build_chosen, choose_device, default_workers
    from skelfew_extract.extract import extract as run
    from skelfew_extract.extract import preview as write_sheets
    from skelfew_extract.teachers import shape_of

    if preview is not None:  # needs no weights, only what the teacher takes
        shape, many = shape_of(teacher), default_workers(choose_device(device))
        how = settings(shape.frames, shape.image_size, shape.interpolation, many, "cpu")
        sheets = write_sheets(recordings, how, preview, preview_count)
        log(f"{len(sheets)} contact sheets in {preview}")
        if preview_only:
            if as_json:
                say_json({"sheets": [str(sheet) for sheet in sheets]})
            return OK if sheets else PARTIAL
    build = partial(build_chosen, teacher, precision=precision, **chosen)
    called = f"{teacher} ({'untrained, random weights' if untrained else 'with weights'})"
    if engine == "ray":
        from skelfew_extract.engines.ray_cluster import joined
        from skelfew_extract.engines.ray_engine import TeacherFactory, extract_on, teacher_card

        with joined() as cluster:
            on, labels = cluster.choose_device(device), list(recordings.manifest.classes.values())
            factory = TeacherFactory.from_here(partial(build, device=on), on)
            card = teacher_card(factory, labels)
            many = cluster.default_workers(on)
            how = settings(card.frames, card.image_size, card.interpolation, many, on)
            log(
                f"{called}, {card.description['precision']} on {on}, {how.workers} decoding "
                f"processes and {cluster.teachers(on)} teachers at most on {cluster.name}"
            )
            summary = extract_on(cluster, recordings, factory, card, out, how)
    else:
        on = choose_device(device)
        model = build(device=on)
        many = default_workers(on)
        how = settings(model.frames, model.image_size, model.interpolation, many, on)
        computed_in = model.describe()["precision"]
        log(f"{called}, {computed_in} on {on}, {how.workers} decoding processes")
        summary = run(recordings, model, out, how)
    return ended(summary, as_json, repair)


def _extract_text(
    manifest: Path,
    out: Path,
    weights: str | None,
    descriptions: str | None,
    untrained: bool,
    seed: int,
    device: str,
    store_dtype: str,
    repair: bool,
    limit: int | None,
    licence_note: str,
    as_json: bool,
) -> int:
    for name in given_options(*_OF_VIDEOS):
        raise click.UsageError(f"--teacher {_TEXT} looks at no videos; leave {name} out")
    from skelfew.data.manifest import Manifest

    samples = Manifest.read(manifest)

    from skelfew_extract.descriptions import read_descriptions

    sentences = None if descriptions is None else read_descriptions(descriptions, samples)
    if not repair:
        from skelfew_extract.finished import finished
        from skelfew_extract.weight_files import same_teacher

        def same(attrs: Document) -> bool:
            about, read = attrs["teacher"], None if sentences is None else sentences.sha256
            return about.get("descriptions_sha256") == read and same_teacher(
                about, _TEXT, weights=weights, untrained=untrained, seed=seed
            )

        rows = (0, limit or len(samples))
        summary = finished(out, samples, same, rows, dtype=store_dtype, retry=True)
        if summary is not None:
            return ended(summary, as_json, repair, "samples")
    from skelfew_extract.teachers import build_text_teacher
    from skelfew_extract.text_only import TextSettings, extract_text

    teacher = build_text_teacher(
        weights=weights,
        untrained=untrained,
        seed=seed,
        device="cpu" if device == "auto" else device,
    )
    read = "class names" if sentences is None else f"classes described in {sentences.path}"
    log(f"{teacher.describe()['weights']}, {len(samples.classes)} {read}")
    settings = TextSettings(store_dtype, limit, licence_note, sentences, repair)
    summary = extract_text(samples, teacher, out, settings)
    return ended(summary, as_json, repair, "samples")
