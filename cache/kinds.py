"""What a part is, once: its columns, who makes it of what, what that costs, and how it is counted and synthesized.

Schema, synth, planning, keys, forecast, computing and counters read `KINDS`. A part whose role has an encoder is added
here and in that encoder; a new text of a record also in extract/planning/rows.py. Parts that derive from others stand
behind them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from cache.names import ColumnName, PartName

# text: contextual tokens; joint: texts and pictures in one space; image: a vision network; objects: a detector
Role = Literal["text", "joint", "image", "objects"]
ROLES: tuple[Role, ...] = get_args(Role)
# what of a row a part is made of
Source = Literal["release", "name", "sentence", "texts", "sentences", "places", "picture", "faces", "lists"]
# columns of ids that change with what is read
CONTENT: dict[Source, tuple[str, ...]] = {
    "release": ("content_text", "content_image"),  # ids, strings and golds, and which text and picture a row has
    "name": ("content_text",),  # one text: an entity's `name: text`
    "sentence": ("content_text",),  # one text: a mention's sentence, and where in it the mention stands
    "texts": ("content_text",),  # a text a column
    "sentences": ("content_text",),  # each distinct sentence, token by token
    "places": ("content_text",),  # where the tokens of a sentence lie
    "picture": ("content_image",),
    "faces": ("content_text", "content_image"),  # what --faces says of a picture, and stored columns
    "lists": ("content_text", "content_image"),  # candidates and gold
}
# usual sizes of axes
SIZES = {"D": 768, "V": 2048, "P": 512, "K": 3, "R": 49, "A": 20, "F": 10, "L": 512, "I": 768, "G": 49}
LABELS = 1 << 16  # a detector's classes: COCO's categories 1 to 90, its own from 91 on
PIXELS = 1 << 26  # more than the longest side of a picture that is opened
ROUNDED = 1e-3  # by which a sum of rounded numbers may pass its bound

# Why a row has no picture of its own. The position is the stored code: append, never reorder.
IMAGE_STATUS = (
    "ok",
    "none",  # the release names no picture for this row
    "missing",
    "not_a_file",
    "unreadable",
    "empty",
    "not_an_image",
    "svg",
    "unsupported",
    "corrupt",
    "too_small",
    "too_large",
    "float_image",
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a part: its axes after the row axis, its stored type, what it holds, and the bounds of its values.

    `dtype` is little endian numpy; "S" is fixed-length UTF-8 of the part's own length; "feature" is float16
    unless the extraction asked for float32. `values` are least and most, None where the type says all or where they
    depend on the cache. A column of an `option` is made only by an extraction with that.
    """

    axes: str
    dtype: str
    holds: str
    values: tuple[float, float] | None = None
    option: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its columns, and all that planning, computing, forecasting and counting must know of it.

    `reads`: what of a row it is made of. `role`: which encoder makes it, "" for none. `inputs`: parts whose stored
    columns it derives from. `on_demand`: made for heads that read it only. `from_picture`: the columns that one look
    at a picture gives; where "present" is a column, a row without a picture holds the neutral picture's, else zeros.
    `beside`: where both are missing, both are made in one pass of that part's encoder. `into`: the table of tokens that
    its rows point into. `per_object`: it costs K items of a picture. `like`: by column, the entity's column that
    synthetic values resemble.
    """

    columns: dict[str, Column]
    reads: tuple[Source, ...]
    role: Role | Literal[""] = ""
    inputs: tuple[str, ...] = ()
    on_demand: bool = False
    from_picture: tuple[str, ...] = ()
    beside: str = ""
    into: str = ""
    per_object: bool = False
    like: Mapping[str, str] = field(default_factory=dict)

    @property
    def neutral(self) -> bool:
        """Whether rows without a picture hold what the encoder makes of the neutral one."""
        return "present" in self.columns

    @property
    def contents(self) -> list[str]:
        """The columns of ids that say whether what the part reads of a row has changed."""
        read = {column for source in self.reads for column in CONTENT[source]}
        return [column for column in CONTENT["release"] if column in read]


_COSINE = (-1 - ROUNDED, 1 + ROUNDED)
_SHARE = (0, 1 + ROUNDED)
_PRESENT = Column("", "|b1", "the picture is there and readable; false: the row holds the neutral image's vector")
_TRUNCATED = Column("", "|b1", "a text of this row was longer than the encoder's token limit and was cut")
_OBJECTS = {
    "boxes": Column("K4", "<f4", "x1 y1 x2 y2 in pixels of the decoded image, best score first, 0 padded", (0, PIXELS)),
    "scores": Column("K", "<f4", "detector confidence, 0 where there is no object", _SHARE),
    "labels": Column(
        "K", "<i4", "COCO category, from 91 on a class of the detector's own, 0 where there is no object", (0, LABELS)
    ),
    "summary": Column(
        "V", "feature", "sum_i s_i u_i / sum_i s_i over unit object vectors u_i (DRIN Eq. 11); 0 if none", _COSINE
    ),
}
_IMAGE = {"vector": Column("V", "feature", "pooled vector of the picture (DRIN Eq. 4, 5)"), "present": _PRESENT}
_PATCHES = {
    "vector": Column("GI", "feature", "last layer of the joint encoder's image tower, patch by patch, row by row"),
    "present": _PRESENT,
}
_STATES = {"vector": Column("L", "feature", "last layer of the joint encoder's text tower, not projected")}
_CONTENT = {
    "content_text": Column("*", "|u1", "sha256 of the texts that the row's encoders read, 32 bytes"),
    "content_image": Column("*", "|u1", "sha256 of the picture's file, 32 bytes; 0 where there is no file"),
    "image_status": Column("", "|u1", "reason code, an index into IMAGE_STATUS", (0, len(IMAGE_STATUS) - 1)),
}

_PARTS = {
    "entity.ids": Part(
        {
            "id": Column("", "S", "the release's id"),
            "name": Column("", "S", "the name that candidates are matched on"),
            **_CONTENT,
        },
        reads=("release",),
    ),
    "entity.text": Part(
        {
            "sentence": Column(
                "D", "feature", "sentence vector of `name: text`: [CLS] (DRIN Eq. 3), or as the model pools"
            ),
            "mean": Column("D", "feature", "mean of tokens 1..n-2"),
            "pooler": Column("D", "feature", "the model's pooler output, as BERT has one"),
            "truncated": _TRUNCATED,
        },
        reads=("name",),
        role="text",
    ),
    "entity.image": Part(_IMAGE, reads=("picture",), role="image", from_picture=("vector",)),
    "entity.joint": Part(
        {
            "text": Column("P", "feature", "text vector of `name: text`"),
            "description": Column(
                "P",
                "feature",
                "text vector of the second, longer text (DWE+); of `name: text` without one",
                option="descriptions",
            ),
            "image": Column("P", "feature", "image vector"),
            "present": _PRESENT,
            "truncated": _TRUNCATED,
        },
        reads=("texts", "picture"),
        role="joint",
        from_picture=("image",),
    ),
    "entity.objects": Part(_OBJECTS, reads=("picture",), role="objects", from_picture=tuple(_OBJECTS)),
    "entity.joint_tokens": Part(
        {
            "first": Column("", "<i4", "row of table entity_joint_token where the entity's `name: text` begins"),
            "count": Column("", "<i4", "tokens of it, start and end tokens included (CLIP: at most 77)"),
        },
        reads=("places",),
        role="joint",
        on_demand=True,
        into="entity_joint_token",
    ),
    "entity.patches": Part(
        _PATCHES, reads=("picture",), role="joint", on_demand=True, from_picture=("vector",), beside="entity.joint"
    ),
    "entity_joint_token.states": Part(_STATES, reads=("sentences",), role="joint", on_demand=True),
    "token.text": Part(
        {"vector": Column("D", "feature", "last layer: the tokens of each distinct sentence")},
        reads=("sentences",),
        role="text",
        on_demand=True,
        beside="mention.text",
        like={"vector": "entity.text.sentence"},
    ),
    "joint_token.joint": Part(
        {"vector": Column("P", "feature", "states of the text tower, projected as its text vector is")},
        reads=("sentences",),
        role="joint",
        on_demand=True,
        like={"vector": "entity.joint.text"},
    ),
    "joint_token.states": Part(_STATES, reads=("sentences",), role="joint", on_demand=True, beside="joint_token.joint"),
    "mention.ids": Part(
        {
            "id": Column("", "S", "mention id"),
            "caption": Column("", "S", "id of the caption that the mention stands in"),
            "surface": Column("", "S", "the mention's string"),
            "type": Column("", "S", "the release's mention type, empty if none"),
            "splits": Column("", "|u1", "bit mask: 1 train, 2 valid, 4 test", (0, 7)),
            "gold": Column("", "<i4", "row of the gold entity, -1 = nil or not in the table, -2 = not labeled"),
            **_CONTENT,
        },
        reads=("release",),
    ),
    "mention.text": Part(
        {
            "span": Column(
                "D", "feature", "mean of the tokens under the mention (DRIN Eq. 2); of all tokens if not found"
            ),
            "sentence": Column("D", "feature", "sentence vector: [CLS] (DRIN Eq. 6), or as the model pools"),
            "found": Column("", "|b1", "the mention stands in its sentence, within the token limit"),
            "truncated": _TRUNCATED,
        },
        reads=("sentence",),
        role="text",
        like={"span": "entity.text.sentence", "sentence": "entity.text.sentence"},
    ),
    "mention.image": Part(
        _IMAGE, reads=("picture",), role="image", from_picture=("vector",), like={"vector": "entity.image.vector"}
    ),
    "mention.joint": Part(
        {
            "mention": Column("P", "feature", "text vector of the mention's string"),
            "sentence": Column("P", "feature", "text vector of the sentence (DRIN Eq. 7)"),
            "mention_sentence": Column("P", "feature", "text vector of `mention [SEP] sentence` (DWE)"),
            "image": Column("P", "feature", "image vector"),
            "present": _PRESENT,
            "truncated": _TRUNCATED,
        },
        reads=("texts", "picture"),
        role="joint",
        from_picture=("image",),
        like={
            "mention": "entity.joint.text",
            "mention_sentence": "entity.joint.text",
            "image": "entity.joint.image",
        },
    ),
    "mention.objects": Part(_OBJECTS, reads=("picture",), role="objects", from_picture=tuple(_OBJECTS)),
    "mention.tokens": Part(
        {
            "first": Column("", "<i4", "row of table token where the mention's sentence begins: its [CLS]"),
            "count": Column("", "<i4", "tokens of the sentence, [CLS] and [SEP] included"),
            "start": Column("", "<i4", "first token under the mention, 0 = [CLS]; -1 = not found"),
            "end": Column("", "<i4", "first token behind the mention; -1 = not found"),
        },
        reads=("places",),
        role="text",
        on_demand=True,
        into="token",
    ),
    "mention.joint_tokens": Part(
        {
            "first": Column("", "<i4", "row of table joint_token where the mention's sentence begins"),
            "count": Column("", "<i4", "tokens of the sentence, start and end tokens included (CLIP: at most 77)"),
        },
        reads=("places",),
        role="joint",
        on_demand=True,
        into="joint_token",
    ),
    "mention.regions": Part(
        {
            "vector": Column("RV", "feature", "last feature map or patch tokens, row by row (ResNet-152: 7 x 7 = 49)"),
            "present": _PRESENT,
        },
        reads=("picture",),
        role="image",
        on_demand=True,
        from_picture=("vector",),
        beside="mention.image",
        like={"vector": "entity.image.vector"},
    ),
    "mention.patches": Part(
        _PATCHES, reads=("picture",), role="joint", on_demand=True, from_picture=("vector",), beside="mention.joint"
    ),
    "mention.crops": Part(
        {
            "vector": Column(
                "KP", "feature", "joint image vector of each detected object cut out, best first; 0 where none"
            ),
            "labels": Column(
                "K", "<i4", "class of each object as in mention.objects (1 = person), 0 where none", (0, LABELS)
            ),
        },
        reads=("picture",),
        role="joint",
        inputs=("mention.objects",),
        on_demand=True,
        from_picture=("vector", "labels"),
        per_object=True,
        like={"vector": "entity.joint.text"},
    ),
    "mention.attributes": Part(
        {
            "scene_probabilities": Column("A", "feature", "of each scene prompt, softmax within its question", _SHARE),
            "scene": Column("P", "feature", "text vector of the sentence of the likeliest scene attributes"),
            "face_probabilities": Column(
                "KF", "feature", "of each face prompt, per person among the objects, or 1 for what a file says", _SHARE
            ),
            "faces": Column("KP", "feature", "text vector of the attribute sentence of each; 0 where none"),
        },
        reads=("faces",),
        inputs=("mention.joint", "mention.crops"),
        on_demand=True,
    ),
    "pair.candidates": Part(
        {
            "candidates": Column("C", "<i4", "rows of the entity table, -1 = padding"),
            "gold": Column("", "<i4", "position of gold among them, -1 = not there, -2 = not labeled"),
            "lexical": Column("C", "<f4", "rapidfuzz token_set_ratio of default-processed strings / 100", (0, 1)),
            "lexical_gold": Column(
                "", "<f4", "the same of gold, be it among the candidates or not; 0 = no gold", (0, 1)
            ),
        },
        reads=("lists",),
    ),
    "pair.alignment": Part(
        {
            "text_to_text": Column("C", "<f4", "cosine of the two sentence vectors (DRIN Eq. 6)", _COSINE),
            "text_to_image": Column(
                "C", "<f4", "joint cosine of sentence and entity picture (DRIN Eq. 7) [^1]; 0 if missing", _COSINE
            ),
            "image_to_text": Column(
                "C", "<f4", "joint cosine of mention picture and entity text (DRIN Eq. 8) [^1]; 0 if missing", _COSINE
            ),
            "image_to_image": Column(
                "C", "<f4", "product of the two object summaries (DRIN Eq. 11); 0 if missing", _COSINE
            ),
        },
        reads=("lists",),
        inputs=(
            "mention.text",
            "mention.joint",
            "mention.objects",
            "entity.text",
            "entity.joint",
            "entity.objects",
        ),
    ),
}


KINDS: dict[PartName, Part] = {PartName(name): part for name, part in _PARTS.items()}


def on_demand() -> list[PartName]:
    """Return the parts that are made only for heads that read them, or where the folder's cache has them already."""
    return [name for name, part in KINDS.items() if part.on_demand]


def reading(source: Source, table: str = "") -> list[PartName]:
    """Return the parts, of a table if one is named, that are made of a source."""
    return [name for name, part in KINDS.items() if source in part.reads and table in ("", name.table)]


def width_axis(column: str) -> str:
    """Return the letter of a column's last axis, "" if it has none."""
    name = ColumnName(column)
    return KINDS[name.part].columns[name.column].axes[-1:]


def neutral(column: str) -> bool:
    """Whether a column holds the neutral picture's vector in rows without a picture."""
    name = ColumnName(column)
    return KINDS[name.part].neutral and name.column in KINDS[name.part].from_picture


def quantizable(part: str) -> list[str]:
    """Return the columns of a part that --storage int8 or int4 stores as codes: an encoder's vectors made on demand.

    Every token, region and object has one of these, and they are most of a cache that has them.
    """
    about = KINDS[PartName(part)]
    vectors = about.on_demand and about.role
    return [name for name, column in about.columns.items() if vectors and column.dtype == "feature"]


def holds(part: str, column: str) -> str:
    """Return what a stored column holds; one that is none of the kind's are the scales of codes."""
    about = KINDS[PartName(part)].columns.get(column)
    return about.holds if about else "scales of the codes, one a vector"


def columns_with(option: str, part: str) -> list[str]:
    """Return the columns of a part that are made only by an extraction with an option."""
    return [name for name, column in KINDS[PartName(part)].columns.items() if column.option == option]


def owner(part: PartName) -> PartName | None:
    """Return the part of entities that a part of mentions copies pictures from, None where it copies from none."""
    other = PartName(f"entity.{part.kind}")
    return other if part.table == "mention" and "picture" in KINDS[part].reads and other in KINDS else None


def demanded(parts: Iterable[str]) -> set[str]:
    """Return the parts on demand that are made for some: those, what they derive or copy from, and where tokens lie."""
    found, new = set(), set(parts)
    while new:
        found |= new
        more = {name for part in new for name in KINDS[PartName(part)].inputs}
        more |= {name for part in new if (name := owner(PartName(part)))}
        more |= {name for name, part in KINDS.items() if part.into in {PartName(other).table for other in new}}
        new = more - found
    return found & set(on_demand())


def mentions_alone(part: PartName) -> bool:
    """Whether only mentions have a kind of part: the first mention owns a picture then, be it an entity's too."""
    return f"entity.{part.kind}" not in KINDS


def passes(parts: Iterable[PartName]) -> list[list[PartName]]:
    """Return parts grouped by what one pass of an encoder makes together."""
    found: dict[str, list[PartName]] = {}
    for part in parts:
        beside = KINDS[part].beside
        found.setdefault(beside if beside in found else part, []).append(part)
    return list(found.values())
