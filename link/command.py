"""`melcache link`: one mention or a file of them, linked and printed."""

from collections import Counter
from typing import TYPE_CHECKING

from common import console, paths
from common.errors import ConfigError, CoverageError
from common.output import Progress, say
from link.config import LinkConfig, LoadConfig
from link.opened_run import OpenedRun
from link.questions import check, from_file
from link.records import Link, NewMention
from link.show import show

NOT_USABLE = "--image {image} cannot be used: {reason}. Leave it out to link without a picture"

if TYPE_CHECKING:
    from link.linker import Linker


def link(config: LinkConfig) -> None:
    """Link what the config names, and print it."""
    asked = _asked(config)
    check(asked)
    linker = load(config)
    with Progress(len(asked), "link", "mentions") as progress:
        found = linker.link(asked, top=config.top, nil_below=config.nil_below, done=progress.advance)
    _tell_pictures(config, found)
    console.present([one.as_json() for one in found], lambda _: show(found), as_json=config.json)


def load(config: LoadConfig) -> "Linker":
    """Return the linker that options ask for."""
    OpenedRun.of(config.run, config.dataset, config.shards, config.model)
    from link.linker import Linker  # torch: what is wrong so far was told without it

    return Linker.load(
        config.run,
        shards=config.shards,
        dataset=config.dataset,
        weights=config.weights,
        encoders=_by_role(config.encoder, "--encoder"),
        encoder_weights=_by_role(config.encoder_weights, "--encoder-weights"),
        entities=config.entities,
        release=config.release,
        model=config.model,
        aliases=config.aliases,
        seed=config.seed,
        device=config.device,
        index=config.index,
    )


def _asked(config: LinkConfig) -> list[NewMention]:
    """Return the mentions that the options name.  Raises ConfigError for options that do not fit together."""
    own = {"--text": config.text, "--mention": config.mention, "--start": config.start, "--image": config.image}
    given = [name for name, value in own.items() if value is not None]
    if config.data is not None:
        if given:
            raise ConfigError(f"--data is many mentions and {given[0]} is of one: leave one of them out")
        return from_file(config.data)
    if config.text is None or config.mention is None:
        raise ConfigError("nothing to link: give --text SENTENCE and --mention STRING, or --data FILE with many")
    if config.image is not None and not paths.exists(config.image):
        raise CoverageError(NOT_USABLE.format(image=config.image, reason="missing"))
    return [NewMention(config.text, config.mention, config.start, image=config.image)]


def _by_role(given: list[str], option: str) -> dict[str, str]:
    """Return what ROLE=VALUE words say, by role.  Raises ConfigError for other words, and for a role said twice."""
    found: dict[str, str] = {}
    for word in given:
        role, equals, value = word.partition("=")
        if not equals or not value:
            raise ConfigError(f"{option} {word}: expected ROLE=VALUE, such as text=FOLDER")
        if role in found:
            raise ConfigError(f"{option} {role} is given twice: leave one out")
        found[role] = value
    return found


def _tell_pictures(config: LinkConfig, found: list[Link]) -> None:
    """Say which pictures cannot be used.  Raises CoverageError where it is the one of --image."""
    unusable = Counter(one.picture for one in found if one.picture not in ("ok", "none"))
    if config.image is not None and unusable:
        [reason] = unusable
        raise CoverageError(NOT_USABLE.format(image=config.image, reason=reason))
    if unusable:
        told = ", ".join(f"{count:,} {reason}" for reason, count in sorted(unusable.items()))
        say(f"warning: {unusable.total():,} of {len(found):,} pictures cannot be used ({told}): they count as none")
