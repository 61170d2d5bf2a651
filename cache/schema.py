"""The contract in one place: tables, parts (cache.kinds), reason codes, and which columns each head reads.

FORMAT.md is its text for people; tests/cache/test_format.py holds the two together.
Axes: N mentions, E entities, C candidates, K objects, R regions, T tokens of all distinct sentences, D text width,
V image width, P joint width, L and I widths of the joint encoder's towers, G patches, A scene and F face attributes.
"""

from cache.edges import EDGES
from cache.kinds import KINDS, Column

VERSION = 1

# in the order in which their parts are computed
TABLES = ("entity", "entity_joint_token", "mention", "token", "joint_token", "pair")
SEQUENCES = {part.into: name for name, part in KINDS.items() if part.into}  # table: the part that points into it
HOMES = {table: name.table for table, name in SEQUENCES.items()}  # table: the table whose rows have its tokens
OPTIONAL = tuple(SEQUENCES)  # tables of parts that are made on demand

UNLABELED = -2  # stands for gold where nobody has said what a mention means; it counts in no accuracy
PARTS: dict[str, dict[str, Column]] = {name: part.columns for name, part in KINDS.items()}

ALWAYS = ("mention.ids.splits", "pair.candidates.candidates", "pair.candidates.gold", "pair.candidates.lexical")

_EDGES = tuple(edge.column for edge in EDGES)
_IMAGES = ("mention.image.vector", "mention.image.present", "entity.image.vector", "entity.image.present")
_JOINT = (
    "mention.joint.mention_sentence",
    "mention.joint.image",
    "mention.joint.present",
    "entity.joint.text",
    "entity.joint.image",
    "entity.joint.present",
)

_TOKENS = ("mention.tokens.first", "mention.tokens.count", "token.text.vector")
_REGIONS = ("mention.regions.vector", "mention.regions.present")

# The columns each head loads, nothing else; `melcache synth --for HEAD` writes these and its CHOICES.
READS: dict[str, tuple[str, ...]] = {
    "drin": (*ALWAYS, "mention.text.span", "entity.text.sentence", *_IMAGES, *_EDGES),
    "lexical": ALWAYS,
    "prior": (*ALWAYS, "mention.ids.surface", "mention.ids.gold"),
    "bert": (*ALWAYS, "mention.text.span", "entity.text.sentence"),
    "jmel": (*ALWAYS, "mention.text.sentence", "entity.text.sentence", *_IMAGES),
    "clip": (*ALWAYS, *_JOINT),
    "clip_linear": (*ALWAYS, *_JOINT),
    "drin_authors": (*ALWAYS, "mention.text.span", *_IMAGES, *_EDGES),
    "dwe": (
        *ALWAYS,
        "mention.joint.mention",
        "mention.joint.mention_sentence",
        "mention.joint.image",
        "mention.joint.present",
        "mention.joint_tokens.first",
        "mention.joint_tokens.count",
        "joint_token.joint.vector",
        "mention.crops.vector",
        "mention.crops.labels",
        "mention.attributes.scene",
        "mention.attributes.faces",
        "entity.joint.text",
    ),
    "dwe_authors": (
        *ALWAYS,
        "mention.joint.mention",
        "mention.joint.mention_sentence",
        "mention.joint.image",
        "mention.joint.present",
        "mention.crops.vector",
        "mention.crops.labels",
        "entity.joint.text",
    ),
    "dzmned": (
        *ALWAYS,
        "mention.text.span",
        "mention.ids.surface",
        "mention.image.vector",
        "mention.image.present",
        "entity.text.sentence",
        "entity.ids.name",
    ),
    "mel_hi": (
        *ALWAYS,
        *_TOKENS,
        "mention.tokens.start",
        "mention.tokens.end",
        "mention.text.span",
        "mention.text.sentence",
        "entity.text.sentence",
        *_IMAGES,
    ),
    "ghmfc": (*ALWAYS, *_TOKENS, *_REGIONS),
    "ours": (
        *ALWAYS,
        "mention.text.span",
        "mention.text.sentence",
        "entity.text.sentence",
        "entity.text.mean",
        *_JOINT,
        *_IMAGES,
        "mention.ids.surface",
        "mention.ids.gold",
        "entity.ids.name",
    ),
}

# Columns that a head reads only where one of its switches asks for them.
CHOICES: dict[str, tuple[str, ...]] = {
    "drin_authors": ("entity.text.sentence", "entity.text.mean", "entity.text.pooler"),
    "dwe": ("entity.joint.description",),
    "dwe_authors": ("entity.joint.description",),
    "ghmfc": ("mention.text.span", "entity.text.sentence", "entity.text.mean", "entity.text.pooler"),
}
