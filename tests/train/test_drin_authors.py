"""DRIN as its authors' code computes it, against loops and a literal transcription written from the description alone.

The description: a vertex becomes gelu(LayerNorm(W_h (what it receives + itself) + b)), a mention vertex receives per
entity modality the mean over its candidates of edge times vertex, an entity vertex the sum over the mention's two; an
edge becomes sigmoid(mean over D of (W_u mention + b) (W_v entity + b) + edge) of the vertices before; gold, copied or
from outside the list, is one more candidate of the graph but not of the ranking. The loss compares the gold score of
each mention, 0 without gold in the list, with the scores of all candidates of all mentions.
"""

import functools
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from typer.testing import CliRunner

import melcache
from bench.training.authors import Literal
from cache.edges import EDGES
from cache.writing.synth import Synthetic, write
from common.errors import ConfigError
from train import loop, results
from train.cli import app
from train.config import TrainConfig
from train.data.batch import VERTICES, Batch, make_batch
from train.data.table import Table
from train.heads.drin.config import DrinConfig
from train.heads.drin_authors.config import DrinAuthorsConfig
from train.heads.drin_authors.model import some_place
from train.heads.models import MODELS, build
from train.optimizing.adam import Adam, Schedule
from train.optimizing.stacked_seeds import Stack
from train.optimizing.step import Step
from train.prepare import data_of
from train.processes import World

CPU = torch.device("cpu")
CHOICES = {
    "vertex_norm": (True, False),
    "vertex_residual": ("inside", "outside"),
    "aggregation": ("mean", "sum"),
    "biases": (True, False),
    "affinity": ("mean", "sum"),
    "edge_from": ("current", "next"),
    "edge_residual": ("inside", "outside"),
    "edge_directions": ("one", "both"),
    "tied": (False, True),
    "text_to_text": ("span", "cached"),
}
PAPER = {
    "vertex_norm": False,
    "vertex_residual": "outside",
    "aggregation": "sum",
    "biases": False,
    "affinity": "sum",
    "edge_from": "next",
    "edge_residual": "outside",
    "text_to_text": "cached",
    "entity_vector": "sentence",
    "ranking_loss": "margin",
}
LEAKS = ({}, {"leak_gold": True}, {"leak_control": True})
FLIPPED = [{name: values[1]} for name, values in CHOICES.items()]
FLIPPED += [{"static": True}, {"edges": (EDGES[0], EDGES[3])}, {"edges": EDGES[1:]}]
FLIPPED += [{"negatives": "own"}, {"ranking_loss": "margin"}]
WIDTHS = ((5, 6), (30, 6), (5, 30), (30, 30))  # with 15 candidate places, features of 5 and 6 are not projected


def arrays(rng, text=5, image=6, mentions=3, candidates=5):
    """Random inputs with padding, missing pictures, and a mention (1) whose gold was not retrieved.

    Its gold stands in the last place, which holds no candidate of any mention.
    """
    present = np.ones((mentions, candidates), bool)
    present[0, -2:], present[1, -3:], present[:, -1] = False, False, False
    vertices = present.copy()
    vertices[1, -1] = True
    return {
        "mention_text": rng.normal(size=(mentions, text)),
        "mention_image": rng.normal(size=(mentions, image)),
        "mention_image_present": np.arange(mentions) != 2,
        "entity_text": rng.normal(size=(mentions, candidates, text)),
        "entity_image": rng.normal(size=(mentions, candidates, image)),
        "entity_image_present": rng.uniform(size=(mentions, candidates)) > 0.3,
        "edges": rng.uniform(-1, 1, (mentions, candidates, 2, 2)),
        "present": present,
        "vertices": vertices,
        "gold": np.resize([0, -1, 2], mentions),
    }


def batch_of(data):
    """The batch of a table that holds gold in a place of its own where the list lacks it."""
    given = {name: values for name, values in data.items() if name != "vertices"}
    batch = make_batch(given | {"present": data["vertices"]})
    columns = batch.columns | {VERTICES: torch.from_numpy(data["vertices"].copy())}
    return replace(batch, columns=columns, present=torch.from_numpy(data["present"].copy()))


def build_head(seed=0, text=5, image=6, width=3, **switches):
    config = DrinAuthorsConfig(text, image, width, **{"entity_vector": "sentence"} | switches)
    torch.manual_seed(seed)
    model = MODELS["drin_authors"](config).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or ".norm." in name:  # 0 and 1 would hide what they do
                parameter += 0.3 * torch.randn_like(parameter)
    return config, model


def appended(config, data, b):
    """The candidates of a mention's graph, the one more last."""
    real = [c for c in range(data["present"].shape[1]) if data["present"][b, c]]
    if config.leak_gold:
        outside = np.flatnonzero(data["vertices"][b] & ~data["present"][b])
        return [*real, data["gold"][b] if data["gold"][b] >= 0 else outside[0]]
    return [*real, int(some_place(batch_of(data))[b])] if config.leak_control else real


def there(config, data, b, c, m, e):
    """Whether mention modality m and entity modality e of candidate c are connected."""
    return (
        EDGES[2 * m + e] in config.edges
        and (m == 0 or data["mention_image_present"][b])
        and (e == 0 or data["entity_image_present"][b, c])
    )


gelu = np.vectorize(lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))))


def loops(config, weights, data):
    """Scores (B, C) of the description, one vertex and one edge at a time."""

    def linear(name, x):
        return weights[f"{name}.weight"] @ x + weights.get(f"{name}.bias", 0)

    def cosine(x, y):  # gelu without a norm can shrink a vector to nothing: then as torch's cosine
        return x @ y / (max(np.linalg.norm(x), 1e-8) * max(np.linalg.norm(y), 1e-8))

    def bend(layer, x):
        if config.vertex_norm:
            scale, shift = weights[f"layers.{layer}.norm.weight"], weights[f"layers.{layer}.norm.bias"]
            x = (x - x.mean()) / np.sqrt(x.var() + 1e-5) * scale + shift
        return gelu(x)

    def new_vertex(layer, received, own):
        if config.vertex_residual == "inside":
            return bend(layer, linear(f"layers.{layer}.vertex", received + own))
        return bend(layer, linear(f"layers.{layer}.vertex", received)) + own

    def new_edge(layer, receiver, sender, before):
        second = "edge_mention" if config.tied else "edge_entity"
        product = linear(f"layers.{layer}.edge_mention", receiver) * linear(f"layers.{layer}.{second}", sender)
        fit = product.mean() if config.affinity == "mean" else product.sum()
        if config.edge_residual == "inside":
            return 1 / (1 + np.exp(-fit - before))
        return 1 / (1 + np.exp(-fit)) + before

    scores = np.full(data["present"].shape, -np.inf)
    for b in range(len(scores)):
        graph = appended(config, data, b)
        mention = [linear("mention_text", data["mention_text"][b]), linear("mention_image", data["mention_image"][b])]
        entity = {
            (i, e): linear(f"entity_{kind}", data[f"entity_{kind}"][b, c])
            for i, c in enumerate(graph)
            for e, kind in enumerate(("text", "image"))
        }
        pairs = [
            (i, m, e) for i, c in enumerate(graph) for m in (0, 1) for e in (0, 1) if there(config, data, b, c, m, e)
        ]
        to_mention = {(i, m, e): data["edges"][b, graph[i], m, e] for i, m, e in pairs}
        if config.text_to_text == "span":
            for i, m, e in pairs:
                if (m, e) == (0, 0):
                    to_mention[i, 0, 0] = cosine(data["mention_text"][b], data["entity_text"][b, graph[i]])
        to_entity = dict(to_mention)
        for layer in range(config.layers):
            new_mention = []
            for m in (0, 1):
                received = np.zeros(config.width)
                for e in (0, 1):
                    kind = sum(
                        (to_mention[p] * entity[p[0], e] for p in pairs if p[1:] == (m, e)), np.zeros(config.width)
                    )
                    received += kind / len(graph) if config.aggregation == "mean" else kind
                new_mention.append(new_vertex(layer, received, mention[m]))
            new_entity = {}
            for i, e in entity:
                received = sum(
                    (to_entity[p] * mention[p[1]] for p in pairs if (p[0], p[2]) == (i, e)), np.zeros(config.width)
                )
                new_entity[i, e] = new_vertex(layer, received, entity[i, e])
            if layer < config.layers - 1 and not config.static:
                ms, es = (new_mention, new_entity) if config.edge_from == "next" else (mention, entity)
                mine = {(i, m, e): new_edge(layer, ms[m], es[i, e], to_mention[i, m, e]) for i, m, e in pairs}
                if config.edge_directions == "both":
                    to_entity = {(i, m, e): new_edge(layer, es[i, e], ms[m], to_entity[i, m, e]) for i, m, e in pairs}
                else:
                    to_entity = mine
                to_mention = mine
            mention, entity = new_mention, new_entity
        for i in range(data["present"][b].sum()):  # the copy is not ranked
            scores[b, graph[i]] = cosine(mention[0], entity[i, 0])
    return scores


def transcribed(config, weights, data):
    """Scores (B, C) again, in torch for their gradients: every vertex and edge of the graph computed as described."""

    def linear(name, x):
        return functional.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def next_vertices(layer, received, own):
        inside = config.vertex_residual == "inside"
        x = linear(f"layers.{layer}.vertex", received + own if inside else received)
        if config.vertex_norm:
            norm = weights[f"layers.{layer}.norm.weight"], weights[f"layers.{layer}.norm.bias"]
            x = functional.layer_norm(x, (config.width,), *norm)
        return functional.gelu(x) if inside else functional.gelu(x) + own

    def next_edges(layer, receivers, senders, before, mask):
        second = "edge_mention" if config.tied else "edge_entity"
        product = linear(f"layers.{layer}.edge_mention", receivers) * linear(f"layers.{layer}.{second}", senders)
        fit = product.mean(-1) if config.affinity == "mean" else product.sum(-1)
        inside = config.edge_residual == "inside"
        return mask * (torch.sigmoid(fit + before) if inside else torch.sigmoid(fit) + before)

    rows = []
    for b in range(len(data["gold"])):
        graph = appended(config, data, b)
        given = {name: torch.from_numpy(data[name][b]) for name in ("mention_text", "mention_image", "edges")}
        given |= {name: torch.from_numpy(data[name][b][graph]) for name in ("entity_text", "entity_image")}
        mention = torch.stack([linear(f"mention_{kind}", given[f"mention_{kind}"]) for kind in ("text", "image")])
        entity = torch.stack([linear(f"entity_{kind}", given[f"entity_{kind}"]) for kind in ("text", "image")], 1)
        mask = torch.tensor(
            [[[there(config, data, b, c, m, e) for e in (0, 1)] for m in (0, 1)] for c in graph]
        ).double()
        edges = given["edges"][graph]  # (n, mention modality, entity modality)
        if config.text_to_text == "span":
            edges[:, 0, 0] = functional.cosine_similarity(given["mention_text"], given["entity_text"], dim=-1)
        to_mention = to_entity = edges * mask
        for layer in range(config.layers):
            kinds = (to_mention[..., None] * entity[:, None]).sum(0)  # (mention modality, entity modality, D)
            received = (kinds / len(graph) if config.aggregation == "mean" else kinds).sum(1)
            sent = (to_entity[..., None] * mention[:, None]).sum(1)  # (n, entity modality, D)
            new_mention, new_entity = next_vertices(layer, received, mention), next_vertices(layer, sent, entity)
            if layer < config.layers - 1 and not config.static:
                ms, es = (new_mention, new_entity) if config.edge_from == "next" else (mention, entity)
                ms, es = ms[None, :, None], es[:, None]
                mine = next_edges(layer, ms, es, to_mention, mask)
                both = config.edge_directions == "both"
                to_entity = next_edges(layer, es, ms, to_entity, mask) if both else mine
                to_mention = mine
            mention, entity = new_mention, new_entity
        own = data["present"][b].sum()
        found = torch.full(data["present"][b].shape, -torch.inf, dtype=torch.float64)
        found[graph[:own]] = functional.cosine_similarity(mention[:1], entity[:own, 0])
        rows.append(found)
    return torch.stack(rows)


def loss_by_loops(config, scores, gold, present):
    """How far gold's score is above each candidate's, of the batch or of the mention, or above its others' mean."""
    listed = [(b, c) for b, c in np.ndindex(*present.shape) if present[b, c]]
    terms = []
    for b in sorted({b for b, _ in listed}):
        own = [pair for pair in listed if pair[0] == b]
        compared, place = listed if config.negatives == "batch" else own, (b, int(gold[b]))
        if config.ranking_loss == "candidates":
            positive = scores[place] if gold[b] >= 0 else 0
            terms.append(sum(max(scores[pair] - positive + config.margin, 0) for pair in compared) / len(compared))
        elif gold[b] >= 0 and len(own) > 1:
            others = [scores[pair] for pair in own if pair != place]
            terms.append(max(sum(others) / len(others) - scores[place] + config.margin, 0))
    return sum(terms) / len(terms)


def settings():
    """128 settings of the ten switches in which any four of them have all their sixteen combinations, equally often."""
    for a, b, c, d, e, f, g in itertools.product((0, 1), repeat=7):
        chosen = (a, b, c, d, e, f, g, a ^ b ^ c ^ d, c ^ d ^ e ^ f, a ^ c ^ e ^ g)
        yield [values[place] for values, place in zip(CHOICES.values(), chosen, strict=True)]


def test_settings_hold_every_combination_of_four_switches():
    for four in itertools.combinations(range(len(CHOICES)), 4):
        assert len({tuple(setting[i] for i in four) for setting in settings()}) == 16


def test_scores_equal_loops_under_every_switch_setting():
    rng = np.random.default_rng(1)
    for number, values in enumerate(settings()):
        text, image = WIDTHS[rng.integers(len(WIDTHS))]
        data = arrays(rng, text, image)
        switches = dict(zip(CHOICES, values, strict=True)) | LEAKS[rng.integers(3)] | {"layers": rng.integers(1, 4)}
        config, model = build_head(number, text, image, **switches)
        found = model(batch_of(data)).detach().numpy()
        weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
        expected, real = loops(config, weights, data), data["present"]
        np.testing.assert_allclose(found[real], expected[real], rtol=0, atol=1e-9, err_msg=str(switches))
        assert np.all(np.isneginf(found[~real]))


@pytest.mark.parametrize("base", [{}, PAPER], ids=["authors", "paper"])
@pytest.mark.parametrize("leak", LEAKS, ids=["no leak", "leak", "control"])
def test_scores_and_gradients_equal_a_literal_transcription(base, leak):
    for number, (layers, flipped) in enumerate(itertools.product((1, 2, 3), [{}, *FLIPPED])):
        widths = WIDTHS[3 * (number % 2)]
        data = arrays(np.random.default_rng(11), *widths)
        config, model = build_head(2, *widths, layers=layers, margin=1.0, **base | leak | flipped)
        weights = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
        batch = batch_of(data)
        scores, expected = model(batch), transcribed(config, weights, data)
        torch.testing.assert_close(scores, expected, rtol=0, atol=1e-12)
        loss, expected_loss = model.loss(scores, batch), loss_by_loops(config, expected, data["gold"], data["present"])
        torch.testing.assert_close(loss, expected_loss, rtol=0, atol=1e-12)
        loss.backward()
        expected_loss.backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad, weights[name].grad, rtol=0, atol=1e-12, msg=f"{name} {flipped}")


def test_the_benchmarks_literal_step_has_the_same_scores_and_gradients():
    for layers, widths in itertools.product((1, 2, 3), WIDTHS):
        _, model = build_head(17, *widths, layers=layers)
        literal = Literal(model).double()
        batch = batch_of(arrays(np.random.default_rng(17), *widths))
        found = []
        for scores in (model(batch), literal(batch)):
            model.zero_grad()
            model.loss(scores, batch).backward()
            found.append([scores.detach(), *(parameter.grad for parameter in model.parameters())])
        torch.testing.assert_close(*found, rtol=0, atol=1e-12)


def test_with_the_papers_switches_it_is_drin():
    data = arrays(np.random.default_rng(3))
    for layers, tied in itertools.product((1, 2, 3), (False, True)):
        _, model = build_head(4, layers=layers, tied=tied, **PAPER)
        paper = MODELS["drin"](DrinConfig(5, 6, 3, layers=layers, tied=tied)).double()
        paper.load_state_dict(model.state_dict())
        batch = batch_of(data)
        torch.testing.assert_close(model(batch), paper(batch), rtol=0, atol=1e-12)
        torch.testing.assert_close(model.loss(model(batch), batch), paper.loss(paper(batch), batch), rtol=0, atol=1e-12)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_gradient_reaches_every_parameter(layers):
    # the edge update of the last layer is read by nothing: theirs has those two matrices, here they do not exist
    _, model = build_head(5, layers=layers)
    batch = batch_of(arrays(np.random.default_rng(5)))
    model.loss(model(batch), batch).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())
    edges = {name.split(".")[1] for name, _ in model.named_parameters() if ".edge_" in name}
    assert edges == {str(layer) for layer in range(layers - 1)}


def test_parameter_names_are_the_public_ones():
    _, model = build_head()
    linear = ["mention_text", "mention_image", "entity_text", "entity_image"]
    linear += ["layers.0.vertex", "layers.0.norm", "layers.0.edge_mention", "layers.0.edge_entity"]
    linear += ["layers.1.vertex", "layers.1.norm"]
    assert set(model.state_dict()) == {f"{name}.{kind}" for name in linear for kind in ("weight", "bias")}
    _, bare = build_head(biases=False, vertex_norm=False, tied=True)
    assert set(bare.state_dict()) == {f"{n}.weight" for n in linear if "norm" not in n and "edge_entity" not in n}


@pytest.mark.parametrize("widths", WIDTHS[::3], ids=str)
@pytest.mark.parametrize("leak", LEAKS, ids=["no leak", "leak", "control"])
def test_padding_and_missing_pictures_reach_no_score_and_no_gradient(widths, leak):
    clean = arrays(np.random.default_rng(6), *widths)
    dirty = {name: value.copy() for name, value in clean.items()}
    used = clean["vertices" if leak.get("leak_gold") else "present"]
    for name in ("entity_text", "entity_image", "edges"):
        dirty[name][~used] = 7.0
    found = []
    for data in (clean, dirty):
        _, model = build_head(6, *widths, layers=3, **leak)
        batch = batch_of(clean)
        if data is dirty:  # make_batch would clear them
            for name, column in (("entity.text.sentence", "entity_text"), ("pair.alignment", "edges")):
                batch.columns[name] = torch.from_numpy(data[column])
            gone = ~(torch.from_numpy(used) & batch["entity.image.present"])
            batch.columns["entity.image.vector"] = torch.from_numpy(dirty["entity_image"]).masked_fill(
                ~gone[..., None], 0
            )
            batch.columns["entity.image.vector"] += torch.from_numpy(clean["entity_image"]).masked_fill(
                gone[..., None], 0
            )
            batch.columns["mention.image.vector"][2] = 7.0
        scores = model(batch)
        model.loss(scores, batch).backward()
        found.append((scores.detach(), [parameter.grad for parameter in model.parameters()]))
    (scores, gradients), (dirty_scores, dirty_gradients) = found
    assert torch.equal(scores, dirty_scores)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    for one, other in zip(gradients, dirty_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-15)


def test_scores_do_not_depend_on_the_other_mentions_of_a_batch():
    data = arrays(np.random.default_rng(7))
    _, model = build_head(7, layers=3)
    alone = [model(batch_of({name: value[i : i + 1] for name, value in data.items()})) for i in range(3)]
    torch.testing.assert_close(torch.cat(alone), model(batch_of(data)), rtol=0, atol=1e-12)


def test_the_entity_vector_is_the_column_that_was_chosen():
    batch = batch_of(arrays(np.random.default_rng(8)))
    chosen, found = batch.columns.pop("entity.text.sentence"), []
    for name in ("mean", "pooler", "text"):
        config, model = build_head(8, entity_vector=name, text_to_text="cached")
        assert config.more == (f"entity.text.{name}",)
        other = {f"entity.text.{n}": torch.full_like(chosen, 9.0) for n in ("mean", "pooler", "text") if n != name}
        found.append(model(replace(batch, columns=batch.columns | other | {f"entity.text.{name}": chosen})))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_the_text_edge_reads_cls_or_pooler_whatever_the_vertices_are():
    # theirs: WikiMEL's vertices are means of tokens, but its edge compares the span with [CLS]
    assert DrinAuthorsConfig().more == ("entity.text.mean", "entity.text.sentence")
    assert DrinAuthorsConfig(entity_vector="pooler").more == ("entity.text.pooler",)
    batch = batch_of(arrays(np.random.default_rng(8)))
    span, cls = batch["mention.text.span"], batch["entity.text.sentence"]
    batch.columns["entity.text.mean"] = torch.randn_like(cls)
    _, model = build_head(8, entity_vector="mean")
    _, cached = build_head(8, entity_vector="mean", text_to_text="cached")
    edges = batch["pair.alignment"].clone()
    edges[..., 0, 0] = functional.cosine_similarity(span[:, None], cls, dim=-1)
    given = replace(batch, columns=batch.columns | {"pair.alignment": edges})
    torch.testing.assert_close(model(batch), cached(given), rtol=0, atol=1e-12)


def test_float32_agrees_with_float64_at_full_width():
    data = arrays(np.random.default_rng(9), 40, 60)
    _, model = build_head(9, 40, 60, width=768)
    expected = model(batch_of(data))
    single = batch_of({n: v.astype(np.float32) if v.dtype == np.float64 else v for n, v in data.items()})
    found = model.float()(single)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("leak", LEAKS, ids=["no leak", "leak", "control"])
def test_stacked_seeds_have_the_losses_they_have_alone(leak):
    data = arrays(np.random.default_rng(10), 30, 5)
    batch = batch_of({n: v.astype(np.float32) if v.dtype == np.float64 else v for n, v in data.items()})
    config = DrinAuthorsConfig(30, 5, 8, entity_vector="sentence", layers=3, **leak)

    def new():
        return build("drin_authors", config, with_lexical=False)

    alone = [Stack(new, (seed,), CPU).losses(batch).item() for seed in (0, 1)]
    twice = batch.like([torch.stack([tensor, tensor]) for tensor in batch.tensors()])
    torch.testing.assert_close(Stack(new, (0, 1), CPU).losses(twice), torch.tensor(alone))


@pytest.mark.parametrize("switches", [{}, PAPER], ids=["authors", "paper"])
def test_a_step_in_bfloat16_runs_and_has_about_the_same_loss(switches):
    data = arrays(np.random.default_rng(12), 30, 5)
    batch = batch_of({n: v.astype(np.float32) if v.dtype == np.float64 else v for n, v in data.items()})
    config = DrinAuthorsConfig(30, 5, 16, layers=3, **{"entity_vector": "sentence"} | switches)
    losses = []
    for precision in ("float32", "bfloat16"):
        stack = Stack(lambda: build("drin_authors", config, with_lexical=False), (0,), CPU)
        step = Step(stack, Adam(list(stack.parameters.values()), Schedule(1e-3)), World(), precision)
        losses.append([step(batch, 1.0).item() for _ in range(3)])
    np.testing.assert_allclose(*losses, atol=0.02)


@pytest.mark.parametrize(("loss", "negatives"), [("candidates", "batch"), ("candidates", "own"), ("margin", "batch")])
def test_loss_equals_loops(loss, negatives):
    rng = np.random.default_rng(13)
    gold, present = torch.tensor([0, 1, -1, 2, 4, -1, -1]), torch.from_numpy(rng.uniform(size=(7, 5)) > 0.3)
    present[[0, 1, 3, 4, 5], [0, 1, 2, 4, 3]] = True
    present[4] = torch.arange(5) == 4  # gold alone
    present[6] = False  # no candidates: adds nothing
    config, model = build_head(ranking_loss=loss, negatives=negatives)
    drawn = torch.from_numpy(rng.normal(size=(7, 5)))
    found, expected = drawn.masked_fill(~present, -torch.inf).requires_grad_(), drawn.clone().requires_grad_()
    value, looped = model.loss(found, Batch({}, present, gold)), loss_by_loops(config, expected, gold, present)
    torch.testing.assert_close(value, looped, rtol=0, atol=1e-12)
    value.backward()
    looped.backward()
    torch.testing.assert_close(found.grad, expected.grad, rtol=0, atol=1e-12)
    assert found.grad[2].any() == (loss == "candidates"), "a mention whose gold is not in its list"


def test_one_batch_is_overfitted():
    data = arrays(np.random.default_rng(14), mentions=8, candidates=6)
    data["gold"], data["present"] = np.arange(8) % 6, np.ones((8, 6), bool)
    _, model = build_head(14, width=16)
    batch = batch_of(data)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(200):
        optimizer.zero_grad()
        loss = model.loss(model(batch), batch)
        loss.backward()
        optimizer.step()
    assert loss.item() == pytest.approx(0.25 / 6, abs=0.005)  # gold's own term is the margin, always
    assert (model(batch).argmax(1) == batch.gold).all()


def test_a_random_place_is_present_even_and_tells_nothing_of_gold():
    rng = np.random.default_rng(15)
    data = arrays(rng, text=64, mentions=4000, candidates=11)
    data["mention_text"] = data["mention_text"].astype(np.float16).astype(np.float32)  # as a cache holds them
    data["present"][1::2, 3] = False
    data["gold"] = rng.integers(0, 3, 4000)
    batch = batch_of(data)
    places = some_place(batch)
    assert batch.present.gather(1, places[:, None]).all()
    assert torch.equal(places, some_place(replace(batch, gold=batch.gold.flip(0))))
    counts = torch.bincount(places[2::2], minlength=11)[:-1]
    assert counts.sum() == 1999
    assert (counts - 199.9).abs().max() < 4 * 14
    assert abs((places == batch.gold).float().mean() - 0.105) < 4 * 0.005


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """Return a function from signal and candidates to a small cache."""

    @functools.cache
    def cache_of(signal=0.0, candidates=10, mentions=1500):
        path = tmp_path_factory.mktemp("authors") / f"signal-{signal}"
        widths = {"text_width": 16, "image_width": 16}
        shares = (0.4, 0.1, 0.5)
        write(path, Synthetic(mentions, 500, candidates, signal, 0, "drin_authors", shares=shares, **widths))
        return path

    return cache_of


def fit(path, run, given=(), **switches):
    config = TrainConfig(**{"dataset": str(path), "run": run, "device": "cpu", "model": "drin_authors"} | dict(given))
    return loop.fit(config, DrinAuthorsConfig(width=16, **switches))


@pytest.mark.parametrize("candidates", [10, 100])
def test_noise_stays_at_chance(caches, tmp_path, candidates):
    found = fit(caches(candidates=candidates), tmp_path, {"seeds": (0, 1, 2), "epochs": 3})
    deviation = math.sqrt(1 / candidates * (1 - 1 / candidates) / 750)
    for seed in found["seeds"]:
        assert abs(seed["test"]["top1"] - 1 / candidates) < 5 * deviation


def test_signal_is_learned(caches, tmp_path):
    found = fit(caches(0.3), tmp_path, {"epochs": 20, "learning_rate": 1e-2})
    assert found["mean"]["test"]["top1"] > 0.9


def without_some_golds(table):
    table.gold[::3] = -1
    return table


def test_mentions_without_gold_are_trained_on_unless_the_protocol_leaves_them_out(caches):
    reader = melcache.open(caches(candidates=10))
    table = without_some_golds(Table(reader, "drin_authors", CPU, more=DrinAuthorsConfig().more))
    train = table.rows("train")
    with_gold = [row for row in train.tolist() if row % 3]

    def rows(protocol, head):
        config = TrainConfig(model="drin_authors", protocol=protocol)
        return data_of(config, head, reader, table, World()).rows.tolist()

    assert rows("retrieved", DrinAuthorsConfig()) == train.tolist()
    assert rows("given", DrinAuthorsConfig()) == with_gold
    assert rows("retrieved", DrinAuthorsConfig(ranking_loss="margin")) == with_gold
    assert rows("retrieved", DrinConfig()) == with_gold


def test_rows_that_fill_a_batch_change_neither_loss_nor_gradients(caches):
    reader = melcache.open(caches(candidates=10))
    table = without_some_golds(Table(reader, "drin_authors", CPU, more=DrinAuthorsConfig().more))
    _, model = build_head(16, 16, 16, entity_vector="mean")
    model.float()
    found = []
    for rows in (torch.arange(5), torch.tensor([0, 1, 2, 3, 4, -1, -1, -1])):
        model.zero_grad()
        batch = table.batch(rows)
        loss = model.loss(model(batch), batch)
        loss.backward()
        found.append([loss, *(parameter.grad for parameter in model.parameters())])
    torch.testing.assert_close(*found, rtol=0, atol=1e-7)


def test_results_of_a_leak_say_so_wherever_they_are_shown(caches, tmp_path, capsys):
    found = fit(caches(mentions=200), tmp_path / "a", {"epochs": 1}, leak_gold=True)
    assert found["name"] == "drin_authors (leaks gold)"
    shown = results.show(found, tmp_path)
    assert "drin_authors (leaks gold)  " in shown
    assert "warning: drin_authors leaks gold (--leak-gold)" in shown
    sliced = CliRunner().invoke(app, ["slices", "--run", str(tmp_path / "a"), "--by", "gold"]).stdout
    assert sliced.startswith("drin_authors (leaks gold) on ")
    assert "warning: drin_authors leaks gold (--leak-gold)" in sliced
    sliced = json.loads(CliRunner().invoke(app, ["slices", "--run", str(tmp_path / "a"), "--json"]).stdout)
    assert sliced["name"] == "drin_authors (leaks gold)" and "leaks gold" in sliced["warnings"][-1]
    assert "drin_authors leaks gold" in json.loads((tmp_path / "a" / "results.json").read_text())["warnings"][-1]
    told = [line for line in capsys.readouterr().err.splitlines() if "Top-1" in line]
    assert told
    assert all("drin_authors (leaks gold)" in line for line in told)
    honest = fit(caches(mentions=200), tmp_path / "b", {"epochs": 1})
    assert "leak" not in results.show(honest, Path("b"))
    control = fit(caches(mentions=200), tmp_path / "c", {"epochs": 1}, leak_control=True)
    assert "drin_authors (leak control)" in results.show(control, tmp_path)


def test_switches_are_options_and_the_leak_is_off_unless_asked_for(caches, tmp_path):
    common = ["--dataset", str(caches(mentions=200)), "--model", "drin_authors", "--epochs", "1", "--width", "8"]
    more = ["--edge-from", "next", "--no-vertex-norm", "--entity-vector", "pooler"]
    run = CliRunner().invoke(app, [*common, *more, "--run", str(tmp_path / "a")])
    assert run.exit_code == 0, run.output
    kept = json.loads((tmp_path / "a" / "results.json").read_text())["config"]
    own = kept["drin_authors"]
    assert (own["edge_from"], own["vertex_norm"], own["entity_vector"]) == ("next", False, "pooler")
    assert (own["edge_residual"], own["leak_gold"], own["leak_control"], kept["restart"]) == (
        "inside",
        False,
        False,
        10,
    )
    leaking = CliRunner().invoke(app, [*common, "--leak-gold", "--run", str(tmp_path / "b")])
    assert "leaks gold" in leaking.stdout
    refused = CliRunner().invoke(app, [*common[:3], "drin", "--leak-gold"])
    assert refused.stderr == "error: --leak-gold is no option of drin; leave it out, or choose from drin_authors\n"


def test_config_refuses_what_makes_no_sense():
    with pytest.raises(ConfigError, match="--leak-gold and --leak-control exclude each other"):
        DrinAuthorsConfig(leak_gold=True, leak_control=True)
    with pytest.raises(ConfigError, match="choose from text_to_text"):
        DrinAuthorsConfig(edges=("text_to_sound",))
    with pytest.raises(ConfigError, match="at least 1"):
        DrinAuthorsConfig(layers=0)


@pytest.mark.slow
def test_on_fresh_noise_the_leak_finds_gold_and_a_random_copy_does_not(tmp_path):
    """2,814 steps: 30,000 mentions of pure noise, six times; tested on 7,500 others, where nothing tells gold."""
    noise = Synthetic(
        40_000, 20_000, 10, 0.0, 0, "drin_authors", text_width=32, image_width=32, shares=(0.75, 0.0625, 0.1875)
    )
    write(tmp_path / "noise", noise)
    top1 = {}
    for name, switches in (("leak", LEAKS[1]), ("control", LEAKS[2]), ("off", LEAKS[0])):
        given = {"dataset": str(tmp_path / "noise"), "run": tmp_path / name, "device": "cpu", "model": "drin_authors"}
        config = TrainConfig(**given, epochs=6, learning_rate=3e-3)
        top1[name] = loop.fit(config, DrinAuthorsConfig(width=32, **switches))["mean"]["test"]["top1"]
    deviation = math.sqrt(0.1 * 0.9 / 7500)
    assert top1["leak"] > 0.25  # measured on valid: 0.43
    assert abs(top1["control"] - 0.1) < 5 * deviation
    assert abs(top1["off"] - 0.1) < 5 * deviation
