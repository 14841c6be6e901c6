"""The licence of a cache, as the Zarr convention ``license`` has it."""

import re

from skelfew.io.files import Document

# https://github.com/clbarnes/zarr-convention-license, version 1
CONVENTION = {
    "uuid": "b77365e5-2b0c-4141-b917-c03b7c68e935",
    "name": "license",
    "schema_url": "https://raw.githubusercontent.com/clbarnes/zarr-convention-license/refs/tags/v1/"
    "schema.json",
    "spec_url": "https://github.com/clbarnes/zarr-convention-license/blob/v1/README.md",
    "description": "License of the data",
}
_SPDX = re.compile(r"[A-Za-z][A-Za-z0-9.+]*(-[A-Za-z0-9.+]+)+|MIT|ISC|Zlib|Unlicense")


def spdx_of(note: str) -> str | None:
    """Return a licence note that is nothing but an SPDX identifier, such as CC-BY-4.0."""
    return note.strip() if _SPDX.fullmatch(note.strip()) else None


def convention(note: object) -> Document:
    """Return the attributes by which any Zarr reader finds the licence; none without a note."""
    if not isinstance(note, str) or not note.strip():
        return {}
    spdx = spdx_of(note)
    return {
        "zarr_conventions": [CONVENTION],
        "license": {"spdx": spdx} if spdx else {"text": note},
    }
