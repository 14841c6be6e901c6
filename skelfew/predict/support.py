"""A folder of one's own actions: a folder an action, in it a few recordings of it."""

from collections.abc import Callable, Mapping
from pathlib import Path

from skelfew.data.joints.layouts import Layout
from skelfew.errors import SkelfewError
from skelfew.io.clean import look_alike
from skelfew.predict.recordings import SUFFIXES, Clip, is_recording, read_clips

_SHAPE = "it holds a folder for each action, and in that a few recordings of it"


def read_folder(
    folder: str | Path,
    layout: Layout,
    options: Mapping[str, str] | None = None,
    unsure: int | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, list[Clip]]:
    """Read all recordings of a folder of actions, by action, both in the order of their names.

    Its folders are called like the actions; hidden files are not looked at. ``note`` takes a line
    about every file that is left out. Raises SkelfewError: no such folder, no actions in it, an
    action without recordings, or a recording that cannot be used; named.
    """
    return {
        action: [clip for path in paths for clip in read_clips(path, layout, options, unsure)]
        for action, paths in recordings_of(folder, note).items()
    }


def recordings_of(
    folder: str | Path, note: Callable[[str], None] = lambda text: None
) -> dict[str, list[Path]]:
    """Return the recordings of each action, unread; raises and notes as ``read_folder``."""
    folder = Path(folder)
    if not folder.is_dir():
        raise SkelfewError(f"{folder}: no such folder of actions; {_SHAPE}")
    entries = _inside(folder)
    actions = [p for p in entries if p.is_dir()]
    loose = [p for p in entries if p.is_file() and is_recording(p)]
    if loose:
        raise SkelfewError(
            f"{loose[0]}: lies beside the folders of the actions; {_SHAPE}, so move it into one"
        )
    if not actions:
        raise SkelfewError(f"{folder}: no actions; {_SHAPE}")
    if alike := look_alike(p.name for p in actions):
        raise SkelfewError(
            f"{folder}: the actions {' and '.join(map(repr, alike[0]))} differ in case or spaces "
            "only; put their recordings into one folder"
        )
    found: dict[str, list[Path]] = {}
    for action in actions:
        inside = _inside(action)
        for path in inside:
            if not is_recording(path):
                note(f"{path}: left out, no recording (known are {', '.join(SUFFIXES)})")
        found[action.name] = [path for path in inside if is_recording(path)]
        if not found[action.name]:
            raise SkelfewError(f"{action}: no recording; {_SHAPE}")
    return found


def _inside(folder: Path) -> list[Path]:
    """Return what lies in a folder, by name, without hidden files; links are refused."""
    found = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    if links := [p for p in found if p.is_symlink()]:
        raise SkelfewError(f"{links[0]}: a link, which is not followed; copy the file there")
    return found
