"""Caches by address: pushed and pulled over http, S3, ssh and folders, checked on arrival."""

import json
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from servers import HttpServer, http_server, s3_server, ssh_server
from small_caches import features, filled, writer

from skelfew.cache import DONE, CacheError, TeacherCache, content_digest
from skelfew.cache.tools.pack import pack
from skelfew.cache.transport.fetch import local_path, pull
from skelfew.cache.transport.places import Place
from skelfew.cache.transport.push import push

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    path = tmp_path / "sender" / "c.zarr"
    filled(path, 2500, failed=(3,), class_text=np.eye(2, 6))
    return path


@pytest.fixture
def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "receiver"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("SKELFEW_REMOTE", raising=False)
    return folder


@pytest.fixture
def web(tmp_path: Path) -> Iterator[HttpServer]:
    (tmp_path / "sender").mkdir(exist_ok=True)
    with http_server(tmp_path / "sender") as server:
        yield server


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    settings = {"AWS_ENDPOINT_URL": s3, "AWS_ACCESS_KEY_ID": "test", "NO_PROXY": "127.0.0.1",
                "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return "s3://lab"


# There and back


def test_http_folder_and_zip(cache: Path, receiver: Path, web: HttpServer) -> None:
    pack(cache)
    for name in ("c.zarr", "c.zarr.zip"):
        done = pull(f"{web.url}/{name}")
        assert done["cache"] == f"cache/{name}" and done["checked"]
        assert content_digest(receiver / "cache" / name) == content_digest(cache)
        assert sorted(p.name for p in (receiver / "cache").glob(".*")) == []
    with pytest.raises(CacheError, match="exists already"):
        pull(f"{web.url}/c.zarr")
    with pytest.raises(CacheError, match="http can only be read"):
        push(cache, f"{web.url}/d.zarr")


@pytest.mark.parametrize(
    ("kind", "form"),
    [(kind, form) for kind in ("path", "file", "s3", "ssh") for form in ("folder", "zip")]
    + [("home", "folder")],
)
def test_push_and_pull(
    kind: str, form: str, cache: Path, receiver: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = cache.with_name("small.zarr")
    filled(cache, 20)
    digest, lab = content_digest(cache), receiver.parent / "lab"
    lab.mkdir()
    with ssh_server(lab, receiver.parent / "home") as alias:
        monkeypatch.setenv("HOME", str(receiver.parent / "home"))
        base = {"path": str(lab), "file": lab.as_uri(), "s3": bucket, "ssh": f"ssh://{alias}",
                "home": f"ssh://{alias}/~"}[kind]  # fmt: skip
        target = f"{base}/{form}-{kind}/"
        if kind in ("path", "file"):
            with pytest.raises(CacheError, match="no such folder to push to"):
                push(cache, target)
            (lab / f"{form}-{kind}").mkdir()
        sent = pack(cache)["cache"] if form == "zip" else cache
        address = target + Path(sent).name
        assert push(Path(sent), target)["digest"] == digest
        done = pull(address, digest=digest)
        assert content_digest(done["cache"]) == digest
        if form == "folder":
            assert push(Path(sent), target)["files"] == 0, "the same cache is there already"
        other = receiver / "other.zarr"
        filled(other, 10)
        new_digest = content_digest(other)
        with pytest.raises(CacheError, match="--overwrite"):
            push(other, address)
        push(other, address, overwrite=True)
        assert pull(address, overwrite=True)["digest"] == new_digest


def test_half_a_push_is_no_cache(
    cache: Path, receiver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.local import LocalFileSystem

    sent = []
    whole = LocalFileSystem.put_file

    def breaks(self: LocalFileSystem, source: str, target: str, **options: object) -> None:
        sent.append(target)
        if len(sent) > 7:
            raise OSError("the cable was pulled")
        whole(self, source, target, **options)

    monkeypatch.setattr(LocalFileSystem, "put_file", breaks)
    (receiver / "lab").mkdir()
    with pytest.raises(CacheError, match="cable"):
        push(cache, str(receiver / "lab" / "c.zarr"))
    with pytest.raises(CacheError, match="no cache there"):
        pull(str(receiver / "lab" / "c.zarr"))
    monkeypatch.undo()
    os.chdir(receiver)
    push(cache, str(receiver / "lab" / "c.zarr"))
    assert pull(str(receiver / "lab" / "c.zarr"))["digest"] == content_digest(cache)


def test_a_folder_of_other_things_is_left_alone(cache: Path, receiver: Path, bucket: str) -> None:
    lab = receiver / "lab"
    (lab / "theses").mkdir(parents=True)
    (lab / "theses" / "final.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(CacheError, match="such as theses; end the address with a slash"):
            push(cache, str(lab), overwrite)
    push(cache, f"{lab}/")
    assert (lab / "theses" / "final.tex").is_file() and (lab / "c.zarr" / "zarr.json").is_file()
    push(cache, f"{bucket}/beside/c.zarr")
    with pytest.raises(CacheError, match=r"such as c\.zarr"):
        push(cache, f"{bucket}/beside")


def test_an_unknown_ssh_host_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with (
        ssh_server(tmp_path, tmp_path / "home", known=False) as alias,
        pytest.raises(CacheError, match=r"connect once with `ssh labhost`"),
    ):
        pull(f"ssh://{alias}/c.zarr")


# What is kept of an address


def test_an_address_is_fetched_once_and_again_when_it_changes(
    cache: Path, receiver: Path, web: HttpServer
) -> None:
    lines: list[str] = []
    address = f"{web.url}/c.zarr"
    path = local_path(address, lines.append)
    assert content_digest(path) == content_digest(cache)
    web.asked.clear()
    assert local_path(address, lines.append) == path
    assert web.asked == ["/c.zarr/zarr.json"] and len(lines) == 1
    shutil.rmtree(cache)
    filled(cache, 10)
    assert len(TeacherCache.open(local_path(address, lines.append))) == 10
    web.shutdown()
    web.server_close()
    assert local_path(address, lines.append) == path
    assert "cannot be reached" in lines[-1] and "using the copy fetched" in lines[-1]
    assert (receiver / "cache" / ".remote").is_dir()
    with pytest.raises(CacheError, match="cannot be reached"):
        local_path(f"{address}#digest={'0' * 64}")


def test_processes_that_want_the_same_address_fetch_it_once(
    cache: Path, receiver: Path, web: HttpServer
) -> None:
    lines: list[str] = []
    with ThreadPoolExecutor(3) as pool:
        paths = list(pool.map(lambda _: local_path(f"{web.url}/c.zarr", lines.append), range(3)))
    assert len(TeacherCache.open(f"{web.url}/c.zarr")) == 2499
    assert len(set(paths)) == 1 and lines == [f"fetching {web.url}/c.zarr"]
    assert web.asked.count("/c.zarr/sample_id/c.0") == 1


def test_the_zip_of_an_address_is_fetched_again_when_it_changes(
    cache: Path, receiver: Path, web: HttpServer
) -> None:
    pack(cache)
    address = f"{web.url}/c.zarr.zip"
    path = local_path(address)
    before = path.stat().st_mtime_ns
    assert local_path(address).stat().st_mtime_ns == before
    shutil.rmtree(cache)
    filled(cache, 10)
    pack(cache, overwrite=True)
    assert len(TeacherCache.open(local_path(address))) == 10


def test_a_wrong_digest_leaves_nothing(cache: Path, receiver: Path, web: HttpServer) -> None:
    with pytest.raises(CacheError, match=f"asked for is {'0' * 64}"):
        pull(f"{web.url}/c.zarr#digest={'0' * 64}")
    assert pull(f"{web.url}/c.zarr#digest={content_digest(cache)}")["checked"]
    zarr.open_group(cache, mode="r+")["text"][5, 0, 1] = 9  # type: ignore[index]
    with pytest.raises(CacheError, match="the content has digest"):
        local_path(f"{web.url}/c.zarr")
    assert not list((receiver / "cache" / ".remote").rglob("zarr.json"))


def test_a_broken_transfer_goes_on_where_it_was(
    cache: Path, receiver: Path, web: HttpServer
) -> None:
    web.fail_after = 9
    with pytest.raises(CacheError, match=r"127\.0\.0\.1.* cannot be reached"):
        pull(f"{web.url}/c.zarr")
    assert not (receiver / "cache" / "c.zarr").exists()
    first = set(web.asked)
    web.fail_after = None
    web.asked.clear()
    assert pull(f"{web.url}/c.zarr")["digest"] == content_digest(cache)
    again = {path for path in web.asked if not path.endswith("/zarr.json")} & first
    assert len(again) <= 9, "what broke off is asked for again, what came is not"
    assert len(web.asked) < sum(1 for p in cache.rglob("*") if p.is_file())


def test_pending_caches_can_be_fetched(tmp_path: Path, receiver: Path, web: HttpServer) -> None:
    path = tmp_path / "sender" / "running.zarr"
    with writer(path, 3000) as running:
        rows = np.arange(1100, 1200)
        running.write(rows, features(100), features(100), np.full(100, DONE))
        done = pull(f"{web.url}/running.zarr")
    assert not done["checked"] and done["digest"] is None
    assert len(TeacherCache.open(done["cache"])) == 100, "chunks that are absent are pending rows"


# What is refused


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ftp://host/c.zarr", "addresses of this kind are not opened"),
        ("simplecache::https://host/c.zarr", "addresses of this kind"),
        ("https://host/a::file:///etc/passwd", "addresses of this kind"),
        ("https://host/c.zarr#abc", "expected digest= and 64"),
        ("s3:///c.zarr", "names no host"),
    ],
)
def test_addresses_that_are_not_opened(address: str, message: str) -> None:
    with pytest.raises(CacheError, match=message):
        local_path(address)


def test_secrets_of_an_address_are_not_shown() -> None:
    place = Place.of("https://ada:secret@host:8/x/c.zarr.zip?X-Sig=secret#digest=" + "a" * 64)
    assert place.shown == "https://host:8/x/c.zarr.zip"
    assert place.file() == "https://ada:secret@host:8/x/c.zarr.zip?X-Sig=secret"
    assert place.file("video/zarr.json").endswith("c.zarr.zip/video/zarr.json?X-Sig=secret")
    assert (place.name, place.digest) == ("c.zarr.zip", "a" * 64)


def test_what_is_not_there(receiver: Path, web: HttpServer, bucket: str) -> None:
    for address in (f"{web.url}/no.zarr", f"{web.url}/no.zip", f"{bucket}/no.zarr"):
        with pytest.raises(CacheError, match="no cache there"):
            pull(address)
    with pytest.raises(CacheError, match="cannot be reached"):
        pull("http://127.0.0.1:9/c.zarr")


def test_a_server_that_lies_is_given_up_soon(cache: Path, receiver: Path, web: HttpServer) -> None:
    file = cache / "text" / "zarr.json"
    metadata = json.loads(file.read_text())
    for rows, message in (
        (10**12, r"claims 1000000000000 samples of \d+ bytes"),
        (10**6, r"sample_id/c\.3 is missing; the cache is not whole"),
    ):
        for name in ("sample_id", "status", "text", "video"):
            file = cache / name / "zarr.json"
            metadata = json.loads(file.read_text())
            shape = [rows, *metadata["shape"][1:]]
            file.write_text(json.dumps({**metadata, "shape": shape}))
        with pytest.raises(CacheError, match=message):
            pull(f"{web.url}/c.zarr")
    assert len(web.asked) < 100
    with pytest.raises(CacheError, match=r"is larger than the \d+ bytes it can have"):
        pull(f"{web.url}/endless.zarr")
    shutil.rmtree(cache)
    filled(cache)
    zarr.open_group(cache, mode="r+").attrs["format_version"] = 2
    with pytest.raises(CacheError, match="upgrade"):
        pull(f"{web.url}/c.zarr")
    with zipfile.ZipFile(cache.parent / "bad.zip", "w") as archive:
        archive.writestr("../evil", "evil")
    with pytest.raises(CacheError, match="refused"):
        pull(f"{web.url}/bad.zip")


@pytest.mark.parametrize("name", ["slow.zarr", "slow.zarr.zip"])
def test_a_server_without_progress_is_given_up(
    name: str, receiver: Path, web: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skelfew.io.budget.STALL_SECONDS", 1.0)
    with pytest.raises(CacheError, match="makes no progress"):
        pull(f"{web.url}/{name}")
    assert not [path for path in receiver.rglob("*") if path.is_file()], "nothing is left"


@pytest.mark.parametrize("name", ["c.zarr", "c.zarr.zip"])
def test_a_place_that_takes_nothing_is_given_up(
    name: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skelfew.io.budget.STALL_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        with pytest.raises(CacheError, match="makes no progress"):
            push(cache, f"s3://lab/{name}")


def test_bodies_of_another_length(cache: Path, receiver: Path, web: HttpServer) -> None:
    pack(cache, cache.parent / "c.zarr.zip")
    target = receiver / "c.zarr.zip"
    with pytest.raises(CacheError, match="ended before the whole file had come; run it again"):
        pull(f"{web.url}/short.zarr.zip", target)
    assert not target.exists()
    try:  # what lies behind the announced length may come in the same packet, or not
        pull(f"{web.url}/long.zarr.zip", target)
        assert target.read_bytes() == (cache.parent / "c.zarr.zip").read_bytes()
    except CacheError:
        assert not target.exists()


@pytest.mark.parametrize("name", ["thesis.txt", "thesis.docx", "thesis.zarr.zip", "thesis.zarr"])
def test_overwrite_replaces_only_caches(
    name: str, cache: Path, receiver: Path, web: HttpServer
) -> None:
    from skelfew.cli.cache import main as command

    thesis = receiver / name
    if name.endswith(".docx"):  # a zip, but no cache
        with zipfile.ZipFile(thesis, "w") as archive:
            archive.writestr("word/document.xml", "years of work")
    elif name.endswith(".zarr"):
        thesis.mkdir()
        (thesis / "final.tex").write_text("years of work")
    else:
        thesis.write_text("years of work")
    before = [(p, p.read_bytes()) for p in (thesis, *thesis.rglob("*")) if p.is_file()]
    for line in (["pull", f"{web.url}/c.zarr"], ["pack", str(cache)]):
        done = CliRunner().invoke(command, [*line, "--out", str(thesis), "--overwrite"])
        assert done.exit_code in (1, 2) and name in done.stderr, done.output
        assert [(p, p.read_bytes()) for p, _ in before] == before


def test_the_missing_package_is_named(receiver: Path) -> None:
    code = (
        "import sys\nfor name in ('aiohttp', 's3fs', 'paramiko'):\n    sys.modules[name] = None\n"
        "from skelfew.cache import CacheError\nfrom skelfew.cache.transport.fetch import pull\n"
        "for kind in ('https', 's3', 'ssh'):\n    try:\n        pull(f'{kind}://host/c.zarr')\n"
        "    except CacheError as error:\n        print(error)\n"
    )
    reply = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for line, name in zip(reply.stdout.splitlines(), ("aiohttp", "s3fs", "paramiko"), strict=True):
        assert name in line and "pip install 'skelfew[remote]'" in line
