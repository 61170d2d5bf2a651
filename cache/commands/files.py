"""Caches as files: what is left over in a directory, and caches that come or go as one file, or as others' arrays."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from cache.commands.options import (
    HERE,
    IDENTITY,
    JSON,
    PATH,
    REQUIRE,
    SIGNERS,
    cache_at,
    interruptible,
    place,
    say_done,
    trusted,
)
from common import console, places
from common.errors import CacheError, ConfigError, DeniedError
from common.output import say
from common.paths import SHARDS, exists, find_cache, is_folder, names

NAME_BYTES = 255  # of a directory, on most file systems


def gc(
    path: Annotated[
        str | None, typer.Argument(help="a cache directory, or a name under shards/; all of shards/ if left out")
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="remove what is found; else it is only listed")] = False,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="also what an interrupted extraction or pull would go on from")
    ] = False,
    as_json: JSON = False,
) -> None:
    """List, and with --delete remove, the files in a cache directory that belong to no cache there."""
    from cache.checks import gc

    folders = list(_caches()) if path is None else [_folder(places.local(path))]
    if not folders:
        raise CacheError(f"there is no cache in {SHARDS}/; name a directory")
    found = [gc.collect(folder, delete=delete, unfinished=unfinished) for folder in folders]
    if as_json:
        console.show_json([asdict(one) for one in found])
    else:
        console.show("\n\n".join(map(str, found)))


def export(
    path: PATH,
    file: Annotated[
        Path, typer.Argument(help="the tar to write, which must not be there yet", metavar="FILE.tar", parser=HERE)
    ],
    as_json: JSON = False,
) -> None:
    """Write a cache into one uncompressed tar, every shard checked on the way."""
    from cache.sharing import tar

    done = interruptible(lambda: tar.export(cache_at(path), file), "nothing was written")
    say_done(done, as_json=as_json)


def import_(
    source: Annotated[
        Path, typer.Argument(help="the tar, or the directory of the arrays", metavar="SOURCE", parser=HERE)
    ],
    kind: Annotated[
        Literal["tar", "drin"],
        typer.Option("--from", help="tar: what melcache export wrote; drin: DRIN's preprocessed .npy arrays"),
    ],
    name: Annotated[
        str | None, typer.Option(help="of the new cache under shards/, or its path (default: what the tar says)")
    ] = None,
    identity: IDENTITY = None,
    require_signed: REQUIRE = False,
    signers: SIGNERS = None,
    regions: Annotated[bool, typer.Option("--regions", help="drin: also the regions of mention pictures")] = False,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="drin: also all tokens, for mel_hi, and with --regions ghmfc")
    ] = False,
    pooler_as_text: Annotated[
        bool,
        typer.Option("--pooler-as-text", help="drin: WikiDiverse's BERT pooler vectors stand for the [CLS] it lacks"),
    ] = False,
    as_json: JSON = False,
) -> None:
    """Make a cache of one tar, every byte checked, or of DRIN's preprocessed arrays."""
    known = trusted(require_signed, signers)
    if kind == "drin":
        from cache.drin import convert

        if identity or known:
            raise ConfigError("--id, --require-signed and --signers are for --from tar: no one has signed arrays")
        if name is None:
            raise ConfigError("--from drin needs --name: that of the cache under shards/, such as wikidiverse")
        more = tuple(extra for extra, wanted in (("regions", regions), ("tokens", tokens)) if wanted)
        done = interruptible(
            lambda: convert.run(source, place(name), more=more, pooler_as_text=pooler_as_text),
            "finished shards are kept, the same command continues",
        )
    else:
        from cache.sharing import tar

        if regions or tokens or pooler_as_text:
            raise ConfigError("--regions, --tokens and --pooler-as-text are for --from drin: a tar holds what it holds")
        folder = place(_plain(tar.dataset(source)) if name is None else name)
        done = interruptible(
            lambda: tar.take(source, folder, identity=identity, signers=known),
            "nothing of it is left; run it again",
        )
    say_done(done, as_json=as_json)


def _caches() -> Iterator[Path]:
    """Yield the caches under shards/; of one that may not be looked at, say so."""
    for folder in (SHARDS / name for name in names(SHARDS)):
        try:
            if exists(folder / "manifest.json"):
                yield folder
        except DeniedError as error:
            say(f"warning: {error}")


def _folder(path: Path) -> Path:
    """Return a cache directory, finished or not."""
    there = [folder for folder in (path, SHARDS / path) if is_folder(folder)]
    with_manifest = [folder for folder in there if exists(folder / "manifest.json")]
    return next(iter(with_manifest + there), None) or find_cache(path)


def _plain(name: str) -> str:
    """Return the name of a tar's dataset, if it can be that of a directory."""
    if not name or Path(name).name != name or name.startswith(".") or len(name.encode()) > NAME_BYTES:
        raise ConfigError(f"the tar holds a cache of {name!r}, which names no directory: give --name")
    return name
