"""The parts of mentions: what is said of them, and what encoders make of their sentences and pictures."""

from cache.kinds.columns import CONTENT_IDS, IMAGE, LABELS, OBJECTS, PATCHES, PRESENT, SHARE, TRUNCATED
from cache.kinds.part import Column, Part

MENTIONS: dict[str, Part] = {
    "mention.ids": Part(
        {
            "id": Column("", "S", "mention id"),
            "caption": Column("", "S", "id of the caption that the mention stands in"),
            "surface": Column("", "S", "the mention's string"),
            "type": Column("", "S", "the release's mention type, empty if none"),
            "splits": Column("", "|u1", "bit mask: 1 train, 2 valid, 4 test", (0, 7)),
            "gold": Column("", "<i4", "row of the gold entity, -1 = nil or not in the table, -2 = not labeled"),
            **CONTENT_IDS,
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
            "truncated": TRUNCATED,
        },
        reads=("sentence",),
        role="text",
        like={"span": "entity.text.sentence", "sentence": "entity.text.sentence"},
    ),
    "mention.image": Part(
        IMAGE, reads=("picture",), role="image", from_picture=("vector",), like={"vector": "entity.image.vector"}
    ),
    "mention.joint": Part(
        {
            "mention": Column("P", "feature", "text vector of the mention's string"),
            "sentence": Column("P", "feature", "text vector of the sentence (DRIN Eq. 7)"),
            "mention_sentence": Column("P", "feature", "text vector of `mention [SEP] sentence` (DWE)"),
            "image": Column("P", "feature", "image vector"),
            "present": PRESENT,
            "truncated": TRUNCATED,
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
    "mention.objects": Part(OBJECTS, reads=("picture",), role="objects", from_picture=tuple(OBJECTS)),
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
            "present": PRESENT,
        },
        reads=("picture",),
        role="image",
        on_demand=True,
        from_picture=("vector",),
        beside="mention.image",
        like={"vector": "entity.image.vector"},
    ),
    "mention.patches": Part(
        PATCHES, reads=("picture",), role="joint", on_demand=True, from_picture=("vector",), beside="mention.joint"
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
            "scene_probabilities": Column("A", "feature", "of each scene prompt, softmax within its question", SHARE),
            "scene": Column("P", "feature", "text vector of the sentence of the likeliest scene attributes"),
            "face_probabilities": Column(
                "KF", "feature", "of each face prompt, per person among the objects, or 1 for what a file says", SHARE
            ),
            "faces": Column("KP", "feature", "text vector of the attribute sentence of each; 0 where none"),
        },
        reads=("faces",),
        inputs=("mention.joint", "mention.crops"),
        on_demand=True,
    ),
}
