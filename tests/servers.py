"""Real servers on loopback that caches are pushed to and pulled from: HTTP, S3 and ssh."""

import functools
import http.server
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paramiko


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, notes what was asked for, and fails on request."""

    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append(self.path)
        if server.fail_after is not None and len(server.asked) > server.fail_after:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if "endless" in self.path:
            self.send_response(200)
            self.end_headers()
            for _ in range(1 << 12):  # 256 MiB
                self.wfile.write(bytes(1 << 16))
            return
        if "short" in self.path or "long" in self.path:  # a body of another length than it says
            body = Path(self.translate_path("/c.zarr.zip")).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body) + 100 * ("short" in self.path)))
            self.end_headers()
            self.wfile.write(body + b"x" * 100 * ("long" in self.path))
            self.close_connection = True
            return
        if "slow" in self.path:  # ten bytes a second
            self.send_response(200)
            self.end_headers()
            for _ in range(600):
                self.wfile.write(b"x")
                time.sleep(0.1)
            return
        super().do_GET()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class HttpServer(http.server.ThreadingHTTPServer):
    """``python -m http.server`` with a memory.

    Attributes:
        asked: Paths of all GET requests.
        fail_after: Break off every request after so many; None for never.
    """

    asked: list[str]
    fail_after: int | None

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that hang up are part of the tests

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def http_server(folder: Path) -> Iterator[HttpServer]:
    handler = functools.partial(_Handler, directory=str(folder))
    with HttpServer(("127.0.0.1", 0), handler) as server:
        server.asked, server.fail_after = [], None
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextmanager
def s3_server() -> Iterator[str]:
    """An S3-compatible server; the bucket ``lab`` exists."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys).create_bucket(
        Bucket="lab"
    )
    yield url
    server.stop()


class _Login(paramiko.ServerInterface):
    def __init__(self, key: paramiko.PKey):
        self.key = key

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        if username == "ada" and key == self.key:
            return paramiko.common.AUTH_SUCCESSFUL
        return paramiko.common.AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.common.OPEN_SUCCEEDED


class _Files(paramiko.SFTPServerInterface):
    """The files below one folder."""

    root: Path

    def _at(self, path: str) -> Path:
        return self.root / self.canonicalize(path).lstrip("/")

    def _try(self, action: Any) -> Any:
        try:
            return action()
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)

    def list_folder(self, path: str) -> Any:
        def entries() -> list[paramiko.SFTPAttributes]:
            return [
                paramiko.SFTPAttributes.from_stat(e.stat(), e.name)
                for e in os.scandir(self._at(path))
            ]

        return self._try(entries)

    def stat(self, path: str) -> Any:
        return self._try(lambda: paramiko.SFTPAttributes.from_stat(self._at(path).stat()))

    lstat = stat

    def open(self, path: str, flags: int, attr: Any) -> Any:
        def opened() -> paramiko.SFTPHandle:
            mode = "wb" if flags & os.O_WRONLY or flags & os.O_CREAT else "rb"
            file = self._at(path).open(mode)
            handle = paramiko.SFTPHandle(flags)
            handle.readfile = handle.writefile = file  # type: ignore[attr-defined]
            return handle

        return self._try(opened)

    def remove(self, path: str) -> Any:
        return self._try(lambda: self._at(path).unlink() or paramiko.SFTP_OK)

    def rename(self, old: str, new: str) -> Any:
        return self._try(lambda: (self._at(old).rename(self._at(new)), paramiko.SFTP_OK)[1])

    posix_rename = rename

    def mkdir(self, path: str, attr: Any) -> Any:
        return self._try(lambda: self._at(path).mkdir() or paramiko.SFTP_OK)


@contextmanager
def ssh_server(root: Path, home: Path, known: bool = True) -> Iterator[str]:
    """An ssh server with the files below ``root``; writes key, config and known hosts to ``home``.

    Yields:
        The alias that ``home``'s ssh configuration gives it.
    """
    folder = home / ".ssh"
    folder.mkdir(parents=True, exist_ok=True)
    login, host = paramiko.ECDSAKey.generate(), paramiko.ECDSAKey.generate()
    login.write_private_key_file(str(folder / "id_ecdsa"))
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    (folder / "config").write_text(
        f"Host labhost\n  HostName 127.0.0.1\n  Port {port}\n  User ada\n"
        f"  IdentityFile {folder / 'id_ecdsa'}\n"
    )
    entry = f"[127.0.0.1]:{port} {host.get_name()} {host.get_base64()}\n"
    (folder / "known_hosts").write_text(entry if known else "")
    files = type("Files", (_Files,), {"root": root})
    transports: list[paramiko.Transport] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            transports.append(transport)
            transport.add_server_key(host)
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer, files)
            try:
                transport.start_server(server=_Login(login))
            except (paramiko.SSHException, EOFError):
                continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield "labhost"
    for transport in transports:
        transport.close()
    listener.close()
