"""Settings from a file: the config.json of a run, or a TOML file with the same names."""

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skelfew.config import STAGES, ConfigError, TrainConfig, preset, stage_settings
from skelfew.fields import flatten
from skelfew.io import files
from skelfew.runs.folder import check_local
from skelfew.io.files import Document, Values


def read_config(path: Path, start: str | None = None) -> TrainConfig:
    """Return the preset that a file names with the file's settings in it.

    Args:
        path: JSON, or TOML if its name ends in ``.toml``. A table is a group of settings, so that
            ``[transfer.optimizer]`` with ``lr = 0.01`` is ``transfer.optimizer.lr``.
        start: Another preset to start from.

    Raises:
        ConfigError: The file cannot be read, or a setting does not exist or cannot be so.
        RunError: A JSON file names an address: recorded runs open no connection.
    """
    try:
        text = files.read_text(path)
        document = tomllib.loads(text) if path.suffix == ".toml" else files.parse_json(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: no readable settings ({files.brief(error)})") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: {files.shown(document)} is no group of settings")
    document.pop("changed_from_preset", None)
    named = start or document.get("preset") or "recommended"
    if not isinstance(named, str):
        raise ConfigError(f"{path}: preset is {files.shown(named)}; expected a name")
    try:
        base = preset(named).to_dict()
        for stage in set(document) & set(STAGES) - set(base):
            base[stage] = json.loads(json.dumps(dataclasses.asdict(stage_settings(stage, named))))
        config = TrainConfig.from_dict({**_merged(base, document), "preset": named})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if path.suffix != ".toml":
        for key, value in flatten(document).items():
            if key.startswith(("inputs.", "protocol")):
                for text in value if isinstance(value, list) else [value]:
                    check_local(path, key, text)
    return config


def _merged(base: Values, own: Values) -> Document:
    """Return ``base`` with the values of ``own`` in it, group by group."""
    merged = dict(base)
    for key, value in own.items():
        under = merged.get(key)
        if isinstance(value, Mapping) and isinstance(under, Mapping):
            merged[key] = _merged(under, value)
        else:
            merged[key] = value
    return merged
