from pathlib import Path

import pytest

from skelfew.data.find import find_sample
from skelfew.data.manifest import Manifest, Sample
from skelfew.errors import SkelfewError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, ids in (("one", ["a1_s1", "a1_s2", "both"]), ("two", ["both", "other"])):
        rows = tuple(Sample(i, 1, "wave", 9) for i in ids)
        Manifest(name, rows).write(tmp_path / f"{name}.csv")
    (tmp_path / "one.dropped.csv").write_text("sample_id,source,reason\na9_s9,x,damaged\n")
    (tmp_path / "mine.csv").write_text("name,age\na1_s1,7\n")
    return tmp_path


def test_a_sample_is_found_in_any_manifest(folder: Path) -> None:
    manifest, sample = find_sample("other", folder=folder)
    assert (manifest.name, sample.sample_id) == ("two", "other")
    assert find_sample("both", "two", folder=folder)[0].name == "two"
    assert find_sample("both", manifest=folder / "one.csv")[0].name == "one"


@pytest.mark.parametrize(
    ("sample_id", "dataset", "message"),
    [
        ("A1_S1", None, "no sample 'A1_S1' among 4 of .*one.csv, .*two.csv; close to it are a1_s1"),
        ("a9_s9", None, "close to it are a1_s2, a1_s1"),  # dropped: not a sample
        ("?", None, "the first is a1_s1"),
        ("both", None, "is a sample of one, two; choose one with --dataset"),
        ("other", "one", "no sample 'other' among 3"),
        ("other", "three", "three.csv: no such manifest; create it with skelfew-prepare three"),
    ],
)
def test_errors_say_what_there_is(
    folder: Path, sample_id: str, dataset: str | None, message: str
) -> None:
    with pytest.raises(SkelfewError, match=message):
        find_sample(sample_id, dataset, folder=folder)


def test_without_any_manifest(tmp_path: Path) -> None:
    with pytest.raises(SkelfewError, match="no manifest in it; create one"):
        find_sample("x", folder=tmp_path)
