"""The contract in one place: tables, parts (cache.kinds), reason codes, and which columns each head reads.

FORMAT.md is its text for people; tests/cache/test_format.py holds the two together.
Axes: N mentions, E entities, C candidates, K objects, R regions, T tokens of all distinct sentences, D text width,
V image width, P CLIP width, A scene and F face attributes.
"""

from cache.edges import EDGES
from cache.kinds import KINDS, Column

VERSION = 1

TABLES = ("entity", "mention", "token", "clip_token", "pair")  # in the order in which their parts are computed
SEQUENCES = {part.into: name for name, part in KINDS.items() if part.into}  # table: the part that points into it
OPTIONAL = tuple(SEQUENCES)  # tables of parts that are made on demand

UNLABELED = -2  # stands for gold where nobody has said what a mention means; it counts in no accuracy
PARTS: dict[str, dict[str, Column]] = {name: part.columns for name, part in KINDS.items()}

ALWAYS = ("mention.ids.splits", "pair.candidates.candidates", "pair.candidates.gold", "pair.candidates.lexical")

_EDGES = tuple(edge.column for edge in EDGES)
_IMAGES = ("mention.resnet.image", "mention.resnet.present", "entity.resnet.image", "entity.resnet.present")
_CLIP = (
    "mention.clip.mention_sentence",
    "mention.clip.image",
    "mention.clip.present",
    "entity.clip.text",
    "entity.clip.image",
    "entity.clip.present",
)

_TOKENS = ("mention.tokens.first", "mention.tokens.count", "token.bert.vector")
_REGIONS = ("mention.regions.image", "mention.regions.present")

# The columns each head loads, nothing else; `melcache synth --for HEAD` writes these and its CHOICES.
READS: dict[str, tuple[str, ...]] = {
    "drin": (*ALWAYS, "mention.bert.span", "entity.bert.text", *_IMAGES, *_EDGES),
    "lexical": ALWAYS,
    "prior": (*ALWAYS, "mention.ids.surface", "mention.ids.gold"),
    "bert": (*ALWAYS, "mention.bert.span", "entity.bert.text"),
    "jmel": (*ALWAYS, "mention.bert.cls", "entity.bert.text", *_IMAGES),
    "clip": (*ALWAYS, *_CLIP),
    "clip_linear": (*ALWAYS, *_CLIP),
    "drin_authors": (*ALWAYS, "mention.bert.span", *_IMAGES, *_EDGES),
    "dwe": (
        *ALWAYS,
        "mention.clip.mention",
        "mention.clip.mention_sentence",
        "mention.clip.image",
        "mention.clip.present",
        "mention.clip_tokens.first",
        "mention.clip_tokens.count",
        "clip_token.clip.vector",
        "mention.crops.clip",
        "mention.crops.labels",
        "mention.attributes.scene",
        "mention.attributes.faces",
        "entity.clip.text",
    ),
    "dwe_authors": (
        *ALWAYS,
        "mention.clip.mention",
        "mention.clip.mention_sentence",
        "mention.clip.image",
        "mention.clip.present",
        "mention.crops.clip",
        "mention.crops.labels",
        "entity.clip.text",
    ),
    "dzmned": (
        *ALWAYS,
        "mention.bert.span",
        "mention.ids.surface",
        "mention.resnet.image",
        "mention.resnet.present",
        "entity.bert.text",
        "entity.ids.name",
    ),
    "mel_hi": (
        *ALWAYS,
        *_TOKENS,
        "mention.tokens.start",
        "mention.tokens.end",
        "mention.bert.span",
        "mention.bert.cls",
        "entity.bert.text",
        *_IMAGES,
    ),
    "ghmfc": (*ALWAYS, *_TOKENS, *_REGIONS),
    "ours": (
        *ALWAYS,
        "mention.bert.span",
        "mention.bert.cls",
        "entity.bert.text",
        "entity.bert.mean",
        *_CLIP,
        *_IMAGES,
        "mention.ids.surface",
        "mention.ids.gold",
        "entity.ids.name",
    ),
}

# Columns that a head reads only where one of its switches asks for them.
CHOICES: dict[str, tuple[str, ...]] = {
    "drin_authors": ("entity.bert.text", "entity.bert.mean", "entity.bert.pooler"),
    "dwe": ("entity.clip.description",),
    "dwe_authors": ("entity.clip.description",),
    "ghmfc": ("mention.bert.span", "entity.bert.text", "entity.bert.mean", "entity.bert.pooler"),
}
