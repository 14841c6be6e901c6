"""Sending to the Hugging Face Hub: one commit, with a card made of the cache's provenance."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError

from skelfew.cache.format.checks import CacheError, brief
from skelfew.cache.format.licence import spdx_of
from skelfew.cache.format.storage import ARRAYS
from skelfew.cache.tools.card import lines
from skelfew.cache.transport.places import Place, hub_endpoint, hub_parts
from skelfew.io.clean import markdown, one_line
from skelfew.io.files import Values


def upload(place: Place, files: Mapping[str, Path], document: Values) -> int:
    """Commit files, by their names below ``place``, to a dataset repository; return their number.

    It is made if it does not exist. README.md is written, from what ``card`` returned, unless it is
    somebody's own. Raises CacheError if the Hub refuses.
    """
    repository, revision, below = hub_parts(place.shown)
    hub = HfApi(endpoint=hub_endpoint())
    try:
        hub.create_repo(repository, repo_type="dataset", exist_ok=True)
        there = hub.list_repo_files(repository, repo_type="dataset", revision=revision)
        names = {"/".join(part for part in (below, key) if part): p for key, p in files.items()}
        operations: list[Any] = [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=file)
            for name, file in names.items()
        ]
        if "README.md" not in there or _ours(hub, repository, revision):
            text = dataset_card(document, place.shown)
            operations.append(CommitOperationAdd("README.md", text.encode()))
        prefix = f"{below}/" if below else ""
        operations += [
            CommitOperationDelete(path_in_repo=name)
            for name in there
            if name.startswith(prefix)
            and name.removeprefix(prefix).split("/")[0] in ARRAYS
            and name not in names
            and "" not in files
        ]
        hub.create_commit(
            repository, operations, repo_type="dataset", revision=revision,
            commit_message=f"Teacher cache {document['digest']}",
        )  # fmt: skip
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "an error")
        hint = "; log in with `hf auth login`, or set HF_TOKEN" if status in (401, 403) else ""
        raise CacheError(f"{place.shown}: the Hub answers {status}{hint}") from None
    except ValueError as error:  # a name that the Hub does not have
        raise CacheError(f"{place.shown}: {brief(error)}") from None
    return len(names)


def _ours(hub: HfApi, repository: str, revision: str) -> bool:
    path = hub.hf_hub_download(repository, "README.md", repo_type="dataset", revision=revision)
    return "\n- skelfew\n" in Path(path).read_text(encoding="utf-8", errors="replace")


def dataset_card(document: Values, address: str) -> str:
    """Return README.md for a cache: what it is, its licence, and how to fetch it."""
    note = str(document["licence_note"])
    spdx = spdx_of(note)
    name = one_line(f"{document['dataset']}, features of {_of(document, 'teacher', 'name')}")
    rows = [(k, v) for k, v in lines(dict(document)) if k != "cache"]
    table = "\n".join(f"| {markdown(k)} | {markdown(v)} |" for k, v in rows)
    pinned = f"{address}#digest={document['digest']}"
    return f"""---
pretty_name: {json.dumps(name)}
license: {json.dumps(spdx.lower() if spdx else "other")}
tags:
- skelfew
- skeleton
- action-recognition
- few-shot-learning
viewer: false
---

# {markdown(name)}

Features of a vision-language teacher for each clip of a data set, to train skeleton encoders
without its videos. No video, no skeleton and no text of the data set is in it.

| | |
|---|---|
{table}

```sh
pip install 'skelfew[remote]'
skelfew-cache pull '{pinned}'
```
"""


def _of(document: Values, *keys: str) -> Any:
    value: object = document
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
