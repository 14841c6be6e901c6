"""Pictures of answers: what they say is what skelfew-eval says."""

from pathlib import Path

import pytest
from evaluation_world import make_data, make_run

from skelfew.evaluation.document import evaluate_runs
from skelfew.report.answers import draw, rows


def test_shares_and_answers_are_those_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_data(tmp_path)
    monkeypatch.chdir(tmp_path)
    runs = [make_run(tmp_path, "a"), make_run(tmp_path, "b", metadata={"fusion": 0.5})]
    scored = evaluate_runs(*runs, classifiers=())["rows"]
    assert [row["classifier"] for row in scored] == ["cosine", "dtw"]
    found, shares, manifest, _ = rows(runs)
    assert shares == [row["micro"]["value"] for row in scored]
    for row in found:
        (true,) = (c for c, label in manifest.classes.items() if label == row.label)
        for answer, table in zip(row.answers, scored, strict=True):
            answers = table["results"][0]["answers"][str(true)]
            (taken,) = (c for c, queries in answers.items() if row.query in queries)
            assert answer == manifest.classes[int(taken)]
    assert all(path.stat().st_size for path in draw(runs))
