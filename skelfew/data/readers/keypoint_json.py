"""COCO-style keypoints in JSON, as 2D pose estimators write them.

A folder with a file a frame (OpenPose, AlphaPose's ``cmu`` and ``open`` formats, MMPose on a folder
of pictures), or one file for all frames: COCO results and AlphaPose (``image_id, keypoints``), COCO
annotations, MMPose on a video (``frame_id, instances``), Kinetics-Skeleton (``data, skeleton``).

A joint of less confidence than the source's threshold (``LEAST``) was not found.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from skelfew.data.readers.bodies import Person
from skelfew.errors import SkelfewError
from skelfew.io.files import Values, brief, read_json, shown

_OPENPOSE = ("pose_keypoints_2d", "pose_keypoints", "pose")
_KEYPOINTS = (*_OPENPOSE, "keypoints", "joints")
_SCORES = ("keypoint_scores", "score")  # beside keypoints that are x, y alone
_PEOPLE = ("people", "instances", "bodies", "skeleton")
# Joints of a person that lie in lists of their own, by the number of all joints.
_MORE = {
    67: {"hand_left_keypoints_2d": 21, "hand_right_keypoints_2d": 21},
    133: {"foot_kpts": 6, "face_kpts": 68, "lefthand_kpts": 21, "righthand_kpts": 21},
}
# Joints of less confidence were not found: OpenPose draws from 0.05 on; our choice for others.
LEAST = {"openpose": 0.05, "other": 0.2}
_TRACKS = ("track_id", "idx", "person_id")
# Frame numbers that span more than this many times the frames that are there are no numbers.
_MOST_GAPS = 20


@dataclass(frozen=True)
class Frames:
    """The people of a recording, a list a frame."""

    people: list[list[Person]]
    step: int = 1  # how many frames of the video lie between two of these
    notes: tuple[str, ...] = ()
    first: int = 0  # frame of the video that the first of these is, by the numbers of the files


def read_folder(path: Path, joints: int, least: float | None = None) -> Frames:
    """Read a folder of JSON files, by number; ``least`` is the confidence of a found joint."""
    files = sorted(p for p in path.glob("*.json") if not p.name.startswith("._"))
    if not files:
        raise SkelfewError("a folder without any JSON file")
    if len(files) == 1:
        return read_file(files[0], joints, least)
    frames: dict[int, list[Person]] = {}
    names: dict[int, str] = {}
    numbered = True
    for place, file in enumerate(files):
        number = _number(file.name.removesuffix(".json"))
        numbered &= number is not None
        number = place if number is None else number
        if number in names:
            raise SkelfewError(f"{names[number]} and {file.name} are both frame {number}")
        names[number] = file.name
        people = _people(_load(file))
        if people is None:
            raise SkelfewError(f"{file.name}: no keypoints of a frame; is it a pose estimator's?")
        frames[number] = _persons(people, joints, file.name, least)
    first = min(frames)
    # A folder that begins late is a part of the video, whose frames count from 0, or from 1.
    return replace(_in_order(frames, first), first=0 if first == 1 or not numbered else first)


def read_file(path: Path, joints: int, least: float | None = None) -> Frames:
    """Read one JSON file that holds all frames; ``least`` as in ``read_folder``."""
    content = _load(path)
    if isinstance(content, dict) and isinstance(content.get("instance_info"), list):
        content = content["instance_info"]
    if isinstance(content, dict) and isinstance(content.get("data"), list):  # Kinetics-Skeleton
        content = content["data"]
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        return _coco(content, joints, path.name, least)
    if isinstance(content, list) and all(isinstance(e, dict) for e in content):
        if all("image_id" in e for e in content):
            frames = _by_number(content, "image_id", joints, path.name, least)
            # Estimators leave frames without people out, also at the beginning.
            first = min(frames, default=0)
            base = first if first in (0, 1) or first > len(frames) else 0
            named = isinstance(content[0]["image_id"], str) if content else False  # 120.jpg
            return replace(_in_order(frames, base), first=base if named and base > 1 else 0)
        if all("instances" in e or "skeleton" in e for e in content):
            frames = {}
            for place, entry in enumerate(content):
                number = entry.get("frame_id", entry.get("frame_index", place))
                if not isinstance(number, int) or number < 0 or number in frames:
                    raise SkelfewError(
                        f"{path.name}: frame_id {shown(number)} is no number or repeated"
                    )
                found = _people(entry)
                if found is None:
                    raise SkelfewError(f"{path.name}: instances of frame {number} are no list")
                frames[number] = _persons(found, joints, path.name, least)
            first = min(frames, default=0)
            counted = content and "frame_index" in content[0] and first > 0  # from 1
            start = 0 if counted or first == 1 else first
            return replace(_in_order(frames, 1 if counted else first), first=start)
    people = _people(content)
    if people is None:
        raise SkelfewError(
            f"{path.name}: neither COCO results (image_id, keypoints) nor annotations, MMPose "
            "(frame_id, instances), OpenPose (people) nor Kinetics-Skeleton (data, skeleton)"
        )
    return _in_order({0: _persons(people, joints, path.name, least)}, 0)


def _load(path: Path) -> Any:
    try:
        return read_json(path)
    except OSError as error:
        raise SkelfewError(f"{path.name}: cannot be read ({brief(error.strerror)})") from None
    except ValueError as error:
        raise SkelfewError(f"{path.name}: not JSON ({brief(error)})") from None


def _people(content: Any) -> list[Any] | None:
    """Return the people of a file that holds one frame, None if it is not such a file."""
    if isinstance(content, dict):
        content = next((content[k] for k in _PEOPLE if k in content), None)
    if isinstance(content, list) and all(isinstance(p, dict) for p in content):
        return content
    return None


def _number(text: str) -> int | None:
    digits = re.findall(r"\d+", re.sub(r"_keypoints$", "", text))
    return int(digits[-1]) if digits and len(digits[-1]) < 19 else None


def _by_number(
    entries: Iterable[Values], key: str, joints: int, where: str, least: float | None
) -> dict[int, list[Person]]:
    frames: dict[int, list[Person]] = {}
    for entry in entries:
        given = entry[key]
        number = given if isinstance(given, int) else None
        if isinstance(given, str):  # AlphaPose: 12.jpg
            number = _number(Path(given).stem)
        if number is None or number < 0:
            raise SkelfewError(f"{where}: {key} {shown(given)} has no frame number in it")
        frames.setdefault(number, []).extend(_persons([entry], joints, where, least))
    return frames


def _coco(content: Values, joints: int, where: str, least: float | None) -> Frames:
    """COCO annotations: images are frames by the last number in their names, else by these."""
    images = content.get("images")
    if not isinstance(images, list) or not all(
        isinstance(i, dict) and isinstance(i.get("id"), int | str) for i in images
    ):
        raise SkelfewError(f"{where}: annotations without a list of images")
    order = sorted(images, key=lambda i: (str(i.get("file_name", "")), str(i["id"])))
    names = [Path(str(image.get("file_name", ""))).stem for image in order]
    numbers = [number for name in names if (number := _number(name)) is not None]
    span = max(numbers, default=0) - min(numbers, default=0)
    if len(set(numbers)) < len(images) or span > _MOST_GAPS * len(images) + 100:
        numbers = list(range(len(images)))
    place = {image["id"]: number for image, number in zip(order, numbers, strict=True)}
    frames: dict[int, list[Person]] = {number: [] for number in numbers}
    for entry in content["annotations"]:
        image = entry.get("image_id") if isinstance(entry, dict) else None
        if not isinstance(image, int | str) or image not in place:
            raise SkelfewError(f"{where}: an annotation of an image that is not listed")
        frames[place[image]].extend(_persons([entry], joints, where, least))
    first = min(frames, default=0)
    return replace(_in_order(frames, first), first=0 if first == 1 else first)


def _in_order(frames: Mapping[int, list[Person]], base: int) -> Frames:
    if not frames:
        raise SkelfewError("no frames in it")
    first, last = min(frames), max(frames)
    step = math.gcd(*(number - base for number in frames)) or 1
    count = (last - base) // step + 1
    if count > _MOST_GAPS * len(frames) + 100:
        raise SkelfewError(
            f"frame numbers run from {first} to {last}, but there are only {len(frames)} frames"
        )
    people: list[list[Person]] = [[] for _ in range(count)]
    for number, persons in frames.items():
        people[(number - base) // step] = persons
    notes: tuple[str, ...] = ()
    if step > 1:
        notes = (f"every {step}th frame of a video, taken as consecutive",)
    return Frames(people, step, notes)


def _persons(entries: Iterable[Any], joints: int, where: str, least: float | None) -> list[Person]:
    return [p for entry in entries for p in _person(entry, joints, where, least)]


def _person(entry: Any, joints: int, where: str, least: float | None) -> Iterator[Person]:
    """Yield the person of an entry; nothing if no joint of it was found."""
    key = next((k for k in _KEYPOINTS if isinstance(entry, dict) and k in entry), None)
    if key is None:
        raise SkelfewError(f"{where}: a person without keypoints")
    if not entry[key]:
        return
    scored = next((k for k in _SCORES if isinstance(entry.get(k), list)), "")
    try:
        values = np.array(entry[key], dtype=np.float32)
        scores = np.array(entry.get(scored, ()), dtype=np.float32)
        more = _MORE.get(joints, {})
        if values.size < 3 * joints and any(k in entry for k in more):
            rest = [entry.get(k) or [0.0] * 3 * count for k, count in more.items()]
            values = np.concatenate([np.ravel(np.array(v, np.float32)) for v in (values, *rest)])
    except (ValueError, TypeError, OverflowError):
        raise SkelfewError(f"{where}: {key} is not a list of numbers") from None
    if values.size == 2 * joints and scores.shape == (joints,):
        values = np.concatenate([values.reshape(joints, 2), scores[:, None]], axis=1)
    elif values.size == 3 * joints and scores.shape == (joints,):
        raise SkelfewError(
            f"{where}: {key} beside {scored} are x, y, z; save 3D joints as an array (frames, "
            f"{joints}, 3) in a .npy file"
        )
    if values.size != 3 * joints:
        raise SkelfewError(
            f"{where}: {key} has {values.size} numbers, expected {3 * joints}: x, y and confidence "
            f"of {joints} joints"
        )
    values = values.reshape(joints, 3)
    if least is None:
        least = LEAST["openpose" if key in _OPENPOSE else "other"]
    lost = (values[:, 2] <= 0) | (values[:, 2] < least)
    values[lost & np.isfinite(values[:, 2])] = 0
    if values.any():
        yield Person(values, _track(entry))


def _track(entry: Values) -> int | None:
    """Return the number that a tracker gave a person; OpenPose writes [-1] where it has none."""
    for key in _TRACKS:
        value = entry.get(key)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None
