"""The parts of pairs: candidates of each mention, and how each is aligned with it."""

from cache.kinds.columns import COSINE
from cache.kinds.part import Column, Part

PAIRS: dict[str, Part] = {
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
            "text_to_text": Column("C", "<f4", "cosine of the two sentence vectors (DRIN Eq. 6)", COSINE),
            "text_to_image": Column(
                "C", "<f4", "joint cosine of sentence and entity picture (DRIN Eq. 7) [^1]; 0 if missing", COSINE
            ),
            "image_to_text": Column(
                "C", "<f4", "joint cosine of mention picture and entity text (DRIN Eq. 8) [^1]; 0 if missing", COSINE
            ),
            "image_to_image": Column(
                "C", "<f4", "product of the two object summaries (DRIN Eq. 11); 0 if missing", COSINE
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
