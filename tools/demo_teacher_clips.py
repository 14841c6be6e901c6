"""The clips, joints and people that train_demo_teacher.py trains and tests on."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from skelfew_extract.crop import CropSettings, clip_box, crop_and_resize
from skelfew_extract.demoworld.actions import ACTIONS, NOVEL, VALIDATION, Action
from skelfew_extract.demoworld.outside import OUTSIDE, OutsideSpec
from skelfew_extract.demoworld.reader import Spec, generate, middles
from torch import Tensor

SIZE, FRAMES, VIEWS, PEOPLE = 64, 8, 3, range(101, 161)
BASE = [a for a in ACTIONS if a.name not in {*NOVEL, *VALIDATION}]
TRAINED: list[Action] = [*BASE, *OUTSIDE]
MOMENTS = 2 * FRAMES  # two for each of the eight segments; training draws one of them
_SETTINGS = CropSettings(frames=FRAMES, size=SIZE)


def make_clip(spec: Spec, moments: int = MOMENTS) -> np.ndarray:
    """Return (moments, 3, 64, 64) uint8, cropped as skelfew-extract would."""
    recording, frames = generate(spec, moments=moments)
    assert frames is not None
    box, _ = clip_box(recording.skeleton.pixels, frames.shape[2], frames.shape[1], _SETTINGS)
    return crop_and_resize(frames, box, SIZE)


def make_eval_clip(spec: Spec) -> np.ndarray:
    """Return (8, 3, 64, 64) uint8, the frames that skelfew-extract would take."""
    return make_clip(spec, FRAMES)


def make_pose(spec: Spec) -> np.ndarray:
    """Return (16, 2, 25, 3) float16: both bodies, the left one in the picture first.

    u and v run from -1 to 1 over the clip's box; the third is the depth in metres relative to the
    base of the spine. NaN where a joint, or the second body, is not there.
    """
    recording, _ = generate(spec, draw=False)
    pixels, positions = recording.skeleton.pixels, recording.skeleton.positions
    assert pixels is not None
    box, _ = clip_box(pixels, 160, 120, _SETTINGS)
    index = middles(pixels.shape[1], MOMENTS)
    place = (pixels[:, index] - [box.left, box.top]) / [
        (box.right - box.left) / 2,
        (box.bottom - box.top) / 2,
    ] - 1
    depth = positions[:, index][..., 2]
    depth = depth - depth[..., :1]
    target = np.full((len(index), 2, 25, 3), np.nan)
    order = np.argsort(np.nanmean(place[..., 0], axis=(1, 2)))
    target[:, : len(pixels), :, :2] = place[order].swapaxes(0, 1)
    target[:, : len(pixels), :, 2] = depth[order].swapaxes(0, 1)
    target[np.isnan(target[..., 0])] = np.nan
    return target.astype("f2")


def training_specs(per_outside: int, per_base: int) -> list[Spec]:
    """Return the samples to train on, the same at every call."""
    rng = np.random.default_rng(11)

    def draw(kind: type[Spec], class_id: int, replication: int) -> Spec:
        view = int(rng.integers(1, VIEWS + 1))
        return kind(class_id, int(rng.integers(PEOPLE.start, PEOPLE.stop)), view, replication)

    specs = [draw(Spec, a.class_id, r) for a in BASE for r in range(1, per_base + 1)]
    specs += [draw(OutsideSpec, a.class_id, r) for a in OUTSIDE for r in range(1, per_outside + 1)]
    return specs


def test_sets() -> dict[str, tuple[list[Spec], list[Action]]]:
    """Return what zero-shot accuracy is measured on; the first four subjects of the demo."""
    groups = (
        ("held-out subjects, trained classes", BASE),
        ("held-out subjects, validation classes", [a for a in ACTIONS if a.name in VALIDATION]),
        ("held-out subjects, novel classes", [a for a in ACTIONS if a.name in NOVEL]),
    )
    return {
        name: ([Spec(a.class_id, p, p % VIEWS + 1, 1) for a in group for p in range(1, 9)], group)
        for name, group in groups
    }


def stored(path: Path, specs: list[Spec], make: Callable, workers: int) -> np.ndarray:
    """Make clips or poses, or read those made before."""
    if not path.exists():
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            made = []
            for i, clip in enumerate(pool.imap(make, specs, chunksize=16), 1):
                made.append(clip)
                if i % 1000 == 0:
                    print(f"{path.name}: {i}/{len(specs)}", flush=True)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, np.stack(made))
        partial.rename(path)
    return np.load(path, mmap_mode="r")


def augment(pixels: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Shift and scale the picture a little, the same in all frames, and vary brightness.

    Returns also zoom (B, 1) and shift (B, 2): a place x in the new picture shows what was at zoom *
    x + shift, with coordinates from -1 to 1.
    """
    clips = len(pixels)
    zoom = 1 + 0.16 * (torch.rand(clips, 1, generator=rng) - 0.5)
    shift = 0.16 * (torch.rand(clips, 2, generator=rng) - 0.5)
    theta = torch.zeros(clips, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = zoom[:, 0]
    theta[:, :, 2] = shift
    flat = pixels.flatten(0, 1)
    per_frame = theta.repeat_interleave(pixels.shape[1], dim=0)
    grid = F.affine_grid(per_frame, list(flat.shape), align_corners=False)
    moved = F.grid_sample(flat, grid, padding_mode="border", align_corners=False).view_as(pixels)
    gain = 1 + 0.3 * (torch.rand(clips, 1, 3, 1, 1, generator=rng) - 0.5)
    return moved * gain + 0.2 * torch.randn(clips, 1, 3, 1, 1, generator=rng), zoom, shift
