"""Skeletons in motion as numbers that a page's script draws, and as a still picture without it."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from skelfew.data.joints.layouts import Layout
from skelfew.data.store import SkeletonStore
from skelfew.draw.stage import Scene, evenly
from skelfew.errors import SkelfewError
from skelfew.io.files import Document, Values
from skelfew.io.paths import below
from skelfew.report.collect import RunFacts, Score
from skelfew.report.markup import Safe, tag

MOMENTS = 32  # of a clip that are shown, at most
_WIDTH, _HEIGHT = 176, 200
_UNSEEN = -9999  # coordinates of a joint that is not there


def open_store(facts: RunFacts, score: Score, store: Path | None = None) -> SkeletonStore:
    """Open the skeletons that a score is about; ``store`` is where they are now, if they moved.

    Raises SkelfewError: they are missing, or not those that were scored.
    """
    inputs = facts.run.config().inputs
    noted = inputs.store if inputs.dataset == score.dataset else None
    usual = below(Path("data"), f"{score.dataset}.h5", "the results", links=True)
    path = store or (Path(noted) if noted and Path(noted).is_file() else usual)
    found = SkeletonStore(path)
    scored = score.document["data"].get("skeletons_digest")
    if scored != found.attrs.get("digest"):
        raise SkelfewError(f"{path}: not the skeletons that were scored; prepare them again")
    return found


def clips(store: SkeletonStore, ids: Iterable[str]) -> dict[str, Document]:
    """Return the clips of samples, by ID: whole pixels, as ``page.js`` reads them.

    ``frames`` is a list a moment of a list a body of x and y of all joints, one after the other;
    ``bones`` are (child, parent, side), side 0 middle, 1 left, 2 right; ``head`` is a joint or
    null, ``floor`` its height or null. Samples that the store does not have are left out.
    """
    return {i: _clip(store, i) for i in dict.fromkeys(ids) if i and i in store}


def _clip(store: SkeletonStore, sample_id: str) -> Document:
    flat = store.coordinates == 2
    positions = store[sample_id].positions
    layout = store.joint_layout
    stage = Scene.around(
        positions, layout, up="-y" if flat else "y", flat=flat, height=_HEIGHT, width=_WIDTH
    )
    shown = evenly(positions.shape[1], MOMENTS)
    there = stage.seen.any(axis=(1, 2))
    points, seen = stage.points[there][:, shown], stage.seen[there][:, shown]
    placed = np.nan_to_num(stage.place(points[..., :2]))
    whole = np.where(seen[..., None], placed.round(), _UNSEEN).astype(int)
    floor = None
    if stage.floor is not None:
        floor = round(float(stage.place(np.array([0.0, stage.floor]))[1]))
    return {
        "length": int(positions.shape[1]),
        "frames": np.moveaxis(whole, 0, 1).reshape(len(shown), len(whole), -1).tolist(),
        "bones": [[child, parent, side] for (child, parent), side in _bones(layout)],
        "head": layout.joints.index("head") if "head" in layout.joints else None,
        "floor": floor,
    }


def _bones(layout: Layout) -> list[tuple[tuple[int, int], int]]:
    sides = {joint: k + 1 for pair in layout.mirror for k, joint in enumerate(pair)}
    return [(bone, sides.get(bone[0], 0)) for bone in layout.bones]


def still(clip: Values, label: str) -> Safe:
    """Return the middle moment of a clip as SVG, which the script then moves."""
    bodies = clip["frames"][len(clip["frames"]) // 2]
    lines = []
    for number, body in enumerate(bodies):
        for child, parent, side in clip["bones"]:
            ends = body[2 * child : 2 * child + 2] + body[2 * parent : 2 * parent + 2]
            seen = _UNSEEN not in ends
            x1, y1, x2, y2 = ends if seen else (0, 0, 0, 0)
            kind = f"bone side{side} body{number % 2}"
            away = None if seen else "hidden"
            lines.append(tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind, visibility=away))
        if clip["head"] is not None:
            x, y = body[2 * clip["head"] : 2 * clip["head"] + 2]
            away = "hidden" if _UNSEEN in (x, y) else None
            kind = f"head body{number % 2}"
            lines.append(tag("circle", cx=x, cy=y, r=6, class_=kind, visibility=away))
    floor = clip["floor"]
    ground = (
        None if floor is None else tag("line", x1=0, x2=_WIDTH, y1=floor, y2=floor, class_="floor")
    )
    return tag(
        "svg",
        tag("title", label),
        ground,
        tag("g", lines),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        class_="skeleton",
    )
