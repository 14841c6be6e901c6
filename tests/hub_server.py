"""The part of the Hugging Face Hub that pushing and pulling needs, on loopback."""

import base64
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TOKEN = "hf_test"
LARGE = 2000  # bytes from which a file goes the way of large ones (LFS)
_API = re.compile(r"/api/(datasets|models)/([^/]+/[^/]+)/(preupload|commit|tree|revision)/(\w+)")
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/(\w+)/(.+)")


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> "Hub":
        return self.server  # type: ignore[return-value]

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, document: Any) -> None:
        self.answer(200, json.dumps(document).encode(), Content_Type="application/json")

    def body(self) -> bytes:
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if (found := _API.match(path)) and found[3] in ("tree", "revision"):
            files = self.hub.files.get(found[2])
            if files is None:
                return self.answer(404, X_Error_Code="RepoNotFound")
            listed = [
                {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                for name, content in files.items()
            ]
            return self.json(listed if found[3] == "tree" else {"id": found[2], "sha": "1" * 40})
        found = _FILE.match(path)
        content = self.hub.files.get(found[2], {}).get(found[4]) if found else None
        if content is None:
            return self.answer(404, X_Error_Code="EntryNotFound")
        etag = hashlib.sha256(content).hexdigest()
        return self.answer(200, content, ETag=f'"{etag}"', X_Repo_Commit="1" * 40)

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        self.hub.large[self.path.rsplit("/", 1)[1]] = self.body()
        self.answer(200)

    def do_POST(self) -> None:
        content = self.body()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401)
        if self.path == "/api/repos/create":
            asked = json.loads(content)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.hub.files.setdefault(name, {".gitattributes": b""})
            return self.json({"url": f"{self.hub.url}/{name}", "id": name})
        if self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**o, "actions": {"upload": {"href": f"{self.hub.url}/large/{o['oid']}"}}}
                for o in json.loads(content)["objects"]
            ]
            return self.json({"transfer": "basic", "objects": objects})
        if self.path.startswith("/api/validate-yaml"):
            return self.json({"errors": [], "warnings": []})
        found = _API.match(self.path)
        assert found is not None, self.path
        if found[3] == "preupload":
            files = json.loads(content)["files"]
            modes = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["size"] > LARGE else "regular",
                    "shouldIgnore": False,
                }
                for f in files
            ]
            return self.json({"files": modes})
        self.hub.commits += 1
        kept = self.hub.files[found[2]]
        for line in content.splitlines():
            key, value = (json.loads(line)[k] for k in ("key", "value"))
            if key == "file":
                kept[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                kept[value["path"]] = self.hub.large[value["oid"]]
            elif key == "deletedFile":
                del kept[value["path"]]
        url = f"{self.hub.url}/{found[2]}/commit/{'1' * 40}"
        return self.json({"commitUrl": url, "commitOid": "1" * 40, "success": True})

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class Hub(http.server.ThreadingHTTPServer):
    """A Hub in memory.

    Attributes:
        files: Content of the files of each repository.
        large: Large files by their SHA-256.
        commits: How many commits came.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.large: dict[str, bytes] = {}
        self.commits = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def hub_server() -> Iterator[Hub]:
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()
