"""Finding a sample by its ID, in one manifest or in all that were prepared."""

from difflib import get_close_matches
from pathlib import Path

from skelfew.data.manifest import Manifest, Sample
from skelfew.errors import SkelfewError
from skelfew.io.budget import check_table
from skelfew.io.files import brief, read_csv

_NAMED = 5  # close matches that an error names


def find_sample(
    sample_id: str,
    dataset: str | None = None,
    manifest: Path | None = None,
    folder: Path = Path("manifests"),
) -> tuple[Manifest, Sample]:
    """Return a sample and the manifest that lists it; SkelfewError if none or several do."""
    if manifest is not None or dataset is not None:
        paths = [manifest or folder / f"{dataset}.csv"]
        Manifest.read(paths[0])  # for its clear errors
    else:
        paths = sorted(
            p for p in folder.glob("*.csv") if not p.stem.endswith((".dropped", ".notes"))
        )
    ids = {path: _ids(path) for path in paths}
    if not any(ids.values()):
        raise SkelfewError(f"{folder}: no manifest in it; create one with skelfew-prepare NAME")
    found = [path for path, names in ids.items() if sample_id in names]
    if len(found) > 1:
        names = ", ".join(path.stem for path in found)
        raise SkelfewError(f"{sample_id!r} is a sample of {names}; choose one with --dataset")
    if not found:
        raise SkelfewError(_not_found(sample_id, ids))
    rows = Manifest.read(found[0])
    return rows, rows[sample_id]


def _ids(path: Path) -> list[str]:
    """Return the sample IDs of a manifest, none if it is another kind of table."""
    try:
        check_table(path, SkelfewError)
        return [name for name, _ in read_csv(path, ("sample_id", "class_id"))]
    except UnicodeDecodeError as error:
        raise SkelfewError(f"{path}: not a readable manifest ({error})") from None
    except OSError as error:
        raise SkelfewError(f"{path}: not a readable manifest ({brief(error)})") from None
    except ValueError:
        return []


def _not_found(sample_id: str, ids: dict[Path, list[str]]) -> str:
    names = sorted({name for column in ids.values() for name in column})
    lower = {name.lower(): name for name in names}
    close = [lower[n] for n in get_close_matches(sample_id.lower(), lower, _NAMED, 0.6)]
    where = ", ".join(str(path) for path, column in ids.items() if column)
    hint = f"close to it are {', '.join(close)}" if close else f"the first is {names[0]}"
    return f"no sample {sample_id!r} among {len(names)} of {where}; {hint}"
