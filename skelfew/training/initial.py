"""Training data of the encoder that a run starts from, as far as its file says."""

from skelfew.cache import TeacherCache
from skelfew.cache.format.checks import differences
from skelfew.encoders.checkpoints import is_own, read_metadata
from skelfew.runs.inputs import Inputs
from skelfew.training.data import NovelClassError


def classes_seen_by(init: str, inputs: Inputs) -> list[int]:
    """Return the known classes of an initial encoder; NovelClassError if one is novel here."""
    if not is_own(init):
        return []
    about = read_metadata(init)
    seen = list(about.get("base", [])) if about.get("dataset") == inputs.dataset else []
    if leaked := sorted(set(seen) & set(inputs.protocol.novel)):
        raise NovelClassError(
            f"{init}: was trained on classes that are novel here, first {leaked[0]} "
            f"({inputs.manifest.classes.get(leaked[0], '')}); start from an encoder of split "
            f"{inputs.protocol.split or inputs.protocol.name}"
        )
    return seen


def other_teacher(init: str, cache: TeacherCache) -> str | None:
    """Return how the teacher of an initial encoder differs from that of a cache, None if not."""
    if not is_own(init):
        return None
    before = read_metadata(init).get("teacher")
    if not isinstance(before, dict):
        return None
    teacher = cache.attrs["teacher"]
    now = {
        "name": teacher.get("name"),
        "weights_sha256": teacher.get("weights_sha256"),
        "width": cache.dim,
        "preprocessing": cache.attrs.get("preprocessing"),
    }
    found = differences({key: before[key] for key in now if key in before}, now)
    texts = (f"{k} was {was}, is {value}" for k, was, value in found if k.split(".")[0] in before)
    return "; ".join(texts) or None
