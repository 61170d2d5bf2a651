"""Links as answers: no path of this machine in them, and pictures by their address on this server."""

from typing import Any
from urllib.parse import quote

from link.records import EntityCard, Link
from serve.schema import Answer, Entity, Ranked

LONGEST_DESCRIPTION = 500  # characters, of a candidate


def of_link(link: Link) -> Answer:
    """Return an answer."""
    told = link.as_json()
    candidates = [
        Ranked(
            **_entity(found.entity, LONGEST_DESCRIPTION),
            score=found.score,
            probability=found.probability,
            evidence=dict(found.evidence),
        )
        for found in link.candidates
    ]
    return Answer(**{name: told[name] for name in Answer.model_fields if name != "candidates"}, candidates=candidates)


def of_entity(card: EntityCard) -> Entity:
    """Return an entity."""
    return Entity(**_entity(card, None))


def picture_address(id: str) -> str:
    """Return where this server has an entity's picture."""
    return f"/picture/{quote(id, safe='')}"


def _entity(card: EntityCard, longest: int | None) -> dict[str, Any]:
    description = card.description
    if longest is not None and description is not None and len(description) > longest:
        description = description[: longest - 1] + "…"
    picture = None if card.picture is None else picture_address(card.id)
    return {"id": card.id, "name": card.name, "description": description, "picture": picture, "new": card.new}
