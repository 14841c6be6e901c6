"""Settings as typed fields: limits, choices, dotted names, text and JSON to values and back.

The annotation of a field is its one declaration: ``Literal`` holds its choices, ``Annotated`` its
limits. Dataclasses of a configuration and the keyword-only parameters of an encoder or a head are
read alike. Standard library only.
"""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from skelfew.errors import SkelfewError
from skelfew.io.files import Document, Values, shown


class ConfigError(SkelfewError):
    """A setting that does not exist or cannot have this value; the message lists what can be."""


@dataclass(frozen=True)
class Limit:
    """Between which values a number must lie; ``why`` is what to add to the message."""

    above: float | None = None
    least: float | None = None
    most: float | None = None
    why: str = ""

    def check(self, name: str, value: Any) -> None:
        """Raise ConfigError unless the value lies within the limits; NaN never does."""
        low = (self.above is None or value > self.above) and (
            self.least is None or value >= self.least
        )
        if low and value == value and (self.most is None or value <= self.most):
            return
        if self.why:
            what = self.why
        elif self.least is not None and self.most is not None:
            what = f"it must lie in [{self.least}, {self.most}]"
        elif low and self.most is not None:
            what = f"it can be {self.most} at most"
        elif self.above is not None:
            what = f"it must be greater than {self.above}"
        else:
            what = (
                "it must not be negative" if not self.least else f"it must be {self.least} or more"
            )
        raise ConfigError(f"{name} is {value}; {what}")


@dataclass(frozen=True)
class Odd:
    """An odd number from 1 to a largest one."""

    most: int

    def check(self, name: str, value: Any) -> None:
        """Raise ConfigError unless the value is such a number."""
        if not 0 < value <= self.most or value % 2 == 0:
            raise ConfigError(f"{name} is {value}; it must be odd and {self.most} at most")


@dataclass(frozen=True)
class OneOf:
    """A text that is a key of a registry, or another one of known names."""

    names: Collection[str]

    def check(self, name: str, value: Any) -> None:
        """Raise ConfigError unless the value is one of the names."""
        if value not in self.names:
            raise ConfigError(f"{name} is {shown(value)}; expected {', '.join(self.names)}")


Positive = Annotated[float, Limit(above=0)]
NotNegative = Annotated[float, Limit(least=0)]
Share = Annotated[float, Limit(least=0, most=1)]
Dropout = Annotated[float, Limit(least=0, most=0.999)]
Count = Annotated[int, Limit(above=0)]


class FieldKind(NamedTuple):
    """An annotation, taken apart: type, whether None is allowed, choices and limits."""

    type: Any
    optional: bool
    choices: tuple[Any, ...]
    checks: tuple[Any, ...]

    def check(self, name: str, value: Any) -> None:
        """Raise ConfigError if a value of the right type is not among those that can be."""
        if value is None:
            return
        if self.choices and value not in self.choices:
            raise ConfigError(f"{name} is {shown(value)}; expected {', '.join(self.choices)}")
        for check in self.checks:
            check.check(name, value)


def kind_of(hint: Any) -> FieldKind:
    """Return what an annotation says."""
    if get_origin(hint) in (types.UnionType, typing.Union):
        kinds = [part for part in get_args(hint) if part is not type(None)]
        return kind_of(kinds[0])._replace(optional=len(kinds) < len(get_args(hint)))
    if get_origin(hint) is Annotated:
        inner, *checks = get_args(hint)
        found = kind_of(inner)
        return found._replace(checks=(*found.checks, *checks))
    if get_origin(hint) is Literal:
        return FieldKind(type(get_args(hint)[0]), False, get_args(hint), ())
    return FieldKind(get_origin(hint) or hint, False, (), ())


def hints_of(kind: type[Any]) -> dict[str, FieldKind]:
    """Return what the annotations of a dataclass's fields say, by name."""
    return _hints_of(kind)  # type: ignore[arg-type] # classes are hashable


@functools.cache
def _hints_of(kind: type[Any]) -> dict[str, FieldKind]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {f.name: kind_of(hints[f.name]) for f in fields(kind)}


def validate(config: Any) -> None:
    """Raise ConfigError if a value of a configuration is not among those that it may have."""
    for name, kind in hints_of(type(config)).items():
        kind.check(name, getattr(config, name))


def convert(kind: FieldKind, value: object, key: str) -> Any:
    """Turn a JSON value or text into the type of a field."""
    if kind.optional and (value is None or value == "none"):
        return None
    try:
        if kind.type is bool:
            return {"true": True, "yes": True, "false": False, "no": False}[str(value).lower()]
        if kind.type in (int, float, str) and not isinstance(value, bool):
            converted = kind.type(value)
            if kind.type is int and isinstance(value, float) and converted != value:
                raise ValueError
            return converted
        if kind.type is tuple:
            parts = (value.split(",") if value else ()) if isinstance(value, str) else value
            return tuple(str(p) for p in parts)  # type: ignore[attr-defined]
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        pass
    name = getattr(kind.type, "__name__", str(kind.type))
    raise ConfigError(f"{key} is {shown(value)}; expected {name}")


@functools.cache
def parameters(build: Callable[..., Any]) -> dict[str, tuple[FieldKind, Any]]:
    """Return the keyword-only parameters of a class or function, and their defaults."""
    own = [p for p in inspect.signature(build).parameters.values() if p.kind is p.KEYWORD_ONLY]
    target = build.__init__ if isinstance(build, type) else build  # type: ignore[misc]
    hints = typing.get_type_hints(target, include_extras=True) if own else {}
    return {p.name: (kind_of(hints[p.name]), p.default) for p in own}


def filled(build: Callable[..., Any], given: Mapping[str, object], what: str) -> Document:
    """Return all settings of a class or function, its keyword-only parameters: given, and defaults.

    ``what`` is how messages call it. Raises ConfigError: no such setting, or an impossible value.
    """
    known = parameters(build)
    for key in given:
        if key not in known:
            has = f"its settings are {', '.join(known)}" if known else "it has no settings"
            raise ConfigError(f"{what} has no setting {shown(key)}; {has}")
    values = {}
    for key, (kind, default) in known.items():
        values[key] = convert(kind, given[key], f"{key} of {what}") if key in given else default
        kind.check(key, values[key])
    return values


def override_value(config: Any, names: list[str], value: object, key: str) -> Any:
    """Return ``config`` with the value at ``names`` changed; ``key`` is for error messages."""
    kinds = hints_of(type(config))
    if names[0] not in kinds:
        raise ConfigError(f"no setting {key!r}; {names[0]!r} is not one of {', '.join(kinds)}")
    old = getattr(config, names[0])
    if dataclasses.is_dataclass(old):
        if len(names) == 1:
            known = ", ".join(f"{key}.{f.name}" for f in fields(old))
            raise ConfigError(f"{key!r} is a group of settings; name one of {known}")
        return replace(config, **{names[0]: override_value(old, names[1:], value, key)})
    if len(names) > 1:
        raise ConfigError(f"no setting {key!r}; {names[0]!r} is a single value")
    return replace(config, **{names[0]: convert(kinds[names[0]], value, key)})


def from_plain(kind: type[Any], values: Values, prefix: str = "") -> Any:
    """Build a dataclass, nested ones included, from plain values; unknown keys are errors."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{prefix or 'the configuration'} is {shown(values)}; expected settings")
    kinds = hints_of(kind)
    if unknown := sorted(set(values) - set(kinds)):
        raise ConfigError(
            f"unknown setting {shown(prefix + unknown[0])}; it may come from a newer skelfew"
        )
    arguments = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(kinds[name].type):
            arguments[name] = from_plain(kinds[name].type, value, f"{prefix}{name}.")
        else:
            arguments[name] = convert(kinds[name], value, prefix + name)
    return kind(**arguments)


def flatten(values: Values, prefix: str = "") -> Document:
    """Return nested values by dotted name."""
    flat: Document = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
