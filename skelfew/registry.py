"""Registries of named parts: those of skelfew, and those that installed packages add.

A registry holds import strings, so that listing its names loads none of what they name. Another
package adds a name by an entry point in the registry's group; docs/extending.md shows each kind.
"""

import functools
import importlib
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from skelfew.errors import SkelfewError


@functools.cache
def declared() -> list[tuple[str, str, str, str]]:
    """Return group, name, value and package of all entry points for skelfew, of one look at all."""
    from importlib.metadata import distributions

    return sorted(
        (entry.group, entry.name, entry.value, distribution.name)
        for distribution in distributions()
        if "[skelfew." in (distribution.read_text("entry_points.txt") or "")
        for entry in distribution.entry_points
        if entry.group.startswith("skelfew.")
    )


class Registry(MutableMapping[str, str]):
    """Names and import strings of one kind of thing; packages add to the entry-point ``group``."""

    def __init__(self, kind: str, group: str | None, own: Mapping[str, str]):
        self.kind, self.group = kind, group
        self._own = dict(own)
        self._found: dict[str, list[tuple[str, str]]] | None = None

    __eq__, __hash__ = object.__eq__, object.__hash__

    def __repr__(self) -> str:
        return f"<{self.kind}s: {', '.join(self)}>"

    @property
    def _added(self) -> dict[str, list[tuple[str, str]]]:
        """Package and import string of each name that packages add."""
        if self._found is None:
            found: dict[str, list[tuple[str, str]]] = {}
            for group, name, value, package in declared() if self.group else ():
                places = found.setdefault(name, []) if group == self.group else []
                if (package, value) not in places:
                    places.append((package, value))
            self._found = found  # only when whole: threads ask, and a look may be interrupted
        return self._found

    def __getitem__(self, name: str) -> str:
        if name in self._own:
            return self._own[name]
        return self._added[name][0][1]

    def __setitem__(self, name: str, value: str) -> None:
        self._own[name] = value

    def __delitem__(self, name: str) -> None:
        del self._own[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from (name for name in self._added if name not in self._own)

    def __len__(self) -> int:
        return len({*self._own, *self._added})

    def check(self, name: str) -> None:
        """Raise SkelfewError unless there is exactly one thing of this name."""
        owners = [*(["skelfew"] if name in self._own else [])]
        owners += [package for package, _ in self._added.get(name, ())]
        if not owners:
            raise SkelfewError(f"no {self.kind} {name!r}; there are {', '.join(self)}")
        if len(owners) > 1:
            raise SkelfewError(
                f"{' and '.join(owners)} each have a {self.kind} called {name!r}; rename one or "
                "uninstall a package"
            )

    def load(self, name: str) -> Any:
        """Import and return what a name names; SkelfewError if unknown, ambiguous or unloadable."""
        self.check(name)
        place = self[name]
        module, _, attribute = place.partition(":")
        try:
            loaded = importlib.import_module(module)
            return getattr(loaded, attribute) if attribute else loaded
        except Exception as error:
            if name in self._own:
                raise
            raise SkelfewError(
                f"the {self.kind} {name!r} of the package {self._added[name][0][0]} cannot be "
                f"loaded from {place}: {type(error).__name__}: {error}"
            ) from error
