"""skelfew-cache: what it shows, what it finds, what it refuses."""

import json
import shutil
import stat
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from small_caches import DIM, GOLDEN, GOLDEN_DIGEST, PROVENANCE, features, filled, ids, writer

from skelfew.cache import DONE, FAILED, CacheWriter, TeacherCache, content_digest
from skelfew.cache.format.history import CONVENTIONS, STEPS, steps_of
from skelfew.cli.cache import main
from skelfew.data.manifest import Manifest, Sample


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    return result.exit_code, result.stdout, result.stderr


def document(*arguments: object, status: int = 0) -> dict[str, Any]:
    code, out, err = run(*arguments, "--json")
    assert code == status, err
    return json.loads(out)


def manifest(path: Path, names: list[str]) -> Manifest:
    labels = ("wave", "kick")
    samples = tuple(Sample(n, 1 + i % 2, labels[i % 2], 9) for i, n in enumerate(names))
    Manifest(path.stem, samples).write(path)
    return Manifest.read(path)


def test_every_command_has_help_with_an_example() -> None:
    for name in main.commands:
        code, out, _ = run(name, "--help")
        assert code == 0
        assert f"skelfew-cache {name} " in out, name
        assert "--json" in out


# info


def test_info(tmp_path: Path) -> None:
    path = tmp_path / "c.zarr"
    provenance = {**PROVENANCE, "licence_note": "for research only", "untrained": True}
    digest = filled(path, failed=(3,), provenance=provenance)
    _, out, _ = run("info", path)
    for text in ("world, 2 classes", "9 of 10 done, 1 failed", "UNTRAINED", digest, "margin 0.15",
                 "for research only", "c" * 64):  # fmt: skip
        assert text in out
    card = document("info", path)
    assert card["done"] == 9 and card["digest"] == digest and card["width"] == DIM


def test_a_card_moves_no_cursor(tmp_path: Path) -> None:
    path = tmp_path / "c.zarr"
    filled(path, provenance={**PROVENANCE, "licence_note": "ask\x1b[2J\x07 Ada\r\nor Ben"})
    _, out, _ = run("info", path)
    assert "\x1b" not in out and "\r" not in out and "ask?[2J? Ada" in out
    assert document("info", path)["licence_note"].startswith("ask\x1b"), "JSON escapes it"


def test_info_of_a_large_cache_takes_less_than_a_second(tmp_path: Path) -> None:
    """As many rows as NTU-120; what info reads does not depend on the width."""
    path = tmp_path / "large.zarr"
    count = 114_480
    zeros = np.ones((8192, 1, DIM), np.float16)
    with writer(path, count) as cache:
        for start in range(0, count, 8192):
            rows = slice(start, min(start + 8192, count))
            block = zeros[: rows.stop - start]
            cache.write(rows, block, block, np.full(len(block), DONE))
    began = time.process_time()  # of all threads: what else the machine does is not counted
    assert document("info", path)["done"] == count
    assert time.process_time() - began < 1


# verify


def checks(report: dict[str, Any]) -> dict[tuple[str, str], bool]:
    return {(c["check"], c["text"][:3]): c["ok"] for c in report["checks"]}


def test_verify_passes_what_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "c.zarr"
    digest = filled(path, failed=(3,))
    file = tmp_path / "world.csv"
    manifest(file, ids(10))
    report = document("verify", path, "--digest", digest)
    assert report["problems"] == [] and report["norm_f_v"]["median"] > 0
    status, out, _ = run("verify", path, "--manifest", file)
    assert status == 3 and "manifest has SHA-256" in out
    assert run("verify", path, "--manifest", file, "--allow", "manifest")[0] == 0


def test_verify_names_what_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "c.zarr"
    video, text = features(2500, 1), features(2500, 2)
    video[7], text[8], video[20] = 0, 1e3, video[21]
    with writer(path, 2500) as cache:
        cache.write(slice(0, 2500), video, text, np.full(2500, DONE))
        cache.finish()
    report = document("verify", path, status=3)
    by_text = {(c["check"], c["text"][:3]): c for c in report["checks"]}
    assert by_text["norms", "f_v"]["samples"] == ["sample_00007"]
    assert by_text["norms", "f_t"]["samples"] == ["sample_00008"]
    assert by_text["duplicates", "f_v"]["samples"] == ["sample_00020", "sample_00021"]
    assert by_text["duplicates", "f_t"]["ok"] and by_text["digest", "the"]["ok"]
    assert run("verify", path, "--allow=norms", "--allow=duplicates")[0] == 0

    group: Any = zarr.open_group(path, mode="r+")
    group["text"][5, 0, 1] += 1  # a flipped bit is seen by the digest alone
    assert checks(document("verify", path, status=3))["digest", "the"] is False
    group["text"][6, 0, 1] = np.nan
    chunk = path / "video" / "c.1.0.0"
    chunk.write_bytes(chunk.read_bytes()[:99])
    report = document("verify", path, status=3)
    by_text = {(c["check"], c["text"][:3]): c for c in report["checks"]}
    assert by_text["finite", "f_t"]["samples"] == ["sample_00006"]
    assert by_text["finite", "f_v"]["samples"] == ids(2500)[1024:2048]
    assert not by_text["digest", "the"]["ok"]


def test_verify_compares_ids(tmp_path: Path) -> None:
    path = tmp_path / "c.zarr"
    filled(path)
    file = tmp_path / "other.csv"
    manifest(file, [*ids(9), "new"])
    status, out, _ = run("verify", path, "--manifest", file)
    assert status == 3
    assert "9 of the manifest's 10 sample IDs" in out
    assert "only the manifest has new" in out and "only the cache has sample_00009" in out
    manifest(file, [i.removeprefix("sample_") for i in ids(10)])
    assert "--rename-ids '^sample_=' 10 match" in run("verify", path, "--manifest", file)[1]
    status, out, _ = run("verify", path, "--digest", "abc")
    assert status == 3 and "asked for is abc" in out


# compare


def test_compare(tmp_path: Path) -> None:
    a, b = tmp_path / "a.zarr", tmp_path / "b.zarr"
    filled(a)
    text = features(10, 2)
    text[4] = -text[4]
    order = [*range(1, 10), 0]
    names = [ids(10)[i] for i in order]
    other = {**PROVENANCE, "teacher": {**PROVENANCE["teacher"], "precision": "bfloat16"}}
    with CacheWriter.create_or_resume(b, names, dim=DIM, provenance=other) as cache:
        status = np.array([DONE] * 9 + [FAILED])
        cache.write(slice(0, 10), features(10, 1)[order], text[order], status)
    report = document("compare", a, b)
    assert report["common"] == 9 and report["only_a"] == {"count": 1, "first": ["sample_00000"]}
    assert report["features"]["f_v"]["equal"] == 9
    assert report["features"]["f_t"]["equal"] == 8
    worst = report["features"]["f_t"]["least_similar"][0]
    assert worst["sample_id"] == "sample_00004" and worst["cosine"] == pytest.approx(-1)
    assert [d["key"] for d in report["provenance"]] == ["teacher.precision"]
    table = tmp_path / "t.csv"
    assert run("compare", a, b, "--min-cosine", "0.9", "--table", table)[0] == 3
    rows = table.read_text().splitlines()
    assert rows[0] == "sample_id,cosine_f_v,cosine_f_t" and len(rows) == 10
    assert rows[4] == "sample_00004,1.000000,-1.000000"
    assert run("compare", a, a, "--min-cosine", "0.9999")[0] == 0


# merge and subset


def part(path: Path, rows: slice, count: int = 3000, **options: Any) -> None:
    chosen = np.arange(count)[rows]
    status = np.where(chosen % 100 == 7, FAILED, DONE)
    with writer(path, count, **options) as cache:
        video, text = features(count, 1)[rows], features(count, 2)[rows]
        cache.write(chosen, video, text, status)
        cache.finish()


def test_merged_shards_are_the_undivided_cache(tmp_path: Path) -> None:
    class_text = np.eye(2, DIM)
    part(tmp_path / "whole.zarr", slice(0, 3000), class_text=class_text)
    for i, rows in enumerate((slice(0, 1100), slice(1100, 2500), slice(2500, 3000))):
        part(tmp_path / f"s{i}.zarr", rows, class_text=class_text)
    (tmp_path / "s1.failures.csv").write_text(
        "sample_id,stage,message\nsample_01107,decode,broken\nsample_00000,decode,done since\n"
    )
    out = tmp_path / "merged.zarr"
    done = document("merge", *(tmp_path / f"s{i}.zarr" for i in range(3)), "--out", out)
    assert done["digest"] == content_digest(tmp_path / "whole.zarr")
    assert done["failed"] == 30 and done["pending"] == 0
    assert (tmp_path / "merged.failures.csv").read_text().splitlines()[1:] == [
        "sample_01107,decode,broken"
    ]
    attrs = TeacherCache.open(out).attrs
    assert attrs["complete"] is True and attrs["teacher"] == PROVENANCE["teacher"]
    (last,) = steps_of(attrs)
    assert last["name"] == "merge" and len(last["inputs"]) == 3
    assert not list(tmp_path.glob(".*")), "nothing is left beside the result"

    status, _, err = run("merge", tmp_path / "s0.zarr", "--out", out)
    assert status == 1 and "exists already" in err
    assert run("merge", tmp_path / "s0.zarr", "--out", out, "--overwrite")[0] == 0
    assert TeacherCache.open(out).pending == 1900


def test_merge_names_conflicts(tmp_path: Path) -> None:
    a, b = tmp_path / "a.zarr", tmp_path / "b.zarr"
    filled(a, failed=(0,))
    filled(b, failed=(1,))
    both = tmp_path / "both.zarr"
    assert document("merge", a, b, "--out", both)["done"] == 10, "done wins over failed"
    group: Any = zarr.open_group(b, mode="r+")
    group["text"][5] = -group["text"][5]
    status, _, err = run("merge", a, b, "--out", tmp_path / "n.zarr")
    assert status == 1 and "1 samples have different features" in err
    assert "sample_00005" in err and "cosine -1.0" in err and "--prefer-first" in err
    assert not (tmp_path / "n.zarr").exists()
    done = document("merge", a, b, "--out", tmp_path / "n.zarr", "--prefer-first")
    assert done["digest"] == content_digest(both) and done["conflicts"] == 1

    other = tmp_path / "other.zarr"
    stranger = {**PROVENANCE["teacher"], "name": "someone else"}
    filled(other, provenance={**PROVENANCE, "teacher": stranger})
    status, _, err = run("merge", a, other, "--out", tmp_path / "m.zarr")
    assert status == 1 and 'teacher.name is "teacher" in the first, "someone else"' in err


def test_subset_and_merge_by_manifest(tmp_path: Path) -> None:
    path, whole = tmp_path / "c.zarr", tmp_path / "whole.zarr"
    digest = filled(path, failed=(3,), class_text=np.eye(2, DIM))
    file = tmp_path / "few.csv"
    few = manifest(file, [ids(10)[i] for i in (8, 3, 1)])
    out = tmp_path / "few.zarr"
    done = document("subset", path, "--manifest", file, "--out", out)
    assert (done["done"], done["failed"], done["left_out"]) == (2, 1, 7)
    small = TeacherCache.open(out)
    assert list(small.row) == ["sample_00008", "sample_00001"]
    assert small.attrs["manifest_sha256"] == few.sha256 and small.attrs["dataset"] == "few"
    np.testing.assert_array_equal(
        small.targets(["sample_00001"]), TeacherCache.open(path).targets(["sample_00001"])
    )
    assert run("verify", out, "--manifest", file)[0] == 0
    rest = tmp_path / "rest.txt"
    rest.write_text("\n".join(i for i in ids(10) if i not in few.ids) + "\n")
    document("subset", path, "--ids", rest, "--out", tmp_path / "rest.zarr")
    back = tmp_path / "world.csv"
    manifest(back, ids(10))
    arguments = ["merge", out, tmp_path / "rest.zarr", "--out", whole]
    status, _, err = run(*arguments)
    assert status == 1 and "dataset is" in err and "--manifest CSV" in err
    assert document(*arguments, "--manifest", back)["digest"] == digest
    one = document("subset", path, "--manifest", file, "--classes=2", "--out", tmp_path / "1.zarr")
    assert one["samples"] == 1
    rest.write_text("other\n")
    status, _, err = run("subset", path, "--ids", rest, "--out", tmp_path / "2.zarr")
    assert status == 1 and "first other" in err
    assert (
        run("subset", path, "--out", "x")[0]
        == run("subset", path, "--ids", rest, "--classes=1", "--out", "x")[0]
        == 2
    )


@pytest.mark.parametrize("where", ["/proc/none/c.zarr", "file/c.zarr", "/dev/full/c.zarr"])
def test_places_that_cannot_be_written(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("no folder")
    status, _, err = run("merge", GOLDEN / "plain.zarr", "--out", tmp_path / where)
    assert status == 1 and "cannot be written there" in err and len(err.splitlines()) == 1


# pack and unpack


def test_pack_and_unpack(tmp_path: Path) -> None:
    path = tmp_path / "c.zarr"
    digest = filled(path, 2500)
    packed = document("pack", path)
    assert packed["cache"] == str(tmp_path / "c.zarr.zip") and packed["digest"] == digest
    shutil.copytree(path, tmp_path / "d.zarr")
    document("pack", tmp_path / "d.zarr")
    files = [(tmp_path / f"{n}.zarr.zip").read_bytes() for n in "cd"]
    assert files[0] == files[1]
    out = tmp_path / "back.zarr"
    assert document("unpack", tmp_path / "c.zarr.zip", "--out", out)["digest"] == digest
    assert content_digest(out) == digest
    assert run("unpack", tmp_path / "c.zarr.zip")[0] == 1, "c.zarr exists"
    by_hand = tmp_path / "by-hand.zip"
    with zipfile.ZipFile(by_hand, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            archive.write(file, Path("c.zarr") / file.relative_to(path))
    assert content_digest(by_hand) == digest, "a folder zipped by hand is read too"
    assert document("unpack", by_hand)["digest"] == digest


@pytest.mark.parametrize("harm", ["climb", "link", "twice", "bomb", "empty"])
def test_zips_that_could_harm_are_refused(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "c.zarr"
    filled(path)
    run("pack", path)
    bad = tmp_path / "bad.zip"
    shutil.copy(tmp_path / "c.zarr.zip", bad)
    with zipfile.ZipFile(bad, "a", zipfile.ZIP_DEFLATED) as archive:
        if harm == "climb":  # more such names: test_security.py
            archive.writestr("a/../../../evil", "evil")
        elif harm == "link":
            info = zipfile.ZipInfo("video/c.9")
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
        elif harm == "twice":
            with pytest.warns(UserWarning):
                archive.writestr("zarr.json", "{}")
        elif harm == "bomb":
            with archive.open("video/c.9", "w") as entry:
                for _ in range(600):
                    entry.write(bytes(1_000_000))
    if harm == "empty":
        with zipfile.ZipFile(bad, "w") as archive:
            archive.writestr("readme.txt", "no cache")
    out = tmp_path / "out" / "deep" / "c.zarr"
    for command in (["unpack", bad, "--out", out], ["info", bad], ["verify", bad]):
        status, _, err = run(*command)
        assert status == 1 and str(bad) in err and len(err.splitlines()) == 1
    assert not out.exists() and not (tmp_path / "evil").exists()


def test_pack_refuses_damage_and_links(tmp_path: Path) -> None:
    path = tmp_path / "c.zarr"
    filled(path)
    (path / "more").symlink_to("/etc")
    status, _, err = run("pack", path)
    assert status == 1 and "symbolic link" in err
    (path / "more").unlink()
    zarr.open_group(path, mode="r+")["text"][5, 0, 1] = 9  # type: ignore[index]
    status, _, err = run("pack", path)
    assert status == 1 and "the content has digest" in err
    assert not (tmp_path / "c.zarr.zip").exists()


# provenance


def test_golden_store_of_version_1_is_carried_on(tmp_path: Path) -> None:
    out = tmp_path / "g.zarr"
    assert document("merge", GOLDEN / "plain.zarr", "--out", out)["digest"] == GOLDEN_DIGEST
    attrs = TeacherCache.open(out).attrs
    assert attrs[CONVENTIONS] == [{"uuid": "0d4ef942-0f74-4187-ae72-016ddf083fe1"}]
    assert [s["name"] for s in attrs[STEPS]] == ["merge"]
    again = tmp_path / "h.zarr"
    document("merge", out, "--out", again)
    steps = steps_of(TeacherCache.open(again).attrs)
    assert [s["name"] for s in steps] == ["merge", "merge"]
    assert steps[1]["inputs"] == [{"name": "g.zarr", "digest": GOLDEN_DIGEST}]
