"""`melcache`: what teammates do with a cache by hand."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from cache import manifests, partial_cache
from cache.commands import files
from cache.commands.options import (
    HERE,
    IDENTITY,
    JSON,
    PATH,
    REQUIRE,
    SIGNERS,
    URL,
    cache_at,
    interruptible,
    is_name,
    place,
    say_done,
    trusted,
)
from cache.commands.overview import describe, named
from cache.reader import Reader
from common import console
from common.errors import ConfigError
from common.foreign import printable
from common.options import App
from common.output import size

GOES_ON = "what has arrived is kept, the same command continues"

app = App(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Look at, check, share and make caches.",
)
app.command()(files.gc)
app.command()(files.export)
app.command("import")(files.import_)


def main() -> None:
    """Run the command line; a MelcacheError is one line and its exit code."""
    console.run(app, "melcache")


@app.command()
def info(path: PATH, as_json: JSON = False) -> None:
    """Print what is in a cache: dataset, tables, parts, columns, coverage, id."""
    folder = cache_at(path)
    manifest = manifests.load(folder)
    console.present(named(folder, manifest), lambda _: describe(folder, manifest), as_json=as_json)


@app.command()
def verify(path: PATH, as_json: JSON = False, require_signed: REQUIRE = False, signers: SIGNERS = None) -> None:
    """Check every byte of a cache against its manifest, and who signed it; exit 1 if anything differs."""
    folder = cache_at(path)
    if known := trusted(require_signed, signers):
        from cache.sharing import signing

        console.tell(f"{folder}: signed by {printable(signing.of_folder(folder, known))}")
    from cache.checks import verify

    findings = list(verify.verify(folder))
    damaged = [f for f in findings if f.problem and f.bytes]
    if as_json:
        console.show_json({"ok": not damaged, "files": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            if finding.problem:
                console.show(printable(f"{finding.file}: {finding.problem}"))
        good, total = len([f for f in findings if not f.problem]), sum(f.bytes for f in findings)
        unread = [folder / f.file for f in damaged if f.unread]
        links = sum(path.is_symlink() for path in unread)
        told = {
            "damaged: remove them and run the extraction again, or copy them afresh": sum(
                not f.unread for f in damaged
            ),
            "links, not read: copy with cp -L": links,
            "not read, of which nothing is known": len(unread) - links,
        }
        state = "; ".join(f"{count} {what}" for what, count in told.items() if count) or "ok"
        console.show(f"{folder}: {good} of {good + len(damaged)} shards as written, {size(total)}; {state}")
    if damaged:
        raise typer.Exit(1)


@app.command()
def push(
    path: PATH,
    url: URL,
    replace: Annotated[bool, typer.Option("--replace", help="publish over another cache; its files stay")] = False,
    check: Annotated[bool, typer.Option("--check", help="read what is there, and mend what is damaged")] = False,
    as_json: JSON = False,
) -> None:
    """Publish a cache for others to pull; interrupted? The same command continues."""
    from cache.sharing import push

    done = interruptible(lambda: push.push(cache_at(path), url, replace=replace, check=check), GOES_ON)
    say_done(done, as_json=as_json)


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="its name under shards/, or the path it shall have", metavar="NAME")],
    url: URL,
    heads: Annotated[
        list[str] | None,
        typer.Option(
            "--for",
            help="take only what this head reads (several with commas, or repeat it); more can be taken later",
            metavar="HEAD",
        ),
    ] = None,
    identity: IDENTITY = None,
    replace: Annotated[bool, typer.Option("--replace", help="take the place of another cache here")] = False,
    require_signed: REQUIRE = False,
    signers: SIGNERS = None,
    as_json: JSON = False,
) -> None:
    """Take a cache that others pushed, every byte checked; interrupted? The same command continues."""
    from cache.sharing import pull

    folder, dataset, known = place(name), name if is_name(name) else "", trusted(require_signed, signers)
    done = interruptible(
        lambda: pull.pull(
            folder,
            url,
            heads=",".join(heads or ()),
            identity=identity or "",
            replace=replace,
            signers=known,
            dataset=dataset,
        ),
        GOES_ON,
    )
    say_done(done, as_json=as_json)


@app.command()
def card(path: PATH) -> None:
    """Print the card of a cache, README.md where it is pushed."""
    from cache.sharing import card

    folder = cache_at(path)
    console.show(card.page(partial_cache.whole_manifest(folder, manifests.load(folder))).removesuffix("\n"))


@app.command()
def sign(
    path: PATH,
    key: Annotated[Path, typer.Option(help="your private SSH key", parser=HERE)] = "~/.ssh/id_ed25519",
) -> None:
    """Sign the id of a cache with an SSH key; `push` takes the signature along."""
    from cache.sharing import signing

    console.show(f"{signing.sign(cache_at(path), key)}: signed; push takes it along")


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="directory of the new cache; its last component names it", parser=HERE)],
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
    from cache.writing import synth

    splits, *sizes = synth.SHAPES[like]
    n, e, c = (
        default if given is None else given
        for given, default in zip((mentions, entities, candidates), (sum(splits), *sizes), strict=True)
    )
    shares = synth.SPLIT_SHARES if mentions else tuple(count / sum(splits) for count in splits)
    wanted = synth.Synthetic(n, e, c, signal, seed, head, text_width, image_width, shares, clip_width, regions)
    console.show(f"{out}: cache id {synth.write(out, wanted)}")


@app.command()
def diff(
    first: Annotated[str, typer.Argument(help="a cache directory, or a name under shards/", metavar="A")],
    second: Annotated[str, typer.Argument(help="another", metavar="B")],
    tolerance: Annotated[float, typer.Option(help="of values, relative to a row's largest")] = 2e-3,
    as_json: JSON = False,
) -> None:
    """Say what differs between two caches: recipes field by field, rows by id, values; exit 1 if anything does."""
    from cache.checks import diff

    if not 0 <= tolerance < float("inf"):  # nothing is more than NaN
        raise ConfigError(f"--tolerance is {tolerance:g}; it must be 0 or more")
    folders = [cache_at(name) for name in (first, second)]
    found = diff.compare(*map(Reader, folders), tolerance)
    console.present(found, lambda found: diff.show(found, (first, second)), as_json=as_json)
    if not found["same"]:
        raise typer.Exit(1)
