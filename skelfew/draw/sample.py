"""A picture of one sample of a manifest: skeletons, and the video beside them where there is one.

Reading videos is the extractor's business, which this package must not need: ``VIDEO_READER`` is an
import string, as those of the raw readers, and a picture without video is drawn where it, or a
decoder, is not installed.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image, ImageDraw

from skelfew.data.joints.layouts import Layout
from skelfew.data.manifest import Sample
from skelfew.data.store import Skeleton, SkeletonStore
from skelfew.draw.sheets import Heading, Panel, animation, strip
from skelfew.draw.stage import PALETTES, Scene, draw_body, evenly, seen_joints
from skelfew.errors import SkelfewError

VIDEO_READER = "skelfew_extract.video_panel:read_video"
_BOX = (255, 200, 0)


class VideoFrames(Protocol):
    """Frames of a video, as ``VIDEO_READER`` returns them."""

    pictures: np.ndarray  # RGB uint8 (T, h, w, 3), a part of the picture, reduced
    origin: tuple[int, int]  # left and top of that part in the full picture
    scale: float  # reduced by so much: a pixel of ``pictures`` is 1 / scale of the full picture
    # Left, top, right, bottom of the teacher's crop in the full picture; None if none
    box: tuple[int, int, int, int] | None
    note: str  # why there is no box; "" if there is one
    pixels: np.ndarray | None  # joints (M, T, V, 2) in the full picture as it is shown; or None


@dataclass(frozen=True)
class SampleStyle:
    """Settings of a drawing."""

    views: tuple[str, ...] = ("front",)  # of ``stage.VIEWS``, one panel each
    # One of ``stage.UPS``; None for the data set's own: ``-y`` for pixels, else ``y``
    up: str | None = None
    frames: int = 8  # moments shown, at most
    height: int = 240  # of a picture, pixels
    video: bool = True


@dataclass(frozen=True)
class Portrait:
    """A drawn sample."""

    panels: tuple[Panel, ...]  # the video, if it is shown, then the views
    moments: tuple[int, ...]  # frames of the skeleton that are shown, from 0
    heading: Heading
    # The teacher's crop in the full video picture, if there is one
    box: tuple[int, int, int, int] | None
    notes: tuple[str, ...]  # what could not be shown, and why

    def strip(self) -> Image.Image:
        """Return all moments on one sheet."""
        return strip(self.panels, [str(moment) for moment in self.moments], self.heading)

    def animation(self) -> list[Image.Image]:
        """Return a sheet a moment."""
        return animation(self.panels, [f"frame {moment}" for moment in self.moments], self.heading)


def portray(
    sample: Sample,
    store: SkeletonStore,
    manifest: Path,
    look: SampleStyle,
    moments: Sequence[int] | None = None,
    videos: Path | None = None,
) -> Portrait:
    """Draw a sample at moments of its skeleton, ``look.frames`` by default; else SkelfewError."""
    skeleton = store[sample.sample_id]
    layout = store.joint_layout
    shown = list(evenly(skeleton.positions.shape[1], look.frames) if moments is None else moments)
    flat = store.coordinates == 2
    up = look.up or ("-y" if flat else "y")
    panels: list[Panel] = []
    notes: list[str] = []
    box = None
    if look.video:
        film = filmed(sample, skeleton, layout, manifest, shown, look.height, videos)
        panels += [film.panel] if film.panel is not None else []
        notes += [film.note] if film.note else []
        box = film.box
    stages = [
        Scene.around(skeleton.positions, layout, view, up, flat, look.height) for view in look.views
    ]
    width = max([p.pictures[0].width for p in panels] + [stage.size[0] for stage in stages])
    for view, stage in zip(look.views, stages, strict=True):
        wide = replace(stage, size=(width, look.height))
        panels.append(Panel(_label(view, stage, flat, up), [wide.draw(moment) for moment in shown]))
    bodies = int(stages[0].seen.any(axis=(1, 2)).sum())
    heading = Heading(
        f"{sample.sample_id}   {sample.class_id}: {sample.label}",
        _facts(sample, skeleton, layout, manifest.stem),
        PALETTES[: max(bodies, 1)] if layout.mirror else (),
    )
    return Portrait(tuple(panels), tuple(shown), heading, box, tuple(notes))


def _label(view: str, stage: Scene, flat: bool, up: str) -> str:
    if flat:
        return "skeleton, as in the picture"
    camera = {"side": ", camera on the left", "top": ", camera below"}.get(view, "")
    return f"{view}{'' if up == 'z' else camera}; grid {stage.step:g} m"


def _facts(sample: Sample, skeleton: Skeleton, layout: Layout, dataset: str) -> str:
    bodies, frames = skeleton.positions.shape[:2]
    facts = [
        dataset,
        layout.name,
        f"{frames} frames",
        f"{bodies} bodies" if bodies > 1 else "1 body",
    ]
    for name in ("subject", "view", "replication", "setup"):
        if value := getattr(sample, name):
            facts.append(f"{name} {value}")
    return "  ·  ".join(facts)


class Film(NamedTuple):
    """The video beside a skeleton, with the teacher's crop; or a note why it could not be shown."""

    panel: Panel | None = None
    box: tuple[int, int, int, int] | None = None
    note: str = ""


def filmed(
    sample: Sample,
    skeleton: Skeleton,
    layout: Layout,
    manifest: Path,
    moments: Sequence[int],
    height: int,
    videos: Path | None = None,
) -> Film:
    """Return the frames of a sample's video at moments of its skeleton, if they can be had."""
    if not sample.video:
        return Film()
    module, attribute = VIDEO_READER.split(":")
    try:
        read = getattr(importlib.import_module(module), attribute)
        frames: VideoFrames = read(sample, skeleton.pixels, manifest, videos, moments, height)
    except SkelfewError as error:
        return Film(note=f"without video: {error}")
    except ImportError as error:
        return Film(
            note=f"without video: {error.name or error} is not installed; pip install "
            "'skelfew[extract]' adds what reads videos"
        )

    def place(points: np.ndarray) -> np.ndarray:
        return (points - frames.origin) * frames.scale

    pictures = []
    for moment, frame in zip(moments, frames.pictures, strict=True):
        picture = Image.fromarray(frame)
        pen = ImageDraw.Draw(picture)
        if frames.pixels is not None:
            seen = seen_joints(frames.pixels[:, moment : moment + 1], flat=True)[:, 0]
            for body, points in enumerate(place(frames.pixels[:, moment])):
                palette = PALETTES[body % len(PALETTES)]
                draw_body(pen, points, seen[body], layout, palette, thickness=height / 120)
        if frames.box is not None:
            pen.rectangle(
                place(np.reshape(frames.box, (2, 2))).ravel().tolist(), outline=_BOX, width=2
            )
        pictures.append(picture)
    label = "video; yellow: the teacher's crop" if frames.box else f"video; {frames.note}"
    return Film(Panel(label, pictures), frames.box)
