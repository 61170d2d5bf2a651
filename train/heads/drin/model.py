"""DRIN: a dynamic graph convolution over one mention and its candidates (DRIN Eq. 2-5, 12-15, 17).

Vertices: mention text and image; text and image of each candidate. The graph is bipartite, so there is no n x n
matrix, and exact algebra keeps each weight matrix away from the C candidates:

    Eq. 12  sum_j A_ij W_h h_j = W_h sum_j A_ij h_j
    Eq. 13  (W_1 h_m) . (W_2 h_e) = (W_2^T W_1 h_m) . h_e
    Eq. 5   an entity image vertex is W x + s: x its picture's feature, s what the residuals of Eq. 12 added. Only dot
            products and weighted sums read it, so it is never computed:
            (W x + s) . q = x . (W^T q) + s . q   and   sum a (W x + s) = W (sum a x) + sum a s

Only the entity text is projected for every candidate, because the norm in Eq. 14 needs it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from cache.edges import EDGES
from train.data.batch import Batch
from train.heads.base import Head
from train.heads.drin.config import DrinConfig
from train.layers.losses import batch_margin_ranking, counted, margin_ranking, wide
from train.layers.products import SMALLEST_NORM, Dots, Sums, cosine_scores

ACTIVATIONS = {
    "gelu": functional.gelu,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "identity": lambda x: x,
}
TEXT, BOTH = slice(0, 1), slice(0, 2)  # mention modalities


@dataclass(frozen=True)
class Images:
    """Entity image vertices W x + s that are never computed.  feature (B, C, V), weight (D, V), added (B, C, D)."""

    feature: Tensor
    weight: Tensor
    added: Tensor | None = None

    def dots(self, queries: Tensor) -> tuple[Tensor, "Images"]:
        """Return the dot product of every query with every vertex, (B, k, D) -> (B, k, C), and the vertices."""
        found = (queries @ self.weight) @ self.feature.mT
        if self.added is None:
            return found, self
        more, added = Dots.apply(self.added, queries)
        return found + more, replace(self, added=added)

    def sums(self, weights: Tensor) -> tuple[Tensor, "Images"]:
        """Return weighted sums of the vertices, (B, k, C) -> (B, k, D), and the vertices."""
        found = functional.linear(weights @ self.feature, self.weight)
        if self.added is None:
            return found, self
        more, added = Sums.apply(self.added, weights)
        return found + more, replace(self, added=added)

    def plus(self, change: Tensor) -> "Images":
        """Return the vertices with `change` (B, C, D) added."""
        return replace(self, added=change if self.added is None else self.added + change)


@dataclass(frozen=True)
class State:
    """What enters a layer.  mention (B, 2, D), text (B, C, D); edges by entity modality, (B, 2, C) each.

    `to_image` is (B, 1, C) where its mention image row has no reader (the last layer).
    """

    mention: Tensor
    text: Tensor
    images: Images
    to_text: Tensor
    to_image: Tensor


class Layer(nn.Module):
    """One convolution: `vertex` is W_h, `edge_mention` W_1, `edge_entity` W_2.

    The last layer and static edges have no edge update; tied weights have no `edge_entity`.
    """

    def __init__(self, config: DrinConfig, last: bool) -> None:
        super().__init__()
        self.vertex = nn.Linear(config.width, config.width, bias=False)
        if not last and not config.static:
            self.edge_mention = nn.Linear(config.width, config.width, bias=False)
            if not config.tied:
                self.edge_entity = nn.Linear(config.width, config.width, bias=False)


class Drin(Head):
    """The head.  `model(batch)` -> scores (B, C), cosines; padding is -inf."""

    projects = ("entity.text.sentence",)  # columns that `project` alone reads

    def __init__(self, config: DrinConfig) -> None:
        super().__init__()
        self.config = config
        self.mention_text = nn.Linear(config.text_width, config.width, bias=False)
        self.mention_image = nn.Linear(config.image_width, config.width, bias=False)
        self.entity_text = nn.Linear(config.text_width, config.width, bias=False)
        self.entity_image = nn.Linear(config.image_width, config.width, bias=False)
        self.layers = nn.ModuleList(Layer(config, last=i == config.layers - 1) for i in range(config.layers))
        enabled = torch.tensor([edge in config.edges for edge in EDGES]).reshape(2, 2)
        self.register_buffer("enabled", enabled, persistent=False)

    def project(self, columns: Mapping[str, Tensor]) -> Tensor:
        """Return what of entities depends on no mention: of columns (..., W) vectors (..., D)."""
        return self.entity_text(columns["entity.text.sentence"])

    def forward(self, batch: Batch, projected: Tensor | None = None) -> Tensor:
        """Return the cosine of the final text vertices of the mention and each candidate (Eq. 14).

        `projected` (B, C, D) stands for `project` where that was computed once for a whole split.
        """
        text, mention = self._ends(batch, self.project(batch.columns) if projected is None else projected)
        return cosine_scores(text, mention).masked_fill(~batch.present, -torch.inf)

    def loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """Return the margin ranking loss (Eq. 17) over the mentions' own candidates."""
        return self._reduced(margin_ranking(scores, batch.gold, batch.present, self.config.margin), batch)

    def objective(self, batch: Batch) -> Tensor:
        """Return the margin ranking loss, whose other candidates are the mention's own or the batch's."""
        if self.config.negatives == "own":
            return super().objective(batch)
        text, mention = self._ends(batch, self.project(batch.columns))
        scores, totals = cosine_scores(text, mention), _totals(text, mention, batch.present)
        return self._reduced(batch_margin_ranking(scores, totals, batch.gold, batch.present, self.config.margin), batch)

    def edge_weights(self, batch: Batch) -> list[Tensor]:
        """Return the edges that enter each layer, (B, C, 2, 2) like pair.alignment of Batch (DRIN Figure 5).

        The image-to-image edge of a later layer is NaN in the last one: nothing reads it, so it is not computed.
        """
        found = []
        for state in self._states(batch, self.project(batch.columns)):
            unread = (0, 0, 0, 2 - state.to_image.shape[1])
            to_image = functional.pad(state.to_image, unread, value=torch.nan)
            found.append(torch.stack([state.to_text, to_image], -1).transpose(1, 2))
        return found

    def _states(self, batch: Batch, text: Tensor) -> Iterator[State]:
        """Yield what enters each layer."""
        absent = absent_edges(batch, self.enabled)  # where M of Eq. 13 is 0
        edges = batch["pair.alignment"].to(text.dtype)
        mention = torch.stack(
            [self.mention_text(batch["mention.text.span"]), self.mention_image(batch["mention.image.vector"])], 1
        )
        images = Images(batch["entity.image.vector"], self.entity_image.weight)
        a_text, a_image = (edges[..., e].mT.masked_fill(mask, 0) for e, mask in enumerate(absent))
        yield (state := State(mention, text, images, a_text, a_image))
        for position, layer in enumerate(self.layers[:-1], start=2):
            new = self._convolve(layer, state)
            if not self.config.static:
                read = TEXT if position == self.config.layers else BOTH
                new = self._update(layer, state, new, absent, read)
            yield (state := new)

    def _gather(self, state: State, modalities: slice) -> tuple[Tensor, State]:
        """Return what those mention vertices sum up, (B, k, D), and the state."""
        texts, text = Sums.apply(state.text, state.to_text[:, modalities])
        pictures, images = state.images.sums(state.to_image[:, modalities])
        return texts + pictures, replace(state, text=text, images=images)

    def _convolve(self, layer: Layer, state: State) -> State:
        """Return the next vertices (Eq. 12)."""
        activate = ACTIVATIONS[self.config.vertex_activation]
        gathered, state = self._gather(state, BOTH)
        received, sent = layer.vertex(torch.cat([gathered, state.mention], 1)).split(2, 1)
        return replace(
            state,
            mention=activate(received) + state.mention,
            text=activate(state.to_text.mT @ sent) + state.text,
            images=state.images.plus(activate(state.to_image.mT @ sent)),
        )

    def _update(self, layer: Layer, old: State, new: State, absent: tuple[Tensor, Tensor], read: slice) -> State:
        """Return `new` with its next edges (Eq. 13), of the image edges those from the mention modalities in `read`."""
        activate = ACTIVATIONS[self.config.edge_activation]
        second = layer.edge_mention if self.config.tied else layer.edge_entity
        source = new if self.config.edge_from == "next" else old
        queries = layer.edge_mention(source.mention) @ second.weight
        to_text, text = Dots.apply(source.text, queries)
        to_image, images = source.images.dots(queries[:, read])
        if source is new:
            new = replace(new, text=text, images=images)
        edges = []
        for affinity, before, mask in ((to_text, new.to_text, absent[0]), (to_image, new.to_image, absent[1])):
            rows = slice(0, affinity.shape[1])
            if self.config.edge_residual == "outside":
                updated = activate(affinity) + before[:, rows]
            else:
                updated = activate(affinity + before[:, rows])
            edges.append(updated.masked_fill(mask[:, rows], 0))
        return replace(new, to_text=edges[0], to_image=edges[1])

    def _reduced(self, loss: Tensor, batch: Batch) -> Tensor:
        return loss if self.config.reduction == "mean" else loss * counted(batch.gold, batch.present).sum()

    def _ends(self, batch: Batch, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return the final text vertices of candidates (B, C, D) and mentions (B, D); of the last layer no others."""
        *_, state = self._states(batch, text)
        activate = ACTIVATIONS[self.config.vertex_activation]
        gathered, state = self._gather(state, TEXT)
        received, sent = self.layers[-1].vertex(torch.cat([gathered, state.mention], 1)).split([1, 2], 1)
        mention = activate(received) + state.mention[:, TEXT]
        return activate(state.to_text.mT @ sent) + state.text, mention[:, 0]


def _totals(entities: Tensor, mentions: Tensor, present: Tensor) -> Tensor:
    """Return the sum of each mention's cosines with all entities of the batch, (B,): one with the sum of directions."""
    with torch.autocast(entities.device.type, enabled=False):
        entities, mentions = (functional.normalize(wide(x), dim=-1, eps=SMALLEST_NORM) for x in (entities, mentions))
        return mentions @ entities.masked_fill(~present[..., None], 0).sum((0, 1))


def absent_edges(batch: Batch, enabled: Tensor) -> tuple[Tensor, Tensor]:
    """Return where there is no edge to entity text, and none to entity image, (B, 2, C) each.  enabled (2, 2)."""
    picture = batch["mention.image.present"]
    mention = torch.stack([torch.ones_like(picture), picture], 1)[:, :, None]
    entity = (batch.present, batch.present & batch["entity.image.present"])
    there = (mention & there[:, None] & enabled[:, e, None] for e, there in enumerate(entity))
    return tuple(~mask for mask in there)
