"""One's own recordings: every format, every fault, end to end through the command."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from own_world import V, csv_text, flat, rows_of, run, solid, stored

from skelfew.cli.prepare import main
from skelfew.data.joints.layouts import load_layout
from skelfew.data.manifest import Manifest
from skelfew.data.readers.own_table import read_table
from skelfew.data.store import SkeletonStore
from skelfew.errors import SkelfewError

# --- formats


def test_arrays_in_every_format_give_the_same_joints(home: Path) -> None:
    joints = solid()
    np.save("mine/a.npy", joints)
    np.savez("mine/b.npz", joints)
    np.savez("mine/c.npz", positions=joints.astype(np.float64), fps=np.float32(30), name="c")
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


def test_two_numbers_a_joint_are_pixels_without_confidence(home: Path) -> None:
    np.save("mine/a.npy", flat()[..., :2])
    assert run([{"recording": "a.npy", "label": "wave"}]).exit_code == 0
    with SkeletonStore("data/mine.h5") as store:
        assert (store.coordinates, store.channels) == (2, 2)


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
    entry = {
        "frame_id": 1,
        "instances": [{"keypoints": [[1, 2, 3]] * V, "keypoint_scores": [1] * V}],
    }
    (mine / "deep.json").write_text(json.dumps({"instance_info": [entry]}))
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
        "deep.json": "are x, y, z; save 3D joints as an array",
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
        "past": "line 29 of the table: the segment 5 to 10 is past the end: the recording has 9",
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
    assert "31 damaged recordings were left out" in result.stderr


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


# --- missing joints, several people
