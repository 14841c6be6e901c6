"""Find a run's manifest, skeletons, cache and protocol, and check that they fit."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from skelfew.cache import JoinedCache, TeacherCache, join
from skelfew.cache.format.history import identity
from skelfew.cache.transport.fetch import local_path
from skelfew.cache.transport.places import Place, is_url
from skelfew.config import InputConfig
from skelfew.data.manifest import Manifest
from skelfew.data.protocols.protocol import Protocol, load_protocol
from skelfew.data.store import SkeletonStore
from skelfew.io.clean import printable
from skelfew.io.files import Document
from skelfew.io.paths import below
from skelfew.runs.cache_fit import InputError, check_fit
from skelfew.runs.recorded import remember


@dataclass(frozen=True)
class Inputs:
    """The inputs of a training run."""

    manifest: Manifest
    store: SkeletonStore
    protocol: Protocol
    cache: TeacherCache | None
    # Where the cache was fetched from, without secrets; None for a local one
    cache_url: str | None = None
    # How the cache was compared, see ``InputConfig``
    match: Literal["manifest", "ids"] = "manifest"
    rename_ids: str | None = None  # how its sample IDs were renamed, None if they were not

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return self.manifest.name

    @property
    def locations(self) -> InputConfig:
        """Absolute paths, so that a run can be resumed from anywhere."""
        return InputConfig(
            dataset=self.dataset,
            cache=None if self.cache is None else str(self.cache.path.resolve()),
            manifest=str((self.manifest.path or Path(self.dataset)).resolve()),
            store=str(self.store.path.resolve()),
            match=self.match,
            rename_ids=self.rename_ids,
            more_caches=tuple(str(part.path.resolve()) for part in self._parts[1:]),
            join=self.cache.how if isinstance(self.cache, JoinedCache) else "concat",
        )

    @property
    def _parts(self) -> tuple[TeacherCache, ...]:
        """The caches of several teachers; nothing for one."""
        return self.cache.parts if isinstance(self.cache, JoinedCache) else ()

    def describe(self) -> Document:
        """Return the content of a run's inputs.json: paths and digests."""
        where, protocol = self.locations, self.protocol
        document: Document = {
            "manifest": {"path": where.manifest, "sha256": self.manifest.sha256},
            "skeletons": {
                "path": where.store,
                "digest": self.store.attrs.get("digest"),
                "preprocessing": self.store.preprocessing,
            },
            "protocol": {
                "name": protocol.name,
                "split": protocol.split,
                "path": str(protocol.path),
                "sha256": protocol.sha256,
                "base": list(protocol.base),
                "validation": list(protocol.validation),
                "novel": list(protocol.novel),
            },
        }
        if self.cache is not None:
            document["cache"] = {
                "path": where.cache,
                "digest": self.cache.attrs.get("digest"),
                "identity": identity(self.cache.attrs),
                "teacher": self.cache.attrs.get("teacher"),
                "preprocessing": self.cache.attrs.get("preprocessing"),
                "width": self.cache.dim,
                "match": self.match,
                "rename_ids": self.rename_ids,
            }
            if self.cache_url is not None:
                document["cache"]["url"] = self.cache_url
            if self._parts:
                document["cache"]["parts"] = [
                    {"path": str(part.path.resolve()), "digest": part.attrs.get("digest")}
                    for part in self._parts
                ]
        return document


def open_caches(given: InputConfig) -> list[TeacherCache]:
    """Open the caches that a configuration names, fetching those that are addresses."""

    def say(message: str) -> None:
        print(printable(message), file=sys.stderr, flush=True)

    places = [] if given.cache is None else [given.cache, *given.more_caches]
    return [TeacherCache.open(local_path(place, say)) for place in places]


def find_inputs(
    given: InputConfig,
    protocol: str | None = None,
    split: str | None = None,
    validation: bool = True,
) -> Inputs:
    """Open everything that is named, or that is found through the cache.

    What is not named is looked for as ``manifests/NAME.csv`` and ``data/NAME.h5`` below the working
    folder, then beside the folder that the cache lies in. A cache may be an address, see
    ``skelfew.cache.transport.fetch.local_path``. Raises InputError: something is absent, or the
    hashes say that it was made from something else.
    """
    cache_url, roots = None, [Path()]
    cache: TeacherCache | None = None
    caches: list[TeacherCache] = []
    if given.cache is not None:
        caches = open_caches(given)
        cache, path = caches[0], caches[0].path
        if is_url(given.cache):
            cache_url = Place.of(given.cache).shown
        folder = path.resolve().parent
        roots += [folder.parent, folder]
    name = given.dataset
    if cache is not None:
        name = str(cache.attrs["dataset"])
        if given.dataset not in (None, name):
            raise InputError(f"{cache.path}: a cache of {name}, but --dataset is {given.dataset}")
    if name is None and given.manifest is not None:
        name = Path(given.manifest).stem
    if name is None:
        raise InputError("which data set? Give --cache cache/NAME.zarr or --dataset NAME")
    manifest_path = _find(given.manifest, roots, f"manifests/{name}.csv", "--manifest")
    manifest = Manifest.read(manifest_path)
    store = SkeletonStore(_find(given.store, roots, f"data/{name}.h5", "--store"))
    _check(manifest, store)
    by_ids = given.match == "ids" or given.rename_ids is not None
    if cache is not None:
        if given.rename_ids is not None:
            caches = [one.renamed(given.rename_ids) for one in caches]
        for one in caches:
            check_fit(one, manifest, store, by_ids)
        cache = join(caches, given.join)
    found = Inputs(
        manifest,
        store,
        load_protocol(protocol, manifest, split, validation=validation),
        cache,
        cache_url,
        "ids" if by_ids else "manifest",
        given.rename_ids,
    )
    where, used = found.locations, found.protocol.path
    remember(where.cache, *where.more_caches, where.manifest, where.store, given.init, used)
    return found


def _find(given: str | None, roots: Iterable[Path], tail: str, option: str) -> Path:
    if given is not None:
        return Path(given)
    places = (below(root, tail, error=InputError, links=True) for root in roots)
    tried = list(dict.fromkeys(place.resolve() for place in places))
    for path in tried:
        if path.is_file():
            return path
    raise InputError(
        f"no {tail} in {' or '.join(str(p.parent.parent) for p in tried)}; name it with {option}, "
        f"or make it with skelfew-prepare {Path(tail).stem}"
    )


def _check(manifest: Manifest, store: SkeletonStore) -> None:
    made_from = store.attrs.get("manifest_sha256")
    if made_from != manifest.sha256:
        raise InputError(
            f"{store.path} was made with a manifest of SHA-256 {made_from}, but "
            f"{manifest.path} has {manifest.sha256}; run skelfew-prepare {manifest.name} again, "
            "which writes both"
        )
    if absent := [i for i in manifest.ids if i not in store]:
        raise InputError(
            f"{store.path}: {len(absent)} of {len(manifest)} samples have no skeleton, first "
            f"{absent[0]}; run skelfew-prepare {manifest.name} again"
        )
