"""skelfew-cache: look at teacher caches, check them, and pass them on."""

import sys
from pathlib import Path

import click

from skelfew.cli import cache_make, cache_send
from skelfew.cli.cache_options import cache_argument, local, manifest_option, result
from skelfew.cli.common import OK, PARTIAL, guarded, log
from skelfew.cli.options import CONTEXT, PATH, json_option, option, version_option
from skelfew.io.files import Document


@click.group(context_settings=CONTEXT)
@version_option
def main() -> None:
    """Look at teacher caches, check them, and pass them on.

    \b
    skelfew-cache info cache/pku.zarr
    skelfew-cache verify cache/pku.zarr --manifest manifests/pku.csv
    skelfew-cache pack cache/pku.zarr                      to send it as one file
    skelfew-cache push cache/pku.zarr ssh://lab/data/caches/
    skelfew-cache pull https://lab.example.org/pku.zarr.zip
    skelfew-cache merge cache/pku.shard-*.zarr --out cache/pku.zarr

    CACHE is a folder, a zip, or the address of one (https://, s3://, ssh://, file://), of which a
    copy is kept in cache/.remote. cache/README.md specifies the format, docs/sharing.md is a guide.
    Nothing that a cache holds is executed.
    """


@main.command(context_settings=CONTEXT)
@cache_argument
@json_option
@guarded
def info(cache: str, as_json: bool) -> int:
    """Show what CACHE is: data set, teacher, preprocessing, how complete, size, licence note.

    \b
    skelfew-cache info cache/pku.zarr
    skelfew-cache info pku.zarr.zip --json

    Reads no features. The digest shown is the recorded one; `verify` compares it with the content.
    """
    from skelfew.cache.tools.card import card, lines

    document = card(local(cache))
    rows = lines(document)
    width = max(len(name) for name, _ in rows)
    result(document, as_json, "\n".join(f"{name:<{width}}  {text}" for name, text in rows))
    return OK


@main.command(context_settings=CONTEXT)
@cache_argument
@manifest_option
@option("--digest", "What the digest should be, if you know it.", metavar="HEX")
@option(
    "--allow",
    "Report this check without failing. Can be repeated.",
    multiple=True,
    choices=["norms", "duplicates", "manifest"],
)
@json_option
@guarded
def verify(
    cache: str, manifest: Path | None, digest: str | None, allow: tuple[str, ...], as_json: bool
) -> int:
    """Check CACHE: digest, unreadable or infinite rows, norms, duplicate vectors, sample IDs.

    \b
    skelfew-cache verify cache/pku.zarr
    skelfew-cache verify cache/pku.zarr --manifest manifests/pku.csv
    skelfew-cache verify pku.zarr.zip --digest 52e79726d228df12...

    Exit status 3 if a check fails; then ask for the cache again, or let `skelfew-extract --repair`
    extract the damaged rows again. Equal f_v of two samples fail, equal f_t do not: a text may be
    the same for all samples of a class.
    """
    from skelfew.cache.tools.verify import verify as run
    from skelfew.data.manifest import Manifest

    report = run(local(cache), None if manifest is None else Manifest.read(manifest), digest)
    for check in report["checks"]:
        check["allowed"] = check["check"] in allow
    failed = [c for c in report["checks"] if not c["ok"] and not c["allowed"]]
    text = "\n".join(f"{_mark(c):<7} {c['check']:<10}  {c['text']}" for c in report["checks"])
    known = [k for k in ("done", "failed", "pending") if k in report]
    counts = ", ".join(f"{report[k]:,} {k}" for k in known) or f"{report['samples']:,} samples"
    result(report, as_json, f"{text}\n{report['path']}: {counts}")
    if failed:
        hint = ""
        if {"readable", "finite"} & {c["check"] for c in failed}:
            hint = "; skelfew-extract --repair extracts just the damaged rows again"
        log(f"{len(failed)} checks failed{hint}")
        return PARTIAL
    return OK


def _mark(check: Document) -> str:
    return "ok" if check["ok"] else "allowed" if check["allowed"] else "FAILED"


@main.command(context_settings=CONTEXT)
@click.argument("a")
@click.argument("b")
@option(
    "--min-cosine", "Exit status 3 if a common sample falls below it.", type=click.FloatRange(-1, 1)
)
@option("--table", "Write the cosines of every sample there.", metavar="CSV", type=PATH)
@json_option
@guarded
def compare(a: str, b: str, min_cosine: float | None, table: Path | None, as_json: bool) -> int:
    """Compare caches A and B: the cosine of every common sample, and what differs in provenance.

    \b
    skelfew-cache compare cache/pku.zarr cache/pku-bf16.zarr
    skelfew-cache compare old.zarr new.zarr --min-cosine 0.999 --table cosines.csv
    """
    from skelfew.cache.tools.compare import compare as run

    report = run(local(a), local(b), table)
    result(report, as_json, _compared(report))
    lows = [f["min"] for f in report["features"].values() if f and f["min"] is not None]
    if min_cosine is not None and (not lows or min(lows) < min_cosine):
        log(f"smallest cosine {min(lows) if lows else 'unknown'}, asked for {min_cosine}")
        return PARTIAL
    return OK


def _compared(report: Document) -> str:
    rows = [
        f"A {report['a']}",
        f"B {report['b']}",
        f"samples  {report['common']:,} in both, {report['only_a']['count']:,} only in A, "
        f"{report['only_b']['count']:,} only in B",
    ]
    for symbol, f in report["features"].items():
        if f is None:
            rows.append(f"{symbol}      widths or views differ; no cosine")
        elif f["min"] is not None:
            rows.append(
                f"{symbol}      cosine {f['min']:.6f} to 1, median {f['median']:.6f}; "
                f"{f['equal']:,} equal in every bit; least similar "
                f"{f['least_similar'][0]['sample_id']}"
            )
    rows += [f"differs  {d['key']}: {d['a']} | {d['b']}" for d in report["provenance"]]
    return "\n".join(rows if report["provenance"] else [*rows, "provenance is the same"])


for _command in (
    cache_make.merge,
    cache_make.subset,
    cache_make.class_mean_command,
    cache_make.import_command,
    cache_make.export_command,
    cache_send.pack,
    cache_send.unpack,
    cache_send.push,
    cache_send.pull,
):
    main.add_command(_command)


if __name__ == "__main__":
    sys.exit(main())
