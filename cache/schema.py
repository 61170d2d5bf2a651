"""The contract in one place: tables, parts, columns, reason codes, and which columns each head reads.

FORMAT.md is its text for people; tests/cache/test_format.py holds the two together.
Axes: N mentions, E entities, C candidates, K objects, R regions, T tokens of all distinct sentences, D text width,
V image width, P CLIP width, A scene and F face attributes.
"""

from dataclasses import dataclass

VERSION = 1

TABLES = ("entity", "mention", "token", "clip_token", "pair")  # in the order in which their parts are computed
SEQUENCES = {"token": "mention.tokens", "clip_token": "mention.clip_tokens"}  # table: the part that points into it
OPTIONAL = tuple(SEQUENCES)  # tables of parts that are made on demand

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

UNLABELED = -2  # stands for gold where nobody has said what a mention means; it counts in no accuracy
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
        "description": Column(
            "P", "feature", "CLIP text vector of the second, longer text (DWE+); of `name: text` without one"
        ),
        "image": Column("P", "feature", "CLIP image vector"),
        "present": _PRESENT,
        "truncated": _TRUNCATED,
    },
    "entity.objects": _OBJECTS,
    "token.bert": {"vector": Column("D", "feature", "BERT's last layer: the tokens of each distinct sentence")},
    "clip_token.clip": {"vector": Column("P", "feature", "CLIP's text states, projected as its text vector is")},
    "mention.ids": {
        "id": Column("", "S", "mention id"),
        "caption": Column("", "S", "id of the caption that the mention stands in"),
        "surface": Column("", "S", "the mention's string"),
        "type": Column("", "S", "the release's mention type, empty if none"),
        "splits": Column("", "|u1", "bit mask: 1 train, 2 valid, 4 test"),
        "gold": Column("", "<i4", "row of the gold entity, -1 = nil or not in the table, -2 = not labeled"),
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
    "mention.tokens": {
        "first": Column("", "<i4", "row of table token where the mention's sentence begins: its [CLS]"),
        "count": Column("", "<i4", "tokens of the sentence, [CLS] and [SEP] included"),
        "start": Column("", "<i4", "first token under the mention, 0 = [CLS]; -1 = not found"),
        "end": Column("", "<i4", "first token behind the mention; -1 = not found"),
    },
    "mention.clip_tokens": {
        "first": Column("", "<i4", "row of table clip_token where the mention's sentence begins"),
        "count": Column("", "<i4", "CLIP tokens of the sentence, start and end tokens included, at most 77"),
    },
    "mention.regions": {
        "image": Column("RV", "feature", "ResNet-152's last feature map, row by row (7 x 7 = 49 regions)"),
        "present": _PRESENT,
    },
    "mention.crops": {
        "clip": Column("KP", "feature", "CLIP vector of each detected object cut out, best first; 0 where none"),
        "labels": Column("K", "<i4", "COCO category of each object (1 = person), 0 where none"),
    },
    "mention.attributes": {
        "scene_probabilities": Column("A", "feature", "of each scene prompt, softmax within its question"),
        "scene": Column("P", "feature", "CLIP text vector of the sentence of the likeliest scene attributes"),
        "face_probabilities": Column(
            "KF", "feature", "of each face prompt, per person among the objects, or 1 for what a file says"
        ),
        "faces": Column("KP", "feature", "CLIP text vector of the attribute sentence of each; 0 where none"),
    },
    "pair.candidates": {
        "candidates": Column("C", "<i4", "rows of the entity table, -1 = padding"),
        "gold": Column("", "<i4", "position of gold among them, -1 = not there, -2 = not labeled"),
        "lexical": Column("C", "<f4", "rapidfuzz token_set_ratio of default-processed strings / 100"),
        "lexical_gold": Column("", "<f4", "the same of gold, be it among the candidates or not; 0 = no gold"),
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

ALWAYS = ("mention.ids.splits", "pair.candidates.candidates", "pair.candidates.gold", "pair.candidates.lexical")

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
}

# Columns that a head reads only where one of its switches asks for them.
CHOICES: dict[str, tuple[str, ...]] = {
    "drin_authors": ("entity.bert.text", "entity.bert.mean", "entity.bert.pooler"),
    "dwe": ("entity.clip.description",),
    "dwe_authors": ("entity.clip.description",),
    "ghmfc": ("mention.bert.span", "entity.bert.text", "entity.bert.mean", "entity.bert.pooler"),
}
