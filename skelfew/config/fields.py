"""Nested frozen dataclasses as settings: dotted names, text and JSON to typed values and back."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from skelfew.errors import SkelfewError
from skelfew.io.files import shown


class ConfigError(SkelfewError):
    """A setting that does not exist or cannot have this value; the message lists what can be."""


def override_value(config: Any, names: list[str], value: object, key: str) -> Any:
    """Return ``config`` with the value at ``names`` changed; ``key`` is for error messages."""
    hints = typing.get_type_hints(type(config))
    if names[0] not in hints:
        raise ConfigError(f"no setting {key!r}; {names[0]!r} is not one of {', '.join(hints)}")
    old = getattr(config, names[0])
    if dataclasses.is_dataclass(old):
        if len(names) == 1:
            known = ", ".join(f"{key}.{f.name}" for f in fields(old))
            raise ConfigError(f"{key!r} is a group of settings; name one of {known}")
        return replace(config, **{names[0]: override_value(old, names[1:], value, key)})
    if len(names) > 1:
        raise ConfigError(f"no setting {key!r}; {names[0]!r} is a single value")
    return replace(config, **{names[0]: convert(hints[names[0]], value, key)})


def convert(hint: Any, value: object, key: str) -> Any:
    """Turn a JSON value or text into the type of a field."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if type(None) in kinds:
        if value is None or value == "none":
            return None
        kinds = tuple(k for k in kinds if k is not type(None))
    kind = kinds[0]
    try:
        if kind is bool:
            return {"true": True, "yes": True, "false": False, "no": False}[str(value).lower()]
        if kind in (int, float, str) and not isinstance(value, bool):
            converted = kind(value)
            if kind is int and isinstance(value, float) and converted != value:
                raise ValueError
            return converted
        if typing.get_origin(kind) is tuple:
            parts = (value.split(",") if value else ()) if isinstance(value, str) else value
            return tuple(str(p) for p in parts)  # type: ignore[attr-defined]
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        pass
    name = getattr(kind, "__name__", str(kind))
    raise ConfigError(f"{key} is {shown(value)}; expected {name}")


def from_plain(kind: type[Any], values: Mapping[str, Any], prefix: str = "") -> Any:
    """Build a dataclass, nested ones included, from plain values; unknown keys are errors."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{prefix or 'the configuration'} is {shown(values)}; expected settings")
    hints = typing.get_type_hints(kind)
    if unknown := sorted(set(values) - set(hints)):
        raise ConfigError(
            f"unknown setting {shown(prefix + unknown[0])}; it may come from a newer skelfew"
        )
    arguments = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            arguments[name] = from_plain(hints[name], value, f"{prefix}{name}.")
        else:
            arguments[name] = convert(hints[name], value, prefix + name)
    return kind(**arguments)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by dotted name."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
