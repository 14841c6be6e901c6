"""The rule by which a protocol chooses exemplars where no list was published."""

import re
from collections.abc import Iterable

from skelfew.data.manifest import Sample
from skelfew.data.protocols.files import ProtocolError
from skelfew.data.protocols.patterns import compiled
from skelfew.io.files import Values


def choose_exemplars(
    path: object, rule: Values, class_id: int, samples: Iterable[Sample], shots: int
) -> tuple[str, ...]:
    """Apply an exemplar rule: keep ``where``, sort by ``order``, one per value of ``distinct``."""
    candidates = []
    pattern = compiled(rule["pattern"]) if "pattern" in rule else None
    for sample in samples:
        values = {name: str(value) for name, value in vars(sample).items()}
        if pattern is not None:
            match = pattern.fullmatch(sample.sample_id)
            if match is None:
                raise ProtocolError(
                    f"{path}: sample {sample.sample_id!r} is not named like {pattern.pattern!r}, "
                    "which the rule for exemplars needs"
                )
            values |= {name: text or "" for name, text in match.groupdict().items()}
        used = [*rule["order"], *rule.get("where", {}), rule.get("distinct", "sample_id")]
        if empty := [k for k in used if not values.get(k)]:
            raise ProtocolError(
                f"{path}: the rule for exemplars needs {empty[0]!r} of {sample.sample_id!r}, "
                "which the manifest leaves empty"
            )
        if all(values[k] == v for k, v in rule.get("where", {}).items()):
            key = tuple(_natural(values[k]) for k in (*rule["order"], "sample_id"))
            candidates.append((key, values.get(rule.get("distinct", "sample_id")), sample))
    chosen: dict[str | None, str] = {}
    for _, group, sample in sorted(candidates, key=lambda c: c[0]):
        chosen.setdefault(group, sample.sample_id)
    if len(chosen) < shots:
        raise ProtocolError(
            f"{path}: class {class_id} has {len(chosen)} samples that can be exemplars, "
            f"{shots} are needed"
        )
    return tuple(chosen.values())[:shots]


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key by which ``s2`` comes before ``s10``."""
    parts = re.findall(r"\d+|\D+", text)
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts]
