"""Every knob of extraction, once; the command line and the manifest derive from it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from cache.kinds import Role
from cache.quantized import STORAGE, Storage
from common.options import knob
from common.paths import SHARDS
from extract.datasets import ADAPTERS
from workers.engine import SLURM, WAIT, WORKERS_ON

NONE = Path("none")  # of --descriptions, --faces and --aliases: without, though the cache that is there has some
LONGEST = 1 << 20  # tokens of a text
DETECTORS = ("v1", "v2")  # torchvision's
RANDOM = ("random-tiny", "random-full")
LOCAL = "local-dir:"  # may stand before a model's folder
# how options call a role
OPTIONS: dict[Role, str] = {"text": "text", "joint": "joint", "image": "image", "objects": "detector"}


class ByItself(NamedTuple):
    """What a process takes where nothing else is said: its precision, and the tokens of texts that are encoded at once.

    Features are stored as float16; so many tokens stay in a core's cache, or fill a GPU.
    """

    precision: str
    text_tokens: int


BY_THEMSELVES = {False: ByItself("fp32", 1024), True: ByItself("fp16", 16_384)}  # on a CPU, on a GPU
CANDIDATE_SOURCES = ("names", "text", "joint")
CANDIDATES = {"wikidiverse": 10, "demo": 5}  # DRIN 4.1: top-10 there, top-100 for WikiMEL; five namesakes


def _weights(role: str, option: str) -> str:
    return f"of the {role} encoder alone: as --weights (default: --weights; pretrained where {option} names a model)"


@dataclass(frozen=True)
class Knobs:
    """The options of `melcache extract`."""

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
