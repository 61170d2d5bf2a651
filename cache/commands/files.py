"""Commands of caches as files: leftovers in a directory, caches as one file or as others' arrays, synthetic ones."""

from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass
from pathlib import Path
from typing import Literal

from cache.commands.options import (
    check_id,
    id_knob,
    json_knob,
    path_knob,
    require_knob,
    say_done,
    signers_knob,
    trusted,
)
from cache.quantized import STORAGE, Storage
from common import console
from common.errors import CacheError, ConfigError, DeniedError
from common.options import knob
from common.output import say
from common.paths import MANIFEST, SHARDS, Place, exists, find_cache, names

NAME_BYTES = 255  # of a directory, on most file systems


@dataclass(frozen=True)
class GcConfig:
    """What `melcache gc` looks for."""

    path: str | None = knob(
        None, "a cache directory, or a name under shards/; all of shards/ if left out", argument="PATH"
    )
    delete: bool = knob(False, "remove what is found; without it, only list")
    unfinished: bool = knob(False, "also what an interrupted extraction or pull would continue from")
    json: bool = json_knob()


def gc(config: GcConfig) -> None:
    """List, and with --delete remove, the files in a cache directory that belong to no cache there."""
    from cache.checks import gc

    folders = list(_caches()) if config.path is None else [Place(config.path).unfinished()]
    if not folders:
        raise CacheError(f"there is no cache in {SHARDS}/; name a directory")
    found = [gc.collect(folder, delete=config.delete, unfinished=config.unfinished) for folder in folders]
    console.present([asdict(one) for one in found], lambda _: "\n\n".join(map(str, found)), as_json=config.json)


@dataclass(frozen=True)
class ExportConfig:
    """What `melcache export` writes."""

    path: str = path_knob()
    file: Path = knob(MISSING, "the tar to write; no file of that name may exist", argument="FILE.tar")
    json: bool = json_knob()


def export(config: ExportConfig) -> None:
    """Write a cache into one uncompressed tar, every shard checked on the way."""
    from cache.sharing import tar

    say_done(tar.export(find_cache(config.path), config.file), as_json=config.json)


@dataclass(frozen=True)
class ImportConfig:
    """What `melcache import` makes a cache of."""

    source: Path = knob(MISSING, "the tar, or the directory of the arrays", argument="SOURCE")
    kind: Literal["tar", "drin"] = knob(
        MISSING, "tar: what melcache export wrote; drin: DRIN's preprocessed .npy arrays", flag="--from"
    )
    name: str | None = knob(None, "name of the new cache under shards/, or its path (default: what the tar says)")
    identity: str | None = id_knob()
    require_signed: bool = require_knob()
    signers: Path | None = signers_knob()
    regions: bool = knob(False, "drin: also the regions of mention pictures")
    tokens: bool = knob(False, "drin: also all tokens, for mel_hi, and with --regions ghmfc")
    pooler_as_text: bool = knob(
        False, "drin: WikiDiverse's BERT pooler vectors stand for the [CLS] that the arrays lack"
    )
    json: bool = json_knob()

    def __post_init__(self) -> None:
        check_id(self.identity)
        signed = trusted(self.require_signed, self.signers)
        if self.kind == "drin" and (self.identity or signed):
            raise ConfigError("--id, --require-signed and --signers are for --from tar: no one has signed arrays")
        if self.kind == "drin" and self.name is None:
            raise ConfigError("--from drin needs --name: that of the cache under shards/, such as wikidiverse")
        if self.kind == "tar" and (self.regions or self.tokens or self.pooler_as_text):
            raise ConfigError("--regions, --tokens and --pooler-as-text are for --from drin: a tar is taken as it is")


def import_(config: ImportConfig) -> None:
    """Make a cache of one tar, every byte checked, or of DRIN's preprocessed arrays."""
    if config.kind == "drin":
        from cache.drin import convert

        more = tuple(extra for extra in ("regions", "tokens") if getattr(config, extra))
        assert config.name is not None  # ImportConfig sees to it
        converted = convert.run(
            config.source, Place(config.name).new(), more=more, pooler_as_text=config.pooler_as_text
        )
        say_done(converted, as_json=config.json)
    else:
        from cache.sharing import tar

        name = _plain(tar.dataset(config.source)) if config.name is None else config.name
        taken = tar.take(config.source, Place(name).new(), identity=config.identity, signers=config.signers)
        say_done(taken, as_json=config.json)


@dataclass(frozen=True)
class SynthConfig:
    """What `melcache synth` writes."""

    out: Path = knob(MISSING, "directory of the new cache; its last component names it", argument="OUT")
    like: Literal["wikidiverse", "wikimel"] = knob("wikidiverse", "shape to take")
    mentions: int | None = knob(None, "N instead of the shape's")
    entities: int | None = knob(None, "E instead of the shape's")
    candidates: int | None = knob(None, "C instead of the shape's")
    signal: float = knob(0.5, "S: 0 is pure noise, 0.1 and more separates gold")
    seed: int = knob(0, "of all random numbers")
    head: str = knob("drin", "heads whose columns are written, and parts on demand: drin,mention.patches", flag="--for")
    text_width: int = knob(768, "D")
    image_width: int = knob(2048, "V")
    joint_width: int = knob(512, "P")
    regions: int = knob(49, "R")
    storage: Storage = knob("float16", STORAGE)


def synth(config: SynthConfig) -> None:
    """Write a synthetic cache for tests and benchmarks; splits as in the release, or 80, 10 and 10% of --mentions."""
    from cache.writing import synth

    splits, entities, candidates = synth.SHAPES[config.like]
    sizes = (
        sum(splits) if config.mentions is None else config.mentions,
        entities if config.entities is None else config.entities,
        candidates if config.candidates is None else config.candidates,
    )
    train, valid, test = (count / sum(splits) for count in splits)
    wanted = synth.Synthetic(
        *sizes,
        config.signal,
        config.seed,
        config.head,
        config.text_width,
        config.image_width,
        synth.SPLIT_SHARES if config.mentions else (train, valid, test),
        config.joint_width,
        config.regions,
        config.storage,
    )
    console.show(f"{config.out}: cache id {synth.write(config.out, wanted)}")


def _caches() -> Iterator[Path]:
    """Yield the caches under shards/; of one that may not be looked at, say so."""
    for folder in (SHARDS / name for name in names(SHARDS)):
        try:
            if exists(folder / MANIFEST):
                yield folder
        except DeniedError as error:
            say(f"warning: {error}")


def _plain(name: str) -> str:
    """Return the name of a tar's dataset, if it can be that of a directory."""
    if not name or Path(name).name != name or name.startswith(".") or len(name.encode()) > NAME_BYTES:
        raise ConfigError(f"the tar holds a cache of {name!r}, which names no directory: give --name")
    return name
