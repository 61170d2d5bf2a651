"""Commands that send, take and sign caches."""

from dataclasses import MISSING, dataclass
from pathlib import Path

from cache import manifests, partial_cache
from cache.commands.options import (
    check_id,
    id_knob,
    json_knob,
    path_knob,
    require_knob,
    say_done,
    signers_knob,
    trusted,
    url_knob,
)
from common import console
from common.options import knob
from common.paths import Place, find_cache


@dataclass(frozen=True)
class PushConfig:
    """What `melcache push` publishes, and where."""

    path: str = path_knob()
    url: str = url_knob()
    replace: bool = knob(False, "replace the cache that is published there; its files stay")
    check: bool = knob(False, "read what is published, and repair what is damaged")
    json: bool = json_knob()


def push(config: PushConfig) -> None:
    """Publish a cache for others to pull; interrupted? The same command continues."""
    from cache.sharing import push

    done = push.push(find_cache(config.path), config.url, replace=config.replace, check=config.check)
    say_done(done, as_json=config.json)


@dataclass(frozen=True)
class PullConfig:
    """What `melcache pull` takes, and from where."""

    name: str = knob(MISSING, "its name under shards/, or the path that it will have", argument="NAME")
    url: str = url_knob()
    heads: tuple[str, ...] = knob(
        (),
        "take only what this head reads (several with commas, or repeat it); more can be taken later",
        flag="--for",
        metavar="HEAD",
    )
    identity: str | None = id_knob()
    replace: bool = knob(False, "replace another cache in that folder")
    require_signed: bool = require_knob()
    signers: Path | None = signers_knob()
    json: bool = json_knob()

    def __post_init__(self) -> None:
        check_id(self.identity)


def pull(config: PullConfig) -> None:
    """Take a cache that others pushed, every byte checked; interrupted? The same command continues."""
    from cache.sharing import pull

    place = Place(config.name)
    done = pull.pull(
        place.new(),
        config.url,
        heads=",".join(config.heads),
        identity=config.identity or "",
        replace=config.replace,
        signers=trusted(config.require_signed, config.signers),
        dataset=config.name if place.is_name else "",
    )
    say_done(done, as_json=config.json)


@dataclass(frozen=True)
class CardConfig:
    """What `melcache card` prints."""

    path: str = path_knob()


def card(config: CardConfig) -> None:
    """Print the card of a cache, README.md where it is pushed."""
    from cache.sharing import card

    folder = find_cache(config.path)
    console.show(card.page(partial_cache.whole_manifest(folder, manifests.load(folder))).removesuffix("\n"))


@dataclass(frozen=True)
class SignConfig:
    """What `melcache sign` signs, and with which key."""

    path: str = path_knob()
    key: Path = knob(Path("~/.ssh/id_ed25519"), "your private SSH key")


def sign(config: SignConfig) -> None:
    """Sign the id of a cache with an SSH key; `push` takes the signature along."""
    from cache.sharing import signing

    console.show(f"{signing.sign(find_cache(config.path), config.key)}: signed; push takes it along")
