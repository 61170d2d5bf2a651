"""The contract in one place: tables, parts, columns, reason codes, and which columns each head reads.

FORMAT.md is its text for people; tests/test_format.py holds the two together.
Axes: N mentions, E entities, C candidates, K objects, D text width, V image width, P CLIP width.
"""

from dataclasses import dataclass

VERSION = 1

TABLES = ("entity", "mention", "pair")  # the order in which parts are computed; pair has the rows of mention

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

EDGES = ("text_to_text", "text_to_image", "image_to_text", "image_to_image")  # mention side first


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a part: its axes after the row axis, its stored type and what it holds.

    `dtype` is little endian numpy; "S" is fixed-length UTF-8 of the part's own length; "feature" is float16
    unless the extraction asked for float32.
    """

    axes: str
    dtype: str
    holds: str


_PRESENT = Column("", "|b1", "the picture is there and readable; false: the row holds the neutral image's vector")
_TRUNCATED = Column("", "|b1", "a text of this row was longer than the encoder's token limit and was cut")
_OBJECTS = {
    "boxes": Column("K4", "<f4", "x1 y1 x2 y2 in pixels of the decoded image, best score first, 0 padded"),
    "scores": Column("K", "<f4", "detector confidence, 0 where there is no object"),
    "labels": Column("K", "<i4", "COCO category, 0 where there is no object"),
    "summary": Column(
        "V", "feature", "sum_i s_i u_i / sum_i s_i over unit object vectors u_i (DRIN Eq. 11); 0 if none"
    ),
}
_RESNET = {"image": Column("V", "feature", "pooled ResNet-152 vector (DRIN Eq. 4, 5)"), "present": _PRESENT}
_CONTENT = {
    "content_text": Column("*", "|u1", "sha256 of the texts that the row's encoders read, 32 bytes"),
    "content_image": Column("*", "|u1", "sha256 of the picture's file, 32 bytes; 0 where there is no file"),
    "image_status": Column("", "|u1", "reason code, an index into IMAGE_STATUS"),
}

PARTS: dict[str, dict[str, Column]] = {
    "entity.ids": {
        "id": Column("", "S", "the release's id"),
        "name": Column("", "S", "the name that candidates are matched on"),
        **_CONTENT,
    },
    "entity.bert": {
        "text": Column("D", "feature", "[CLS] of `name: text` (DRIN Eq. 3)"),
        "mean": Column("D", "feature", "mean of tokens 1..n-2"),
        "pooler": Column("D", "feature", "BERT's pooler output"),
        "truncated": _TRUNCATED,
    },
    "entity.resnet": _RESNET,
    "entity.clip": {
        "text": Column("P", "feature", "CLIP text vector of `name: text`"),
        "description": Column("P", "feature", "CLIP text vector of the second, longer text, where the release has one"),
        "image": Column("P", "feature", "CLIP image vector"),
        "present": _PRESENT,
        "truncated": _TRUNCATED,
    },
    "entity.objects": _OBJECTS,
    "mention.ids": {
        "id": Column("", "S", "mention id"),
        "caption": Column("", "S", "id of the caption that the mention stands in"),
        "surface": Column("", "S", "the mention's string"),
        "type": Column("", "S", "the release's mention type, empty if none"),
        "splits": Column("", "|u1", "bit mask: 1 train, 2 valid, 4 test"),
        "gold": Column("", "<i4", "row of the gold entity, -1 = nil or not in the table"),
        **_CONTENT,
    },
    "mention.bert": {
        "span": Column("D", "feature", "mean of the tokens under the mention (DRIN Eq. 2); of all tokens if not found"),
        "cls": Column("D", "feature", "[CLS] of the sentence (DRIN Eq. 6)"),
        "found": Column("", "|b1", "the mention stands in its sentence, within the token limit"),
        "truncated": _TRUNCATED,
    },
    "mention.resnet": _RESNET,
    "mention.clip": {
        "mention": Column("P", "feature", "CLIP text vector of the mention's string"),
        "sentence": Column("P", "feature", "CLIP text vector of the sentence (DRIN Eq. 7)"),
        "mention_sentence": Column("P", "feature", "CLIP text vector of `mention [SEP] sentence` (DWE)"),
        "image": Column("P", "feature", "CLIP image vector"),
        "present": _PRESENT,
        "truncated": _TRUNCATED,
    },
    "mention.objects": _OBJECTS,
    "pair.candidates": {
        "candidates": Column("C", "<i4", "rows of the entity table, -1 = padding"),
        "gold": Column("", "<i4", "position of gold among them, -1 = not there"),
        "lexical": Column("C", "<f4", "rapidfuzz token_set_ratio of default-processed strings / 100"),
    },
    "pair.alignment": {
        "text_to_text": Column("C", "<f4", "cosine of the two BERT [CLS] vectors (DRIN Eq. 6)"),
        "text_to_image": Column("C", "<f4", "CLIP cosine of sentence and entity picture (DRIN Eq. 7); 0 if missing"),
        "image_to_text": Column(
            "C", "<f4", "CLIP cosine of mention picture and entity text (DRIN Eq. 8); 0 if missing"
        ),
        "image_to_image": Column("C", "<f4", "product of the two object summaries (DRIN Eq. 11); 0 if missing"),
    },
}

_ALWAYS = ("mention.ids.splits", "pair.candidates.candidates", "pair.candidates.gold", "pair.candidates.lexical")

_EDGES = tuple(f"pair.alignment.{edge}" for edge in EDGES)
_IMAGES = ("mention.resnet.image", "mention.resnet.present", "entity.resnet.image", "entity.resnet.present")
_CLIP = (
    "mention.clip.mention_sentence",
    "mention.clip.image",
    "mention.clip.present",
    "entity.clip.text",
    "entity.clip.image",
    "entity.clip.present",
)

# The columns each head loads, nothing else; `melcache synth --for HEAD` writes just these.
READS: dict[str, tuple[str, ...]] = {
    "drin": (*_ALWAYS, "mention.bert.span", "entity.bert.text", *_IMAGES, *_EDGES),
    "lexical": _ALWAYS,
    "prior": (*_ALWAYS, "mention.ids.surface", "mention.ids.gold"),
    "bert": (*_ALWAYS, "mention.bert.span", "entity.bert.text"),
    "jmel": (*_ALWAYS, "mention.bert.cls", "entity.bert.text", *_IMAGES),
    "clip": (*_ALWAYS, *_CLIP),
    "clip_linear": (*_ALWAYS, *_CLIP),
}


def split_column(name: str) -> tuple[str, str]:
    """Return the part and the column of a full name: "entity.bert.text" -> ("entity.bert", "text")."""
    part, _, column = name.rpartition(".")
    return part, column
