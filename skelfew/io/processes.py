"""Starting processes that import nothing from the working folder.

``python -c`` and the children of multiprocessing put the working folder first on their path. A
folder of others may hold a ``multiprocessing/__init__.py``, which would run.
"""

import multiprocessing
import os
from multiprocessing.context import SpawnContext


def safe_path() -> None:
    """Keep the working folder off the path of every child of this process."""
    os.environ["PYTHONSAFEPATH"] = "1"


def spawning() -> SpawnContext:
    """Return what starts child processes, with a safe path."""
    safe_path()
    return multiprocessing.get_context("spawn")
