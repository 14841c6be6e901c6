"""Joint-frame heatmaps as in Figures 3 and 4 of Lu et al., with the skeleton and the video above.

The network sees T resized frames; all that is drawn is labelled with frames of the recording.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from skelfew.data.store import Skeleton
from skelfew.draw.sample import filmed
from skelfew.draw.sheets import Panel
from skelfew.draw.stage import Scene
from skelfew.errors import SkelfewError
from skelfew.explain.explanation import Explanation
from skelfew.io.files import Document
from skelfew.io.writing import writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PIXELS = 220  # height of a skeleton's picture
_DPI = 130
# Inches: margins, a heatmap's width alone and beside others, a joint's row, lines of text.
_LEFT, _RIGHT, _GAP, _EDGE = 1.5, 0.95, 0.45, 0.12
_WIDE, _NARROW, _ROW, _LINE = 8.0, 5.2, 0.19, 0.21
_INK, _PALE = "#1e1e22", "#66666c"


@dataclass(frozen=True)
class HeatmapStyle:
    """Settings of a heatmap."""

    bins: int = 16  # columns of the heatmap, at most; the paper's have about 16
    moments: int = 8  # pictures of the strip, at most; each above the columns that it shows
    view: str = "front"  # where the skeleton is seen from
    up: str | None = None  # its upward axis; None for ``-y`` for pixels, else ``y``
    signed: bool = False  # show what spoke against the verdict too, in blue
    video: bool = True
    videos: Path | None = None  # folder of the videos, if moved


def edges(frames: int, parts: int) -> np.ndarray:
    """Return where ``parts`` parts of ``frames`` begin and end, (parts + 1,); none is empty."""
    return np.linspace(0, frames, min(parts, frames) + 1).round().astype(int)


def averaged(values: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Return the means of values (T, ...) over parts of their first axis, (parts, ...)."""
    counts = np.diff(bounds).reshape(-1, *[1] * (values.ndim - 1))
    return np.add.reduceat(values, bounds[:-1], axis=0) / counts


def scaled(values: np.ndarray) -> np.ndarray:
    """Divide by the largest absolute value, unless all are zero."""
    most = np.abs(values).max()
    return values / most if most > 0 else values


def draw(
    explanations: Sequence[Explanation], manifest: Path, look: HeatmapStyle
) -> "tuple[Figure, list[str]]":
    """Draw explanations of one sample beside each other; return figure and notes."""
    try:
        from matplotlib import rc_context
    except ModuleNotFoundError as error:
        raise SkelfewError(
            f"drawing heatmaps needs {error.name}, which is not installed; "
            "pip install 'skelfew[explain]'"
        ) from None
    with rc_context({"text.parse_math": False}):  # names of others may have a $ in them
        return _draw(explanations, manifest, look)


def _draw(
    explanations: Sequence[Explanation], manifest: Path, look: HeatmapStyle
) -> "tuple[Figure, list[str]]":
    from matplotlib.figure import Figure

    width = _WIDE if len(explanations) == 1 else _NARROW
    columns = [_Column(e, manifest, look) for e in explanations]
    strips = [[c.pasted(row, width) for row in c.rows] for c in columns]
    heights = [max(heights) for heights in zip(*[[_height(s, width) for s in c] for c in strips])]  # noqa: B905
    joints = max(len(e.layout) for e in explanations)
    lines = 2 + max(len(c.captions) for c in columns)
    total = _EDGE * 2 + lines * _LINE + sum(heights) + _ROW * joints + 2.2 * _LINE
    whole = _LEFT + len(columns) * (width + _GAP) - _GAP + _RIGHT
    figure = Figure(figsize=(whole, total), facecolor="white")
    sample = explanations[0].sample

    def text(left: float, top: float, words: str, size: float = 9, colour: str = _PALE) -> None:
        figure.text(left / whole, 1 - top / total, words, size=size, color=colour, va="top")

    text(_EDGE, _EDGE, f"{sample.sample_id}   {sample.class_id}: {sample.label}", 13, _INK)
    for i, (column, pictures) in enumerate(zip(columns, strips, strict=True)):
        left, top = _LEFT + i * (width + _GAP), _EDGE + 1.6 * _LINE
        for k, caption in enumerate(column.captions):
            text(left, top + k * _LINE, caption, 10 if k == 0 else 8.5, _INK if k == 0 else _PALE)
        top += (lines - 1.6) * _LINE

        def place(height: float, left: float = left, width: float = width) -> "Axes":
            box = (left / whole, 1 - (top + height) / total, width / whole, height / total)  # noqa: B023
            return figure.add_axes(box)

        for panel, picture, height in zip(column.rows, pictures, heights, strict=True):
            if i == 0:
                text(_EDGE, top + 0.05, panel.label, 8)
            axes = place(_height(picture, width))
            axes.imshow(np.asarray(picture), aspect="auto", interpolation="none")
            axes.axis("off")
            top += height
        axes = place(_ROW * len(column.explanation.layout))
        image = column.heatmap(axes, names=i == 0 or len({e.layout for e in explanations}) > 1)
    bar = figure.add_axes(
        ((whole - _RIGHT + 0.15) / whole, 1 - (top + _ROW * joints) / total, 0.13 / whole,
         _ROW * joints / total)
    )  # fmt: skip
    figure.colorbar(image, cax=bar)
    bar.tick_params(labelsize=8, colors=_PALE)
    label = "against / for the verdict" if look.signed else "share of the largest attribution"
    bar.set_ylabel(label, size=8, color=_PALE)
    return figure, list(dict.fromkeys(note for c in columns for note in c.notes))


def save(figure: "Figure", path: Path) -> None:
    """Write a PNG or an SVG, by the suffix; the same figure gives the same bytes."""
    import matplotlib

    with matplotlib.rc_context(
        {"text.parse_math": False, "svg.hashsalt": "skelfew", "svg.fonttype": "path"}
    ):
        metadata: Document = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        with writing(path) as file:
            figure.savefig(file, dpi=_DPI, metadata=metadata, format=path.suffix[1:])


def _height(strip: Image.Image, width: float) -> float:
    return strip.height / strip.width * width


class _Column:
    """One explanation: its title, and the heatmap."""

    def __init__(self, explanation: Explanation, manifest: Path, look: HeatmapStyle):
        self.explanation, self.look = explanation, look
        clip, sample = explanation.clip, explanation.sample
        heat = explanation.heat(look.signed)
        self.bounds = edges(len(heat), look.bins)
        self.heat = scaled(averaged(heat.sum(axis=2), self.bounds))
        frames = clip.frames.numpy()
        self.frames = averaged(frames, self.bounds)
        # Pictures are above whole columns; each shows the middle frame of those.
        parts = edges(len(self.heat), look.moments)
        self.spans = np.diff(parts) / len(self.heat)
        outer = self.bounds[parts]
        store = explanation.method.subject.store
        skeleton = store[sample.sample_id]
        length = skeleton.positions.shape[1]
        self.moments = [min(round(f), length - 1) for f in averaged(frames, outer).tolist()]
        self.rows, self.notes = [], []
        if look.video:
            film = filmed(
                sample, skeleton, store.joint_layout, manifest, self.moments, _PIXELS, look.videos
            )
            if film.panel is not None:
                self.rows.append(replace(film.panel, label="video"))
            self.notes += [film.note] if film.note else []
        shown = scaled(averaged(explanation.heat(), outer))
        self.rows.append(self._skeletons(skeleton, shown, store.coordinates == 2))

    def _skeletons(self, skeleton: Skeleton, heat: np.ndarray, flat: bool) -> Panel:
        """Return the skeleton with its joints glowing; heat is (moments, V, P)."""
        up = self.look.up or ("-y" if flat else "y")
        layout = self.explanation.layout
        stage = Scene.around(skeleton.positions, layout, self.look.view, up, flat, _PIXELS)
        pictures = []
        for moment, values in zip(self.moments, heat, strict=True):
            glow = np.zeros(skeleton.positions.shape[::2][:2])
            glow[list(self.explanation.clip.bodies)] = values.T
            pictures.append(stage.draw(moment, glow))
        return Panel(f"{self.look.view} view;\norange: the joint's\nattribution", pictures)

    @property
    def captions(self) -> list[str]:
        """The method, its verdict, and what it took to change it."""
        e = self.explanation
        verdict = "right" if e.right else "wrong"
        return [
            e.method.title,
            f"verdict: {e.predicted} {e.names.get(e.predicted, '')} ({verdict})",
            f"beyond the boundary: {e.other} {e.names.get(e.other, '')}, "
            f"{e.boundary.share:.2%} of the recording's size away",
        ]

    def pasted(self, panel: Panel, width: float) -> Image.Image:
        """Return the pictures of a row in one, each in the middle of its columns."""
        across = round(width * _DPI)
        room = min(round(share * across) for share in self.spans) - 2
        first = panel.pictures[0]
        scale = min(room / first.width, 1.0)
        size = (max(round(first.width * scale), 1), max(round(first.height * scale), 1))
        strip = Image.new("RGB", (across, size[1] + 4), "white")
        middles = (np.cumsum(self.spans) - self.spans / 2) * across
        for picture, middle in zip(panel.pictures, middles, strict=True):
            reduced = picture.resize(size, Image.Resampling.LANCZOS)
            strip.paste(reduced, (round(middle - size[0] / 2), 2))
        return strip

    def heatmap(self, axes: "Axes", names: bool) -> Any:
        """Draw the heatmap, joints downwards and frames to the right; return it for a legend."""
        joints = self.explanation.layout.joints
        signed = self.look.signed
        image = axes.imshow(
            self.heat.T,
            aspect="auto",
            interpolation="nearest",
            cmap="RdBu_r" if signed else "inferno",
            vmin=-1 if signed else 0,
            vmax=1,
        )
        axes.set_yticks(range(len(joints)))
        labels = [f"{name.replace('_', ' ')}  {i + 1}" for i, name in enumerate(joints)]
        axes.set_yticklabels(labels if names else [""] * len(joints), size=8, color=_INK)
        axes.set_xticks(range(len(self.frames)))
        axes.set_xticklabels([f"{frame:.0f}" for frame in self.frames], size=8, color=_INK)
        axes.set_xlabel("frame of the recording, from 0", size=8.5, color=_PALE)
        axes.tick_params(length=2, color=_PALE)
        if not names:
            axes.tick_params(axis="y", length=0)
        for side in axes.spines.values():
            side.set_visible(False)
        return image
