"""DRIN as its authors' code computes it (starreeze/drin; written from a description, no line is theirs).

    vertices  h' = gelu(LayerNorm(W_h (r + h) + b_h)), r: what a vertex receives; a mention the mean over its candidates
    edges     a' = sigmoid(mean_d((W_u h_m + b_u) (W_v h_e + b_v)) + a), both from the vertices before

LayerNorm bends every entity vertex, so unlike in drin.py they are computed from the second layer on. Exact algebra
saves the rest:
    W_h (a_1 h_1 + a_2 h_2 + h) = a_1 (W_h h_1) + a_2 (W_h h_2) + W_h h, with h_1, h_2 the two mention vertices
    u . (W_v h_e + b_v) = (W_v^T u) . h_e + u . b_v, with u = W_u h_m + b_u
    at first h = P x + c, and W_h h = (W_h P) x + W_h c: where candidates are many, h itself is never computed
Of the last layer only text vertices are computed, and no edge.

Loss: the mean over mentions i of the mean over the candidates c of all mentions j of the batch, i's gold among them, of
max(S_jc - S+_i + margin, 0); S+_i = 0 where gold was not retrieved.

The leak: gold is one more candidate of the graph, but not of the ranking. Where it was retrieved the copy has gold's
features and edges, so it stays equal to gold in every layer: it is gold counted twice. Where it was not, the batch
holds it in a place of its own (train.evaluating.leak).

Other than in the code: a list that is shorter than the others is not filled up with an entity without text (theirs
takes part in graph and loss), and a vertex whose picture is missing has no edges (theirs has a default picture).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from cache.edges import EDGES
from train.data.batch import VERTICES, Batch
from train.heads.base import Head
from train.heads.drin.model import BOTH, TEXT, absent_edges
from train.heads.drin_authors.config import DrinAuthorsConfig
from train.heads.drin_authors.vertices import Vertices
from train.layers.losses import batch_candidate_margins, candidate_margins, margin_ranking
from train.layers.products import cosine_scores

HALF_UNITS = 2.0**24  # a float16 is a multiple of 2^-24
MIXER = -7046029254386353131  # 2^64 / golden ratio, as int64: spreads what lies in the low bits


@dataclass(frozen=True)
class State:
    """What enters a layer.  mention (B, 2, D); edges by entity modality.

    Edges are (B, 2, C); with two directions (B, 4, C), first those by which mention vertices weigh what they receive.
    Where the last layer reads the first row alone, it is the only one.
    """

    mention: Tensor
    text: Vertices
    image: Vertices
    to_text: Tensor
    to_image: Tensor


class Layer(nn.Module):
    """One convolution: `vertex` is W_h, `norm` its LayerNorm, `edge_mention` W_u, `edge_entity` W_v.

    The last layer and static edges have no edge update; tied weights have no `edge_entity`.
    """

    def __init__(self, config: DrinAuthorsConfig, last: bool) -> None:
        super().__init__()
        self.vertex = nn.Linear(config.width, config.width, bias=config.biases)
        if config.vertex_norm:
            self.norm = nn.LayerNorm(config.width)
        if not last and not config.static:
            self.edge_mention = nn.Linear(config.width, config.width, bias=config.biases)
            if not config.tied:
                self.edge_entity = nn.Linear(config.width, config.width, bias=config.biases)


class DrinAuthors(Head):
    """The head.  `model(batch)` -> scores (B, C), cosines; padding is -inf."""

    def __init__(self, config: DrinAuthorsConfig) -> None:
        super().__init__()
        self.config = config
        self.mention_text = nn.Linear(config.text_width, config.width, bias=config.biases)
        self.mention_image = nn.Linear(config.image_width, config.width, bias=config.biases)
        self.entity_text = nn.Linear(config.text_width, config.width, bias=config.biases)
        self.entity_image = nn.Linear(config.image_width, config.width, bias=config.biases)
        self.layers = nn.ModuleList(Layer(config, last=i == config.layers - 1) for i in range(config.layers))
        enabled = torch.tensor([edge in config.edges for edge in EDGES]).reshape(2, 2)
        self.register_buffer("enabled", enabled, persistent=False)

    def forward(self, batch: Batch, projected: Tensor | None = None) -> Tensor:
        """Return the cosine of the final text vertices of the mention and each candidate."""
        graph = replace(batch, present=batch.columns.get(VERTICES, batch.present)) if self.config.leak_gold else batch
        absent = absent_edges(graph, self.enabled)
        if self.config.edge_directions == "both":
            absent = tuple(torch.cat([mask, mask], 1) for mask in absent)
        state = self._enter(batch, absent)
        share = self._share(batch, graph.present.to(state.mention.dtype))
        for position, layer in enumerate(self.layers[:-1], start=2):
            read = TEXT if position == self.config.layers else slice(None)  # rows of image edges
            state = self._step(layer, state, share, absent, read)
        return self._match(state, share).masked_fill(~batch.present, -torch.inf)

    def loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """Return the ranking loss of the authors or of the paper."""
        ranking = batch_candidate_margins if self.config.negatives == "batch" else candidate_margins
        if self.config.ranking_loss == "margin":
            ranking = margin_ranking
        return ranking(scores, batch.gold, batch.present, self.config.margin)

    def _enter(self, batch: Batch, absent: tuple[Tensor, Tensor]) -> State:
        """Return what enters the first layer."""
        span = batch["mention.text.span"]
        mention = torch.stack([self.mention_text(span), self.mention_image(batch["mention.image.vector"])], 1)
        edges = batch["pair.alignment"]
        if self.config.text_to_text == "span":
            fit = cosine_scores(batch[self.config.edge_column], span).to(edges.dtype)
            edges = torch.cat([fit[..., None], edges.flatten(2)[..., 1:]], -1).unflatten(-1, (2, 2))
        rows = edges.to(mention.dtype).movedim(1, 3)  # (B, mention modality, entity modality, C)
        if self.config.edge_directions == "both":
            rows = torch.cat([rows, rows], 1)
        to_text, to_image = (rows[:, :, e].masked_fill(mask, 0) for e, mask in enumerate(absent))
        text = self._vertices(self.entity_text, batch[self.config.vertex_column])
        image = self._vertices(self.entity_image, batch["entity.image.vector"])
        return State(mention, text, image, to_text, to_image)

    def _vertices(self, entry: nn.Linear, features: Tensor) -> Vertices:
        """Return the first vertices, computed unless W_h P costs less: it does with more candidates than features."""
        count, candidates, width = features.shape
        if self.config.vertex_residual == "inside" and count * candidates > width:
            return Vertices(features, entry)
        return Vertices(entry(features))

    def _share(self, batch: Batch, shares: Tensor) -> Tensor:
        """Return how much of a candidate reaches a mention vertex, (B, 1, C); `shares` is 1 for a vertex, else 0."""
        if self.config.leak_gold or self.config.leak_control:
            place = some_place(batch) if self.config.leak_control else batch.gold
            copies = torch.zeros_like(shares).scatter(1, place.clamp(min=0)[:, None], 1.0)
            shares = shares + copies * batch.present * (place >= 0)[:, None]
        if self.config.aggregation == "mean":
            shares = shares / shares.sum(1, keepdim=True).clamp(min=1)
        return shares[:, None]

    def _step(self, layer: Layer, state: State, share: Tensor, absent: tuple[Tensor, Tensor], read: slice) -> State:
        """Return what enters the next layer."""
        if self.config.static:
            return self._convolve(layer, state, share)
        if self.config.edge_from == "current":
            affinities, state = self._affinities(layer, state, read)
            new = self._convolve(layer, state, share)
        else:
            affinities, new = self._affinities(layer, self._convolve(layer, state, share), read)
        to_text, to_image = (
            self._edges(affinity, before, mask)
            for affinity, before, mask in zip(affinities, (state.to_text, state.to_image), absent, strict=True)
        )
        return replace(new, to_text=to_text, to_image=to_image)

    def _affinities(self, layer: Layer, state: State, read: slice) -> tuple[tuple[Tensor, Tensor], State]:
        """Return how well mention and entity vertices fit, to text and to image (of that the rows `read`)."""
        first, second = layer.edge_mention, layer.edge_mention if self.config.tied else layer.edge_entity
        ways = [(first, second), (second, first)][: 1 if self.config.edge_directions == "one" else 2]
        scale = 1 / self.config.width if self.config.affinity == "mean" else 1
        mapped = [mine(state.mention) * scale for mine, _ in ways]
        queries = torch.cat([own @ other.weight for own, (_, other) in zip(mapped, ways, strict=True)], 1)
        to_text, text = state.text.dots(queries)
        to_image, image = state.image.dots(queries[:, read])
        if self.config.biases:
            more = torch.cat([own @ other.bias for own, (_, other) in zip(mapped, ways, strict=True)], 1)[..., None]
            to_text, to_image = to_text + more, to_image + more[:, read]
        return (to_text, to_image), replace(state, text=text, image=image)

    def _edges(self, affinity: Tensor, before: Tensor, absent: Tensor) -> Tensor:
        """Return the next edges."""
        count = affinity.shape[1]
        if self.config.edge_residual == "inside":
            found = torch.sigmoid(affinity + before[:, :count])
        else:
            found = torch.sigmoid(affinity) + before[:, :count]
        return found.masked_fill(absent[:, :count], 0)

    def _convolve(self, layer: Layer, state: State, share: Tensor) -> State:
        """Return the next vertices."""
        mention, sent, state = self._mentions(layer, state, share, BOTH)
        text = self._entities(layer, state.text, state.to_text, sent)
        image = self._entities(layer, state.image, state.to_image, sent)
        return replace(state, mention=mention, text=text, image=image)

    def _mentions(self, layer: Layer, state: State, share: Tensor, modalities: slice) -> tuple[Tensor, Tensor, State]:
        """Return the next vertices of those mention modalities, what both now send (B, 2, D), and the state."""
        texts, text = state.text.sums(state.to_text[:, modalities] * share)
        pictures, image = state.image.sums(state.to_image[:, modalities] * share)
        own, received = state.mention[:, modalities], texts + pictures
        inside = self.config.vertex_residual == "inside"
        entering = torch.cat([received + own if inside else received, state.mention], 1)
        mapped, sent = functional.linear(entering, layer.vertex.weight).split([own.shape[1], 2], 1)
        new = _bend(layer, _plus(mapped, layer.vertex.bias))
        return new if inside else new + own, sent, replace(state, text=text, image=image)

    def _entities(self, layer: Layer, vertices: Vertices, edges: Tensor, sent: Tensor) -> Vertices:
        """Return the next vertices of an entity modality."""
        weights = edges[:, -2:].mT
        if self.config.vertex_residual == "inside":
            return Vertices(_bend(layer, torch.baddbmm(vertices.through(layer.vertex), weights, sent)))
        return Vertices(_bend(layer, _plus(weights @ sent, layer.vertex.bias)) + vertices.values)

    def _match(self, state: State, share: Tensor) -> Tensor:
        """Return the scores; of the last layer only the text vertices are computed."""
        mention, sent, state = self._mentions(self.layers[-1], state, share, TEXT)
        text = self._entities(self.layers[-1], state.text, state.to_text, sent)
        return cosine_scores(text.values, mention[:, 0])


def some_place(batch: Batch) -> Tensor:
    """Return the place of one present candidate per mention, (B,): a draw from its text vector, always the same."""
    numbers = (batch["mention.text.span"] * HALF_UNITS).long()
    factors = 2 * torch.arange(numbers.shape[1], device=numbers.device) + 1
    drawn = ((numbers * factors).sum(1) * MIXER >> 33) % batch.present.sum(1).clamp(min=1)
    return (batch.present.cumsum(1) > drawn[:, None]).long().argmax(1)


def _bend(layer: Layer, mapped: Tensor) -> Tensor:
    """Return gelu(LayerNorm(mapped)), as wide as `mapped`: on CUDA autocast's norm is a float32."""
    return functional.gelu(layer.norm(mapped).to(mapped.dtype) if hasattr(layer, "norm") else mapped)


def _plus(mapped: Tensor, bias: Tensor | None) -> Tensor:
    return mapped if bias is None else mapped + bias.to(mapped.dtype)
