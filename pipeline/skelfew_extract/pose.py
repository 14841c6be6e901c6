"""People in pictures: MediaPipe's pose landmarker. The only importer of mediapipe.

The model is one of Google's by name, fetched once, or a ``.task`` file (docs/your-videos.md).
"""

import contextlib
import hashlib
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from skelfew.cli.common import log
from skelfew.errors import SkelfewError
from skelfew.io.files import file_sha256
from skelfew.io.writing import writing
from skelfew_extract.weight_files import FOLDER

# SHA-256 of the files at Google's address, version 1; of ``full`` a second file, under ``latest``.
MODELS: dict[str, tuple[str, ...]] = {
    "lite": ("59929e1d1ee95287735ddd833b19cf4ac46d29bc7afddbbf6753c459690d574a",),
    "full": (
        "5134a3aad27a58b93da0088d431f366da362b44e3ccfbe3462b3827a839011b1",
        "4eaa5eb7a98365221087693fcc286334cf0858e2eb6e15b506aa4a7ecdcec4ad",
    ),
    "heavy": ("64437af838a65d18e5ba7a0d39b465540069bc8aae8308de3e318aad31fcbc7b",),
}
ADDRESS = "https://storage.googleapis.com/mediapipe-models/pose_landmarker/{0}/float16/1/{0}.task"
JOINTS, VALUES = 33, 6  # of a person: x, y in pixels, visibility; x, y, z in metres
_TIMEOUT_S, _MOST_BYTES = 20, 1 << 27


def find_model(name: str) -> Path:
    """Return the file of a pose model, after fetching it if it is one of Google's by name.

    Raises SkelfewError: no such ``.task`` file, no network, or another hash; says what to put
    where.
    """
    if name not in MODELS:
        path = Path(name)
        if not path.is_file():
            raise SkelfewError(
                f"{name}: no such pose model; name {', '.join(MODELS)} or a .task file"
            )
        return path
    stem = f"pose_landmarker_{name}"
    path, address = FOLDER / f"{stem}.task", ADDRESS.format(stem)
    advice = f"put {address} at {path}, or name a .task file with --pose-model FILE"
    if not path.exists():
        _fetch(address, path, MODELS[name], advice)
    elif (found := file_sha256(path)) not in MODELS[name]:
        raise SkelfewError(
            f"{path}: not Google's file (SHA-256 {found[:12]}..., expected "
            f"{MODELS[name][0][:12]}...); {advice}"
        )
    return path


def _fetch(address: str, path: Path, known: tuple[str, ...], advice: str) -> None:
    log(f"fetching {address}")
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as answer:
            content = answer.read(_MOST_BYTES)
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise SkelfewError(f"{path.name}: cannot be fetched ({reason}); {advice}") from None
    if (found := hashlib.sha256(content).hexdigest()) not in known:
        raise SkelfewError(
            f"{address}: has SHA-256 {found[:12]}..., expected {known[0][:12]}...; {advice}"
        )
    try:
        with writing(path) as file:
            file.write(content)
    except OSError as error:
        raise SkelfewError(f"{path}: cannot be written ({error.strerror}); {advice}") from None


class Estimator:
    """Finds people in the pictures of one video or camera, in order; a context manager.

    Looking for one is more than twice as fast as for several: then the detector runs on every
    picture in which some are lacking. Raises SkelfewError: no mediapipe, or the file is no pose
    model.
    """

    def __init__(self, model: Path, people: int = 1):
        try:
            with _silent():
                import mediapipe
                from mediapipe.tasks.python import BaseOptions, vision
        except ImportError as error:
            raise SkelfewError(
                f"poses need mediapipe, which cannot be imported ({error}); "
                "pip install 'skelfew[pose]'"
            ) from None
        self._image, self._rgb = mediapipe.Image, mediapipe.ImageFormat.SRGB
        self._time = -1
        options = vision.PoseLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model)),
            running_mode=vision.RunningMode.VIDEO,
            num_poses=people,
        )
        try:
            with _silent():
                self._landmarker: Any = vision.PoseLandmarker.create_from_options(options)
        except (RuntimeError, ValueError, OSError) as error:
            line = str(error).strip().split("\n", 1)[0][:160]
            raise SkelfewError(f"{model}: no pose model of MediaPipe ({line})") from None

    def __enter__(self) -> "Estimator":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with _silent():
            self._landmarker.close()

    def find(self, picture: np.ndarray, seconds: float) -> np.ndarray:
        """Return the people (P, 33, 6) float32 of the next picture, RGB uint8, at ``seconds``.

        x and y in pixels of the picture, y downwards; visibility in [0, 1]; then in metres, the
        middle of the hips at the origin, x to the left of the picture, y upwards and z away from
        the camera, as ``skelfew.data.readers.mediapipe`` turns them.
        """
        self._time = max(self._time + 1, round(seconds * 1000))
        image = self._image(image_format=self._rgb, data=np.ascontiguousarray(picture))
        with _silent():
            result = self._landmarker.detect_for_video(image, self._time)
        height, width = picture.shape[:2]
        people: np.ndarray = np.zeros((len(result.pose_landmarks), JOINTS, VALUES), np.float32)
        pairs = zip(result.pose_landmarks, result.pose_world_landmarks, strict=True)
        for person, (seen, world) in zip(people, pairs, strict=True):
            person[:] = [
                (a.x * width, a.y * height, a.visibility, -b.x, -b.y, b.z)
                for a, b in zip(seen, world, strict=True)
            ]
        return people


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep MediaPipe's native code, which writes dozens of lines, off stderr."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
