"""Knobs of ghmfc, and what its three forms are (models.ghmfc, docs/models.md).  No torch here."""

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from common.errors import ConfigError
from common.options import knob
from train.checks import MARGIN, check, check_at_least_one, check_not_negative, check_positive, shown
from train.heads.head_config import HeadConfig

# the forms, switch by switch
FORMS: dict[str, dict[str, Any]] = {
    "original": {
        "blocks": "decoder",
        "padding": "masked",
        "window": 0,
        "phrases": True,
        "contrastive": 1.0,
        "partners": True,
        "entity": "cls",
        "entity_vector": "sentence",
        "ranking_loss": "triplet",
        "width": 512,
        "tokens": 32,
        "dropout": 0.4,
    },
}
FORMS["released"] = FORMS["original"] | {
    "blocks": "released",
    "padding": "pooled",
    "window": 32,
    "partners": False,
    "ranking_loss": "drawn",
    "tokens": 128,
    "dropout": 0.3,
}
FORMS["light"] = FORMS["original"] | {
    "blocks": "light",
    "padding": "pooled",
    "phrases": False,
    "contrastive": 0.0,
    "entity": "linear",
    "entity_vector": "mean",
    "ranking_loss": "candidates",
    "width": 768,
    "tokens": 128,
    "dropout": 0.1,
}


def _by_form(text: str, name: str) -> str:
    """Return the help of a switch that `ghmfc` decides: "... (default: 512; light 768)"."""
    first, *others = (form[name] for form in FORMS.values())
    differ = [f"{form} {shown(own)}" for form, own in zip(list(FORMS)[1:], others, strict=True) if own != first]
    return f"{text} (default: {'; '.join([shown(first), *differ])})"


@dataclass(frozen=True)
class GhmfcConfig(HeadConfig):
    """GHMFC (Wang et al. 2022), its released code, or the version that DRIN compares with; widths are the cache's.

    Switches that are None are decided by `ghmfc`: read them from `resolved`.
    """

    text_width: int = 768
    image_width: int = 2048
    ghmfc: Literal["original", "released", "light"] = knob(
        "original",
        "GHMFC as published, as its released code computes it, or DRIN's lighter version; decides what is not given of "
        "the rest",
        panel="ghmfc",
    )
    blocks: Literal["decoder", "released", "light"] | None = knob(
        None,
        _by_form("layers of co-attention: as published, as in the released code, or DRIN's", "blocks"),
        panel="ghmfc",
    )
    padding: Literal["masked", "pooled"] | None = knob(
        None,
        _by_form("pooled: texts are filled up to --tokens, the zeros are part of phrases, maxima and means", "padding"),
        panel="ghmfc",
    )
    window: int | None = knob(
        None, _by_form("tokens behind [CLS] that co-attention reads, 0 = all, [CLS] too", "window"), panel="ghmfc"
    )
    phrases: bool | None = knob(None, _by_form("a second level, of 1-, 2- and 3-grams", "phrases"), panel="ghmfc")
    contrastive: float | None = knob(
        None, _by_form("weight of the loss between text and picture", "contrastive"), panel="ghmfc"
    )
    partners: bool | None = knob(None, _by_form("in the denominator of that loss, too", "partners"), panel="ghmfc")
    entity: Literal["cls", "linear"] | None = knob(
        None, _by_form("the entity's vector, or a linear layer of it", "entity"), panel="ghmfc"
    )
    entity_vector: Literal["mean", "sentence", "pooler"] | None = knob(
        None,
        _by_form("of an entity's text", "entity_vector"),
        panel="ghmfc",
    )
    ranking_loss: Literal["triplet", "drawn", "margin", "candidates"] | None = knob(
        None,
        _by_form(
            "gold against each other candidate; drawn: against one of them; margin: as drin's; candidates: as "
            "drin_authors'",
            "ranking_loss",
        ),
        panel="ghmfc",
    )
    hard_negatives: float = knob(
        0.95, "drawn: share of negatives that have the most similar names; the others are random", panel="ghmfc"
    )
    width: int | None = knob(None, _by_form("D, width of the stacks", "width"), panel="ghmfc")
    tokens: int | None = knob(None, _by_form("tokens read of a sentence", "tokens"), panel="ghmfc")
    attention_layers: int = knob(2, "attention layers of each stack (GHMFC); light has no stacks", panel="ghmfc")
    attention_heads: int = knob(8, "attention heads of each layer (GHMFC)", panel="ghmfc")
    dropout: float | None = knob(None, _by_form("dropout rate in training", "dropout"), panel="ghmfc")
    triplet_margin: float = knob(0.5, "margin of gold's score over each other candidate's (GHMFC)", panel="ghmfc")
    margin: float = knob(0.25, MARGIN, panel="ghmfc")
    contrastive_temperature: float = knob(
        0.6, "temperature of the loss between text and picture (GHMFC)", panel="ghmfc"
    )
    mention_token: bool = knob(
        False,
        "the mention's own vector is one more token: GHMFC reads the sentence alone, so that all mentions of one "
        "sentence are one vector",
        panel="ghmfc",
    )

    def __post_init__(self) -> None:
        if (decided := self.resolved) is not self:
            return  # checked when it was made
        check_at_least_one(decided, "width", "tokens", "attention_layers", "attention_heads")
        check_not_negative(self, "margin")
        check_not_negative(self, "triplet_margin")
        check(self, ("window",), "0 (all tokens) or more", lambda value: value >= 0)
        check(self, ("dropout",), "0 or more, and less than 1", lambda value: 0 <= value < 1)
        check(self, ("hard_negatives",), "from 0 to 1", lambda value: 0 <= value <= 1)
        check_not_negative(self, "contrastive")
        check_positive(self, "contrastive_temperature")
        lacking = {"--phrases": self.phrases, "--contrastive": self.contrastive, "--window": self.window}
        if self.blocks == "light" and (given := [flag for flag, value in lacking.items() if value]):
            raise ConfigError(
                f"{given[0]} is no part of DRIN's light version of ghmfc: leave it out, or choose --blocks"
            )

    @property
    def resolved(self) -> Self:
        """The config with every switch decided."""
        chosen = {name: value for name, value in FORMS[self.ghmfc].items() if getattr(self, name) is None}
        return replace(self, **chosen) if chosen else self

    @property
    def more(self) -> tuple[str, ...]:
        """The columns of schema.CHOICES that the switches ask for."""
        entity = (f"entity.text.{self.resolved.entity_vector}",)
        return (*entity, "mention.text.span") if self.mention_token else entity

    @property
    def tokens_read(self) -> int:
        """How many tokens of a sentence are read."""
        return self.resolved.tokens or 0

    @property
    def learns_without_gold(self) -> bool:
        """Whether mentions whose gold was not retrieved are trained on, too."""
        return self.resolved.ranking_loss == "candidates"
