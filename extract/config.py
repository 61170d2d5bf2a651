"""Every knob of extraction, once; the command line and the manifest derive from it."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cache import kinds
from cache.kinds import Role, Source
from cache.names import ColumnName
from cache.quantized import LEVELS, STORAGE, Storage
from cache.schema import CHOICES, READS
from cache.store import plans
from common import places
from common.errors import ConfigError
from common.options import knob
from common.paths import DATA, SHARDS, check_name, is_folder
from common.words import nearest, one_of
from extract.datasets import ADAPTERS
from workers.engine import SLURM, WAIT, WORKERS_ON, Engine

NONE = Path("none")  # of --descriptions, --faces and --aliases: without, though the cache that is there has some
LONGEST = 1 << 20  # tokens of a text
DETECTORS = ("v1", "v2")  # torchvision's
RANDOM = ("random-tiny", "random-full")
LOCAL = "local-dir:"  # may stand before a model's folder
# how options call a role
OPTIONS: dict[Role, str] = {"text": "text", "joint": "joint", "image": "image", "objects": "detector"}
CANDIDATE_SOURCES = ("names", "text", "joint")
CANDIDATES = {"wikidiverse": 10, "demo": 5}  # DRIN 4.1: top-10 there, top-100 for WikiMEL; five namesakes


def _weights(role: str, option: str) -> str:
    return f"of the {role} encoder alone: as --weights (default: --weights; pretrained where {option} names a model)"


@dataclass(frozen=True)
class ExtractConfig:
    """What `melcache extract` does."""

    dataset: str = knob("demo", f"a release: {', '.join(ADAPTERS)}")
    data: Path | None = knob(None, "folder of the release (default: data/<dataset>)")
    shards: Path = knob(SHARDS, "folder that holds caches; this one becomes <shards>/<name>")
    name: str | None = knob(None, "name of the cache (default: the dataset's)")
    weights: str = knob("pretrained", "a folder of weight files, or pretrained, random-tiny, random-full")
    descriptions: Path | None = knob(
        None,
        "a file of longer texts of entities, for DWE+: .jsonl, .json or .tsv; `melcache describe` makes one. "
        "none: remove those of the existing cache",
    )
    faces: Path | None = knob(
        None,
        "what DeepFace said of faces in mentions' pictures, a JSON file or a folder of them, in place of CLIP's "
        "guesses (--for dwe). none: remove those of the existing cache",
    )
    strict: bool = knob(False, "jsonl: stop where gold or candidates name an entity that entities.jsonl lacks")
    max_missing: float = knob(0.05, "stop (exit 3) when more than this fraction of the named images is unusable")
    heads: tuple[str, ...] = knob(
        (),
        "heads whose columns are made beside the standard ones, or parts on demand, for heads of one's own: "
        "ghmfc,mention.patches",
        flag="--for",
    )
    limit: int | None = knob(None, "only the first n captions, and the entities that they need")
    reorder: bool = knob(False, "number all rows anew; without it rows of the existing cache keep their numbers")
    candidates: int | None = knob(
        None, "list length where the release has no lists (default: 100; wikidiverse 10, demo 5)"
    )
    candidates_from: tuple[str, ...] = knob(
        (),
        "what retrieves candidates, in place of the release's lists: names, text or joint (by cosine of the cache's "
        "vectors), or several, text,names, fused by reciprocal rank (default: names)",
    )
    aliases: Path | None = knob(
        None,
        "a file of more names of entities, .jsonl or .tsv: a string is as like an entity as the likest of its names. "
        "none: remove those of the existing cache",
    )
    device: str = knob("auto", "cpu, cuda or auto", panel="Machine")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = knob(
        "auto", "auto: fp16 on cuda, fp32 on cpu", panel="Machine"
    )
    workers: int = knob(4, "threads that decode images", panel="Machine")
    workers_on: str | None = knob(None, WORKERS_ON, panel="Machine")
    slurm: str = knob("", SLURM, panel="Machine")
    wait: bool = knob(False, WAIT, panel="Machine")
    by_plan: str | None = knob(
        None,
        "go by what another process has planned: the sha256 of its plan, which lies beside the shards. --workers-on "
        "gives it to its workers",
        panel="Machine",
    )
    text: str | None = knob(
        None,
        "text encoder: a Hugging Face model by name, or a folder of one (default: bert-base-cased, as in the papers)",
        panel="Encoders",
    )
    text_pooling: Literal["auto", "cls", "mean", "last"] = knob(
        "auto", "with --text: how one vector is made of a text; auto: as the model says of itself", panel="Encoders"
    )
    query_prompt: str | None = knob(
        None, "with --text: put before a mention's sentence (default: as the model says of itself)", panel="Encoders"
    )
    passage_prompt: str | None = knob(
        None, "with --text: put before an entity's text (default: as the model says of itself)", panel="Encoders"
    )
    image: str | None = knob(
        None,
        "image encoder: a timm model by name, hf-hub:OWNER/NAME of one, a folder of one, or FILE.py, an encoder of "
        "your own, as with --text, --joint and --detector (default: torchvision's resnet152, as in the papers)",
        panel="Encoders",
    )
    joint: str | None = knob(
        None,
        "joint encoder of texts and pictures: open_clip's model:pretrained, hf-hub:NAME or local-dir:FOLDER "
        "(default: CLIP ViT-B/32 of OpenAI, as in the papers)",
        panel="Encoders",
    )
    joint_edges: Literal["cosine", "probability"] = knob(
        "cosine",
        "with --joint: what edges between a text and a picture hold; probability: the model's own, "
        "sigmoid(scale * cosine + bias), of models such as SigLIP",
        panel="Encoders",
    )
    storage: Storage = knob("float16", STORAGE, panel="Encoders")
    detector: str = knob(
        "v1",
        "torchvision's Faster-RCNN R50-FPN, v1 as in the papers or v2 at twice the FLOPs, or a Hugging Face model that "
        "detects objects, by name or folder",
        panel="Encoders",
    )
    text_weights: str | None = knob(None, _weights("text", "--text"), panel="Encoders")
    image_weights: str | None = knob(None, _weights("image", "--image"), panel="Encoders")
    joint_weights: str | None = knob(None, _weights("joint", "--joint"), panel="Encoders")
    detector_weights: str | None = knob(None, _weights("detector", "--detector"), panel="Encoders")
    objects: int = knob(3, "detected objects kept per image (K)", panel="Encoders")
    entity_tokens: int = knob(128, "tokens of the text encoder kept of an entity's text", panel="Encoders")
    sentence_tokens: int = knob(512, "tokens of the text encoder kept of a sentence", panel="Encoders")
    text_batch: int = knob(64, "texts per call of BERT and of the joint encoder", panel="Encoders")
    text_tokens: int | None = knob(
        None, "with --text: tokens per encoder call (default: 1,024 on a CPU, 16,384 on a GPU)", panel="Encoders"
    )
    image_batch: int = knob(16, "images per encoder call", panel="Encoders")
    pixels: Literal["host", "device"] = knob(
        "host",
        "where pictures are made as large as encoders read them: host, by Pillow on bytes, as in the papers; device: "
        "on floats, boxes cut there and the detector's pictures padded alike, another recipe that a GPU takes faster",
        panel="Encoders",
    )
    infer_gender: bool = knob(False, "take or guess the gender of people in pictures (--for dwe)", panel="Encoders")
    infer_race: bool = knob(False, "take or guess the race of people in pictures (--for dwe)", panel="Encoders")
    shard_rows: int = knob(2048, "rows per shard: what a kill can cost", panel="Encoders")
    remote: str | None = knob(
        None,
        "fetch every shard that this remote has: a directory, s3://, gs:// or hf://datasets/org/name; {name} stands "
        'for the cache\'s name (default: MELCACHE_REMOTE of the environment; "" for none). What a remote '
        "does not deliver, because it is out of reach, damaged or slow, costs a warning and is computed",
        panel="Sharing",
    )
    require_signed: bool = knob(False, "take only what one of --signers has signed", panel="Sharing")
    signers: Path | None = knob(None, "file of trusted signers, as man ssh-keygen's ALLOWED SIGNERS", panel="Sharing")
    push: bool = knob(
        False,
        "publish the finished cache at the remote; machines that do so at once meet there and divide the work "
        "(docs/scale.md)",
        panel="Sharing",
    )
    explain: bool = knob(
        False, "say why a part is recomputed that the existing cache or the remote has", panel="Sharing"
    )
    plan: bool = knob(
        False,
        "only show what is present locally, what the remote has and what is to compute, how big and how long; writes "
        "nothing",
        panel="Sharing",
    )
    json: bool = knob(False, "with --plan: print JSON", panel="Sharing")

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
        return name.startswith(LOCAL) or (name != "" and is_folder(Path(name).expanduser()))

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
