"""The step of DRIN's authors, taken literally: what `drin_authors` and its algebra are compared with.

Written from the description in train/heads/drin_authors/model.py and in the release's documents; no line is theirs.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.data.batch import Batch
from train.heads.drin.model import absent_edges
from train.heads.drin_authors.model import DrinAuthors

TOKENS, REGIONS, OBJECTS = (128, 64), 49, 3  # of a mention and of an entity text; of a picture; of a mention's picture
ENTITIES, MENTIONS = 2000, 256  # whose inputs stand in memory: 0.6 GB


class Literal(nn.Module):
    """Every vertex and every edge of every layer, with a head's weights; two more matrices update the last edges."""

    def __init__(self, head: DrinAuthors) -> None:
        super().__init__()
        self.head = head
        width = head.config.width
        self.last_edges = nn.ModuleList(nn.Linear(width, width) for _ in range(2))

    def forward(self, batch: Batch) -> Tensor:
        """Return scores (B, C)."""
        head, present = self.head, batch.present[..., None]
        mention = [head.mention_text(batch["mention.text.span"]), head.mention_image(batch["mention.image.vector"])]
        entity = [
            head.entity_text(batch[head.config.vertex_column]),
            head.entity_image(batch["entity.image.vector"]),
        ]
        there = [~mask for mask in absent_edges(batch, head.enabled)]
        edges = self._first_edges(batch, there)
        for layer in head.layers:
            first, second = (
                (layer.edge_mention, layer.edge_entity) if hasattr(layer, "edge_mention") else self.last_edges
            )
            count = present.sum(1)
            received = [
                sum((edges[m][e][..., None] * entity[e] * present).sum(1) / count for e in (0, 1)) for m in (0, 1)
            ]
            sent = [sum(edges[m][e][..., None] * mention[m][:, None] for m in (0, 1)) for e in (0, 1)]
            mapped = [first(vertex)[:, None] for vertex in mention], [second(vertex) for vertex in entity]
            edges = [
                [torch.sigmoid((mapped[0][m] * mapped[1][e]).mean(-1) + edges[m][e]) * there[e][:, m] for e in (0, 1)]
                for m in (0, 1)
            ]
            mention = [self._next(layer, received[m] + mention[m]) for m in (0, 1)]
            entity = [self._next(layer, sent[e] + entity[e]) for e in (0, 1)]
        scores = functional.cosine_similarity(mention[0][:, None], entity[0], dim=-1)
        return scores.masked_fill(~batch.present, -torch.inf)

    def _first_edges(self, batch: Batch, there: list[Tensor]) -> list[list[Tensor]]:
        given = batch["pair.alignment"].clone()
        span, text = batch["mention.text.span"][:, None], batch[self.head.config.edge_column]
        given[..., 0, 0] = functional.cosine_similarity(span, text, dim=-1)
        return [[given[..., m, e] * there[e][:, m] for e in (0, 1)] for m in (0, 1)]

    def _next(self, layer: Any, entering: Tensor) -> Tensor:
        return functional.gelu(layer.norm(layer.vertex(entering)))


class Inputs:
    """Features as the authors store them, of random numbers, and the reading of a batch of them.

    Token states and region maps in float32, each mention's and each candidate's, averaged in every step. With `tokens`
    the entities have them, too (as for WikiMEL); without, one vector each (WikiDiverse).
    """

    def __init__(self, tokens: bool, text: int, image: int) -> None:
        order = torch.Generator().manual_seed(0)

        def numbers(*shape: int) -> Tensor:
            return torch.randn(shape, generator=order)

        self._tokens, self._order = tokens, order
        self._span, self._map = numbers(MENTIONS, TOKENS[0], text), numbers(MENTIONS, REGIONS, image)
        self._objects, self._entity_object = numbers(MENTIONS, OBJECTS, image), numbers(ENTITIES, 1, image)
        self._text = numbers(ENTITIES, *((TOKENS[1],) if tokens else ()), text)
        self._image = numbers(ENTITIES, image)

    def read(self, batch: Batch) -> Batch:
        """Return the batch with such features: gathered, pooled, and the image edge computed from objects."""
        size, candidates = batch.present.shape
        mention = torch.randint(MENTIONS, (size,), generator=self._order)
        entity = torch.randint(ENTITIES, (size, candidates), generator=self._order)
        text = self._text[entity]
        objects = functional.normalize(self._objects[mention], dim=-1)
        others = functional.normalize(self._entity_object[entity], dim=-1)
        edges = batch["pair.alignment"].clone()
        edges[..., 1, 1] = torch.einsum("bkv,bcov->bc", objects, others) / OBJECTS
        found = {
            "mention.text.span": self._span[mention][:, 3:6].mean(1),
            "mention.image.vector": self._map[mention].mean(1),
            "entity.text.sentence": text[:, :, 1:-1].mean(2) if self._tokens else text,
            "entity.image.vector": self._image[entity],
            "pair.alignment": edges,
        }
        return Batch(batch.columns | found, batch.present, batch.gold)
