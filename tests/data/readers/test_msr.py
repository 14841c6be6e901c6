from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skelfew.data.joints.layouts import LAYOUTS
from skelfew.data.prepare.walk import Outputs, prepare
from skelfew.data.readers import Dropped, RawFolder, Recording
from skelfew.data.readers.msr import READER, parse
from skelfew.errors import SkelfewError


def walking(frames: int = 12, seed: int = 0) -> np.ndarray:
    """A body (T, 20, 3) in metres that walks in front of the camera and jitters."""
    layout = LAYOUTS["kinect-v1"]
    height = {"head": 0.7, "shoulder": 0.5, "spine": 0.1, "hip": 0.0, "knee": -0.5, "foot": -0.9}
    y = [next((v for k, v in height.items() if k in name), 0.2) for name in layout.joints]
    x = [-0.3 if "left" in name else 0.3 if "right" in name else 0.0 for name in layout.joints]
    body = np.stack([x, y, np.full(20, 2.5)], axis=1)
    rng = np.random.default_rng(seed)
    move = np.linspace(0, 1, frames)[:, None, None] * [0.4, 0.0, 0.3]
    return (body + move + rng.normal(scale=0.01, size=(frames, 20, 3))).round(5)


def screen(joints: np.ndarray, normalised: bool) -> np.ndarray:
    u, v = 0.5 + 0.8 * joints[..., 0] / joints[..., 2], 0.5 - joints[..., 1] / joints[..., 2]
    scale = (1.0, 1.0) if normalised else (320.0, 240.0)
    return np.stack([u * scale[0], v * scale[1], 8000 * joints[..., 2]], axis=-1).clip(0)


def rows(values: np.ndarray, confidence: bool = True) -> list[str]:
    end = " 1" if confidence else ""
    return [" ".join(f"{v:.5f}" for v in row) + end for row in values.reshape(-1, 3)]


def counted(frames: np.ndarray) -> list[str]:
    return [line for frame in frames for line in (str(frame[..., 0].size), *rows(frame))]


Form = Callable[[np.ndarray, np.ndarray], list[str]]  # of joints, and of both, to lines
FORMS: dict[str, Form] = {
    "rows": lambda joints, _: rows(joints),
    "rows of 3": lambda joints, _: rows(joints, confidence=False),
    "millimetres": lambda joints, _: rows(1000 * joints),
    "a row a frame": lambda joints, _: [" ".join(rows(f)) for f in joints],
    "a row of 60 a frame": lambda joints, _: [" ".join(rows(f, False)) for f in joints],
    "header": lambda joints, _: [f"{len(joints)} 20", *rows(joints)],
    "header and counts": lambda joints, _: [f"{len(joints)} 20", *counted(joints)],
    "alternating": lambda _, both: rows(both),
    "header and alternating": lambda _, both: [f"{len(both)} 20", *rows(both)],
    "screen first": lambda _, both: rows(both[:, :, ::-1]),
    "counts and alternating": lambda _, both: [f"{len(both)} 20", *counted(both)],
}


def lay_out(joints: np.ndarray, form: str, normalised: bool = False) -> bytes:
    both = np.stack([joints, screen(joints, normalised)], axis=2)  # (T, 20, 2, 3)
    return ("\r\n".join(FORMS[form](joints, both)) + "\r\n").encode()


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_every_layout_gives_the_same_joints(form: str, normalised: bool) -> None:
    for frames in (1, 2, 3, 12, 13):
        joints = walking(frames)
        np.testing.assert_allclose(parse(lay_out(joints, form, normalised)), joints, atol=2e-5)


def test_frames_without_a_body_are_zero() -> None:
    joints = walking(3)
    lines = ["4 20", "20", *rows(joints[0]), "0", "20", *rows(joints[1]), "20", *rows(joints[2])]
    found = parse("\n".join(lines).encode())
    assert not found[1].any()
    np.testing.assert_allclose(found[[0, 2, 3]], joints, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "the file is empty"),
        (lay_out(walking(), "rows")[:-60], "line 238: 3 numbers, expected 4"),
        (lay_out(walking(), "header and counts")[:-400], "line 239: 2 numbers, expected 4"),
        (lay_out(walking(), "header").replace(b"12 20", b"13 20"), "13 frames are declared, 12"),
        (lay_out(walking(), "header").replace(b"12 20", b"a 20"), "line 1: b'a' is not a whole"),
        (lay_out(walking(), "header and counts").replace(b"\n20\r", b"\n25\r", 1), "25 rows in a"),
        (b"\n".join([b"1 2 3 4 5"] * 20), "rows of 5 numbers"),
        (b"\n".join([b"0 0 0 0"] * 40), "no body in any frame"),
        (b"\n".join([b"0.1 nan 2 1"] * 20), "line 1: NaN or infinity"),
        (b"\n".join([b"0.1 x 2 1"] * 20), "line 1: could not convert"),
        (b"\n".join([b"0.1 0.2 2 1"] * 19 + [b"0 1 2"]), "line 20: 3 numbers, expected 4"),
        (b"\n".join([b"100 50 -3 1"] * 20), "the median depth is -3"),
    ],
)
def test_what_cannot_be_understood_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(SkelfewError, match=reason):
        parse(text)


def test_a_tree_is_prepared(tmp_path: Path) -> None:
    raw = tmp_path / "raw" / "Skeletons"
    raw.mkdir(parents=True)
    for action in (1, 7):
        for subject in (1, 10):
            text = lay_out(walking(9, seed=action), "counts and alternating")
            (raw / f"a{action:02}_s{subject:02}_e02_skeleton.txt").write_bytes(text)
    outputs = Outputs(tmp_path / "msr.csv", tmp_path / "msr.h5")
    prepared = prepare("msr", RawFolder(tmp_path / "raw"), outputs, {})
    assert prepared.manifest.ids == ["a01_s01_e02", "a01_s10_e02", "a07_s01_e02", "a07_s10_e02"]
    sample = prepared.manifest["a07_s10_e02"]
    assert (sample.label, sample.subject, sample.replication) == ("wear a hat", "10", "2")
    assert not prepared.dropped
    (raw / "a13_s01_e02_skeleton.txt").write_bytes(text)
    with pytest.raises(SkelfewError, match=r"holds action a13.*look like MSR Action3D"):
        prepare("msr", RawFolder(tmp_path / "raw"), outputs, {})


def test_damage_is_a_dropped_row(tmp_path: Path) -> None:
    (tmp_path / "a01_s01_e01.txt").write_bytes(b"junk")
    (item,) = READER.read(RawFolder(tmp_path), "a01_s01_e01.txt", {})
    assert isinstance(item, Dropped) and not isinstance(item, Recording)
