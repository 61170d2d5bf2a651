"""The counts of a manifest's coverage as people read them: their own names are part of the cache id, and stay."""

from collections.abc import Mapping

LABELS = {
    "gold is nil": "mentions without an entity in the knowledge base (nil)",
    "gold not among candidates": "mentions with gold not among their candidates",
    "spans not found": "mentions not found in their sentence",
    "spans beyond the token limit": "mentions beyond the text encoder's token limit",
    "spans found more than once": "mentions found more than once in their sentence",
    "spans moved to where the mention stands": "mentions with corrected offsets",
    "candidates that are nil": "candidates that name no entity (nil)",
    "entities that are nil": "entities that are called nil, left out",
    "entity texts cut by text": "entity texts longer than the text encoder's limit, cut",
    "entity texts cut by joint": "entity texts longer than the joint encoder's limit, cut",
    "mention texts cut by text": "sentences longer than the text encoder's limit, cut",
    "mention texts cut by joint": "sentences longer than the joint encoder's limit, cut",
}


def rows(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return what was counted and how often, without what did not occur."""
    return [(LABELS.get(name, name), f"{count:,}") for name, count in counts.items() if count]
