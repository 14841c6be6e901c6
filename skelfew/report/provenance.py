"""Provenance of a run: data, settings, commands, machine."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from skelfew.report.collect import RunFacts, Score
from skelfew.report.markup import Safe, join, scrolled, table, tag


def provenance(facts: RunFacts, score: Score | None) -> Safe:
    """Return what a run stood on as lists of facts, and what differs from its preset as a table."""
    groups = [list(_run(facts, score)), *map(list, _sessions(facts))]
    return join([tag("dl", group, class_="facts") for group in groups], _changed(facts))


def _fact(name: str, value: object, code: bool = False, digest: object = None) -> Safe:
    small = tag("code", digest, class_="digest") if digest else None
    return tag("div", tag("dt", name), tag("dd", tag("code", value) if code else str(value), small))


def _run(facts: RunFacts, score: Score | None) -> Iterator[Safe]:
    config = facts.run.recorded()
    yield _fact("folder", facts.run.path, code=True)
    yield _fact("trained as", f"{', then '.join(config.stages)}; preset {config.preset}")
    yield _fact("encoder", f"{config.encoder.name}, width {config.encoder.width:g}")
    yield _fact("seed", config.seed)
    for key in ("manifest", "skeletons", "protocol", "cache"):
        entry = facts.inputs.get(key)
        if not isinstance(entry, Mapping):
            continue
        where = entry.get("path") or entry.get("name") or "unknown"
        yield _fact(key, where, code=True, digest=entry.get("sha256") or entry.get("digest"))
        teacher = entry.get("teacher")
        if isinstance(teacher, Mapping):
            trained = " (UNTRAINED)" if teacher.get("trained") is False else ""
            yield _fact("teacher", f"{teacher.get('name')}{trained}")
    if score is not None:
        yield _fact("result", score.path, code=True)
        yield _fact("scored with", _command(score.document.get("command")), code=True)


def _sessions(facts: RunFacts) -> Iterator[Iterator[Safe]]:
    for session in facts.sessions:
        versions = session.get("versions")
        packages = versions.items() if isinstance(versions, Mapping) else ()
        machine = f"{session.get('processor')}, {session.get('cores')} cores"
        gpus = session.get("gpus")
        if isinstance(gpus, Sequence) and gpus:
            machine += f", {', '.join(map(str, gpus))}"
        yield iter([
            _fact("training began", session.get("started", "unknown")),
            _fact("command", _command(session.get("command")), code=True),
            _fact("commit", session.get("git_commit") or "unknown", code=True),
            _fact("machine", machine),
            _fact("versions", ", ".join(f"{name} {v}" for name, v in packages)),
        ])  # fmt: skip


def _changed(facts: RunFacts) -> Safe | None:
    if not facts.changed:
        return None
    rows = []
    for key, values in facts.changed.items():
        pair = values if isinstance(values, Sequence) and len(values) == 2 else ("", values)
        rows.append([key, *("none" if value is None else str(value) for value in pair[1::-1])])
    changed = table(("setting", "run", "preset"), rows, class_="changed")
    count = f"{len(rows)} settings differ from the preset {facts.run.recorded().preset}"
    return tag("details", tag("summary", count), scrolled("Settings", changed))


def _command(words: object) -> str:
    if not isinstance(words, Sequence) or isinstance(words, str) or not words:
        return "unknown"
    return shlex.join([Path(str(words[0])).name, *map(str, words[1:])])
