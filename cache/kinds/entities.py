"""The parts of entities: what is said of them, and what encoders make of their texts and pictures."""

from cache.kinds.columns import CONTENT_IDS, IMAGE, OBJECTS, PATCHES, PRESENT, TRUNCATED
from cache.kinds.part import Column, Part

ENTITIES: dict[str, Part] = {
    "entity.ids": Part(
        {
            "id": Column("", "S", "the release's id"),
            "name": Column("", "S", "the name that candidates are matched on"),
            **CONTENT_IDS,
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
            "truncated": TRUNCATED,
        },
        reads=("name",),
        role="text",
    ),
    "entity.image": Part(IMAGE, reads=("picture",), role="image", from_picture=("vector",)),
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
            "present": PRESENT,
            "truncated": TRUNCATED,
        },
        reads=("texts", "picture"),
        role="joint",
        from_picture=("image",),
    ),
    "entity.objects": Part(OBJECTS, reads=("picture",), role="objects", from_picture=tuple(OBJECTS)),
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
        PATCHES, reads=("picture",), role="joint", on_demand=True, from_picture=("vector",), beside="entity.joint"
    ),
}
