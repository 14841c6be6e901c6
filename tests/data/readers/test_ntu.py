import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_files import golden_joints, skeleton_text

from skelfew.data.readers import Dropped, RawFolder, Recording
from skelfew.data.readers.ntu import READER, Track, select_bodies, tracks
from skelfew.data.readers.ntu_text import TextError, parse

DEFAULTS = READER.defaults
NAME = "S001C002P003R002A055"


def read(folder: Path, text: bytes, name: str = NAME) -> Recording | Dropped:
    (folder / f"{name}.skeleton").write_bytes(text)
    raw = RawFolder(folder)
    (item,) = READER.read(raw, f"{name}.skeleton", DEFAULTS)
    return item


def track(first: int, positions: np.ndarray) -> Track:
    motion = float(positions.reshape(-1, 3).var(axis=0).sum())
    return Track(first, positions, np.zeros((*positions.shape[:2], 2), np.float32), motion)


def standing(frames: int, sway: float = 0.1, width: float = 0.3) -> np.ndarray:
    """A body 1.8 m high and ``width`` m wide that sways."""
    j, f = np.arange(25), np.arange(frames)[:, None]
    x = width * (j % 5) / 4 + sway * np.sin(f)
    y = np.broadcast_to(1.8 * j / 24, x.shape)
    return np.stack([x, y, np.full_like(x, 3.0)], axis=-1).astype(np.float32)


# --- against the reference


@pytest.mark.parametrize("name", ["S001C001P001R001A055", "S001C001P001R001A001"])
def test_selection_and_denoising_equal_the_reference(golden: Path, name: str) -> None:
    document = json.loads((golden / "denoise.json").read_text())
    expected = document[name]
    if name.endswith("A055"):
        frames = document["bodies_per_frame_A055"]
    else:  # one body, unseen in frames 4 to 6
        frames = [[] if 4 <= f <= 6 else [1] for f in range(20)]
    text = parse(skeleton_text(frames, golden_joints))
    bodies = tracks(text)

    assert text.frames == expected["num_frames"]
    for body, (interval_start, interval_end) in zip(
        bodies, [b["interval"] for b in expected["bodies"].values()], strict=True
    ):
        assert (body.first, body.last) == (interval_start, interval_end)
    motions = [b["motion"] for b in expected["bodies"].values()]
    if motions != [-1.0]:  # the reference leaves a single body's at -1
        assert [b.motion for b in bodies] == pytest.approx(motions, rel=1e-6)
    positions = select_bodies(bodies, text.frames).positions
    rows = positions.transpose(1, 0, 2, 3).reshape(positions.shape[1], -1)
    assert list(rows.shape) == expected["joints_shape"]
    np.testing.assert_allclose(rows.sum(axis=1), expected["row_sums"], rtol=2e-7)
    np.testing.assert_allclose(rows[0, :6], expected["first_row_first6"], atol=1e-7)


# --- the text


def plain(text: bytes) -> list[tuple[int, bytes, np.ndarray]]:
    """Parse line by line: (frame, body, (25, 12) numbers)."""
    lines = iter(text.decode().splitlines())
    found = []
    for frame in range(int(next(lines))):
        for _ in range(int(next(lines))):
            body = next(lines).split()[0].encode()
            joints = int(next(lines))
            rows = [[float(token) for token in next(lines).split()] for _ in range(joints)]
            found.append((frame, body, np.array(rows)))
    return found


def test_the_real_files_parse_as_line_by_line(shared: Path) -> None:
    for path in sorted((shared / "data" / "ntu").glob("*.skeleton")):
        content = path.read_bytes()
        text, expected = parse(content), plain(content)
        assert text.body == [body for _, body, _ in expected]
        values = np.stack([rows for _, _, rows in expected])
        np.testing.assert_array_equal(text.positions, values[..., :3].astype(np.float32))
        np.testing.assert_array_equal(text.pixels, values[..., 5:7].astype(np.float32))


@settings(max_examples=40, deadline=None)
@given(
    frames=st.lists(st.lists(st.integers(1, 4), max_size=3, unique=True), min_size=1, max_size=6),
    seed=st.integers(0, 2**31),
    decimals=st.integers(0, 12),
    scale=st.sampled_from([1e-6, 1.0, 1e5]),
)
def test_any_text_parses_as_line_by_line(
    frames: list[list[int]], seed: int, decimals: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    content = skeleton_text(frames, lambda b, f: scale * rng.normal(size=(25, 3)), decimals)
    text, expected = parse(content), plain(content)
    assert text.frames == sum(bool(bodies) for bodies in frames)
    assert text.body == [body for _, body, _ in expected]
    values = np.array([rows for _, _, rows in expected]).reshape(-1, 25, 12)
    np.testing.assert_array_equal(text.positions, values[..., :3].astype(np.float32))
    np.testing.assert_array_equal(text.pixels, values[..., 5:7].astype(np.float32))


def test_body_ids_that_a_float_cannot_tell_apart_are_two_bodies() -> None:
    content = skeleton_text([[1, 2]] * 3, golden_joints, first_id=72057594037931100)
    assert len(tracks(parse(content))) == 2


def test_windows_line_ends_and_double_spaces_are_read() -> None:
    content = skeleton_text([[1]] * 3, golden_joints)
    expected = parse(content).positions
    np.testing.assert_array_equal(parse(content.replace(b"\n", b"\r\n")).positions, expected)
    np.testing.assert_array_equal(parse(content.replace(b" 277", b"  277")).positions, expected)


def test_unknown_pixels_become_nan_and_known_ones_stay() -> None:
    lines = skeleton_text([[1]] * 2, golden_joints).split(b"\n")
    for line, token in ((4, b"-1.#IND"), (6, b"inf"), (7, b"NaN")):
        tokens = lines[line].split()
        tokens[5] = token
        lines[line] = b" ".join(tokens)
    text = parse(b"\n".join(lines))
    assert np.argwhere(np.isnan(text.pixels)).tolist() == [[0, 0, 0], [0, 2, 0], [0, 3, 0]]
    assert np.isfinite(text.positions).all()


WHOLE = skeleton_text([[1]] * 20, golden_joints)
LINES = WHOLE.split(b"\n")
ROW = LINES[5].split()


def with_line(number: int, *tokens: bytes) -> bytes:
    """Return the text with another line in that place."""
    return b"\n".join([*LINES[:number], b" ".join(tokens), *LINES[number + 1 :]])


NO_NUMBER = with_line(5, ROW[0], b"nan", *ROW[2:])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"\n".join(LINES[:100]), "truncated: a number of bodies should follow line 100, the last"),
        (WHOLE[: len(WHOLE) // 2].rsplit(b" ", 3)[0], "truncated"),
        (WHOLE[:-30], "truncated: line 561: 6 numbers, expected 12"),
        (b"", "truncated: the number of frames"),
        (WHOLE.replace(b"\n25\n", b"\n24\n", 1), "line 4: 24 joints, expected 25"),
        (b"\n".join(LINES[:5] + LINES[6:]), "is not a number of bodies"),
        (with_line(5, *ROW[:-1]), "line 6: 11 numbers, expected 12"),
        (with_line(5, *ROW, b"0"), "line 6: 13 numbers, expected 12"),
        (NO_NUMBER, "line 6: the position '.* nan .*' is not three finite numbers"),
        (
            with_line(5, ROW[0], b"0,5", *ROW[2:]),
            "line 6: the position '.* 0,5 .*' is not three finite numbers",
        ),
        (with_line(0, b"many"), "line 1: b'many' is not the number of frames"),
        (with_line(1, b"-1"), "line 2: -1 is not a number of bodies"),
    ],
    ids=range(12),
)
def test_damaged_text_is_refused_with_its_line(text: bytes, reason: str) -> None:
    with pytest.raises(TextError, match=reason):
        parse(text)


def test_every_cut_of_a_file_is_noticed() -> None:
    content = skeleton_text([[1], [1, 2]], golden_joints).rstrip(b"\n")
    whole = parse(content)
    for length in range(0, len(content), 7):
        try:
            cut = parse(content[:length])
        except TextError:
            continue
        # Only digits of the very last number, the tracking state, can go unnoticed.
        assert length >= len(content) - 1
        np.testing.assert_array_equal(cut.positions, whole.positions)


# --- bodies


def test_short_bodies_are_noise_but_one_always_stays() -> None:
    long, short = track(0, standing(30)), track(3, standing(11, sway=1.0))
    skeleton = select_bodies([short, long], 30)
    assert skeleton.positions.shape == (1, 30, 25, 3)
    np.testing.assert_array_equal(skeleton.positions[0], long.positions)

    eleven, nine = track(0, standing(11)), track(2, standing(9))
    assert select_bodies([nine, eleven], 11).positions.shape == (1, 11, 25, 3)


def test_bodies_wider_than_high_are_noise_but_one_always_stays() -> None:
    person, sofa = track(0, standing(30)), track(0, standing(30, sway=1.0, width=2.0))
    skeleton = select_bodies([sofa, person], 30)
    np.testing.assert_array_equal(skeleton.positions, person.positions[None])

    other = track(0, standing(30, width=1.9))
    skeleton = select_bodies([sofa, other], 30)
    np.testing.assert_array_equal(skeleton.positions, other.positions[None])


def test_three_bodies_become_two_actors_by_motion() -> None:
    calm, lively, liveliest = (track(0, standing(30, sway=s)) for s in (0.01, 0.2, 0.4))
    skeleton = select_bodies([calm, lively, liveliest], 30)
    np.testing.assert_array_equal(
        skeleton.positions, np.stack([liveliest.positions, lively.positions])
    )


def test_a_body_that_comes_later_continues_the_first_actor() -> None:
    first, later = track(0, standing(20, sway=0.4)), track(25, standing(15))
    skeleton = select_bodies([first, later], 40)
    # Both in slot 1, the second actor stays empty, as in the reference; frames 20-24 are empty.
    assert skeleton.positions.shape == (2, 35, 25, 3)
    np.testing.assert_array_equal(skeleton.positions[0, :20], first.positions)
    np.testing.assert_array_equal(skeleton.positions[0, 20:], later.positions)
    assert not skeleton.positions[1].any()


# --- the reader


def test_a_sample_with_its_name_video_and_pixels(tmp_path: Path) -> None:
    (tmp_path / "nturgb+d_rgb").mkdir()
    video = tmp_path / "nturgb+d_rgb" / f"{NAME}_rgb.avi"
    video.write_bytes(b"x")
    recording = read(tmp_path, skeleton_text([[], [1], [1], []], golden_joints))
    assert isinstance(recording, Recording)
    sample = recording.sample
    assert (sample.class_id, sample.label) == (55, "hugging other person")
    assert (sample.setup, sample.view, sample.subject, sample.replication) == ("1", "2", "3", "2")
    assert sample.video == f"nturgb+d_rgb/{NAME}_rgb.avi"
    assert (sample.start_frame, sample.end_frame) == (0, 4)  # the video's frames, not the bodies'
    positions, pixels = recording.skeleton.positions, recording.skeleton.pixels
    assert positions.shape == (1, 2, 25, 3) and pixels is not None
    np.testing.assert_allclose(pixels[..., 0], 900 + 100 * positions[..., 0], atol=1e-3)


def test_pixels_stay_with_their_body(tmp_path: Path) -> None:
    frames = [[1, 2] if f > 4 else [1] for f in range(30)]
    recording = read(tmp_path, skeleton_text(frames, golden_joints))
    assert isinstance(recording, Recording) and recording.skeleton.pixels is not None
    positions, pixels = recording.skeleton.positions, recording.skeleton.pixels
    seen = positions.any(axis=(2, 3))
    assert np.isnan(pixels[~seen]).all() and (~seen).any()
    np.testing.assert_allclose(pixels[seen][..., 1], 500 - positions[seen][..., 1], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "text", "reason", "expected"),
    [
        ("S001C001P001R001A121", b"0\n", "A121 is out of range", False),
        ("S001C001P001R001A000", b"0\n", "A000 is out of range", False),
        ("kitchen", b"0\n", "its name is not like S001C002P003R001A001", False),
        (NAME, skeleton_text([[]] * 30, golden_joints), "no body in any of 30 frames", False),
        (NAME, skeleton_text([[1, 1]], golden_joints), "body 7001 appears twice", False),
        (NAME, NO_NUMBER, "line 6: the position", False),
        ("S001C002P005R002A008", b"", "official list of missing skeletons", True),
    ],
)
def test_what_cannot_be_used_is_dropped_with_the_reason(
    tmp_path: Path, name: str, text: bytes, reason: str, expected: bool
) -> None:
    item = read(tmp_path, text, name)
    assert isinstance(item, Dropped)
    assert reason in item.reason and item.expected == expected
    assert (item.sample_id, item.source) == (name, f"{name}.skeleton")


def test_the_official_list_can_be_left_aside(tmp_path: Path) -> None:
    name = "S001C002P005R002A008"
    (tmp_path / f"{name}.skeleton").write_bytes(skeleton_text([[1]] * 3, golden_joints))
    (item,) = READER.read(RawFolder(tmp_path), f"{name}.skeleton", {"missing": "none"})
    assert isinstance(item, Recording)
