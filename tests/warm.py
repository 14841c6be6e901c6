"""A Python that has imported everything already: commands in processes of their own, at once.

Importing torch, torchvision and the rest takes seconds of processor time, more than most commands
of the tests. ``serve`` imports them once and forks a process for each command; ``Warm.python`` is
an executable that takes ``-m``, ``-c`` or a script like Python itself. Streams, working folder,
environment, signals and exit status are those of the caller. What a command alone imports is
tested by ``test_walls.py`` and wherever ``sys.executable`` is started.
"""

import array
import atexit
import contextlib
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from importlib.metadata import entry_points
from pathlib import Path

import skelfew_extract

import skelfew

PACKAGES = (skelfew, skelfew_extract)
LIBRARIES = ("torch", "torchvision", "open_clip", "transformers", "pandas", "rich.progress", "av")
CLIENT = """#!{python} -IS
import array, json, os, signal, socket, sys
name = os.path.basename(sys.argv[0])
flags = next((i for i, a in enumerate(sys.argv) if i and a not in ("-B", "-P", "-u")), 1)
line = sys.argv[flags:] if name == "python" else ["@" + name, *sys.argv[1:]]
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([line, os.getcwd(), dict(os.environ)]).encode()
server.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
server.sendall(len(request).to_bytes(8, "big") + request)
pid = int(server.recv(20))
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, _: os.kill(pid, number))
os.closerange(0, 3)
status = int(server.recv(20))
if status < 0:
    signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
    os.kill(os.getpid(), -status)
os._exit(status)
"""


class Warm:
    """The server, and a folder of executables: python and the commands of skelfew."""

    def __init__(self, folder: Path | None = None):
        """Start a server, or use the one that is started in ``folder``."""
        self._server: subprocess.Popen[bytes] | None = None
        if not hasattr(os, "pidfd_open"):  # not Linux: plain processes
            self.folder = Path(sys.executable).parent
        elif folder is not None:
            self.folder = folder
        else:
            self.folder = Path(tempfile.mkdtemp(prefix="warm-", dir="/tmp"))  # sockets: short paths
            self._start(str(self.folder / "socket"))
        self.python = str(self.folder / "python") if folder or self._server else sys.executable

    def _start(self, address: str) -> None:
        text = CLIENT.format(python=sys.executable, address=address)
        commands = [e.name for e in entry_points(group="console_scripts") if "skelfew" in e.value]
        for name in ("python", *commands):
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o755)
        self._server = subprocess.Popen(
            [sys.executable, __file__, address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self._server.stdout is not None
        assert self._server.stdout.readline() == b"ready\n"

    def close(self) -> None:
        """End the server and what it still runs."""
        if self._server is not None:
            self._server.communicate()
            shutil.rmtree(self.folder)


def serve(address: str) -> None:
    """Fork a process for each command that comes, until the standard input ends."""
    if not sys.flags.safe_path:
        del sys.path[0]  # the folder of this file
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    print("ready", flush=True)  # commands that come during the imports wait
    ours = [m.name for p in PACKAGES for m in pkgutil.walk_packages(p.__path__, f"{p.__name__}.")]
    for name in (*LIBRARIES, *ours):
        if not name.endswith(("__main__", "ray_cluster", "ray_engine", "pose", "worker")):
            with contextlib.suppress(Exception):  # an optional package is absent
                importlib.import_module(name)
    ready = selectors.DefaultSelector()
    ready.register(listener, selectors.EVENT_READ)
    ready.register(0, selectors.EVENT_READ)
    while True:
        for key, _ in ready.select():
            if key.fileobj == 0:
                for other in list(ready.get_map().values()):
                    if isinstance(other.data, int):
                        os.kill(other.data, signal.SIGKILL)
                return
            if key.fileobj is listener:
                client, _ = listener.accept()
                pid = _start(client, f"{Path(address).parent}/python")
                client.sendall(str(pid).encode())
                ended = os.pidfd_open(pid)
                ready.register(ended, selectors.EVENT_READ, (pid, client))
                ready.register(client, selectors.EVENT_READ, pid)
            elif isinstance(key.data, tuple):  # a process has ended
                pid, client = key.data
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                ready.unregister(key.fileobj)
                os.close(key.fd)
                if client in {k.fileobj for k in ready.get_map().values()}:
                    ready.unregister(client)
                with contextlib.suppress(OSError):
                    client.sendall(str(status).encode())
                client.close()
            else:  # the caller was killed
                ready.unregister(key.fileobj)
                os.kill(key.data, signal.SIGKILL)


def _start(client: socket.socket, python: str) -> int:
    """Read a request and fork; return the number of the process."""
    streams = array.array("i")
    _, messages, _, _ = client.recvmsg(1, socket.CMSG_SPACE(3 * streams.itemsize))
    for _, _, data in messages:
        streams.frombytes(data)
    size = int.from_bytes(client.recv(8, socket.MSG_WAITALL), "big")
    line, folder, environment = json.loads(client.recv(size, socket.MSG_WAITALL))
    pid = os.fork()
    if pid:
        for stream in streams:
            os.close(stream)
        return pid
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, 256)  # those of the server: the listener, clients, the selector
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.executable = python  # for the commands that this one starts
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        stream = open(number, mode, closefd=False)  # noqa: SIM115
        if name == "stderr" or stream.isatty():
            stream.reconfigure(line_buffering=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    _end(_status(line))
    raise AssertionError("unreachable")


def _status(line: list[str]) -> int:
    """Run a command line as Python would; return the exit status."""
    place = "" if "PYTHONSAFEPATH" in os.environ else str(Path.cwd())
    try:
        line = line or ["-"]
        if line[0].startswith("@"):
            sys.argv = [line[0][1:], *line[1:]]
            (found,) = entry_points(group="console_scripts", name=line[0][1:])
            sys.exit(found.load()())
        elif line[0] == "-m":
            sys.argv = line[1:]
            sys.path[:0] = [place] * bool(place)
            runpy.run_module(line[1], run_name="__main__", alter_sys=True)
        elif line[0] in ("-c", "-"):
            code = line.pop(1) if line[0] == "-c" else sys.stdin.read()
            sys.argv = line
            sys.path[:0] = [place] * bool(place)
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = line
            sys.path[:0] = [str(Path(line[0]).resolve().parent)]
            runpy.run_path(line[0], run_name="__main__")
        return 0
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException as error:
        traceback.print_exc()
        return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1


def _end(status: int) -> None:
    """End this process as the interpreter would."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status & 255)


if __name__ == "__main__":
    serve(sys.argv[1])
