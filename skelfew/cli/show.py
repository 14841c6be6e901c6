"""``skelfew-show``: look at one sample."""

from pathlib import Path

import click

from skelfew.cli.common import OK, guarded, log, say, say_json
from skelfew.cli.options import CONTEXT, COUNT, FILE, PATH, flag, json_option, option

_STRIP, _ANIMATION = 8, 60  # moments shown


@click.command(context_settings=CONTEXT)
@click.argument("sample_id")
@option("--dataset", "Data set  [all manifests are searched].", metavar="NAME")
@option(
    "--view",
    "views",
    "Where it is seen from. Can be repeated.",
    multiple=True,
    default=("front",),
    choices=["front", "side", "top"],
)
@option("--out", "Picture to write, .png or .gif  [previews/SAMPLE_ID.png].", type=FILE)
@option("--frames", f"Moments to show, at most  [{_STRIP}; {_ANIMATION} in a .gif].", type=COUNT)
@option(
    "--size", "Height of a skeleton, pixels.", type=click.IntRange(min=40, max=2000), default=240
)
@option(
    "--fps",
    "Frames a second of the recording, for a .gif.",
    type=click.FloatRange(min=0.1),
    default=30.0,
)
@option(
    "--up",
    "Axis that points upwards  [-y for pixels, else y as in Kinect's recordings].",
    choices=["y", "-y", "z"],
)
@flag("--no-video", "Draw the skeleton alone.")
@option("--videos", "Folder of the videos, if moved.", type=PATH)
@option("--manifest", "[default: manifests/NAME.csv]", type=FILE)
@option("--data", "[default: data/NAME.h5]", type=FILE)
@json_option
@guarded
def main(
    sample_id: str,
    dataset: str | None,
    views: tuple[str, ...],
    out: Path | None,
    frames: int | None,
    size: int,
    fps: float,
    up: str | None,
    no_video: bool,
    videos: Path | None,
    manifest: Path | None,
    data: Path | None,
    as_json: bool,
) -> int:
    """Draw a sample: its skeleton over time, and its video with the teacher's crop beside it.

    \b
    skelfew-show a12_s3_t1
    skelfew-show a12_s3_t1 --view front --view side --out previews/throw.gif

    A .png is a strip of moments, a .gif moves. The video is shown where there is one and the
    extractor's packages are installed. Left and right are the performer's own.
    """
    from skelfew.data.find import find_sample
    from skelfew.data.manifest import file_name
    from skelfew.data.store import SkeletonStore
    from skelfew.draw.sample import SampleStyle, portray
    from skelfew.draw.sheets import save_animation
    from skelfew.errors import SkelfewError
    from skelfew.io.writing import writing

    target = out or Path("previews") / f"{file_name(sample_id)}.png"
    moving = target.suffix.lower() == ".gif"
    if not moving and target.suffix.lower() != ".png":
        raise SkelfewError(f"{target}: a picture's name ends in .png (strip) or .gif (animation)")
    found, sample = find_sample(sample_id, dataset, manifest)
    path = found.path or Path(f"manifests/{found.name}.csv")
    with SkeletonStore(data or Path(f"data/{found.name}.h5")) as store:
        limit = frames or (_ANIMATION if moving else _STRIP)
        look = SampleStyle(tuple(dict.fromkeys(views)), up, limit, size, not no_video)
        length = int(store.frames[store.row(sample_id)])
        step = -(-length // limit)
        moments = range(0, length, step) if moving else None
        portrait = portray(sample, store, path, look, moments, videos)
    if moving:
        save_animation(portrait.animation(), target, step / fps)
    else:
        with writing(target) as file:
            portrait.strip().save(file, format="PNG")
    for note in portrait.notes:
        log(note)
    document = {
        "sample_id": sample_id,
        "dataset": found.name,
        "class_id": sample.class_id,
        "label": sample.label,
        "picture": str(target),
        "frames": list(portrait.moments),
        "panels": [panel.label for panel in portrait.panels],
        "crop_box": portrait.box,
        "notes": list(portrait.notes),
    }
    say_json(document) if as_json else say(target)
    return OK
