import subprocess
import sys
from pathlib import Path

import pytest

from skelfew.data.manifest import COLUMNS, Manifest, ManifestError, Sample

SAMPLES = (
    Sample("a", 1, "drink water", 10, video="a.mp4", end_frame=10, subject="1", view="2"),
    Sample("b", 2, 'say "hi", wave', 20, bodies=2),
    Sample("c", 1, "drink water", 5, setup="3", replication="1"),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    manifest = Manifest("mine", SAMPLES)
    manifest.write(tmp_path / "mine.csv")
    again = Manifest.read(tmp_path / "mine.csv")
    assert again.samples == SAMPLES and again.name == "mine"
    assert again.sha256 == manifest.sha256
    assert again.ids == ["a", "b", "c"] and again["b"] == SAMPLES[1] and "d" not in again
    assert again.classes == {1: "drink water", 2: 'say "hi", wave'}
    assert again.subset([1]).ids == ["a", "c"]


def test_hash_is_of_the_content_not_the_formatting(tmp_path: Path) -> None:
    manifest = Manifest("mine", SAMPLES)
    path = tmp_path / "mine.csv"
    manifest.write(path)
    lines = [line.split(",") for line in path.read_text().splitlines()]
    assert lines[0] == list(COLUMNS)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert Manifest.read(path).sha256 == manifest.sha256
    changed = Manifest("mine", (*SAMPLES[:2], Sample("c", 1, "drink water", 6)))
    assert changed.sha256 != manifest.sha256
    assert Manifest("mine", SAMPLES[::-1]).sha256 != manifest.sha256


def test_optional_columns_may_be_absent(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("sample_id,class_id,label,frames\nNA,1,none,3\n")
    sample = Manifest.read(tmp_path / "m.csv")["NA"]  # not read as a missing value
    assert sample == Sample("NA", 1, "none", 3)
    text = "\ufeffsample_id,label,class_id,frames,label,view\r\rb,'=x,1,3,y\n"  # BOM, short row
    (tmp_path / "m.csv").write_text(text, newline="")
    assert Manifest.read(tmp_path / "m.csv").samples == (Sample("b", 1, "=x", 3),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample_id,class_id,frames\na,1,3\n", "column 'label' is missing"),
        ("sample_id,class_id,label,frames\n", "no samples"),
        ("", "not a readable CSV"),
        ('sample_id,class_id,label,frames\na,1,"x,3\n', "not a readable CSV"),
        ("sample_id,class_id,label,frames\na,1,x,3\nb,1,x,3,4\n", "row 3 has 5 fields"),
        ("sample_id,class_id,label,frames\na,one,x,3\n", "row 2: class_id is 'one'"),
        ("sample_id,class_id,label,frames\n,1,x,3\n", "row 2: sample_id is empty"),
        ("sample_id,class_id,label,frames\na,1,,3\n", "row 2: label of 'a' is empty"),
        ("sample_id,class_id,label,frames\na,1,x,3\na,1,x,3\n", "is in rows 2 and 3"),
        ("sample_id,class_id,label,frames\na,1,x,3\nb,1,y,3\n", "row 3: class 1 is called 'y'"),
        (
            "sample_id,class_id,label,frames,video,start_frame,end_frame\na,1,x,3,v.mp4,5,5\n",
            "row 2: segment 5..5 of 'a' is empty",
        ),
    ],
)
def test_a_bad_manifest_names_file_row_and_value(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "m.csv"
    path.write_text(text)
    with pytest.raises(ManifestError) as error:
        Manifest.read(path)
    assert str(path) in str(error.value) and message in str(error.value)


def test_an_absent_manifest_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="skelfew-prepare ucla"):
        Manifest.read(tmp_path / "ucla.csv")


def test_importing_manifests_loads_no_pandas() -> None:
    code = "import sys, skelfew.data.manifest; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
