"""Every number that tables quote from the paper is one that the facts at hand state."""

from pathlib import Path

from skelfew.report.quoted import quotes
from skelfew.reproduce.tables import list_tables, load_table

# In the spec's own words, all of NTU RGB+D 120 with one exemplar a class.
STATED = {
    41.0: "Attention row reads 41.0",
    42.1: "FC 42.1",
    42.9: "average 42.9",
    46.4: "80 classes 46.4",
    48.0: "Skeleton-DML 48.6 > 48.0",
    48.6: "Skeleton-DML 48.6 > 48.0",
    49.0: "SL-DML 60 classes 49.0",
    54.2: "Skeleton-DML 54.2",
    57.0: "JEANIE 57.0",  # and episodic training, see 58.0
    58.0: "(58.0/57.0,",
    62.3: "f_t 62.3",
    67.1: "f_v 67.1",
    68.0: 'Table X: lambda=0 "slight degradation" 68.0',
    70.4: "X-CLIP 70.4",
    70.8: "ActionCLIP 70.8",
    71.6: "X-Florence 71.6",
}
# Issue 4, "An embedded default that shows the claim": "the quoted numbers (ProtoNet 73.6)".
FROM_ISSUE_4 = ("nw-ucla", "1", 73.6)


def test_quoted_numbers_are_stated_by_the_spec(shared: Path) -> None:
    spec = "".join((shared / "spec" / f"{n}.md").read_text() for n in ("methods", "teacher"))
    assert [n for n, words in STATED.items() if str(n) not in words or words not in spec] == []
    found = set()
    for name in list_tables():
        for row in load_table(name).rows:
            for dataset, numbers in row.quoted.items():
                for shots, value in numbers.items():
                    place = (dataset, shots, value)
                    stated = (dataset, shots) == ("ntu120", "1") and value in STATED
                    protonet = place == FROM_ISSUE_4 and "ProtoNet" in row.label
                    assert stated or protonet, (name, row.key, place)
                    found.add(place)
    assert {value for _, _, value in found} == {*STATED, FROM_ISSUE_4[2]}, "none without a row"
    reported = {q.percent for q in quotes("ntu120", 1)} | {q.percent for q in quotes("nw-ucla", 1)}
    assert reported == {*STATED, FROM_ISSUE_4[2]}, "a report quotes tables and nothing else"
