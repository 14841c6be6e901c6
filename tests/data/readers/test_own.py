"""One's own recordings: every format, every fault, end to end through the command."""

import csv
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from skelfew.cli.prepare import main
from skelfew.data.joints.layouts import load_layout
from skelfew.data.manifest import Manifest
from skelfew.data.readers.arrays import to_bodies
from skelfew.data.readers.bodies import Person, fill_missing, two_bodies
from skelfew.data.readers.own_table import read_table
from skelfew.data.store import Skeleton, SkeletonStore
from skelfew.errors import SkelfewError

RNG = np.random.default_rng(0)
LAYOUT = """
joints = ["head", "neck", "left_hand", "right_hand", "pelvis"]
bones = [["head", "neck"], ["left_hand", "neck"], ["right_hand", "neck"], ["pelvis", "neck"]]
centre = "neck"
"""
V = 5


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rig.toml").write_text(LAYOUT)
    (tmp_path / "mine").mkdir()
    return tmp_path


def solid(frames: int = 9, bodies: int | None = None) -> np.ndarray:
    """3D joints (T, V, 3), with bodies (M, T, V, 3)."""
    shape = (frames, V, 3) if bodies is None else (bodies, frames, V, 3)
    return RNG.normal(size=shape).astype(np.float32)


def flat(frames: int = 9) -> np.ndarray:
    """2D joints with confidence (T, V, 3) in pixels."""
    joints = RNG.uniform(100, 400, (frames, V, 3)).astype(np.float32)
    joints[..., 2] = RNG.uniform(0.2, 1, (frames, V))
    return joints


def run(rows: list[dict[str, object]], *options: str, name: str = "mine") -> Result:
    """Write the table and prepare it."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with Path(f"mine/{name}.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)
    arguments = ["own", "--table", f"mine/{name}.csv", "--layout", "rig.toml", "--workers", "1"]
    return CliRunner().invoke(main, [*arguments, *options])


def rows_of(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def stored(sample_id: str, name: str = "mine") -> Skeleton:
    with SkeletonStore(f"data/{name}.h5") as store:
        return store[sample_id]


def csv_text(joints: np.ndarray, ends: str) -> str:
    """A CSV file of joints (T, V, C) with a header, columns in another order than the layout's."""
    names = load_layout("rig.toml").joints
    order = [(v, c) for v in reversed(range(V)) for c in range(len(ends))]
    head = ",".join(["frame", *(f"{names[v]}_{ends[c]}" for v, c in order)])
    lines = [
        ",".join([str(t), *(repr(float(frame[v, c])) for v, c in order)])
        for t, frame in enumerate(joints)
    ]
    return "\n".join([head, *lines]) + "\n"


# --- formats


def test_arrays_in_every_format_give_the_same_joints(home: Path) -> None:
    joints = solid()
    np.save("mine/a.npy", joints)
    np.savez("mine/b.npz", joints)
    np.savez("mine/c.npz", positions=joints.astype(np.float64), fps=np.float32(30))
    Path("mine/d.csv").write_text(csv_text(joints, "xyz"))
    np.savetxt("mine/e.csv", joints.reshape(9, -1), delimiter=",")
    np.save("mine/f.npy", joints.reshape(9, -1))
    np.save("mine/g.npy", np.asfortranarray(joints.transpose(2, 0, 1)))  # (C, T, V)
    names = [
        f"{c}.{s}"
        for c, s in zip("abcdefg", ("npy", "npz", "npz", "csv", "csv", "npy", "npy"), strict=True)
    ]
    result = run([{"recording": n, "label": "wave", "id": n[0]} for n in names])
    assert result.exit_code == 0, result.output
    for name in "abcdefg":
        np.testing.assert_allclose(stored(name).positions, joints[None], rtol=1e-6)
    with SkeletonStore("data/mine.h5") as store:
        assert store.joint_layout == load_layout("rig.toml")
        assert (store.coordinates, store.channels, store.attrs["units"]) == (3, 3, "metres")


def people(frame: np.ndarray, key: str = "pose_keypoints_2d") -> dict[str, Any]:
    return {"version": 1.3, "people": [{"person_id": [-1], key: frame.ravel().tolist()}]}


def write_openpose(folder: Path, joints: np.ndarray) -> None:
    folder.mkdir()
    for t, frame in enumerate(joints):
        (folder / f"clip7_{t:012}_keypoints.json").write_text(json.dumps(people(frame)))


def write_pictures(folder: Path, joints: np.ndarray) -> None:
    """MMPose on a folder of pictures: a list of instances a file."""
    folder.mkdir()
    for t, frame in enumerate(joints):
        instance = {"keypoints": frame[:, :2].tolist(), "keypoint_scores": frame[:, 2].tolist()}
        (folder / f"{t + 1}.json").write_text(json.dumps([instance]))


def alphapose(joints: np.ndarray) -> list[dict[str, Any]]:
    entries = [
        {"image_id": f"{t}.jpg", "keypoints": f.ravel().tolist(), "score": 2.5, "category_id": 1}
        for t, f in enumerate(joints)
    ]
    return entries[::-1]


def coco(joints: np.ndarray) -> dict[str, Any]:
    images = [{"id": 900 - t, "file_name": f"img{t:04}.jpg"} for t in range(len(joints))]
    found = [
        {"image_id": 900 - t, "keypoints": frame.ravel().tolist()} for t, frame in enumerate(joints)
    ]
    return {"images": images, "annotations": found}


def mmpose(joints: np.ndarray) -> dict[str, Any]:
    entries = [
        {
            "frame_id": t,
            "instances": [
                {"keypoints": f[:, :2].tolist(), "keypoint_scores": f[:, 2].tolist(), "bbox": []}
            ],
        }
        for t, f in enumerate(joints)
    ]
    return {"meta_info": {}, "instance_info": entries}


def test_keypoints_of_pose_estimators_give_the_same_joints(home: Path) -> None:
    joints = flat(12)  # two-digit frame numbers: they are not sorted as text
    mine = home / "mine"
    write_openpose(mine / "a", joints)
    write_pictures(mine / "b", joints)
    (mine / "c.json").write_text(json.dumps(alphapose(joints)))
    (mine / "d.json").write_text(json.dumps(coco(joints)))
    (mine / "e.json").write_text(json.dumps(mmpose(joints)))
    (mine / "f").mkdir()
    (mine / "f" / "alphapose-results.json").write_text(json.dumps(alphapose(joints)))
    (mine / "g.csv").write_text(csv_text(joints, "xyc"))
    np.savez(mine / "h.npz", keypoints=joints[..., :2], keypoint_scores=joints[..., 2])
    names = ["a", "b", "c.json", "d.json", "e.json", "f", "g.csv", "h.npz"]
    result = run([{"recording": n, "label": "wave", "id": n[0]} for n in names])
    assert result.exit_code == 0, result.output
    for name in "abcdefgh":
        np.testing.assert_allclose(stored(name).positions, joints[None], rtol=1e-6)
    with SkeletonStore("data/mine.h5") as store:
        assert (store.coordinates, store.channels, store.attrs["units"]) == (2, 3, "pixels")


def test_two_numbers_a_joint_are_pixels_without_confidence(home: Path) -> None:
    np.save("mine/a.npy", flat()[..., :2])
    assert run([{"recording": "a.npy", "label": "wave"}]).exit_code == 0
    with SkeletonStore("data/mine.h5") as store:
        assert (store.coordinates, store.channels) == (2, 2)


@pytest.mark.parametrize(
    ("shape", "order", "found"),
    [
        ((40, V, 3), "tvc", (1, 40, V, 3)),
        ((40, V * 2), "tvc", (1, 40, V, 2)),
        ((2, 40, V, 3), "mtvc", (2, 40, V, 3)),
        ((40, 2, V, 3), "tmvc", (2, 40, V, 3)),
        ((3, 40, V), "ctv", (1, 40, V, 3)),
        ((V, 3, 40), "vct", (1, 40, V, 3)),
        ((3, 40, V, 1), "ctvm", (1, 40, V, 3)),
        ((1, 1, V, 3), "mtvc", (1, 1, V, 3)),
    ],
)
def test_the_order_of_axes_follows_from_the_shape(
    shape: tuple[int, ...], order: str, found: tuple[int, ...]
) -> None:
    values = RNG.normal(size=shape)
    bodies = to_bodies(values, V)
    assert bodies.shape == found and bodies.dtype == np.float32
    np.testing.assert_array_equal(bodies, to_bodies(values, V, order))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 6, V, 3), r"shape \(2, 6, 5, 3\) can be read as mtvc or tmvc"),
        ((3, 40, V, 2), r"can be read as mtvc or ctvm"),
        ((2, 2, V, 3), r"can be read as mtvc or tmvc"),
        ((40, V + 1, 3), r"shape \(40, 6, 3\), expected .* the layout has 5 joints"),
        ((40, V, 5), r"shape \(40, 5, 5\)"),
        ((0, V, 3), r"shape \(0, 5, 3\)"),
        ((40,), r"shape \(40,\)"),
        ((9, 30, V, 3), r"shape \(9, 30, 5, 3\)"),
    ],
)
def test_other_shapes_are_refused_by_name(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(SkelfewError, match=message):
        to_bodies(np.ones(shape) + np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1)), V)


def test_an_order_that_is_asked_for_settles_it(home: Path) -> None:
    values = solid(6, bodies=2)
    np.save("mine/a.npy", values)
    row = {"recording": "a.npy", "label": "wave"}
    result = run([row])
    assert result.exit_code == 1 and "--option order=mtvc" in result.stderr
    assert run([row], "--option", "order=mtvc").exit_code == 0
    np.testing.assert_array_equal(stored("a").positions, values)


# --- table


def test_columns_of_the_table(home: Path) -> None:
    np.save("mine/long.npy", solid(50))
    (home / "mine" / "clip.mp4").write_bytes(b"a video")
    rows: list[dict[str, object]] = [
        {"recording": "long.npy", "label": "sit", "start": 5, "end": 20, "subject": "ann"},
        {"recording": "long.npy", "label": "rise", "start": 20, "view": "left", "id": "r"},
        {"recording": "long.npy", "label": "sit", "video": "clip.mp4", "video_start": 100},
        {"recording": "long.npy", "label": "sit", "end": 7, "video": "gone.mp4"},
    ]
    assert run(rows).exit_code == 0
    samples = {s.sample_id: s for s in Manifest.read("manifests/mine.csv")}
    assert list(samples) == ["long", "long_0_7", "long_5_20", "r"]
    sit, rise = samples["long_5_20"], samples["r"]
    assert (sit.class_id, sit.label, sit.frames, sit.subject) == (1, "sit", 15, "ann")
    assert (rise.class_id, rise.frames, rise.view) == (2, 30, "left")
    whole = samples["long"]
    assert (whole.video, whole.start_frame, whole.end_frame) == ("clip.mp4", 100, 150)
    assert (samples["long_0_7"].video, samples["long_0_7"].end_frame) == ("", 0)
    np.testing.assert_array_equal(stored("r").positions, stored("long").positions[:, 20:])
    (note,) = rows_of("manifests/mine.notes.csv")
    assert note["sample_id"] == "long_0_7" and "gone.mp4 is not in" in note["note"]
    assert run(rows, "--option", "video_step=1.5").exit_code == 0
    whole = Manifest.read("manifests/mine.csv")["long"]
    assert (whole.frames, whole.start_frame, whole.end_frame) == (50, 100, 175)
    assert "video_step=0.0: expected" in run(rows, "--option", "video_step=0").output


def test_class_numbers_may_be_given(home: Path) -> None:
    np.save("mine/a.npy", solid())
    table = Path("mine/t.csv")
    table.write_text("recording,label,class_id\na.npy,sit,7\nb.npy,rise,2\n")
    assert [row.class_id for row in read_table(table)[0]] == [7, 2]
    for last, message in (
        ("c.npy,fall,7", "line 4: class 7 is called 'fall', but earlier 'sit'"),
        ("c.npy,sit,3", "line 4: 'sit' is class 3, but earlier class 7"),
    ):
        table.write_text(f"recording,label,class_id\na.npy,sit,7\nb.npy,rise,2\n{last}\n")
        with pytest.raises(SkelfewError, match=message):
            read_table(table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column 'recording' is missing; found nothing"),
        ("recording;label\na.npy;sit\n", "column 'recording' is missing; found recording;label"),
        ("recording,lable\na.npy,sit\n", "column 'label' is missing"),
        ("recording,label,strat\na.npy,sit,1\n", "unknown column 'strat'"),
        ("recording,label,label\na.npy,sit,1\n", "column 'label' is given twice"),
        ("recording,label\n", "no rows"),
        (b"\xff\xfe\x00r", "not a CSV file in UTF-8"),
    ],
)
def test_a_table_that_is_none(home: Path, text: str | bytes, message: str) -> None:
    table = Path("mine/mine.csv")
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    result = CliRunner().invoke(main, f"own --table {table} --layout rig.toml".split())
    assert result.exit_code == 1 and message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_bad_rows_and_recordings_are_dropped_with_the_reason(home: Path) -> None:
    mine = home / "mine"
    np.save(mine / "good.npy", solid())
    np.save(mine / "nan.npy", np.where(np.arange(9)[:, None, None] == 4, np.nan, solid()))
    np.save(mine / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (mine / "pickle.npy").write_bytes(pickle.dumps(solid()))
    np.save(mine / "text.npy", np.array([["a"]]))
    (mine / "cut.npy").write_bytes((mine / "good.npy").read_bytes()[:-50])
    good = (mine / "good.npy").read_bytes()
    (mine / "header.npy").write_bytes(good.replace(b"(9, 5, 3), }", b"(9, 5, 3(, }"))
    (mine / "cut.npz").write_bytes(b"PK\x03\x04 and nothing more")
    np.savez(mine / "two.npz", a=solid(), b=solid())
    np.save(mine / "flat.npy", flat()[..., :2])
    np.save(mine / "empty.npy", 0 * solid())
    (mine / "wide.csv").write_text("1,2,3,4\n5,6,7,8\n")
    (mine / "names.csv").write_text(csv_text(solid(), "xyz").replace("head_y", "haed_y"))
    (mine / "word.csv").write_text(csv_text(solid(), "xyz").replace("\n1,", "\n1,x", 1))
    (mine / "none.csv").write_text(csv_text(solid()[:0], "xyz"))
    (mine / "more.csv").write_text("1,2\n1,2,3\n")
    (mine / "wider.csv").write_text(
        csv_text(solid(), "xyz").replace("\n", ",7\n").replace(",7", "", 1)
    )
    (mine / "broken.json").write_text("{")
    (mine / "other.json").write_text('{"a": 1}')
    (mine / "folder").mkdir()
    (mine / "film.mp4").write_bytes(b"")
    huge = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        huge, {"descr": "<f4", "fortran_order": False, "shape": (2**40, V, 3)}
    )
    (mine / "huge.npy").write_bytes(huge.getvalue())
    with zipfile.ZipFile(mine / "huge.npz", "w") as archive:
        archive.writestr("a.npy", huge.getvalue())
    expected = {
        "nan.npy": "not finite: NaN or infinity in 1 frames, first 4",
        "objects.npy": "pickled Python objects, which are not opened",
        "pickle.npy": "not a readable npy file",
        "text.npy": "expected numbers",
        "cut.npy": "cut off",
        "header.npy": "damaged header",
        "cut.npz": "not a readable npz file",
        "two.npz": "arrays a, b; expected a single one",
        "flat.npy": "x, y for each joint, but",
        "empty.npy": "no body in any of 9 frames",
        "wide.csv": "4 columns, expected 10 or 15",
        "names.csv": "1 of 15 columns are missing, first 'head_y'",
        "word.csv": "is not a number",
        "none.csv": "no frames",
        "more.csv": "not a readable CSV file",
        "wider.csv": "rows of 17 fields, but the header has 16",
        "broken.json": "not JSON",
        "other.json": "neither COCO results",
        "folder": "a folder without any JSON file",
        "film.mp4": ".mp4: expected .npy",
        "huge.npy": "GiB; at most 4 are read",
        "huge.npz": "GiB; at most 4 are read",
        "gone.npy": "no such file or folder",
    }
    rows: list[dict[str, object]] = [{"recording": n, "label": "sit", "id": n} for n in expected]
    rows += [
        {"recording": "good.npy", "label": "sit", "id": "good"},
        {"recording": "good.npy", "label": "", "id": "no label"},
        {"recording": "", "label": "sit", "id": "no recording"},
        {"recording": "good.npy", "label": "sit", "id": "past", "start": 5, "end": 10},
        {"recording": "good.npy", "label": "sit", "id": "behind", "start": 9},
        {"recording": "good.npy", "label": "sit", "id": "turned", "start": 5, "end": 5},
        {"recording": "good.npy", "label": "sit", "id": "half", "start": "1.5"},
        {"recording": "good.npy", "label": "sit", "id": "good", "start": 1},
    ]
    expected |= {
        "no label": "the label is empty",
        "no recording": "the recording is empty",
        "past": "line 28 of the table: the segment 5 to 10 is past the end: the recording has 9",
        "behind": "past the end",
        "turned": "the segment 5 to 5 is empty",
        "half": "start is '1.5', expected a whole number",
        "good": "duplicate",
    }
    result = run(rows)
    assert result.exit_code == 3, result.output
    assert Manifest.read("manifests/mine.csv").ids == ["good"]
    dropped = {row["sample_id"]: row["reason"] for row in rows_of("manifests/mine.dropped.csv")}
    assert dropped.keys() == expected.keys(), "nothing is lost"
    for name, reason in expected.items():
        assert reason in dropped[name], name
    assert "30 damaged recordings were left out" in result.stderr


def test_what_looks_like_a_confidence_has_to_be_named(home: Path) -> None:
    np.save("mine/a.npy", flat())
    row = {"recording": "a.npy", "label": "sit"}
    result = run([row])
    assert result.exit_code == 1 and "--option coordinates=2" in result.stderr
    assert run([row], "--option", "coordinates=2").exit_code == 0
    with SkeletonStore("data/mine.h5") as store:
        assert store.coordinates == 2
    assert run([row], "--option", "coordinates=3").exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--layout", "cocoo"), "no joint layout 'cocoo'; there are kinect-v2"),
        (("--layout", "gone.toml"), "gone.toml: cannot read the layout"),
        (("--option", "order=abc"), "--option order=abc: expected auto, tvc"),
        (("--option", "zero=1"), "has no such option"),
        (("--name", "nw-ucla"), "cannot be called 'nw-ucla'"),
        (("--name", "a/b"), "cannot be called 'a/b'"),
        (("--out", "mine/mine.csv"), "the manifest would be written over the table"),
        (("--table", "gone.csv"), "gone.csv: no such table"),
    ],
)
def test_one_clear_error(home: Path, options: tuple[str, ...], message: str) -> None:
    np.save("mine/a.npy", solid())
    result = run([{"recording": "a.npy", "label": "sit"}], *options)
    assert result.exit_code == 1 and message in result.stderr, result.output
    assert len(result.stderr.strip().splitlines()) == 1


def test_shares_of_the_picture_are_no_pixels(home: Path) -> None:
    joints = flat()
    joints[..., :2] /= 500
    np.save("mine/a.npy", joints)
    Path("mine/clip.mp4").write_bytes(b"a video")
    row = {"recording": "a.npy", "label": "sit", "video": "clip.mp4"}
    assert run([row], "--option", "coordinates=2").exit_code == 0
    assert np.isnan(stored("a").pixels).all()
    (note,) = rows_of("manifests/mine.notes.csv")
    assert "no pixels" in note["note"]


def test_the_two_bodies_of_an_array_that_are_seen_most_are_kept(home: Path) -> None:
    values = solid(20, bodies=4)
    values[0] = 0
    values[2, 5:] = 0
    np.save("mine/a.npy", values)
    assert run([{"recording": "a.npy", "label": "sit"}]).exit_code == 0
    np.testing.assert_array_equal(stored("a").positions, values[[1, 3]])
    assert Manifest.read("manifests/mine.csv")["a"].bodies == 2
    (note,) = rows_of("manifests/mine.notes.csv")
    assert note["note"] == "3 bodies; the 2 seen in most frames are kept"


def test_several_data_sets_lie_side_by_side(home: Path) -> None:
    np.save("mine/a.npy", solid())
    row = {"recording": "a.npy", "label": "sit"}
    assert run([row]).exit_code == 0
    assert run([row], name="second").exit_code == 0
    assert run([row], "--name", "third").exit_code == 0
    assert sorted(p.stem for p in (home / "data").glob("*.h5")) == ["mine", "second", "third"]
    document = json.loads(CliRunner().invoke(main, ["check", "second", "--json"]).stdout)
    assert document["samples"] == 1 and document["problems"] == document["implausible"]


def test_an_interrupted_run_goes_on_only_with_the_same_table(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skelfew.data.prepare.walk import Outputs, prepare
    from skelfew.data.readers import RawFolder
    from skelfew.data.readers.own import READER

    for name in "abc":
        np.save(f"mine/{name}.npy", solid())
    table = Path("mine/t.csv")
    table.write_text("recording,label\n" + "".join(f"{n}.npy,sit\n" for n in "abc"))
    options = {**READER.defaults, "table": "t.csv", "layout": "rig.toml"}
    outputs = Outputs(home / "t.csv", home / "t.h5")
    raw, lines = RawFolder(home / "mine"), []
    whole = prepare("own", raw, outputs, options).digest
    outputs.manifest.unlink()

    def stop(message: str) -> None:
        lines.append(message)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def fails_after_reading() -> None:
        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
            patch.setattr("skelfew.data.prepare.walk.Manifest.write", full)
            prepare("own", raw, outputs, options, log=stop)

    fails_after_reading()
    lines.clear()
    assert prepare("own", raw, outputs, options, log=stop).digest == whole
    assert any("3 of 3 blocks are done" in line for line in lines)
    fails_after_reading()
    table.write_text(table.read_text().replace("a.npy,sit", "a.npy,run"))
    lines.clear()
    again = prepare("own", raw, outputs, options, log=stop)
    assert any("starting anew" in line for line in lines)
    assert again.manifest["a"].label == "run"


# --- missing joints, several people


def test_joints_that_were_not_found_are_interpolated(home: Path) -> None:
    joints = flat(5)
    joints[2, 1] = 0
    joints[:, 4, 2] = 0  # never found, wherever the estimator put it
    np.save("mine/a.npy", joints)
    row = {"recording": "a.npy", "label": "sit"}
    assert run([row], "--option", "coordinates=2").exit_code == 0
    found = stored("a").positions[0]
    np.testing.assert_allclose(found[2, 1, :2], (joints[1, 1, :2] + joints[3, 1, :2]) / 2)
    np.testing.assert_allclose(found[:, 4, :2], found[:, :4, :2].mean(axis=1), rtol=1e-6)
    assert found[2, 1, 2] == 0 and (found[:, 4, 2] == 0).all()
    (note,) = rows_of("manifests/mine.notes.csv")
    assert note["note"] == "1 joints were never found; they are at the middle of the others"
    assert run([row], "--option", "coordinates=2", "--option", "missing=keep").exit_code == 0
    kept = stored("a").positions[0]
    assert not kept[2, 1].any() and not kept[:, 4].any()


def test_nan_can_mean_not_found(home: Path) -> None:
    joints = solid(5)
    joints[2, 1, 0] = np.nan
    joints[4] = np.nan  # no person
    np.save("mine/a.npy", joints)
    row = {"recording": "a.npy", "label": "sit"}
    assert run([row]).exit_code == 1
    assert run([row], "--option", "nan=missing").exit_code == 0
    found = stored("a").positions[0]
    np.testing.assert_allclose(found[2, 1], (joints[1, 1] + joints[3, 1]) / 2, rtol=1e-6)
    assert not found[4].any() and np.isfinite(found).all()


def test_an_absent_body_is_not_filled_in() -> None:
    positions = np.concatenate([flat(6)[None], flat(6)[None]])
    missing = np.zeros((2, 6, V), dtype=bool)
    missing[1, :4] = True
    missing[0, 3, 2] = True
    filled, share = fill_missing(positions, missing, 2)
    assert not filled[1, :4].any() and share == pytest.approx(1 / (8 * V))
    np.testing.assert_array_equal(filled[1, 4:], positions[1, 4:])


def walker(frames: int, x: float, speed: float, confidence: float = 0.8) -> list[np.ndarray]:
    body = np.array([[0, 0], [0, 20], [-20, 50], [20, 50], [0, 100]])
    return [
        np.column_stack([np.add(body, [x + speed * t, 0]), np.full(V, confidence)]).astype(
            np.float32
        )
        for t in range(frames)
    ]


def test_people_are_followed_whatever_their_order() -> None:
    left, right = walker(30, 0, 5), walker(30, 400, -5, 0.7)
    frames = [
        [Person(a), Person(b)][:: 1 if t % 3 else -1]
        for t, (a, b) in enumerate(zip(left, right, strict=True))
    ]
    frames[7] = frames[7][:1]  # one of them is missed once
    frames[20].append(Person(walker(1, 900, 0)[0]))  # somebody in the background
    bodies, notes = two_bodies(frames)
    assert bodies.shape == (2, 30, V, 3)
    seen = bodies.any(axis=(2, 3))
    assert seen.sum() == 59
    for body, track in zip(bodies, (left, right), strict=True):
        for t, joints in enumerate(body):
            assert not joints.any() or np.array_equal(joints, track[t])
    assert notes == ("1 of 3 tracks of people left out",)


def test_a_person_who_comes_back_is_the_same_body() -> None:
    there = walker(60, 0, 1)
    frames = [[Person(j)] if not 20 <= t < 40 else [] for t, j in enumerate(there)]
    bodies, notes = two_bodies(frames)
    assert len(bodies) == 1 and not notes
    assert bodies[0].any(axis=(1, 2)).sum() == 40


def test_a_trackers_numbers_are_believed() -> None:
    """Two people who stand in one place and change it in a single frame."""
    a, b = walker(20, 0, 0), walker(20, 30, 0, 0.7)
    frames = [
        [Person(a[t] if t < 10 else b[t], 4), Person(b[t] if t < 10 else a[t], 9)]
        for t in range(20)
    ]
    bodies, _ = two_bodies(frames)
    one = {tuple(body[:, 0, 0]) for body in bodies}
    assert one == {tuple([0.0] * 10 + [30.0] * 10), tuple([30.0] * 10 + [0.0] * 10)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"image_id": "a.jpg", "keypoints": [1, 2, 3]}], "has no frame number"),
        ([{"image_id": 1, "keypoints": [1, 2, 3]}], "has 3 numbers, expected 15"),
        ([{"image_id": 1, "keypoints": ["a"] * 15}], "not a list of numbers"),
        ([{"image_id": 1}], "a person without keypoints"),
        ([{"image_id": 1, "keypoints": [0] * 15}], "no body in any of 1 frames"),
        ([{"image_id": i, "keypoints": [9] * 15} for i in (1, 2, 10**9)], "only 3 frames"),
        ([{"frame_id": 0, "instances": []}, {"frame_id": 0, "instances": []}], "repeated"),
        ([{"frame_id": 0, "instances": 7}], "instances of frame 0 are no list"),
        ({"images": [], "annotations": [{"image_id": 3}]}, "an image that is not listed"),
        ({"annotations": []}, "without a list of images"),
        ([], "no frames"),
    ],
)
def test_keypoints_that_are_none(home: Path, content: Any, message: str) -> None:
    (home / "mine" / "a.json").write_text(json.dumps(content))
    result = run([{"recording": "a.json", "label": "sit"}])
    assert result.exit_code == 1
    assert message in rows_of("manifests/mine.dropped.csv")[0]["reason"]


def test_frames_without_people_keep_their_place(home: Path) -> None:
    joints = flat(20)
    entries = [e for e in alphapose(joints) if e["image_id"] not in ("0.jpg", "1.jpg", "9.jpg")]
    (home / "mine" / "a.json").write_text(json.dumps(entries))
    write_openpose(home / "mine" / "b", joints)
    for t in range(20):
        if t % 5:
            (home / "mine" / "b" / f"clip7_{t:012}_keypoints.json").unlink()
    (home / "mine" / "clip.mp4").write_bytes(b"a video")
    rows: list[dict[str, object]] = [
        {"recording": name, "label": "sit", "video": "clip.mp4", "id": name[0]}
        for name in ("a.json", "b")
    ]
    assert run(rows).exit_code == 0
    found = stored("a").positions[0]
    assert np.flatnonzero(~found.any(axis=(1, 2))).tolist() == [0, 1, 9]
    np.testing.assert_allclose(found[2], joints[2])
    every_fifth = Manifest.read("manifests/mine.csv")["b"]
    assert (every_fifth.frames, every_fifth.start_frame, every_fifth.end_frame) == (4, 0, 20)
    notes = {row["sample_id"]: row["note"] for row in rows_of("manifests/mine.notes.csv")}
    assert notes["b"] == "every 5th frame of a video, taken as consecutive"
    pixels = stored("a").pixels
    np.testing.assert_allclose(pixels[0, 5], joints[5, :, :2])
    assert np.isnan(pixels[0, 9]).all()
