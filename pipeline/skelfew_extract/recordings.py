"""The clips of a data set: manifest, skeleton store and folder of videos."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skelfew.data.manifest import Manifest
from skelfew.data.store import SkeletonStore
from skelfew.errors import SkelfewError
from skelfew.io.paths import below
from skelfew_extract.clips import ClipTask
from skelfew_extract.preview import sheet_path


@dataclass(frozen=True)
class Recordings:
    """The videos of a data set, below the folder ``videos``, and skeletons, None if not needed."""

    manifest: Manifest
    skeletons: SkeletonStore | None
    videos: Path

    @classmethod
    def open(
        cls, manifest: Path, data: Path, videos: Path | None, crop_policy: str = "joints"
    ) -> "Recordings":
        """Open them and check that they belong together and can be extracted at all.

        ``videos`` None is the folder that skelfew-prepare noted in ``NAME.local.json``; the policy
        ``centre`` needs no skeletons. Raises SkelfewError if one is missing or misfits; says what
        to do.
        """
        samples = Manifest.read(manifest)
        if not any(sample.video for sample in samples):
            raise SkelfewError(
                f"{manifest}: no sample has a video, so there is nothing for a teacher to watch; "
                "--teacher text reads class names instead, and skelfew-train --stages episodic "
                "needs no cache"
            )
        folder = videos or noted_videos(manifest)
        if not folder.is_dir():
            raise SkelfewError(f"{folder}: no such folder of videos; name it with --videos")
        if crop_policy == "centre" and not data.exists():
            return cls(samples, None, folder)
        skeletons = SkeletonStore(data)
        stored = skeletons.attrs.get("manifest_sha256", samples.sha256)
        if stored != samples.sha256:
            raise SkelfewError(
                f"{data}: belongs to another manifest (sha256 {str(stored)[:12]}, {manifest} "
                f"has {samples.sha256[:12]}); run skelfew-prepare {samples.name} again"
            )
        first = next((i for i in samples.ids if i in skeletons), None)
        if crop_policy == "joints" and (first is None or skeletons[first].pixels is None):
            raise SkelfewError(
                f"{data}: holds no joint positions in the pictures to crop by; --crop centre takes "
                "the middle of every picture"
            )
        return cls(samples, skeletons, folder)

    def task(self, row: int, sheets: Path | None = None) -> ClipTask:
        """Return what a decoder must know about a sample; with ``sheets``, where to preview it."""
        sample = self.manifest.samples[row]
        pixels: np.ndarray | None = None
        if self.skeletons is not None and sample.sample_id in self.skeletons:
            pixels = self.skeletons[sample.sample_id].pixels
        return ClipTask(
            row=row,
            sample_id=sample.sample_id,
            title=f"{sample.sample_id}   {sample.class_id}: {sample.label}",
            video=below(self.videos, sample.video, self.manifest.path, links=True),
            start=sample.start_frame,
            end=sample.end_frame,
            pixels=pixels,
            sheet=None if sheets is None else sheet_path(sheets, sample.sample_id),
        )


def noted_videos(manifest: Path) -> Path:
    """Return the folder that skelfew-prepare wrote down."""
    note = manifest.with_name(manifest.stem + ".local.json")
    try:
        folder = json.loads(note.read_text(encoding="utf-8"))["videos"]
    except FileNotFoundError:
        raise SkelfewError(
            f"{note}: absent, so the folder of the videos is unknown; name it with --videos"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise SkelfewError(
            f'{note}: expected a JSON object with "videos"; name the folder with --videos'
        ) from None
    if not isinstance(folder, str) or not folder:
        raise SkelfewError(f"{note}: names no folder of videos; give it with --videos")
    return Path(folder)
