"""The reader of the demo world: it reads nothing and makes everything."""

import hashlib
import importlib.util
import re
from dataclasses import dataclass

import numpy as np

from skelfew.data.manifest import Sample
from skelfew.data.readers import Dropped, Options, RawFolder, Reader, Recording
from skelfew.data.store import Skeleton
from skelfew.errors import SkelfewError
from skelfew_extract.demoworld.actions import ACTIONS, Action
from skelfew_extract.demoworld.performer import Performer, perform, subject
from skelfew_extract.demoworld.render import render
from skelfew_extract.demoworld.sensor import CAMERAS, observe, place_camera
from skelfew_extract.demoworld.video import NO_PYAV, is_complete, write_video

# Counts up when the same seed gives other samples than before.
VERSION = 1
DEFAULTS: Options = {
    "classes": 0, "subjects": 8, "views": 2, "replications": 1, "seed": 0, "size": 160, "fps": 15,
    "video": True,
}  # fmt: skip
_ID = re.compile(r"A(\d{3})P(\d{3})C(\d)R(\d{3})")


@dataclass(frozen=True, order=True)
class Spec:
    """Names a sample: ``A003P001C2R001`` is class 3 by subject 1 before camera 2, first time."""

    class_id: int
    subject: int
    view: int
    replication: int

    @classmethod
    def parse(cls, sample_id: str) -> "Spec":
        """Read a sample ID; raise SkelfewError if this world has no such sample."""
        match = _ID.fullmatch(sample_id)
        if match is None:
            raise SkelfewError(f"{sample_id!r} is no sample ID of the demo, like A003P001C2R001")
        spec = cls(*(int(group) for group in match.groups()))
        if not 1 <= spec.class_id <= len(ACTIONS) or not 1 <= spec.view <= len(CAMERAS):
            raise SkelfewError(
                f"{sample_id!r}: the demo has classes 1 to {len(ACTIONS)} and views 1 to "
                f"{len(CAMERAS)}"
            )
        return spec

    @property
    def sample_id(self) -> str:
        return f"A{self.class_id:03}P{self.subject:03}C{self.view}R{self.replication:03}"

    @property
    def action(self) -> Action:
        return ACTIONS[self.class_id - 1]


def _settings(options: Options) -> dict[str, int]:
    """Check the options; ``video`` becomes 0 or 1."""
    limits = {
        "classes": (0, len(ACTIONS)),
        "subjects": (1, 999),
        "views": (1, len(CAMERAS)),
        "replications": (1, 999),
        "seed": (0, 2**31),
        "size": (64, 1280),
        "fps": (5, 60),
        "video": (0, 1),
    }
    values = {**DEFAULTS, **options}
    if unknown := sorted(set(values) - set(limits)):
        raise SkelfewError(f"demo: no option {unknown[0]!r}; there are {', '.join(limits)}")
    for name, (least, most) in limits.items():
        value = values[name]
        if not isinstance(value, int) or not least <= value <= most:
            raise SkelfewError(f"demo: {name} is {value!r}, expected {least} to {most}")
    if int(values["size"]) % 8:
        raise SkelfewError(f"demo: size is {values['size']}, expected a multiple of 8 pixels")
    return {name: int(values[name]) for name in limits}


def specs(options: Options) -> list[Spec]:
    """Return all samples of a world, sorted.

    Every subject performs every action before ``views`` of the three cameras; with less than
    three, the next subject gets the next cameras, so that all of them are used.
    """
    chosen = _settings(options)
    return sorted(
        Spec(class_id, person, (person - 1 + shift) % len(CAMERAS) + 1, replication)
        for class_id in range(1, (chosen["classes"] or len(ACTIONS)) + 1)
        for person in range(1, chosen["subjects"] + 1)
        for shift in range(chosen["views"])
        for replication in range(1, chosen["replications"] + 1)
    )


def sources(raw: RawFolder | None, options: Options) -> list[str]:
    """Return the sample IDs of a world, sorted; raise SkelfewError if its videos cannot be made."""
    if options.get("video") and importlib.util.find_spec("av") is None:
        raise SkelfewError(NO_PYAV)
    return [spec.sample_id for spec in specs(options)]


def generate(
    sample: str | Spec, options: Options = DEFAULTS, draw: bool = True, moments: int = 0
) -> tuple[Recording, np.ndarray | None]:
    """Make one sample in memory, by its ID or Spec; subjects beyond the options' are fine.

    ``draw`` False renders nothing; ``moments`` only the middles of so many equal parts, 0 all
    frames. Returns the recording and its video (T, H, W, 3) uint8 or None. Raises SkelfewError if
    the world has no such sample or option.
    """
    spec = Spec.parse(sample) if isinstance(sample, str) else sample
    chosen = _settings(options)
    # One stream of random numbers a concern, so that not rendering changes no joint.
    digest = hashlib.sha256(spec.sample_id.encode()).digest()
    key = [chosen["seed"], VERSION, int.from_bytes(digest[:8], "little")]
    motion, sensor, paint = (np.random.default_rng([*key, concern]) for concern in range(3))

    size = (chosen["size"], chosen["size"] * 3 // 4)
    cast = _cast(spec, chosen["seed"], motion)
    room = perform(spec.action, cast, chosen["fps"], motion)
    if spec.action.persons == 2 and motion.uniform() < 0.5:
        room = room * np.array([-1.0, 1.0, -1.0])
    camera = place_camera(spec.view, len(room), size, sensor)
    seen = camera.see(room)
    positions = observe(seen, chosen["fps"], sensor)
    lost = ~positions.any((2, 3))
    pixels = camera.project(positions).astype(np.float32)
    pixels[lost] = np.nan

    shown = seen[:, middles(seen.shape[1], moments)] if moments else seen
    frames = render(shown, cast, camera, paint) if draw and chosen["video"] else None
    recording = Recording(
        Sample(
            sample_id=spec.sample_id,
            class_id=spec.class_id,
            label=spec.action.name,
            frames=room.shape[1],
            bodies=len(room),
            video=f"videos/{spec.sample_id}.mp4" if chosen["video"] else "",
            end_frame=room.shape[1] if chosen["video"] else 0,
            subject=str(spec.subject),
            view=str(spec.view),
            replication=str(spec.replication),
        ),
        Skeleton(positions, pixels),
    )
    return recording, frames


def middles(frames: int, parts: int) -> np.ndarray:
    """Return the indices of the frames in the middles of ``parts`` equal parts of a clip."""
    return ((np.arange(parts) + 0.5) * frames / parts).astype(int)


def _cast(spec: Spec, seed: int, rng: np.random.Generator) -> tuple[Performer, ...]:
    """The sample's subject, and for two persons a partner that is somebody else."""
    actor = subject(spec.subject, seed)
    if spec.action.persons == 1:
        return (actor,)
    return actor, subject(1000 + int(rng.integers(20)), seed)


def read(raw: RawFolder, source: str, options: Options) -> list[Recording | Dropped]:
    """Make one sample, and its video below ``raw`` unless it is there already."""
    chosen = _settings(options)
    if not chosen["video"]:
        return [generate(source, options)[0]]
    if raw.path.is_file():
        raise SkelfewError(f"{raw.path}: the demo writes its videos; name a folder, not a file")
    path = raw.video_folder / "videos" / f"{source}.mp4"
    made_by = " ".join(f"{name}={chosen[name]}" for name in ("seed", "size", "fps"))
    recipe = f"skelfew demo {VERSION}: {made_by}"
    recording, frames = generate(source, options, draw=not is_complete(path, recipe))
    if frames is not None:
        write_video(path, frames, chosen["fps"], recipe)
    return [recording]


READER = Reader(
    name="demo",
    layout="kinect-v2",
    sources=sources,
    read=read,
    pixels=True,
    defaults=DEFAULTS,
    needs_raw=False,
)
