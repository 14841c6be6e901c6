import gzip
from pathlib import Path

import numpy as np
import pytest

from skelfew.data.prepare.walk import Outputs, prepare
from skelfew.data.readers import Dropped, RawFolder, Recording
from skelfew.data.readers.pku import READER, parse
from skelfew.data.store import SkeletonStore
from skelfew.errors import SkelfewError


def text(frames: np.ndarray) -> bytes:
    """Rows as in the data set: six decimals, spaces at the end."""
    rows = frames.reshape(len(frames), -1)
    return b"".join((" ".join(f"{v:.6f}" for v in row) + "   \n").encode() for row in rows)


def recording(frames: int = 60, second_from: int = 1000) -> np.ndarray:
    rng = np.random.default_rng(frames)
    joints = rng.uniform(-1, 3, (frames, 2, 25, 3)).round(6)
    joints[:second_from, 1] = 0
    return joints.astype(np.float32)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two recordings in three views, with labels, one RGB video, in the data set's folders."""
    for folder in ("PKU_Skeleton_Renew", "Train_Label_PKU_final", "RGB_VIDEO"):
        (tmp_path / folder).mkdir()
    for file in ("0002", "0305"):
        for view in "LMR":
            name = f"{file}-{view}"
            (tmp_path / "PKU_Skeleton_Renew" / f"{name}.txt").write_bytes(
                text(recording(60, second_from=30))
            )
            (tmp_path / "Train_Label_PKU_final" / f"{name}.txt").write_text(
                "8,1,20,2\n14,25,60,1\n\n51,60,60,0\n"
            )
    (tmp_path / "RGB_VIDEO" / "0002-M.avi").write_bytes(b"x")
    return tmp_path


def read(raw: Path, name: str, **options: str) -> list[Recording | Dropped]:
    folder = RawFolder(raw)
    options = {**READER.defaults, **options}  # type: ignore[dict-item]
    (source,) = [s for s in READER.sources(folder, options) if name in s]
    return list(READER.read(folder, source, options))


def test_recordings_are_cut_by_their_labels(raw: Path) -> None:
    items = read(raw, "0002-M")
    assert all(isinstance(i, Recording) for i in items)
    first, second, third = (i for i in items if isinstance(i, Recording))
    whole = recording(60, second_from=30)
    assert first.sample.sample_id == "F002V002C008L001"
    assert (first.sample.label, first.sample.view) == ("drink water", "M")
    np.testing.assert_array_equal(first.skeleton.positions, whole[:20, :1].transpose(1, 0, 2, 3))
    assert second.sample.sample_id == "F002V002C014L002"
    np.testing.assert_array_equal(second.skeleton.positions, whole[24:60].transpose(1, 0, 2, 3))
    assert third.sample.sample_id == "F002V002C051L004"
    assert third.skeleton.positions.shape == (2, 1, 25, 3)
    segments = [(r.sample.video, r.sample.start_frame, r.sample.end_frame) for r in (first, second)]
    assert segments == [("RGB_VIDEO/0002-M.avi", 0, 20), ("RGB_VIDEO/0002-M.avi", 24, 60)]
    assert read(raw, "0305-L")[0].sample.video == ""  # type: ignore[union-attr]


def test_a_whole_tree_is_prepared(raw: Path, tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "pku.csv", tmp_path / "pku.h5")
    prepared = prepare("pku", RawFolder(raw), outputs, READER.defaults)
    assert len(prepared.manifest) == 2 * 3 * 3 and prepared.damaged == 0
    assert prepared.manifest.ids[0] == "F002V001C008L001"
    with SkeletonStore(outputs.store) as store:
        assert store["F305V003C014L002"].positions.shape == (2, 36, 25, 3)


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("8,50,61,1", "segment 50..61 is past the end; there are 60 frames"),
        ("8,61,70,1", "segment 61..70 is past the end"),
        ("8,20,10,1", "segment 20..10 is empty"),
        ("8,0,10,1", "segment 0..10 is empty"),
        ("52,1,10,1", "class 52 is out of range; there are 1 to 51"),
        ("0,1,10,1", "class 0 is out of range"),
        ("drink,1,10,1", "is not class,start,end,confidence"),
        ("8,1", "is not class,start,end,confidence"),
    ],
)
def test_one_bad_label_drops_one_segment(raw: Path, label: str, reason: str) -> None:
    path = raw / "Train_Label_PKU_final" / "0002-L.txt"
    path.write_text(path.read_text() + label + "\n")
    items = read(raw, "0002-L")
    assert [type(i) for i in items] == [Recording, Recording, Recording, Dropped]
    assert isinstance(items[3], Dropped) and reason in items[3].reason
    assert items[3].sample_id == "0002-L:5"


def test_segments_past_the_end_can_be_clipped(raw: Path) -> None:
    path = raw / "Train_Label_PKU_final" / "0002-L.txt"
    path.write_text("8,50,65,1\n8,61,70,1\n")
    clipped, outside = read(raw, "0002-L", past_end="clip")
    assert isinstance(clipped, Recording) and isinstance(outside, Dropped)
    assert clipped.skeleton.positions.shape[1] == 11
    assert clipped.notes == ("5 frames past the end of the recording were cut off",)


GOOD = text(recording(20))
ROWS = GOOD.splitlines(keepends=True)


def with_rows(**rows: bytes) -> bytes:
    """Return the text with other rows: ``row4`` and the like."""
    return b"".join(rows.get(f"row{i}", row) for i, row in enumerate(ROWS))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (with_rows(row4=ROWS[4].split(b" ", 1)[1]), "line 5: 149 numbers, expected 150"),
        (with_rows(row4=b"1.0 " + ROWS[4]), "line 5: 151 numbers, expected 150"),
        (
            with_rows(row4=b"1.0 " + ROWS[4], row7=ROWS[7].split(b" ", 1)[1]),
            "line 5: 151 numbers, expected 150",
        ),
        (with_rows(row4=b"nan " + ROWS[4].split(b" ", 1)[1]), "line 5: NaN or infinity"),
        (with_rows(row4=b"x " + ROWS[4].split(b" ", 1)[1]), "line 5: could not convert"),
        (GOOD[:-50], "line 20: "),
        (b"", "no frames"),
        (gzip.compress(GOOD)[:-200], "truncated or damaged gzip file"),
    ],
    ids=range(8),
)
def test_a_damaged_recording_is_dropped(raw: Path, content: bytes, reason: str) -> None:
    (raw / "PKU_Skeleton_Renew" / "0002-L.txt").write_bytes(content)
    (item,) = read(raw, "0002-L")
    assert isinstance(item, Dropped) and reason in item.reason and item.sample_id == "0002-L"


def test_missing_labels(raw: Path) -> None:
    (raw / "Train_Label_PKU_final" / "0002-L.txt").unlink()
    (item,) = read(raw, "0002-L")
    assert isinstance(item, Dropped) and item.reason == "no label file 0002-L.txt"
    for path in (raw / "Train_Label_PKU_final").iterdir():
        path.unlink()
    with pytest.raises(SkelfewError, match='folder with "label" in its name'):
        READER.sources(RawFolder(raw), READER.defaults)


def test_a_segment_without_a_person(raw: Path) -> None:
    frames = recording(60)
    frames[:20] = 0
    (raw / "PKU_Skeleton_Renew" / "0002-L.txt").write_bytes(text(frames))
    items = read(raw, "0002-L")
    assert isinstance(items[0], Dropped) and items[0].reason == "no body in any of 20 frames"
    assert isinstance(items[1], Recording) and items[1].skeleton.positions.shape[0] == 1


def test_the_real_recording(shared: Path, tmp_path: Path) -> None:
    content = (shared / "data" / "pku-mmd" / "A10N08-L.txt.gz").read_bytes()
    plain = gzip.decompress(content)
    expected = np.array([line.split() for line in plain.splitlines()], dtype=np.float64)
    frames = parse(plain)
    np.testing.assert_array_equal(frames.reshape(1040, 150), expected.astype(np.float32))
    (tmp_path / "A10N08-L.txt.gz").write_bytes(content)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "A10N08-L.txt").write_text("10,101,300,2\n")
    (item,) = read(tmp_path, "A10N08-L")
    assert isinstance(item, Recording) and item.sample.sample_id == "A10N08V001C010L001"
    np.testing.assert_array_equal(item.skeleton.positions[0], frames[100:300, 0])
