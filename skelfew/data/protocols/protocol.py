"""Few-shot protocols: which classes are base, validation and novel, and which samples exemplars.

A protocol is a JSON file under manifests/protocols/; docs/protocols.md describes every key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from skelfew.data.manifest import Manifest, Sample
from skelfew.data.protocols.exemplars import choose_exemplars
from skelfew.data.protocols.files import (
    ProtocolError,
    class_list,
    few,
    find_protocol,
    list_protocols,
    listed_exemplars,
    protocol_digest,
    read_protocol,
)
from skelfew.data.protocols.splits import make_split
from skelfew.io.files import Values, shown

ANY = "any"


@dataclass(frozen=True)
class Protocol:
    """One split of a protocol, checked against a manifest."""

    name: str  # name of the protocol, the stem of its file
    split: str  # name of the split, "" if the protocol has only one
    base: tuple[int, ...]
    validation: tuple[int, ...]  # classes held out from training for choosing hyper-parameters
    novel: tuple[int, ...]  # classes to recognise from exemplars; never trained on
    sha256: str  # hash of the protocol's content, independent of formatting
    path: Path
    source: str = ""
    notes: tuple[str, ...] = ()  # what to know, and what is our choice because it was not published
    # Settings of random episodes where the protocol fixes them (ways, queries, ...)
    episodes: Mapping[str, int] = field(default_factory=dict)
    # Named sets of novel samples that may be left out of the queries
    exclude_queries: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # Number of queries of the complete data set, by shots or option name
    expected_queries: Mapping[str, int] = field(default_factory=dict)
    _listed: Mapping[int, Mapping[int, tuple[str, ...]]] = field(default_factory=dict, repr=False)
    _rule: Values | None = field(default=None, repr=False)
    _samples: Mapping[int, tuple[Sample, ...]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        parts = {"base": self.base, "validation": self.validation, "novel": self.novel}
        for (one, left), (other, right) in combinations(parts.items(), 2):
            if shared := sorted(set(left) & set(right)):
                raise ProtocolError(
                    f"{self.path}: classes {few(shared)} are both {one} and {other}"
                )
        if not self.novel:
            raise ProtocolError(f"{self.path}: no novel classes")

    @property
    def has_exemplars(self) -> bool:
        """Whether the protocol names exemplars (else only random episodes make sense)."""
        return bool(self._listed) or self._rule is not None

    def exemplars(self, shots: int) -> dict[int, tuple[str, ...]]:
        """Return the exemplars of each novel class, ``shots`` sample IDs each."""
        if shots < 1:
            raise ProtocolError(f"shots must be 1 or more, got {shots}")
        if self._rule is not None:
            rule = self._rule
            return {
                c: choose_exemplars(self.path, rule, c, self._samples[c], shots) for c in self.novel
            }
        larger = sorted(k for k in self._listed if k >= shots)
        if not larger:
            listed = ", ".join(map(str, sorted(self._listed))) or "none"
            raise ProtocolError(
                f"{self.path}: no exemplars for {shots} shots (listed: {listed}); "
                "use --mode episodes or --mode draws for random ones"
            )
        _check_exemplars(self, larger[0])
        return {c: self._listed[larger[0]][c][:shots] for c in self.novel}

    def queries(self, shots: int, exclude: Sequence[str] = ()) -> list[str]:
        """Return all samples of the novel classes but exemplars and ``exclude_queries``."""
        out = {i for ids in self.exemplars(shots).values() for i in ids}
        for name in exclude:
            if name not in self.exclude_queries:
                known = ", ".join(self.exclude_queries) or "none"
                raise ProtocolError(f"{self.path}: no option {name!r} to leave out; has {known}")
            out.update(self.exclude_queries[name])
        ids = [s.sample_id for c in self.novel for s in self._samples[c] if s.sample_id not in out]
        if not ids:
            raise ProtocolError(f"{self.path}: {shots} shots leave no query")
        return ids


def split_names(name: str | Path, manifest: Manifest) -> list[str]:
    """Return the names of a protocol's splits; empty if it has only one."""
    path = find_protocol(name)
    return list(_splits(path, read_protocol(path), manifest))


def load_protocol(
    name: str | Path | None,
    manifest: Manifest,
    split: str | int | None = None,
    validation: bool = True,
) -> Protocol:
    """Load a protocol and check that it fits the manifest.

    Args:
        name: A file, a name under manifests/protocols/, or None for the data set's default.
        split: Which split of a protocol with several, by name; numbers start at 1. None takes
            the first.
        validation: Keep the validation classes apart; False trains on them too, as the final
            run of a paper does.

    Raises:
        ProtocolError: Listing the classes and (of the fewest shots) exemplars that the manifest
            lacks. Those of more shots are checked when they are asked for.
    """
    path = default_protocol(manifest) if name is None else find_protocol(name)
    document = read_protocol(path)
    datasets = _datasets(document)
    if ANY not in datasets and not any(_fits(manifest.name, d) for d in datasets):
        raise ProtocolError(
            f"{path}: made for {' or '.join(datasets)}, not for {manifest.name}; "
            "skelfew-prepare split makes a protocol for a data set of your own"
        )
    splits = _splits(path, document, manifest)
    classes: Values = document
    if splits:
        wanted = next(iter(splits)) if split is None else str(split)
        if wanted not in splits:
            raise ProtocolError(f"{path}: no split {shown(wanted)}; has {few(list(splits), 12)}")
        classes = splits[wanted]
    elif split is not None:
        raise ProtocolError(f"{path}: has no splits, but split {split} was asked for")
    held_out = class_list(path, classes, "validation")
    by_class: dict[int, list[Sample]] = {}
    for sample in manifest:
        by_class.setdefault(sample.class_id, []).append(sample)
    notes = document.get("notes", [])
    protocol = Protocol(
        name=str(document.get("name", path.stem)),
        split=wanted if splits else "",
        base=class_list(path, classes, "base") + (() if validation else held_out),
        validation=held_out if validation else (),
        novel=class_list(path, classes, "novel"),
        sha256=protocol_digest(document),
        path=path,
        source=str(document.get("source", "")),
        notes=(notes,) if isinstance(notes, str) else tuple(notes),
        episodes=dict(document.get("episodes", {})),
        exclude_queries={k: tuple(v) for k, v in document.get("exclude_queries", {}).items()},
        expected_queries=dict(document.get("expected_queries", {})),
        _listed=listed_exemplars(path, {**document, **classes}),
        _rule=document.get("exemplar_rule"),
        _samples={c: tuple(samples) for c, samples in by_class.items()},
    )
    _check_fit(protocol, manifest)
    return protocol


def default_protocol(manifest: Manifest) -> Path:
    """Return the protocol that a data set gets unasked.

    The file made for it, called like it or like it with ``-oneshot``; of several (NTU 60 and 120)
    the one with exactly its classes.
    """
    fitting, default = [], []
    for name, path in list_protocols().items():
        document = read_protocol(path)
        datasets = [d for d in _datasets(document) if _fits(manifest.name, d)]
        if datasets:
            fitting.append(name)
            if name in {f"{d}{end}" for d in _datasets(document) for end in ("", "-oneshot")}:
                default.append((path, document))
    if len(default) > 1:
        present = set(manifest.classes)
        exact = [(p, d) for p, d in default if _all_classes(p, d) == present]
        default = exact or default
    if len(default) != 1:
        raise ProtocolError(
            f"no default protocol for {manifest.name}; choose one with --protocol "
            f"({few(fitting, 12) or 'random'}) or make one with skelfew-prepare split"
        )
    return default[0][0]


def _datasets(document: Values) -> list[str]:
    names = document["dataset"]
    return [names] if isinstance(names, str) else list(names)


def _fits(manifest: str, dataset: str) -> bool:
    return manifest == dataset or manifest.startswith(dataset + "-")


def _splits(path: Path, document: Values, manifest: Manifest) -> dict[str, Values]:
    """All splits by name: listed, all combinations of some classes, or drawn with seeds."""
    splits = document.get("splits")
    if isinstance(splits, list):
        return {str(s.get("name", i)): s for i, s in enumerate(splits, start=1)}
    if isinstance(splits, dict):
        classes = splits["of"]
        return {
            str(i): {"base": [c for c in classes if c not in novel], "novel": list(novel)}
            for i, novel in enumerate(combinations(classes, splits["choose"]), start=1)
        }
    if (drawn := document.get("random")) is not None:
        counts = {"novel": drawn["novel"], "validation": drawn.get("validation", 0)}
        return {
            str(seed): make_split(manifest, seed=seed, **counts)
            for seed in range(1, drawn.get("seeds", 10) + 1)
        }
    return {}


def _all_classes(path: Path, document: Values) -> set[int]:
    splits = document.get("splits", document)
    if isinstance(splits, dict) and "of" in splits:
        return set(splits["of"])
    first = splits[0] if isinstance(splits, list) else splits
    return {c for key in ("base", "validation", "novel") for c in class_list(path, first, key)}


def _check_fit(protocol: Protocol, manifest: Manifest) -> None:
    present = manifest.classes
    parts = {"base": protocol.base, "validation": protocol.validation, "novel": protocol.novel}
    missing = [
        f"{part} class {few(absent)}"
        for part, classes in parts.items()
        if (absent := [c for c in classes if c not in present])
    ]
    if missing:
        raise ProtocolError(
            f"protocol {protocol.path} does not fit {manifest.path or manifest.name}: missing are "
            f"{'; '.join(missing)}. Prepare the complete data set, or see "
            f"{manifest.name}.dropped.csv for what was left out"
        )
    if protocol._listed:
        _check_exemplars(protocol, min(protocol._listed))


def _check_exemplars(protocol: Protocol, shots: int) -> None:
    listed = protocol._listed[shots]
    if lacking := [c for c in protocol.novel if c not in listed]:
        raise ProtocolError(f"{protocol.path}: no {shots}-shot exemplars of class {few(lacking)}")
    class_of = {s.sample_id: c for c, group in protocol._samples.items() for s in group}
    ids = [(c, i) for c in protocol.novel for i in listed[c]]
    if absent := [i for _, i in ids if i not in class_of]:
        raise ProtocolError(
            f"protocol {protocol.path} does not fit the manifest: missing are {len(absent)} of "
            f"{len(ids)} {shots}-shot exemplars: {few(absent)}; prepare the complete data set, or "
            "see its .dropped.csv for what was left out"
        )
    if wrong := [i for c, i in ids if class_of[i] != c]:
        raise ProtocolError(
            f"protocol {protocol.path} does not fit the manifest: exemplar {few(wrong)} belongs "
            "to another class there"
        )
