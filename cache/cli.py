"""`melcache`: what teammates do with a cache by hand."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cache import manifest as manifests
from cache import verify as verification
from cache.schema import PARTS
from common.errors import MelcacheError
from common.log import duration, printable, size, table
from common.paths import find_cache

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, help="Look at, check and make caches."
)
PATH = Annotated[str, typer.Argument(help="a cache directory, or a name under shards/", metavar="PATH")]
JSON = Annotated[bool, typer.Option("--json", help="print JSON instead of tables")]


def main() -> None:
    """Run the command line; a MelcacheError is one line and its exit code."""
    try:
        app(prog_name="melcache", standalone_mode=True)
    except MelcacheError as error:
        typer.echo(f"error: {printable(str(error))}", err=True)
        raise SystemExit(error.exit_code) from None


@app.command()
def info(path: PATH, as_json: JSON = False) -> None:
    """Print what is in a cache: dataset, tables, parts, columns, coverage, id."""
    folder = find_cache(path)
    manifest = manifests.load(folder)
    print(json.dumps(manifest, indent=1) if as_json else describe(folder, manifest))


@app.command()
def verify(path: PATH, as_json: JSON = False) -> None:
    """Check every byte of a cache against its manifest; exit 1 if anything differs."""
    folder = find_cache(path)
    findings = list(verification.verify(folder))
    damaged = [f for f in findings if f.problem and f.bytes]
    if as_json:
        print(json.dumps({"ok": not damaged, "files": [asdict(finding) for finding in findings]}, indent=1))
    else:
        for finding in findings:
            if finding.problem:
                print(printable(f"{finding.file}: {finding.problem}"))
        good, total = len([f for f in findings if not f.problem]), sum(f.bytes for f in findings)
        state = (
            f"{len(damaged)} damaged: remove them and run the extraction again, or copy them afresh"
            if damaged
            else "ok"
        )
        print(f"{folder}: {good} of {good + len(damaged)} shards as written, {size(total)}; {state}")
    if damaged:
        raise typer.Exit(1)


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="directory of the new cache; its last component names it")],
    like: Annotated[Literal["wikidiverse", "wikimel"], typer.Option(help="shape to take")] = "wikidiverse",
    mentions: Annotated[int | None, typer.Option(help="N instead of the shape's")] = None,
    entities: Annotated[int | None, typer.Option(help="E instead of the shape's")] = None,
    candidates: Annotated[int | None, typer.Option(help="C instead of the shape's")] = None,
    signal: Annotated[float, typer.Option(help="S: 0 is pure noise, 0.1 and more separates gold")] = 0.5,
    seed: Annotated[int, typer.Option(help="of all random numbers")] = 0,
    head: Annotated[str, typer.Option("--for", help="the head whose columns are written")] = "drin",
    text_width: Annotated[int, typer.Option(help="D")] = 768,
    image_width: Annotated[int, typer.Option(help="V")] = 2048,
    clip_width: Annotated[int, typer.Option(help="P")] = 512,
    regions: Annotated[int, typer.Option(help="R")] = 49,
) -> None:
    """Write a synthetic cache for tests and benchmarks; its splits are the shape's, of --mentions 80, 10 and 10%."""
    from cache import synth as synthesis

    splits, *sizes = synthesis.SHAPES[like]
    n, e, c = (
        default if given is None else given
        for given, default in zip((mentions, entities, candidates), (sum(splits), *sizes), strict=True)
    )
    shares = synthesis.SPLIT_SHARES if mentions else tuple(count / sum(splits) for count in splits)
    wanted = synthesis.Synthetic(n, e, c, signal, seed, head, text_width, image_width, shares, clip_width, regions)
    print(f"{out}: cache id {synthesis.write(out, wanted)}")


def describe(folder: Path, manifest: dict[str, Any]) -> str:
    """Return a cache's content as text."""
    shards = manifest["shards"]
    rows = []
    for part, spec in manifest["parts"].items():
        mine = [shard for shard in shards if shard["part"] == part]
        held = size(sum(shard["bytes"] for shard in mine))
        for i, (column, kind) in enumerate(spec["columns"].items()):
            shape = "x".join(map(str, [manifest["tables"][part.split(".")[0]], *kind["shape"]]))
            first = (part, len(mine), held) if i == 0 else ("", "", "")
            rows.append((*first, column, shape, kind["dtype"].strip("<|"), PARTS[part][column].holds))
    made, tables = manifest["provenance"], manifest["tables"]
    lines = [
        f"{manifest['dataset']['name']}: {tables['mention']:,} mentions, {tables['entity']:,} entities, "
        f"{manifest['candidates']} candidates; {', '.join(f'{name} {n:,}' for name, n in manifest['splits'].items())}",
        f"licence: {manifest['dataset']['licence']}; source: {manifest['dataset']['source']}",
        f"id {manifest['id']}",
        f"{folder}: {len(shards)} shards, {size(sum(shard['bytes'] for shard in shards))}; "
        f"made {made.get('made', 'at an unknown time')} in {duration(float(made.get('seconds', 0)))}",
        "",
        table(("part", "shards", "size", "column", "shape", "type", "holds"), rows),
        "",
        table(("coverage", "rows"), [(name, f"{count:,}") for name, count in manifest["coverage"].items()]),
        *(f"warning: {warning}" for warning in manifest["warnings"]),
    ]
    return "\n".join("\n".join(map(printable, line.split("\n"))) for line in lines)
