"""MEL-HI (Zhang et al. 2021) as DRIN compares with it: a picture is read only if it seems to belong to its text.

    v   = W image   if cos([CLS], W image) > t and cos(image, image of a candidate) > t for any of them, else 0
    x_i = [token i; span mean; v]
    h   = [LSTM(tokens before the mention); LSTM(tokens behind it)], their last states, one LSTM for both
    score = cos(Linear(h), Linear([entity text; W entity image]))

W has no bias, so a missing picture is 0.  The comparison with t passes no gradient to W, which learns through x and the
entities.  The left context begins with [CLS], the right one ends with [SEP]; both are read forward.  A mention that was
not found, or stands behind the bound on tokens, has a left context only.

The mention's vector depends on its candidates' pictures, so this is no head of two towers.

Most of the work is the LSTM's.  Both contexts are one pass over the sentence, which forgets at the first token behind
the mention; the share of span and picture in the gates is the same at every token and multiplied once.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.data.batch import Batch
from train.heads.base import Head
from train.heads.mel_hi.config import MelHiConfig
from train.layers.losses import margin_ranking
from train.layers.products import SMALLEST_NORM, cosine_scores

GATES = 4  # in, forget, cell, out


class Lstm(nn.Module):
    """An LSTM (Hochreiter and Schmidhuber 1997): `Lstm(width)(gates (B, T, 4 H), fresh (B, T))` -> states (B, T, H).

    It takes the inputs' share of the gates ready-made, forgets where it is told to, and runs under torch.func.vmap:
    nn.LSTM does none of the three.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.recurrent = nn.Linear(width, GATES * width, bias=False)

    def forward(self, gates: Tensor, fresh: Tensor) -> Tensor:
        """Return the state after each step; before a step where `fresh` is true, all before is forgotten."""
        state = memory = gates.new_zeros(*gates.shape[:-2], self.recurrent.in_features)
        states = []
        for given, forget in zip(gates.unbind(-2), fresh[..., None].unbind(-2), strict=True):
            state, memory = state.masked_fill(forget, 0), memory.masked_fill(forget, 0)
            enter, keep, cell, leave = (given + self.recurrent(state)).chunk(GATES, -1)
            memory = keep.sigmoid() * memory + enter.sigmoid() * cell.tanh()
            state = leave.sigmoid() * memory.tanh()
            states.append(state)
        return torch.stack(states, -2)


class MelHi(Head):
    """The head.  `model(batch)` -> scores (B, C), cosines; padding is -inf."""

    projects = ("entity.text.sentence",)  # the entities' pictures are read by the gate, too

    def __init__(self, config: MelHiConfig) -> None:
        super().__init__()
        self.config = config
        state = config.lstm_width or 3 * config.text_width
        self.image = nn.Linear(config.image_width, config.text_width, bias=False)
        self.token = nn.Linear(config.text_width, GATES * state, bias=False)
        self.constant = nn.Linear(2 * config.text_width, GATES * state)
        self.lstm = Lstm(state)
        self.mention = nn.Linear(2 * state, config.width)
        self.entity = nn.Linear(2 * config.text_width, config.width)

    def project(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Return the text's share of entity vectors, (..., W) -> (..., D)."""
        texts, _ = self.entity.weight.split(self.config.text_width, -1)
        return functional.linear(columns["entity.text.sentence"], texts, self.entity.bias)

    def forward(self, batch: Batch, projected: Tensor | None = None) -> Tensor:
        """Return the cosine of the mention and each candidate; `projected` as in Drin.forward."""
        texts = self.project(batch.columns) if projected is None else projected
        _, images = self.entity.weight.split(self.config.text_width, -1)
        entities = texts + functional.linear(self.image(batch["entity.image.vector"]), images)
        return cosine_scores(entities, self._mention(batch)).masked_fill(~batch.present, -torch.inf)

    def loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """Return the margin ranking loss (DRIN Eq. 17)."""
        return margin_ranking(scores, batch.gold, batch.present, self.config.margin)

    def _mention(self, batch: Batch) -> Tensor:
        """Return the mention vectors, (B, D)."""
        constant = torch.cat([batch["mention.text.span"], self._picture(batch)], -1)
        gates = self.token(batch["token.text.vector"]) + self.constant(constant)[..., None, :]
        begin, behind, count = _borders(batch)
        steps = torch.arange(gates.shape[-2], device=gates.device)
        states = self.lstm(gates, steps == behind[..., None])
        right = _after(states, count).masked_fill((behind >= count)[..., None], 0)
        return self.mention(torch.cat([_after(states, begin), right], -1))

    def _picture(self, batch: Batch) -> Tensor:
        """Return W image where the picture is let in, else 0, (B, text width)."""
        own = batch["mention.image.vector"]
        picture = self.image(own)
        with_text = functional.cosine_similarity(batch["mention.text.sentence"], picture, -1, SMALLEST_NORM)
        alike = (cosine_scores(batch["entity.image.vector"], own) > self.config.threshold) & batch.present
        used = (with_text > self.config.threshold) & alike.any(-1)
        return picture.masked_fill(~used[..., None], 0)


def _borders(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Return where the mention begins, the first token behind it, and the number of tokens, (B,) each."""
    count = batch["token.text.present"].sum(-1)
    found = batch["mention.tokens.start"] >= 0
    borders = (batch[f"mention.tokens.{end}"].where(found, count) for end in ("start", "end"))
    begin, behind = (torch.minimum(border, count) for border in borders)
    return begin, behind, count


def _after(states: Tensor, steps: Tensor) -> Tensor:
    """Return the state after so many steps, zeros after none.  states (B, T, H), steps (B,) -> (B, H)."""
    position = (steps.long() - 1).clamp(min=0)[..., None, None].expand(*steps.shape, 1, states.shape[-1])
    return states.gather(-2, position).squeeze(-2).masked_fill((steps == 0)[..., None], 0)
