"""A data set of tiny real videos with joints in the picture, and a teacher that takes a moment."""

import csv
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from skelfew_extract.clips import DecodeSettings
from skelfew_extract.crop import CropSettings
from skelfew_extract.extract import Settings
from skelfew_extract.recordings import Recordings
from torch import Tensor
from video_files import picture, write_video

from skelfew.data.manifest import Manifest, Sample
from skelfew.data.store import Skeleton
from skelfew.data.store_writer import SkeletonStoreWriter

LABELS = {1: "wave", 2: "kick", 3: "sit down"}
FRAMES, SIZE = 8, 32


def moving_spot(number: int, frames: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return pictures in which a bright square wanders, and its corners (1, T, 4, 2) in pixels."""
    pictures, corners = [], []
    for t in range(frames):
        x, y = 40 + (3 * number + t) % 60, 30 + (5 * number + t // 2) % 30
        image = picture(t)
        image[y : y + 12, x : x + 12] = (255, 40 + 20 * (number % 10), 60)
        pictures.append(image)
        corners.append([(x, y), (x + 12, y), (x, y + 12), (x + 12, y + 12)])
    return pictures, np.array(corners, dtype=np.float32)[None]


def make_world(root: Path, count: int = 20, frames: int = 24) -> Path:
    """Write ``count`` videos, manifests/spots.csv and data/spots.h5 below ``root``; return it."""
    samples, skeletons = [], []
    for i in range(count):
        pictures, pixels = moving_spot(i, frames)
        video = write_video(root / "videos" / f"clip_{i:03d}", pictures)
        class_id = 1 + i % 3
        samples.append(
            Sample(f"clip_{i:03d}", class_id, LABELS[class_id], frames, 1, video.name, 0, frames)
        )
        positions = np.concatenate([pixels, np.ones_like(pixels[..., :1])], axis=-1)
        skeletons.append(Skeleton(positions, pixels))
    manifest = Manifest("spots", tuple(samples))
    manifest.write(root / "manifests" / "spots.csv")
    attrs: dict[str, Any] = {"dataset": "spots", "manifest_sha256": manifest.sha256}
    store = SkeletonStoreWriter(root / "data" / "spots.h5", "joints-4", 4, pixels=True, attrs=attrs)
    with store:
        for sample, skeleton in zip(samples, skeletons, strict=True):
            store.append(sample.sample_id, skeleton)
    return root


def open_world(root: Path) -> Recordings:
    return Recordings.open(
        root / "manifests" / "spots.csv", root / "data" / "spots.h5", root / "videos"
    )


def settings(**options: Any) -> Settings:
    timeout = options.pop("timeout", 60.0)
    decode = DecodeSettings(CropSettings(FRAMES, SIZE), "auto", timeout)
    return Settings(decode, **{"workers": 1, "batch": 4, **options})


class SmallTeacher:
    """A frozen convolution with the interface of a teacher (skelfew_extract.teachers.Teacher)."""

    name = "small"
    dim, frames, image_size = 16, FRAMES, SIZE
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    prompting: Literal["video-conditioned", "class"] = "video-conditioned"
    templates, interpolation = ("{}",), "bilinear"

    def __init__(self, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        self.seed = seed
        self.kernel = torch.randn(self.dim, 3, 4, 8, 8, generator=generator) / 30
        self.mixing = torch.randn(self.dim, self.dim, generator=generator) / 8

    def encode_text(self, labels: Sequence[str]) -> Tensor:
        rows = [[ord(label[i % len(label)]) / 100 for i in range(self.dim)] for label in labels]
        return torch.tensor(rows)

    def encode_clips(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        pixels = (frames.float() / 255 - 0.5) / 0.25
        maps = torch.conv3d(pixels.transpose(1, 2), self.kernel, stride=(2, 8, 8)).relu()
        return maps.mean(dim=(2, 3, 4)), maps.amax(dim=(2, 3, 4))

    def condition(self, text: Tensor, context: Tensor) -> Tensor:
        return text + 0.1 * context @ self.mixing

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "trained": True, "weights": f"seed {self.seed}"}


def failures_of(cache: Path) -> dict[str, tuple[str, str]]:
    """Return stage and message of each sample in the list of failures beside a cache."""
    with cache.with_name("spots.failures.csv").open(newline="") as file:
        return {r["sample_id"]: (r["stage"], r["message"]) for r in csv.DictReader(file)}


def eventually(condition: Callable[[], object], seconds: float = 60) -> bool:
    """Wait until something holds; return whether it did in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False
