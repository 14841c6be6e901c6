"""The moving picture of README.md: one example of four actions, three new recordings, answers.

    skelfew-prepare demo && python tools/first_picture.py docs/pictures/recognise.gif

The examples are of the first performer of the demo world, the new recordings of other performers.
The answers are those of ``Recogniser`` without an encoder, so nothing is trained.
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from skelfew import Manifest, Model, Recogniser, SkeletonStore
from skelfew.draw.sheets import save_animation
from skelfew.draw.stage import Scene, evenly

ACTIONS = ("drink", "throw overhand with right hand", "kick forward with right leg", "bow")
ASKED = (("throw overhand with right hand", 4), ("drink", 6), ("bow", 3))  # action, performer
SIZE, MOMENTS, SMALL, LARGE, GAP = (720, 348), 20, 128, 236, 12
INK, FAINT, RIGHT, WRONG, PAPER = "#1c2430", "#8a94a3", "#1a7f4b", "#c0392b", "#ffffff"


def main(target: Path) -> None:
    manifest, store = Manifest.read(Path("manifests/demo.csv")), SkeletonStore(Path("data/demo.h5"))

    def find(label: str, subject: int, view: int) -> str:
        return next(
            s.sample_id
            for s in manifest
            if (s.label, int(s.subject), int(s.view)) == (label, subject, view)
        )

    examples = {label: find(label, 1, 1) for label in ACTIONS}
    layout = store.joint_layout
    recogniser = Recogniser.learn(
        {label: [store[sample].positions] for label, sample in examples.items()},
        Model.raw(layout),
    )
    stages = [stage(store, sample, SMALL) for sample in examples.values()]
    sheets = []
    for label, subject in ASKED:
        sample = find(label, subject, 1)
        answer, large = recogniser.predict(store[sample].positions), stage(store, sample, LARGE)
        for moment in range(MOMENTS + 6):  # the answer stays for a moment
            page = Image.new("RGB", SIZE, PAPER)
            pen = ImageDraw.Draw(page)
            pen.text((GAP, 8), "one example of each action", INK, font(17))
            pen.text((440, 8), "a new recording", INK, font(17))
            for k, (name, small) in enumerate(zip(ACTIONS, stages, strict=True)):
                x, y = GAP + (k % 2) * 210, 38 + (k // 2) * 156
                page.paste(at(small, moment), (x, y))
                pen.text((x, y + SMALL + 2), name, FAINT, font(13))
            page.paste(at(large, moment), (440, 38))
            if moment >= MOMENTS // 2:
                colour = RIGHT if answer.label == label else WRONG
                pen.text((440, 38 + LARGE + 6), f"{answer.label}", colour, font(19))
                share = f"{100 * answer.confidence:.0f} %, nothing was trained"
                pen.text((440, 38 + LARGE + 34), share, FAINT, font(14))
            sheets.append(page)
        print(f"{label}: {answer.label} ({answer.confidence:.2f})")
    target.parent.mkdir(parents=True, exist_ok=True)
    save_animation(sheets, target, 0.1)


def stage(store: SkeletonStore, sample: str, height: int) -> Scene:
    """Return the stage that a sample is drawn on."""
    return Scene.around(store[sample].positions, store.joint_layout, height=height, width=height)


def at(drawn: Scene, moment: int) -> Image.Image:
    """Return a stage at one of ``MOMENTS`` moments; later ones show its end."""
    frames = evenly(drawn.points.shape[1], MOMENTS)
    return drawn.draw(frames[min(moment, MOMENTS - 1) * len(frames) // MOMENTS])


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font."""
    return ImageFont.load_default(size)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
