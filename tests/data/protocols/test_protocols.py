"""Protocol files: what they contain, that they fit, and the error when they do not."""

import csv
import json
from collections.abc import Callable
from itertools import pairwise
from math import comb
from pathlib import Path
from typing import Any

import pytest

from skelfew.data.manifest import Manifest, Sample
from skelfew.data.protocols.files import (
    find_protocol,
    format_protocol,
    portable,
    write_protocol,
)
from skelfew.data.protocols.protocol import (
    ProtocolError,
    default_protocol,
    list_protocols,
    load_protocol,
    split_names,
)
from skelfew.data.protocols.splits import make_split

COMMITTED = Path(__file__).resolve().parents[3] / "manifests" / "protocols"


def ntu(classes: int, performers: int = 8) -> Manifest:
    """A small NTU: every class, setups S001 (up to A60) or S018, three cameras."""
    samples = []
    for a in range(1, classes + 1):
        for p in range(1, performers + 1):
            for camera in (1, 2, 3):
                name = f"S{1 if a <= 60 else 18:03d}C{camera:03d}P{p:03d}R001A{a:03d}"
                samples.append(Sample(name, a, f"action {a}", 30, subject=f"P{p:03d}"))
    listed = json.loads((COMMITTED / "ntu120-oneshot.json").read_text())["exemplars"]["5"]
    extra = {i: int(c) for c, ids in listed.items() for i in ids if int(c) <= classes}
    for name in sorted(set(extra) - {s.sample_id for s in samples}):
        samples.append(Sample(name, extra[name], f"action {extra[name]}", 30))
    return Manifest(f"ntu{classes}", tuple(samples))


def small(name: str = "mine", classes: int = 4, each: int = 6) -> Manifest:
    samples = [
        Sample(f"c{c}_s{s}", c, f"class {c}", 20, subject=f"s{s}", replication=str(s % 2))
        for c in range(1, classes + 1)
        for s in range(1, each + 1)
    ]
    return Manifest(name, tuple(samples))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(**document: Any) -> Path:
        path = tmp_path / "own.json"
        path.write_text(json.dumps({"name": "own", "dataset": "mine", **document}))
        return path

    return write


def test_committed_files_are_canonical() -> None:
    """Every file is valid, formatted as write_protocol does, and says where it comes from."""
    paths = sorted(COMMITTED.glob("*.json"))
    assert len(paths) >= 12
    for path in paths:
        document = json.loads(path.read_text(encoding="utf-8"))
        assert document["name"] == path.stem
        assert document["source"] and document["notes"], path
        if path.stem != "demo":
            assert path.read_text(encoding="utf-8") == format_protocol(document), path


def test_ntu120_is_the_official_one() -> None:
    manifest = ntu(120)
    assert default_protocol(manifest).stem == "ntu120-oneshot"
    protocol = load_protocol("ntu120-oneshot", manifest)
    assert protocol.novel == tuple(range(1, 121, 6))
    assert protocol.validation == tuple(range(2, 121, 6))
    assert len(protocol.base) == 80
    final = load_protocol("ntu120-oneshot", manifest, validation=False)
    assert sorted(final.base) == [c for c in range(1, 121) if c % 6 != 1]
    assert final.validation == ()
    assert final.sha256 == protocol.sha256
    one = protocol.exemplars(1)
    assert one[1] == ("S001C003P008R001A001",) and one[115] == ("S018C003P008R001A115",)
    five = protocol.exemplars(5)
    assert all(five[c][0] == one[c][0] and len(set(five[c])) == 5 for c in protocol.novel)
    assert protocol.exemplars(3)[1] == five[1][:3]
    queries = protocol.queries(1)
    novel = sum(s.class_id % 6 == 1 for s in manifest)
    assert len(queries) == novel - 20
    apart = protocol.queries(1, exclude=["synchronised_views"])
    assert len(queries) - len(apart) == 40
    gone = set(queries) - set(apart)
    assert all(q[:8].endswith(("C001", "C002")) and "P008R001" in q for q in gone)
    assert len(protocol.queries(5)) == novel - 100
    assert protocol.expected_queries["1"] == 18924
    assert protocol.expected_queries["1 without synchronised_views"] == 18884


def test_committed_lists_equal_the_published(golden: Path) -> None:
    facts = golden / "protocols"
    for ours, theirs in (
        ("ntu120-oneshot", "ntu120_oneshot"),
        ("ntu60-oneshot", "ntu60_oneshot"),
        ("pku-mmd-oneshot", "pkummd_oneshot"),
    ):
        document = json.loads((COMMITTED / f"{ours}.json").read_text())
        published = json.loads((facts / f"{theirs}.json").read_text())
        assert document["novel"] == published["novel"]
        assert sorted(document["base"] + document["validation"]) == published["auxiliary"]
        if "exemplar_1shot" in published:
            exemplars = {c: ids[0] for c, ids in document["exemplars"]["1"].items()}
            assert exemplars == published["exemplar_1shot"]
    dastm = json.loads((COMMITTED / "dastm-ntu120.json").read_text())
    published = json.loads((facts / "dastm.json").read_text())["ntu120"]
    assert dastm["novel"] == [c + 1 for c in published["test"]]


def test_auxiliary_subsets() -> None:
    manifest = ntu(120)
    names = split_names("ntu120-auxiliary", manifest)
    assert len(names) == 4 * 7 + 1
    for name in names:
        protocol = load_protocol("ntu120-auxiliary", manifest, split=name)
        assert len(protocol.base) == int(name.split("-")[0])
        assert protocol.novel == tuple(range(1, 121, 6))
    nested = [
        set(load_protocol("ntu120-auxiliary", manifest, split=f"{k}-seed2").base)
        for k in (20, 40, 60, 80)
    ]
    assert all(a < b for a, b in pairwise(nested))


def test_an_ntu_manifest_gets_the_protocol_of_its_classes() -> None:
    for classes in (60, 120):
        manifest = Manifest("ntu", ntu(classes).samples)
        assert default_protocol(manifest).stem == f"ntu{classes}-oneshot"


def test_nw_ucla_on_the_real_list(golden: Path) -> None:
    with (golden / "protocols" / "nwucla_samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    samples = [Sample(r["name"], int(r["label_1based"]), r["label_1based"], 9) for r in rows]
    manifest = Manifest("nw-ucla", tuple(samples))
    assert default_protocol(manifest).stem == "nw-ucla"
    assert split_names("nw-ucla", manifest) == [str(i) for i in range(1, 21)]
    assert len(split_names("nw-ucla-all", manifest)) == comb(10, 5)
    seen = set()
    for split in split_names("nw-ucla", manifest):
        protocol = load_protocol(None, manifest, split=split)
        assert len(protocol.base) == len(protocol.novel) == 5
        seen.add(protocol.novel)
        for shots in (1, 5):
            novel = sum(s.class_id in protocol.novel for s in samples)
            assert len(protocol.queries(shots)) == novel - 5 * shots
    assert len(seen) == 20
    protocol = load_protocol("nw-ucla", manifest)
    assert protocol.split == "1"
    five = protocol.exemplars(5)[1]
    assert five == tuple(f"a01_s0{s}_e00_v01" for s in range(1, 6))


def test_msr_splits_keep_pairs_together() -> None:
    samples = [
        Sample(f"a{a:02d}_s{s:02d}_e{e:02d}", a, f"action {a}", 9)
        for a in range(1, 13)
        for s in range(1, 11)
        for e in (1, 2, 3)
        if (a, s, e) != (5, 4, 1)
    ]
    manifest = Manifest("msr-action-pairs", tuple(samples))
    splits = split_names("msr-action-pairs", manifest)
    assert len(splits) == comb(6, 3)
    for split in splits:
        novel = load_protocol(None, manifest, split=split).novel
        assert all((c + 1 if c % 2 else c - 1) in novel for c in novel)
    with_chair = next(s for s in splits if 5 in load_protocol(None, manifest, split=s).novel)
    exemplars = load_protocol(None, manifest, split=with_chair).exemplars(5)[5]
    assert exemplars[0] == "a05_s01_e01" and exemplars[3] == "a05_s04_e02"


def test_utd_mhad_takes_subject_one_trial_one() -> None:
    samples = [
        Sample(f"a{a}_s{s}_t{t}", a, f"action {a}", 9, subject=f"s{s}", replication=f"t{t}")
        for a in range(1, 28)
        for s in (10, 2, 1, 3, 4, 5)
        for t in (2, 1)
    ]
    protocol = load_protocol(None, Manifest("utd-mhad", tuple(samples)))
    assert protocol.novel == (3, 6, 9, 12, 15, 18, 21, 24, 27) and len(protocol.base) == 18
    assert protocol.exemplars(1)[3] == ("a3_s1_t1",)
    assert protocol.exemplars(5)[3] == tuple(f"a3_s{s}_t1" for s in range(1, 6))


def test_pku_mmd_takes_the_middle_view_of_the_first_files() -> None:
    """IDs as the reader makes them, test_pku.py."""
    samples = [
        Sample(f"F{file:03d}V{view:03d}C{c:03d}L{c:03d}", c, f"action {c}", 9)
        for file in (17, 2, 3, 4, 5)
        for view in (1, 2, 3)
        for c in range(1, 52)
    ]
    protocol = load_protocol(None, Manifest("pku", tuple(samples)))
    assert len(protocol.novel) == 11 and protocol.exemplars(1)[6] == ("F002V002C006L006",)
    assert [i[:4] for i in protocol.exemplars(5)[6]] == ["F002", "F003", "F004", "F005", "F017"]
    assert len(protocol.queries(1)) == 11 * 14


def test_episodes_only() -> None:
    protocol = load_protocol("dastm-ntu120", ntu(120))
    assert len(protocol.base) == 80 and len(protocol.novel) == len(protocol.validation) == 20
    assert dict(protocol.episodes) == {"ways": 5, "queries": 10, "episodes": 500, "repeats": 10}
    assert not protocol.has_exemplars
    with pytest.raises(ProtocolError, match="--mode episodes"):
        protocol.exemplars(1)


def test_random_protocol_is_reproducible() -> None:
    manifest = small(classes=12)
    splits = [load_protocol("random", manifest, split=s) for s in (1, 1, 2)]
    assert splits[0].novel == splits[1].novel != splits[2].novel
    assert splits[0].exemplars(1) == splits[1].exemplars(1)
    assert sorted(splits[0].base + splits[0].novel) == list(range(1, 13))


def test_what_is_missing_is_listed() -> None:
    whole = ntu(120)
    gone = "S001C003P008R001A007"
    kept = tuple(s for s in whole if s.class_id not in (13, 14))
    with pytest.raises(ProtocolError, match="missing are validation class 14; novel class 13"):
        load_protocol("ntu120-oneshot", Manifest("ntu120", kept))
    kept = tuple(s for s in whole if s.sample_id != gone)
    with pytest.raises(ProtocolError, match=f"1 of 20 1-shot exemplars: {gone}"):
        load_protocol("ntu120-oneshot", Manifest("ntu120", kept))
    kept = tuple(s for s in whole if "S001C003P001" not in s.sample_id)
    protocol = load_protocol("ntu120-oneshot", Manifest("ntu120", kept))
    assert len(protocol.exemplars(1)) == 20, "one shot needs only its own exemplars"
    with pytest.raises(ProtocolError, match="10 of 100 5-shot exemplars: S001C003P001R001A001"):
        protocol.exemplars(5)
    with pytest.raises(ProtocolError, match="made for utd-mhad, not for mine"):
        load_protocol("utd-mhad", small())
    with pytest.raises(ProtocolError, match=r"no protocol 'nonsense'; there are .*ntu120-oneshot"):
        load_protocol("nonsense", small())
    with pytest.raises(ProtocolError, match="no default protocol for mine"):
        default_protocol(small())
    with pytest.raises(ProtocolError, match="no such protocol file"):
        load_protocol("nowhere/x.json", small())


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"base": [1, 2], "novel": [2, 3]}, "classes 2 are both base and novel"),
        ({"base": [1, 1], "novel": [3]}, "class 1 is given twice under 'base'"),
        ({"base": ["1"], "novel": [3]}, "must be a list of class numbers"),
        ({"base": [1], "novel": []}, "no novel classes"),
        ({"base": [1]}, "exactly one of"),
        ({"base": [1], "novel": [2], "exemplar": {}}, "unknown key 'exemplar'"),
        ({"base": [1], "novel": [2], "exemplars": {"2": {"2": ["c2_s1"]}}}, "1 different"),
        ({"base": [1], "novel": [2], "exemplars": {"one": {}}}, "must look like"),
        (
            {"base": [1], "novel": [2, 3], "exemplars": {"1": {"2": ["c2_s1"]}}},
            "exemplars of class 3",
        ),
        ({"base": [1], "novel": [2], "exemplars": {"1": {"2": ["c1_s1"]}}}, "another class"),
        ({"base": [1], "novel": [2], "exemplar_rule": {"sort": []}}, "unknown key 'sort'"),
    ],
)
def test_malformed(write: Callable[..., Path], document: dict[str, Any], message: str) -> None:
    with pytest.raises(ProtocolError, match=message) as caught:
        load_protocol(write(**document), small())
    assert "own.json" in str(caught.value)


def test_rules_say_what_they_lack(write: Callable[..., Path]) -> None:
    split = {"base": [1], "novel": [2]}
    path = write(**split, exemplar_rule={"order": ["subject"], "distinct": "replication"})
    protocol = load_protocol(path, small())
    assert protocol.exemplars(2)[2] == ("c2_s1", "c2_s2")
    with pytest.raises(ProtocolError, match="class 2 has 2 samples that can be exemplars, 3"):
        protocol.exemplars(3)
    path = write(**split, exemplar_rule={"order": ["view"]})
    with pytest.raises(ProtocolError, match="needs 'view' of 'c2_s1'"):
        load_protocol(path, small()).exemplars(1)
    path = write(**split, exemplar_rule={"order": ["n"], "pattern": r"x(?P<n>\d)"})
    with pytest.raises(ProtocolError, match="not named like"):
        load_protocol(path, small()).exemplars(1)


def test_hash_is_of_the_content(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(base=[1], novel=[2])
    before = load_protocol(path, small()).sha256
    path.write_text(json.dumps(json.loads(path.read_text()), indent=7))
    assert load_protocol(path, small()).sha256 == before
    assert load_protocol(write(base=[3], novel=[2]), small()).sha256 != before


def test_own_split_becomes_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    manifest = small(classes=7)
    document = make_split(manifest, novel=3, validation=1, seed=4)
    assert document == make_split(manifest, novel=3, validation=1, seed=4)
    write_protocol(document, tmp_path / "manifests" / "protocols" / "mine.json")
    assert "mine" in list_protocols()
    protocol = load_protocol(None, manifest)
    assert len(protocol.novel) == 3 and len(protocol.validation) == 1 and len(protocol.base) == 3
    one, five = protocol.exemplars(1), protocol.exemplars(5)
    assert all(manifest[five[c][0]].class_id == c and one[c] == five[c][:1] for c in five)


def test_own_split_refuses_what_cannot_be() -> None:
    with pytest.raises(ProtocolError, match="9 novel classes asked for, 4 are there"):
        make_split(small(), novel=9)
    with pytest.raises(ProtocolError, match="novel class 8 is not there"):
        make_split(small(), novel=[1, 8])
    with pytest.raises(ProtocolError, match="has a single sample"):
        make_split(small(each=1), novel=[1])


def test_a_run_remembers_a_shipped_protocol_by_name(tmp_path: Path) -> None:
    """So that it can be resumed where skelfew is installed elsewhere."""
    shipped = find_protocol("ntu60-oneshot")
    assert portable(shipped) == "ntu60-oneshot"
    own = tmp_path / "manifests" / "protocols" / "ntu60-oneshot.json"
    own.parent.mkdir(parents=True)
    own.write_bytes(shipped.read_bytes())
    assert portable(own) == str(own)
