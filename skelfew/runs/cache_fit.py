"""Whether a teacher cache is the one for these skeletons; if not, what is different."""

from skelfew.cache import TeacherCache
from skelfew.cache.format.checks import differences
from skelfew.cache.matching import match
from skelfew.data.manifest import Manifest
from skelfew.data.store import SkeletonStore
from skelfew.errors import SkelfewError
from skelfew.io.files import Document


class InputError(SkelfewError):
    """Inputs that are absent or do not belong together; the message says what to run."""


def check_fit(
    cache: TeacherCache, manifest: Manifest, store: SkeletonStore, by_ids: bool = False
) -> None:
    """Raise InputError if the cache was made from other samples (``by_ids``: other IDs)."""
    _check_width(cache)
    where = manifest.path or manifest.name
    recorded, found = cache.attrs.get("manifest_sha256"), manifest.sha256
    if recorded == found:
        _check_skeletons(cache, manifest, store, by_ids)
        return
    fit = match([*cache.row, *cache.failed], manifest.ids)
    classes = _other_class(cache, manifest)
    if by_ids and fit.matched and classes is None:
        return
    if not fit.matched or fit.rule is not None:
        raise InputError(f"{cache.path} does not fit {where}: {fit.explain()}{_advice(manifest)}")
    if classes is not None:
        raise InputError(f"{cache.path} does not fit {where}: {classes}{_advice(manifest)}")
    same = "" if fit.only_cache or fit.only_manifest else " and so are the classes"
    raise InputError(
        f"{cache.path} was extracted for a manifest of SHA-256 {recorded}, but {where} has "
        f"{found}: {fit.explain()}{same}, so other columns differ (segments, videos, ...). "
        f"--match ids trains on it all the same{_advice(manifest)}"
    )


def _advice(manifest: Manifest) -> str:
    return (
        f"; or name the manifest it belongs to with --manifest, or run skelfew-extract "
        f"{manifest.name}"
    )


def _check_width(cache: TeacherCache) -> None:
    teacher = cache.attrs.get("teacher")
    claimed = teacher.get("dim") if isinstance(teacher, dict) else None
    if claimed is not None and claimed != cache.dim:
        raise InputError(
            f"{cache.path}: says that its teacher is {claimed} wide, but holds features of width "
            f"{cache.dim}; it is not what it says, ask for it again"
        )


def _check_skeletons(
    cache: TeacherCache, manifest: Manifest, store: SkeletonStore, by_ids: bool
) -> None:
    seen, found = cache.attrs.get("skeletons_digest"), store.attrs.get("digest")
    if seen not in (None, found) and not by_ids:
        raise InputError(
            f"{cache.path} was cropped around skeletons of digest {seen}, but {store.path} has "
            f"{found}; name the store it belongs to with --store, run skelfew-extract "
            f"{manifest.name}, or take it all the same with --match ids"
        )


def _other_class(cache: TeacherCache, manifest: Manifest) -> str | None:
    """Return a sentence on the first class that is another one in the cache, None if none is."""
    entries = cache.attrs.get("classes")
    known = {
        entry["class_id"]: entry.get("label")
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and "class_id" in entry
    }
    for class_id, label in manifest.classes.items():
        if known and class_id not in known:
            return f"class {class_id} ({label}) is unknown to the cache"
        if known and known[class_id] != label:
            return (
                f"class {class_id} is {known[class_id]!r} in the cache, {label!r} in the manifest"
            )
    return None


def about(cache: TeacherCache) -> str:
    """Return one line on what is trained on: teacher, width, preprocessing."""
    teacher, made = (
        value if isinstance(value := cache.attrs.get(key), dict) else {}
        for key in ("teacher", "preprocessing")
    )
    weights = str(teacher.get("weights_sha256") or "unknown")[:12]
    how = ", ".join(
        f"{key} {made[key]}" for key in ("sampling", "frames", "crop", "margin", "size")
        if key in made
    )  # fmt: skip
    views = f", {cache.text.shape[1]} views" if cache.text.shape[1] > 1 else ""
    return (
        f"teacher {teacher.get('name')}, width {cache.dim}{views}, weights {weights}; "
        f"preprocessing: {how or 'unknown'}"
    )


def changes(before: Document, now: Document) -> str:
    """Return what else differs between two entries of inputs.json: the teacher, its width, ..."""
    known = {key: value for key, value in now.items() if key in before}
    found = differences({key: before[key] for key in known}, known)
    return "".join(f"; {key} {was}, now {value}" for key, was, value in found if key != "digest")
