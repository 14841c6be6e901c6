"""The demo world: what its actions are made of, and that its samples are what they claim."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skelfew_extract.demoworld import ACTIONS, NOVEL, VALIDATION, describe, generate, specs
from skelfew_extract.demoworld.actions import BY_NAME, MIRRORED_PAIRS, REVERSED_PAIRS, poses
from skelfew_extract.demoworld.body import JOINT, Proportions, joints, mirrored
from skelfew_extract.demoworld.performer import subject
from skelfew_extract.demoworld.reader import DEFAULTS, Spec, read
from skelfew_extract.demoworld.sensor import hidden, observe

from skelfew.data.protocols.files import find_protocol, read_protocol
from skelfew.data.readers import Options, RawFolder, Recording, load_reader
from skelfew.errors import SkelfewError

PHASES = np.linspace(0, 1, 40)
SKELETONS: Options = {**DEFAULTS, "video": False}


def clean(name: str, phases: np.ndarray = PHASES) -> list[np.ndarray]:
    """The joints of an action without a performer's own traits, (T, 25, 3) a person."""
    return [joints(pose, Proportions()) for pose in poses(BY_NAME[name], phases)]


# --- the actions -----------------------------------------------------------------------------


def test_there_are_enough_different_actions() -> None:
    names = [action.name for action in ACTIONS]
    assert len(set(names)) == len(names) >= 48
    assert [action.class_id for action in ACTIONS] == list(range(1, len(names) + 1))
    assert 6 <= sum(action.persons == 2 for action in ACTIONS) <= 10
    moves = np.stack([np.ravel(clean(name)[0]) for name in names])
    apart = np.abs(moves[:, None] - moves[None]).max(-1)
    # The kicked and the pushed differ in the other person.
    single = [i for i, action in enumerate(ACTIONS) if action.persons == 1]
    assert (apart[np.ix_(single, single)] + np.eye(len(single)) > 0.1).all()


@pytest.mark.parametrize(
    ("pairs", "change"), [(MIRRORED_PAIRS, mirrored), (REVERSED_PAIRS, np.flipud)]
)
def test_pairs_are_mirror_images_or_run_backwards(pairs: Any, change: Any) -> None:
    assert len(pairs) >= 8
    for one, other in pairs:
        for a, b in zip(clean(one), clean(other), strict=True):
            np.testing.assert_allclose(change(a), b, atol=1e-9)
            assert np.abs(a - b).max() > 0.1


def test_base_classes_cover_what_novel_classes_are_made_of() -> None:
    held_out = {*NOVEL, *VALIDATION}
    assert len(held_out) == len(NOVEL) + len(VALIDATION)
    base = [action for action in ACTIONS if action.name not in held_out]
    known = set().union(*(action.elements() for action in base))
    for name in held_out:
        assert BY_NAME[name].elements() <= known, name
    legs = set().union(*(a.elements() for a in base if "leg" in a.name))
    assert not BY_NAME["wave left hand"].elements() <= legs


def test_protocol_file_says_the_same_split() -> None:
    document = read_protocol(find_protocol("demo"))
    for key, names in (("novel", NOVEL), ("validation", VALIDATION)):
        assert document[key] == sorted(BY_NAME[name].class_id for name in names)
    everything = document["base"] + document["validation"] + document["novel"]
    assert sorted(everything) == [action.class_id for action in ACTIONS]


def test_bodies_stay_whole() -> None:
    for positions in (body for action in ACTIONS for body in clean(action.name)):
        assert np.isfinite(positions).all()
        assert positions[..., 1].min() > -0.12, "below the floor"
        for one, other in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee")):
            for side in ("left", "right"):
                bone = positions[:, JOINT[f"{side}_{one}"]] - positions[:, JOINT[f"{side}_{other}"]]
                length = np.linalg.norm(bone, axis=-1)
                np.testing.assert_allclose(length, length[0], rtol=1e-6)
        assert np.linalg.norm(np.diff(positions, axis=0), axis=-1).max() < 0.75, "a leap"


def test_descriptions_share_words_and_tell_sides_apart() -> None:
    for action in ACTIONS:
        texts = describe(action)
        assert len(set(texts)) == len(texts) >= 3
        assert texts[0] == action.name
        assert not any("{" in text for text in texts)
    assert "waving the left hand" in describe(BY_NAME["wave left hand"])[1]
    assert "raising both arms" in describe(BY_NAME["squat and raise both arms"])[1]
    first_descriptions = [describe(action)[1] for action in ACTIONS]
    assert len(set(first_descriptions)) == len(ACTIONS)


# --- the samples -----------------------------------------------------------------------------


def test_default_world() -> None:
    reader = load_reader("demo")
    assert not reader.needs_raw
    assert reader.pixels
    ids = [spec.sample_id for spec in specs(reader.defaults)]
    assert ids == sorted(set(ids))
    assert len(ids) == len(ACTIONS) * 8 * 2
    assert {spec.view for spec in specs(reader.defaults)} == {1, 2, 3}
    assert ids[0] == "A001P001C1R001"
    assert [Spec.parse(i) for i in ids] == specs(reader.defaults)


def test_options_change_the_number_of_samples() -> None:
    small: Options = {"classes": 5, "subjects": 3, "views": 3, "replications": 2}
    assert len(specs(small)) == 5 * 3 * 3 * 2
    for wrong in ({"classes": 1000}, {"size": 100}, {"seed": -1}, {"views": "two"}, {"speed": 1}):
        with pytest.raises(SkelfewError, match=next(iter(wrong))):
            specs(wrong)
    with pytest.raises(SkelfewError, match="A000P001C1R001"):
        generate("A000P001C1R001")
    with pytest.raises(SkelfewError, match="wave"):
        generate("wave")


def test_a_sample_depends_on_seed_and_name_only() -> None:
    name = "A022P003C3R001"
    first, _ = generate(name, SKELETONS)
    generate("A023P003C3R001", SKELETONS)
    again, frames = generate(name, {**DEFAULTS, "subjects": 3, "classes": 30})
    np.testing.assert_array_equal(first.skeleton.positions, again.skeleton.positions)
    np.testing.assert_array_equal(first.skeleton.pixels, again.skeleton.pixels)
    _, same_frames = generate(name)
    np.testing.assert_array_equal(frames, same_frames)
    other, _ = generate(name, {**SKELETONS, "seed": 1})
    assert other.skeleton.positions.shape != first.skeleton.positions.shape or not np.allclose(
        other.skeleton.positions, first.skeleton.positions
    )
    repeated, _ = generate("A022P003C3R002", SKELETONS)
    assert repeated.skeleton.positions.tobytes() != first.skeleton.positions.tobytes()


def test_lengths_views_and_bodies_vary() -> None:
    recordings = [generate(spec, SKELETONS)[0] for spec in specs({"subjects": 4})[::7]]
    lengths = [recording.sample.frames for recording in recordings]
    assert min(lengths) >= 16
    assert max(lengths) > 1.6 * min(lengths)
    for recording in recordings:
        positions, pixels = recording.skeleton.positions, recording.skeleton.pixels
        assert positions.dtype == np.float32
        assert positions.shape == (recording.sample.bodies, recording.sample.frames, 25, 3)
        assert pixels is not None
        assert pixels.shape == (*positions.shape[:3], 2)
        lost = (positions == 0).all((2, 3))
        assert np.isnan(pixels[lost]).all()
        assert np.isfinite(pixels[~lost]).all()
        assert not lost[:, [0, -1]].any()
        assert 1.5 < positions[~lost][..., 2].mean() < 6, "in front of the camera"
        height = positions[~lost][:, JOINT["head"], 1] - positions[~lost][:, JOINT["left_foot"], 1]
        assert (height > 0).mean() > 0.95, "y points up"
    two = generate("A066P001C1R001", SKELETONS)[0]
    assert two.sample.bodies == 2


def test_pixels_lie_on_the_rendered_person() -> None:
    shirts: list[bool] = []
    walls: list[bool] = []
    for name in ("A001P001C1R001", "A029P004C1R001", "A034P007C2R001", "A051P002C3R001"):
        recording, frames = generate(name)
        assert frames is not None and recording.skeleton.pixels is not None
        shirt = subject(Spec.parse(name).subject, 0).shirt
        middle = recording.skeleton.pixels[0, :, JOINT["spine_mid"]]
        for shift, found in ((0, shirts), (45, walls)):
            for frame, (x, y) in zip(frames, middle, strict=True):
                if np.isfinite(x):
                    colour = frame[int(y), int(x) + shift].astype(float)
                    cosine = colour @ shirt / np.linalg.norm(colour) / np.linalg.norm(shirt)
                    found.append(cosine > 0.985)
    assert np.mean(shirts) > 0.85
    assert np.mean(walls) < 0.15


def test_noise_is_like_a_kinects() -> None:
    pose = clean("twist to the right", np.zeros(120))[0][None] + [0.0, -1.0, 3.2]
    seen = observe(pose, 15, np.random.default_rng(0))
    valid = (seen != 0).any((2, 3))[0]
    spread = (seen - pose)[0, valid].std(0).mean(-1)
    assert spread[JOINT["right_hand_tip"]] > 2.5 * spread[JOINT["spine_mid"]] > 0
    sideways = pose.copy()
    sideways[..., 0], sideways[..., 2] = pose[..., 2] - 3.2, pose[..., 0] + 3.2
    near, far = (
        ("left", "right") if sideways[0, 0, JOINT["left_hip"], 2] < 3.2 else ("right", "left")
    )
    covered = hidden(sideways)[0].mean(0)
    assert covered[JOINT[f"{far}_elbow"]] > 0.9
    assert covered[JOINT[f"{near}_elbow"]] == 0
    assert not hidden(pose)[0, :, JOINT["left_hand"]].any()


# --- the reader ------------------------------------------------------------------------------


def read_one(folder: Path, name: str, options: Options = DEFAULTS) -> Recording:
    (recording,) = read(RawFolder(folder), name, options)
    assert isinstance(recording, Recording)
    return recording


def test_videos_have_as_many_frames_as_skeletons(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV comes with skelfew[extract]")
    for name in ("A001P001C1R001", "A066P005C2R001"):
        recording = read_one(tmp_path, name)
        path = tmp_path / recording.sample.video
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.name == "h264"
            images = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        assert len(images) == recording.sample.frames == recording.sample.end_frame
        assert recording.skeleton.positions.shape[1] == len(images)
        _, frames = generate(name)
        assert frames is not None
        assert np.abs(np.stack(images).astype(float) - frames).mean() < 8
    assert not list(tmp_path.rglob("*.partial"))


def test_a_finished_video_is_kept_and_a_foreign_one_replaced(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV comes with skelfew[extract]")
    name = "A002P001C1R001"
    first = read_one(tmp_path, name)
    path = tmp_path / first.sample.video
    stamp = path.stat().st_mtime_ns
    second = read_one(tmp_path, name)
    assert path.stat().st_mtime_ns == stamp
    assert second.sample == first.sample
    np.testing.assert_array_equal(second.skeleton.positions, first.skeleton.positions)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    read_one(tmp_path, name)
    assert len(path.read_bytes()) == len(content)
    read_one(tmp_path, name, {**DEFAULTS, "seed": 1})
    assert path.read_bytes() != content


def test_skeletons_need_no_pyav(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules.update(dict.fromkeys(('av', 'decord', 'open_clip', 'torch')))\n"
        "from pathlib import Path\n"
        "from skelfew.data.readers import RawFolder, load_reader\n"
        "from skelfew.errors import SkelfewError\n"
        "reader, raw = load_reader('demo'), RawFolder(Path(sys.argv[1]))\n"
        "options = {**reader.defaults, 'video': False}\n"
        "(recording,) = reader.read(raw, reader.sources(raw, options)[0], options)\n"
        "print(recording.sample.video == '', recording.sample.end_frame)\n"
        "try:\n    reader.read(raw, 'A001P001C1R001', reader.defaults)\n"
        "except SkelfewError as error:\n    print('video=false' in str(error))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["True", "0", "True"]
    assert list(tmp_path.iterdir()) == []
