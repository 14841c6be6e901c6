"""Windows of a manifest: the clips that go through the teacher together, and what it makes of them.

A window is ``batch`` consecutive rows. It is encoded in one batch of always the same size, in which
rows that failed or are not asked for are black frames. So a row's features depend neither on where
an earlier run was interrupted nor on which engine, process or machine takes which window.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from skelfew.cache import DONE, FAILED
from skelfew.data.manifest import Manifest
from skelfew.io.files import Document
from skelfew_extract.engines.pool import DecodedClip
from skelfew_extract.settings import Settings
from skelfew_extract.teachers import Teacher


@dataclass(frozen=True)
class Card:
    """A teacher's description and class texts, as a cache keeps them."""

    dim: int  # D, channels of both features
    frames: int  # T, frames of a clip
    image_size: int  # S, side of a frame in pixels
    interpolation: str
    mean: tuple[float, float, float]  # of the colours, per channel, on the scale 0..1
    std: tuple[float, float, float]  # the same for the standard deviation
    templates: tuple[str, ...]  # texts that are read of a class
    description: Document  # the teacher's own provenance, as JSON can hold it
    class_text: np.ndarray  # text features of the classes, in the manifest's order, float32 (C, D)

    @classmethod
    def of(cls, teacher: Teacher, labels: Sequence[str]) -> "Card":
        """Return the card of a teacher who has read the names of the classes."""
        return cls(
            dim=teacher.dim,
            frames=teacher.frames,
            image_size=teacher.image_size,
            interpolation=teacher.interpolation,
            mean=teacher.mean,
            std=teacher.std,
            templates=teacher.templates,
            description=teacher.describe(),
            class_text=teacher.encode_text(labels).float().cpu().numpy(),
        )


@dataclass(frozen=True)
class Window:
    """The decoded clips of a window."""

    start: int
    rows: tuple[int, ...]  # those that are asked for, ascending
    pictures: np.ndarray  # uint8 (B, T V, 3, S, S), black where a row failed or is not asked for
    reasons: dict[int, tuple[str, str]]  # stage and message of the rows that failed
    centred: int  # how many clips were cut without joints


@dataclass(frozen=True)
class Block:
    """Features f_v, f_t (n, V, D) float32 and status of the rows (n,) of a window, to commit."""

    rows: np.ndarray
    video: np.ndarray
    text: np.ndarray
    # Stage and message of the rows that failed, whose features have no meaning
    reasons: dict[int, tuple[str, str]]
    centred: int  # how many clips were cut without joints

    @property
    def status(self) -> np.ndarray:
        """Done or failed, uint8 (n,)."""
        return np.array([FAILED if i in self.reasons else DONE for i in self.rows], dtype=np.uint8)


def windows_of(todo: Iterable[int], batch: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield first row and rows to do of each window in which there is something to do."""
    for start, rows in itertools.groupby(map(int, todo), key=lambda i: i - i % batch):
        yield start, tuple(rows)


def collect(
    start: int,
    rows: Sequence[int],
    manifest: Manifest,
    clips: Iterator[DecodedClip],
    settings: Settings,
) -> Window:
    """Take the clips of a window's rows, as far as these have videos, from ``clips``."""
    crop = settings.decode.crop
    shape = (settings.batch, crop.pictures, 3, crop.size, crop.size)
    pictures = np.zeros(shape, dtype=np.uint8)
    reasons, centred = {}, 0
    for row in rows:
        if not manifest.samples[row].video:
            reasons[row] = ("manifest", "the sample has no video")
            continue
        clip = next(clips)
        if clip.report.row != row:
            raise RuntimeError(f"clip of row {clip.report.row} came for row {row}")
        if clip.pictures is None:
            reasons[row] = (clip.report.stage, clip.report.message)
        else:
            pictures[row - start] = clip.pictures
            centred += not clip.report.joints
    return Window(start, tuple(rows), pictures, reasons, centred)


class Encoder:
    """Puts one window after the other through the teacher."""

    def __init__(self, teacher: Teacher, card: Card, manifest: Manifest, settings: Settings):
        class_ids = list(manifest.classes)
        self.teacher, self.settings = teacher, settings
        self.class_text = torch.from_numpy(card.class_text)
        self.class_row = np.array([class_ids.index(sample.class_id) for sample in manifest])

    @torch.inference_mode()
    def encode(self, window: Window) -> Block:
        """Return the features of the window's rows."""
        rows, reasons = np.array(window.rows), dict(window.reasons)
        batch, views = self.settings.batch, self.settings.decode.crop.views
        video = text = np.zeros((batch, views, self.teacher.dim), dtype=np.float32)
        if len(reasons) < len(rows):
            labels = np.resize(self.class_row[window.start : window.start + batch], batch)
            prompts = self.class_text[torch.from_numpy(labels)]
            found = [self._view(window.pictures[:, v::views], prompts) for v in range(views)]
            video, text = (np.stack(parts, axis=1) for parts in zip(*found, strict=True))
        video, text = video[rows - window.start], text[rows - window.start]
        limit = float(np.finfo(self.settings.store_dtype).max)
        for i, row in enumerate(window.rows):
            largest = float(np.abs([video[i], text[i]]).max())  # NaN if any is
            if row not in reasons and not largest <= limit:
                what = "too large for float16; --store-dtype float32 holds it"
                reasons[row] = ("encode", what if math.isfinite(largest) else "not finite")
        return Block(rows, video, text, reasons, window.centred)

    def _view(self, pictures: np.ndarray, prompts: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return f_v and f_t (B, D) of one view of the clips (B, T, 3, S, S)."""
        clips = torch.from_numpy(np.ascontiguousarray(pictures))
        f_v, context = self.teacher.encode_clips(clips)
        text = self.teacher.condition(prompts.to(f_v.device), context)
        return f_v.float().cpu().numpy(), text.float().cpu().numpy()
