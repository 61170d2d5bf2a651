"""The tables of tokens: a row for each token of each distinct text, into which rows of other tables point."""

from cache.kinds.columns import STATES
from cache.kinds.part import Column, Part

TOKENS: dict[str, Part] = {
    "entity_joint_token.states": Part(STATES, reads=("sentences",), role="joint", on_demand=True),
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
    "joint_token.states": Part(STATES, reads=("sentences",), role="joint", on_demand=True, beside="joint_token.joint"),
}
