"""What an extraction is asked for: knobs that fit together, and what follows from them."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from cache import kinds
from cache.kinds import Role, Source
from cache.names import ColumnName
from cache.quantized import LEVELS
from cache.schema import CHOICES, READS
from cache.store import plans
from common import places
from common.errors import ConfigError
from common.paths import DATA, check_name, is_folder
from common.words import nearest, one_of
from extract.config.knobs import (
    BY_THEMSELVES,
    CANDIDATE_SOURCES,
    CANDIDATES,
    DETECTORS,
    LOCAL,
    LONGEST,
    NONE,
    OPTIONS,
    RANDOM,
    Knobs,
)
from workers.engine import Engine


@dataclass(frozen=True)
class ExtractConfig(Knobs):
    """What `melcache extract` does: its knobs, what of them is refused, and what follows from them."""

    def __post_init__(self) -> None:
        self._refuse_numbers()
        self._refuse_encoders()
        self._refuse_lists()
        self._refuse_heads()
        if self.name is not None:
            check_name(self.name, "--name")
        self._refuse_sharing()
        self._refuse_workers()

    def _refuse_numbers(self) -> None:
        """Raise ConfigError for numbers out of range."""
        for name in (
            "objects",
            "text_batch",
            "text_tokens",
            "image_batch",
            "shard_rows",
            "workers",
            "candidates",
            "limit",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name.replace('_', '-')} is {value}; it must be at least 1")
        for name in ("entity_tokens", "sentence_tokens"):
            if not 3 <= getattr(self, name) <= (512 if self.text is None else LONGEST):
                raise ConfigError(
                    f"--{name.replace('_', '-')} is {getattr(self, name)}; {self.text or 'BERT'} takes 3 "
                    f"to {512 if self.text is None else LONGEST:,} tokens"
                )
        if not 0 <= self.max_missing <= 1:
            raise ConfigError(f"--max-missing is {self.max_missing}; it is a fraction, 0 to 1")

    def _refuse_lists(self) -> None:
        """Raise ConfigError for sources of candidates that there are not, or twice."""
        for place, name in enumerate(self.candidates_from):
            if name not in CANDIDATE_SOURCES or name in self.candidates_from[:place]:
                wrong = (
                    "stands there twice" if name in CANDIDATE_SOURCES else f"is none of {', '.join(CANDIDATE_SOURCES)}"
                )
                raise ConfigError(f"--candidates-from {','.join(self.candidates_from)}: {name} {wrong}")

    def _refuse_encoders(self) -> None:
        """Raise ConfigError for options that the encoders do not have."""
        if self.text is None or self.own("text"):
            self._refuse_text_options()
        if self.joint is None and self.joint_edges == "probability":
            raise ConfigError(
                "--joint-edges probability: CLIP, the joint encoder without --joint, gives no probability of one pair. "
                "Add --joint MODEL, with one such as SigLIP, or leave --joint-edges out"
            )
        named = [option for role, option in OPTIONS.items() if role != "text" and self.named(role)]
        if self.pixels == "device" and named:
            raise ConfigError(
                f"--pixels device with --{named[0]}: it is for the papers' encoders, another reads pictures in its own "
                "way. Leave one of the two out"
            )

    def _refuse_heads(self) -> None:
        """Raise ConfigError for heads that there are not, and for options that only some heads read."""
        parts = kinds.on_demand()
        if unknown := [name for name in self.heads if name not in (*READS, *parts)]:
            known = f"there are {', '.join(READS)}, and the parts {one_of(unknown[0], parts)}"
            near = nearest(unknown[0], tuple(READS))
            raise ConfigError(f"--for {','.join(self.heads)}: {unknown[0]} is not a head; {known}{near}")
        if (self.infer_gender or self.infer_race) and not self.demanded & set(kinds.reading("faces")):
            raise ConfigError("--infer-gender and --infer-race are for heads that read attributes: add --for dwe")
        if self.faces not in (None, NONE) and not self.demanded & set(kinds.reading("faces")):
            raise ConfigError("--faces is for heads that read attributes: add --for dwe")

    def _refuse_workers(self) -> None:
        """Raise ConfigError for options of a launcher or of a worker that do not fit together."""
        if self.engine is not None and self.plan:
            raise ConfigError("--workers-on with --plan: a plan computes nothing")
        if self.by_plan is not None and (self.engine is not None or self.plan):
            raise ConfigError("--by-plan is for a worker: leave out --workers-on and --plan")
        if self.by_plan is not None and not plans.ASKED.fullmatch(self.by_plan):
            raise ConfigError(f"--by-plan {self.by_plan}: expected the sha256 of a plan, 64 hex digits")

    def _refuse_sharing(self) -> None:
        """Raise ConfigError for options of a remote or of a plan that do not fit together."""
        there = self.url
        if self.push and self.plan:
            raise ConfigError("--push with --plan: a plan makes nothing to publish")
        if self.push and not there:
            raise ConfigError("--push needs --remote URL")
        if self.require_signed and self.signers is None:
            raise ConfigError("--require-signed needs --signers FILE, the trusted signers")
        if self.signers is not None and not there:
            raise ConfigError("--signers applies to a remote: add --remote URL")
        if self.json and not self.plan:
            raise ConfigError("--json prints a plan: add --plan")

    def _refuse_text_options(self) -> None:
        """Raise ConfigError for an option of a named text encoder where none is named."""
        given = {
            "--text-pooling": self.text_pooling != "auto",
            "--text-tokens": self.text_tokens is not None,
            "--query-prompt": self.query_prompt is not None,
            "--passage-prompt": self.passage_prompt is not None,
        }
        for option in (option for option, value in given.items() if value):
            raise ConfigError(f"{option} is for a text encoder that is named: add --text NAME")

    def named(self, role: Role) -> str | None:
        """Return the model that fills a role where it is not the papers'."""
        detector = None if self.detector in DETECTORS else self.detector
        return {"text": self.text, "image": self.image, "joint": self.joint, "objects": detector}[role]

    def own(self, role: Role) -> Path | None:
        """Return the user's file with an encoder that fills a role, None where a model is named or the papers' is."""
        name = self.named(role)
        return Path(name) if name is not None and name.endswith(".py") else None

    def in_folder(self, role: Role) -> bool:
        """Whether a role is filled by a model in a folder that is named."""
        name = self.named(role) or ""
        return name.startswith(LOCAL) or (name != "" and is_folder(places.home(name)))

    def weights_of(self, role: Role) -> str:
        """Return where the weights of a role come from, as --weights says it.

        Random weights of the papers' encoders say nothing of a model that is named, and no weights of theirs anything
        of a model in a folder or of an encoder of the user's own.
        """
        given = {
            "text": self.text_weights,
            "image": self.image_weights,
            "joint": self.joint_weights,
            "objects": self.detector_weights,
        }[role]
        others = self.weights in RANDOM or self.own(role) or self.in_folder(role)
        if given is not None or self.named(role) is None or not others:
            return self.weights if given is None else given
        return "pretrained"

    def refuse_idle_storage(self, parts: Iterable[str]) -> None:
        """Raise ConfigError for a --storage that none of these parts has."""
        if self.storage in LEVELS and not any(map(kinds.quantizable, parts)):
            raise ConfigError(
                f"--storage {self.storage} is for tokens, regions, patches and crops, and no head that reads some is "
                "named: add --for ghmfc, or leave --storage out"
            )

    @property
    def demanded(self) -> set[str]:
        """The parts on demand that --for asks for, whatever the switches of its heads, and what these need."""
        heads = [head for head in self.heads if head in READS]
        columns = [column for head in heads for column in (*READS[head], *CHOICES.get(head, ()))]
        return kinds.demanded([*(ColumnName(column).part for column in columns), *set(self.heads).difference(heads)])

    def most_tokens(self, source: Source) -> int:
        """Return the tokens kept of a text that parts read."""
        return self.entity_tokens if source == "name" else self.sentence_tokens

    @property
    def engine(self) -> Engine | None:
        """What starts the processes that extract beside this one; None where it does alone.  Raises ConfigError."""
        return Engine.of(self.workers_on, self.slurm, self.wait)

    @property
    def for_gpus(self) -> Self:
        """This config with what processes on GPUs take by themselves named, so that whoever plans or computes does."""
        own = BY_THEMSELVES[True]
        found = replace(self, precision=own.precision) if self.precision == "auto" else self
        return replace(found, text_tokens=own.text_tokens) if self.text and self.text_tokens is None else found

    @property
    def source(self) -> Path:
        """The folder of the release."""
        return self.data or DATA / self.dataset

    @property
    def folder(self) -> Path:
        """The directory of the cache."""
        return self.shards / (self.name or self.dataset)

    @property
    def url(self) -> str:
        """The remote to ask, "" for none.  Raises ConfigError for what names no place."""
        given = os.environ.get("MELCACHE_REMOTE", "") if self.remote is None else self.remote
        try:
            return places.remote(given, self.folder.name) if given else ""
        except ConfigError as error:
            raise ConfigError(f"{'MELCACHE_REMOTE' if self.remote is None else '--remote'}: {error}") from None

    @property
    def list_length(self) -> int:
        """Length of retrieved candidate lists."""
        return self.candidates or CANDIDATES.get(self.dataset, 100)
