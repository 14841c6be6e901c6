"""Messages to and from a decoding process. Loads neither torch nor a decoder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skelfew_extract.crop import Box, CropSettings


@dataclass(frozen=True)
class ClipTask:
    """One clip to decode."""

    row: int  # its number, which the result repeats
    sample_id: str
    title: str  # what a person reads above its contact sheet
    video: Path
    start: int
    end: int
    # Joints in the picture (M, T, V, 2), NaN where unknown; or None
    pixels: np.ndarray | None = None
    sheet: Path | None = None  # where to write a contact sheet; None for none


@dataclass(frozen=True)
class DecodeSettings:
    """Settings of decoding and cropping, the same for all clips of a run."""

    crop: CropSettings
    decoder: str = "auto"
    timeout: float = 120.0


@dataclass(frozen=True)
class ClipReport:
    """The outcome of one clip; its pictures follow it through the pipe as bytes if it succeeded."""

    row: int
    stage: str = ""  # ``decode`` or ``crop`` if that failed, "" if all went well
    message: str = ""
    box: Box | None = None
    joints: bool = True  # whether the box comes from joints (and not from the picture's centre)
