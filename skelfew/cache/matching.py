"""Whether the sample IDs of a cache are those of a manifest, and which renaming makes them so."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from skelfew.cache.format.checks import CacheError

_TRIED = 300  # IDs from which a rule is guessed
_EXAMPLES = 3
_LONGEST = 200  # characters of an ID that is taken apart


@dataclass(frozen=True)
class Match:
    """Mapping of the sample IDs of a cache to those of a manifest."""

    matched: int
    cache: int
    manifest: int
    only_cache: tuple[str, ...]
    only_manifest: tuple[str, ...]
    # A renaming of the cache's IDs, as ``rename`` takes it, that makes more of them match; None if
    # none was found
    rule: str | None = None
    matched_by_rule: int = 0

    def explain(self) -> str:
        """Return one or two sentences for an error message."""
        text = f"{self.matched:,} of the manifest's {self.manifest:,} sample IDs are in the cache"
        if self.only_cache:
            text += f"; only the cache has {', '.join(self.only_cache)}"
        if self.only_manifest:
            text += f"; only the manifest has {', '.join(self.only_manifest)}"
        if self.rule is not None:
            text += f". With --rename-ids '{self.rule}' {self.matched_by_rule:,} match"
        return text


def match(cache: Sequence[str], manifest: Sequence[str]) -> Match:
    """Compare the IDs of a cache with those of a manifest and guess a renaming."""
    ours, theirs = set(cache), set(manifest)
    only_cache = [i for i in cache if i not in theirs]
    only_manifest = [i for i in manifest if i not in ours]
    rule, by_rule = None, len(ours & theirs)
    for candidate in _candidates(only_cache, only_manifest, ours, theirs):
        try:
            count = len(theirs.intersection(rename(cache, candidate)))
        except CacheError:
            continue
        if count > by_rule:
            rule, by_rule = candidate, count
    return Match(
        matched=len(ours & theirs),
        cache=len(cache),
        manifest=len(manifest),
        only_cache=tuple(only_cache[:_EXAMPLES]),
        only_manifest=tuple(only_manifest[:_EXAMPLES]),
        rule=rule,
        matched_by_rule=by_rule if rule else 0,
    )


def rename(ids: Iterable[str], rule: str) -> list[str]:
    """Return renamed sample IDs; CacheError if the rule is malformed or gives two samples one name.

    A rule is ``PATTERN=REPLACEMENT``, a regular expression and what replaces every place where it
    matches, e.g. ``_rgb$=`` or ``^=ntu/``; or ``lower``, which makes all letters small.
    """
    if rule == "lower":
        renamed = [i.lower() for i in ids]
    else:
        pattern, equals, replacement = rule.rpartition("=")
        if not equals or not pattern:
            raise CacheError(
                f"--rename-ids {rule!r}: expected PATTERN=REPLACEMENT, such as '_rgb$=', or lower"
            )
        try:
            expression = re.compile(pattern)
            renamed = [expression.sub(replacement, i) for i in ids]
        except (re.error, IndexError) as error:
            raise CacheError(f"--rename-ids {rule!r}: {error}") from None
    name, count = Counter(renamed).most_common(1)[0] if renamed else ("", 1)
    if count > 1 or "" in renamed:
        raise CacheError(
            f"--rename-ids {rule!r}: gives {count} samples the ID {name!r}; IDs must stay unique"
        )
    return renamed


def _candidates(
    only_cache: Sequence[str], only_manifest: Sequence[str], ours: set[str], theirs: set[str]
) -> list[str]:
    """Return renamings that some of the IDs suggest, the most frequent ones."""
    rules: Counter[str] = Counter()
    for sample_id in only_cache[:_TRIED]:
        for start, stop in _found_inside(sample_id, theirs):
            rules[_removal(sample_id[:start], sample_id[stop:])] += 1
    for sample_id in only_manifest[:_TRIED]:
        for start, stop in _found_inside(sample_id, ours):
            rules[_addition(sample_id[:start], sample_id[stop:])] += 1
    small = {i.lower() for i in only_cache}
    if small & set(only_manifest):
        rules["lower"] += 1
    return [rule for rule, _ in rules.most_common(8)]


def _found_inside(text: str, known: set[str]) -> list[tuple[int, int]]:
    """Return where in ``text`` a known ID is, the longest such place only."""
    size = len(text)
    if size > _LONGEST:
        return []
    for length in range(size - 1, 0, -1):
        for start in range(size - length + 1):
            if text[start : start + length] in known:
                return [(start, start + length)]
    return []


def _removal(before: str, after: str) -> str:
    parts = [f"^{re.escape(before)}"] * bool(before) + [f"{re.escape(after)}$"] * bool(after)
    return "|".join(parts) + "="


def _addition(before: str, after: str) -> str:
    literal = [text.replace("\\", r"\\") for text in (before, after)]
    if not after:
        return f"^={literal[0]}"
    if not before:
        return f"$={literal[1]}"
    return rf"^(.*)$={literal[0]}\g<1>{literal[1]}"
