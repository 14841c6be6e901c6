"""The Ray cluster that an extraction runs on: joined at RAY_ADDRESS, or started here."""

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stdout
from dataclasses import dataclass

from skelfew.errors import SkelfewError
from skelfew.io.files import Document, brief
from skelfew.io.processes import safe_path

try:
    import ray
    import ray.data
    import ray.data.exceptions
except ImportError as missing:
    raise SkelfewError(
        f"--engine ray needs {missing.name}, which is not installed; pip install 'skelfew[ray]'"
    ) from None

_KNOCK, _ANSWER = 10.0, 60.0  # seconds for a computer to answer at all, and for Ray


@dataclass(frozen=True)
class Cluster:
    """The Ray cluster of this process, and what Ray may give away of all its nodes."""

    name: str
    nodes: int
    cpus: int
    gpus: int

    def choose_device(self, asked: str) -> str:
        """Return ``cpu`` or ``cuda``; raise SkelfewError if the cluster cannot have it so."""
        if asked not in ("auto", "cpu", "cuda"):
            raise SkelfewError(
                f"--device {asked}: Ray picks a GPU for each copy of the teacher; --device cuda"
            )
        device = ("cuda" if self.gpus else "cpu") if asked == "auto" else asked
        if device == "cuda" and not self.gpus:
            raise SkelfewError(
                f"--device cuda: {self.name} has no GPU; start a node that has, or --device cpu"
            )
        needed = 1 if device == "cuda" else 2
        if self.cpus < needed:
            what = "one to decode" + ("" if device == "cuda" else ", one for the teacher")
            raise SkelfewError(
                f"{self.name} has {self.cpus} processor cores, but {needed} are needed ({what}); "
                "start another node, or ray start --num-cpus"
            )
        return device

    def default_workers(self, device: str) -> int:
        """Return how many clips to decode at once: processors must also encode, GPUs wait."""
        return self.cpus if device == "cuda" else max(self.cpus // 2, 1)

    def teachers(self, device: str) -> int:
        """Return how many copies of the teacher may run: one a GPU, or one a node."""
        return self.gpus if device == "cuda" else min(self.nodes, self.cpus // 2)


@contextmanager
def joined() -> Iterator[Cluster]:
    """Connect to the cluster at RAY_ADDRESS, else start one here; SkelfewError if it is another."""
    ours = not ray.is_initialized()
    with redirect_stdout(sys.stderr):  # where Ray's words about processes that died belong
        if ours:
            _connect(os.environ.get("RAY_ADDRESS") or "local")
        try:
            total = ray.cluster_resources()
            nodes = sum(1 for node in ray.nodes() if node["Alive"])
            name = f"the Ray cluster at {ray.get_runtime_context().gcs_address}"
            yield Cluster(name, nodes, int(total.get("CPU", 0)), int(total.get("GPU", 0)))
        finally:
            if ours:
                ray.shutdown()


def _connect(address: str) -> None:
    if address.startswith("ray://"):
        raise SkelfewError(
            f"RAY_ADDRESS {address}: the only writer must be on a node of the cluster; run this "
            "command there, with the address as host:port"
        )
    options: Document = {}
    if address == "local":
        # On a single core, too, decoding and encoding take turns.
        cores = max(os.cpu_count() or 1, 2)
        options = {"num_cpus": cores, "include_dashboard": False}
    else:
        _look_for(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report itself to its makers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ side warns of its Python side
    safe_path()
    try:
        # Ray adds the folder in which it is started to the path of all workers.
        with chdir(os.sep):
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ray.exceptions.RayError, RuntimeError, ValueError, OSError) as error:
        what = "started here" if address == "local" else f"joined at RAY_ADDRESS {address}"
        raise SkelfewError(f"no Ray cluster could be {what} ({brief(error)})") from error


def _look_for(address: str) -> None:
    """Raise SkelfewError unless another process can connect; ray.init may wait for ever."""
    try:
        if address != "auto":
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), _KNOCK).close()
        code = "import ray, sys; ray.init(sys.argv[1], log_to_driver=False, logging_level='ERROR')"
        trial = [sys.executable, "-P", "-c", code, address]
        subprocess.run(trial, capture_output=True, text=True, timeout=_ANSWER, check=True)
        return
    except subprocess.TimeoutExpired:
        why = f"nothing that Ray understands has answered for {_ANSWER:g} s"
    except subprocess.CalledProcessError as error:
        why = brief((error.stderr or error.stdout).strip().split("\n")[-1])
    except (OSError, ValueError, OverflowError) as error:
        why = brief(error)
    raise SkelfewError(
        f"RAY_ADDRESS {address}: no Ray cluster can be joined there ({why}); it is the host:port "
        "that `ray start --head` printed, to be used on one of the nodes, with the same Ray and "
        "Python, and RAY_AUTH_MODE=token if the cluster asks for a token; without "
        "RAY_ADDRESS a cluster is started here"
    )
