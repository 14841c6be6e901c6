"""Messages to and from a decoding process. Loads neither torch nor a decoder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skelfew_extract.crop import Box, CropSettings


@dataclass(frozen=True)
class ClipTask:
    """One clip to decode.

    Attributes:
        row: Its number, which the result repeats.
        title: What a person reads above its contact sheet.
        pixels: Joints in the picture (M, T, V, 2), NaN where unknown; or None.
        sheet: Where to write a contact sheet; None for none.
    """

    row: int
    sample_id: str
    title: str
    video: Path
    start: int
    end: int
    pixels: np.ndarray | None = None
    sheet: Path | None = None


@dataclass(frozen=True)
class DecodeSettings:
    """Settings of decoding and cropping, the same for all clips of a run."""

    crop: CropSettings
    decoder: str = "auto"
    timeout: float = 120.0


@dataclass(frozen=True)
class ClipReport:
    """The outcome of one clip; its pictures follow it through the pipe as bytes if it succeeded.

    Attributes:
        stage: ``decode`` or ``crop`` if that failed, "" if all went well.
        joints: Whether the box comes from joints (and not from the picture's centre).
    """

    row: int
    stage: str = ""
    message: str = ""
    box: Box | None = None
    joints: bool = True
