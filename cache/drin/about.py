"""What the manifest of an imported cache says: where its numbers come from, and what they are not."""

from typing import Any

from cache.drin.lists import Lists
from cache.drin.release import Release
from cache.fingerprint import digest

SOURCE = "DRIN's preprocessed arrays"
WARNINGS = (
    "imported from DRIN's arrays: vectors and CLIP edges are theirs; their default picture for a missing one is not "
    "told from a real one",
    "imported from DRIN's arrays: no string scores in them; whatever is called lexical here is 0 and ranks by chance",
)
POOLER = (
    "imported from DRIN's arrays: of an entity's text they have BERT's pooler output alone; text_to_text is its cosine "
    "with the mention's span"
)
STAND_IN = "imported from DRIN's arrays: entity.text.sentence is BERT's pooler output, not [CLS] (--pooler-as-text)"


def about(
    name: str, release: Release, listed: Lists, hashes: dict[str, str], *, pooler_as_text: bool
) -> dict[str, Any]:
    """Return what the manifest says about the dataset."""
    like = "WikiMEL" if release.by_entity else "WikiDiverse"
    golds = listed.gold >= 0
    warnings = [*WARNINGS, *([] if release.by_entity else [POOLER]), *([STAND_IN] if pooler_as_text else [])]
    return {
        "dataset": {
            "name": name,
            "content": digest(hashes),
            "licence": f"not stated in the arrays: that of {like} and of DRIN's release",
            "source": SOURCE,
        },
        "tables": {"entity": len(listed.ids), "mention": release.mentions, "pair": release.mentions},
        "candidates": release.sizes["K"] - 1,
        "splits": release.counts,
        "coverage": {
            "mentions": release.mentions,
            "entities": len(listed.ids),
            "gold not among candidates": int((~golds).sum()),
            "places of candidates that repeat another": int((listed.candidates < 0).sum()),
        },
        "warnings": warnings,
    }
