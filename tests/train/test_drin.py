"""DRIN against an independent dense n x n float64 implementation of Eq. 12-15, written with plain loops."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from cache.edges import EDGES
from common.errors import ConfigError
from train.data.batch import make_batch
from train.heads.drin.config import DrinConfig
from train.heads.models import MODELS
from train.layers.losses import margin_ranking
from train.layers.products import Cosines, Dots, Sums

ACTIVATIONS = {
    "gelu": np.vectorize(lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2)))),
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "identity": lambda x: x,
}


def arrays(rng, mentions=3, candidates=4, text=5, image=6, missing=True):
    """Random inputs; the last candidate of mention 0 and the last two of mention 1 are padding."""
    present = np.ones((mentions, candidates), bool)
    present[0, -1:], present[1, -2:] = False, False
    made = {
        "mention_text": rng.normal(size=(mentions, text)),
        "mention_image": rng.normal(size=(mentions, image)),
        "entity_text": rng.normal(size=(mentions, candidates, text)),
        "entity_image": rng.normal(size=(mentions, candidates, image)),
        "edges": rng.uniform(-1, 1, (mentions, candidates, 2, 2)),
        "present": present,
        "gold": np.array([0, -1, 2]),
    }
    if missing:
        made["mention_image_present"] = np.array([True, True, False])
        made["entity_image_present"] = rng.uniform(size=(mentions, candidates)) > 0.3
    return made


def dense_scores(config, weights, data):
    """Scores of every mention over a dense adjacency of n = 2 + 2C vertices, padding left out of the graph."""
    return dense_graph(config, weights, data)[0]


def dense_edges(config, weights, data):
    """The edges that enter each layer, (B, C, 2, 2) each."""
    return dense_graph(config, weights, data)[1]


def dense_graph(config, weights, data):
    sigma, sigma_e = ACTIVATIONS[config.vertex_activation], ACTIVATIONS[config.edge_activation]
    count, candidates = data["present"].shape
    mention_there = data.get("mention_image_present", np.ones(count, bool))
    entity_there = data.get("entity_image_present", np.ones((count, candidates), bool))
    scores = np.full((count, candidates), -np.inf)
    entering = np.zeros((config.layers, count, candidates, 2, 2))
    for b in range(count):
        real = [c for c in range(candidates) if data["present"][b, c]]
        n = 2 + 2 * len(real)
        h = np.zeros((n, config.width))
        h[0] = weights["mention_text.weight"] @ data["mention_text"][b]
        if mention_there[b]:
            h[1] = weights["mention_image.weight"] @ data["mention_image"][b]
        a, mask = np.zeros((n, n)), np.zeros((n, n))
        for i, c in enumerate(real):
            h[2 + 2 * i] = weights["entity_text.weight"] @ data["entity_text"][b, c]
            if entity_there[b, c]:
                h[3 + 2 * i] = weights["entity_image.weight"] @ data["entity_image"][b, c]
            for m, e in itertools.product((0, 1), (0, 1)):
                there = (
                    EDGES[2 * m + e] in config.edges and (m == 0 or mention_there[b]) and (e == 0 or entity_there[b, c])
                )
                if there:
                    j = 2 + 2 * i + e
                    mask[m, j] = mask[j, m] = 1
                    a[m, j] = a[j, m] = data["edges"][b, c, m, e]
        for layer in range(config.layers):
            for i, c in enumerate(real):
                entering[layer, b, c] = a[:2, 2 + 2 * i : 4 + 2 * i]
            new = sigma(a @ (h @ weights[f"layers.{layer}.vertex.weight"].T)) + h
            if layer < config.layers - 1 and not config.static:
                first = weights[f"layers.{layer}.edge_mention.weight"]
                second = first if config.tied else weights[f"layers.{layer}.edge_entity.weight"]
                source = new if config.edge_from == "next" else h
                affinity = np.zeros((n, n))
                for m, j in itertools.product((0, 1), range(2, n)):
                    affinity[m, j] = affinity[j, m] = (first @ source[m]) @ (second @ source[j])
                a = mask * (sigma_e(affinity) + a if config.edge_residual == "outside" else sigma_e(affinity + a))
            h = new
        for i, c in enumerate(real):
            scores[b, c] = h[0] @ h[2 + 2 * i] / (np.linalg.norm(h[0]) * np.linalg.norm(h[2 + 2 * i]))
    return scores, list(entering)


def build(config, seed=0):
    torch.manual_seed(seed)
    model = MODELS["drin"](config).double()
    return model, {name: value.detach().numpy() for name, value in model.state_dict().items()}


SWITCHES = [
    {"edge_from": f, "edge_residual": r, "tied": t, "layers": n}
    for f, r, t, n in itertools.product(("next", "current"), ("outside", "inside"), (False, True), (1, 2, 3, 4, 5))
] + [{"static": True, "layers": n} for n in (1, 2, 3)]


def dense_loss(config, weights, data):
    """The loss of Eq. 17 on a dense adjacency again, in torch, so that autograd gives the oracle of the gradients."""
    named = {"gelu": torch.nn.functional.gelu, "identity": lambda x: x}
    named |= {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
    act, edge_act = named[config.vertex_activation], named[config.edge_activation]
    data = {name: torch.from_numpy(value) for name, value in data.items()}
    there, gold = data["present"], data["gold"]
    image, entity_image = data["mention_image_present"], data["entity_image_present"] & there
    ends = []  # mention, candidates, place of gold
    for b in range(len(gold)):
        real = there[b].nonzero()[:, 0]
        own = [weights["mention_text.weight"] @ data["mention_text"][b]]
        own.append(weights["mention_image.weight"] @ data["mention_image"][b] * image[b])
        for c in real:
            own.append(weights["entity_text.weight"] @ data["entity_text"][b, c])
            own.append(weights["entity_image.weight"] @ data["entity_image"][b, c] * entity_image[b, c])
        h, n = torch.stack(own), len(own)
        mask = torch.zeros(n, n, dtype=torch.float64)
        a = torch.zeros(n, n, dtype=torch.float64)
        for i, c in enumerate(real):
            for m, e in itertools.product((0, 1), (0, 1)):
                if EDGES[2 * m + e] in config.edges and (m == 0 or image[b]) and (e == 0 or entity_image[b, c]):
                    j = 2 + 2 * i + e
                    mask[m, j] = mask[j, m] = 1
                    a[m, j] = a[j, m] = data["edges"][b, c, m, e]
        for layer in range(config.layers):
            new = act(a @ h @ weights[f"layers.{layer}.vertex.weight"].T) + h
            if layer < config.layers - 1 and not config.static:
                first = weights[f"layers.{layer}.edge_mention.weight"]
                second = first if config.tied else weights[f"layers.{layer}.edge_entity.weight"]
                source = new if config.edge_from == "next" else h
                upper = (source @ first.T @ second @ source.T).triu()  # mention rows stand first
                affinity = upper + upper.T
                a = mask * (edge_act(affinity) + a if config.edge_residual == "outside" else edge_act(affinity + a))
            h = new
        ends.append((h[0], h[2::2], real.tolist().index(gold[b]) if gold[b] >= 0 and len(real) > 1 else -1))
    losses = []
    for b, (mention, candidates, place) in enumerate(ends):
        if place >= 0:
            others = [candidates[:place], candidates[place + 1 :]]
            if config.negatives == "batch":
                others += [theirs for other, (_, theirs, _) in enumerate(ends) if other != b]
            negative, positive = (
                torch.nn.functional.cosine_similarity(mention, entities, dim=-1).mean()
                for entities in (torch.cat(others), candidates[place])
            )
            losses.append(torch.relu(negative - positive + config.margin))
    return sum(losses) / (len(losses) if config.reduction == "mean" else 1)


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: "-".join(map(str, s.values())))
def test_scores_equal_dense_equations(switches):
    data = arrays(np.random.default_rng(1))
    config = DrinConfig(text_width=5, image_width=6, width=7, **switches)
    model, weights = build(config)
    expected = dense_scores(config, weights, data)
    found = model(make_batch(data)).detach().numpy()
    np.testing.assert_allclose(found[data["present"]], expected[data["present"]], rtol=0, atol=1e-12)
    assert np.all(np.isneginf(found[~data["present"]]))


def assert_gradients_equal(config, data):
    model, weights = build(config)
    found = model.objective(make_batch(data))
    found.backward()
    leaves = {name: torch.tensor(value, requires_grad=True) for name, value in weights.items()}
    expected = dense_loss(config, leaves, data)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    expected.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name
        torch.testing.assert_close(parameter.grad, leaves[name].grad, rtol=0, atol=1e-9, msg=name)


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: "-".join(map(str, s.values())))
def test_gradients_equal_dense_equations(switches):
    assert_gradients_equal(DrinConfig(5, 6, 7, margin=1.0, **switches), arrays(np.random.default_rng(11)))


@pytest.mark.parametrize("negatives", ["own", "batch"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_of_the_readings_of_equation_17_equal_dense_equations(negatives, reduction):
    data = arrays(np.random.default_rng(16))  # mention 1 has no gold, but its candidates are entities of the batch
    assert_gradients_equal(DrinConfig(5, 6, 7, margin=1.0, negatives=negatives, reduction=reduction), data)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_of_every_activation_equal_dense_equations(activation):
    config = DrinConfig(5, 6, 7, layers=3, margin=1.0, vertex_activation=activation, edge_activation=activation)
    assert_gradients_equal(config, arrays(np.random.default_rng(12)))


@pytest.mark.parametrize("function", [Dots, Sums, Cosines])
def test_hand_written_gradients_pass_gradcheck(function):
    vectors = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    other = {Dots: (2, 2, 4), Sums: (2, 1, 3), Cosines: (2, 4)}[function]
    second = torch.randn(other, dtype=torch.float64, requires_grad=True)

    def read_twice(vectors, second):
        found, *rest = function.apply(vectors, second)
        if function is Cosines:
            return found
        again, _ = function.apply(rest[0], second**2)
        return found, again, rest[0]  # the vectors too: their gradient arrives beside those of the readings

    assert torch.autograd.gradcheck(read_twice, (vectors, second))


def test_cosine_with_a_zero_vector_is_zero_as_in_torch():
    vectors, query = torch.zeros(1, 2, 3), torch.ones(1, 3)
    found = Cosines.apply(vectors.requires_grad_(), query)[0]
    found.sum().backward()
    assert found.tolist() == [[0, 0]]
    assert torch.isfinite(vectors.grad).all()


def test_projecting_entities_once_changes_no_score():
    data = arrays(np.random.default_rng(13))
    model, _ = build(DrinConfig(5, 6, 7, layers=3))
    batch = make_batch(data)
    projected = model.project(batch.columns)
    without = replace(batch, columns={name: batch[name] for name in batch.columns if name not in model.projects})
    torch.testing.assert_close(model(without, projected), model(batch), rtol=0, atol=1e-12)


def test_edge_weights_are_the_adjacency_that_enters_each_layer():
    data = arrays(np.random.default_rng(14))
    config = DrinConfig(5, 6, 7, layers=3)
    model, weights = build(config)
    found = [edges.detach().numpy() for edges in model.edge_weights(make_batch(data))]
    expected = dense_edges(config, weights, data)
    assert len(found) == len(expected) == 3
    for layer, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        unread = np.zeros((2, 2), bool) if layer == 0 else np.array([[0, 0], [0, layer == 2]], bool)
        assert np.isnan(mine[..., unread]).all()
        np.testing.assert_allclose(mine[..., ~unread], theirs[..., ~unread], rtol=0, atol=1e-12)


@pytest.mark.parametrize("vertex", ACTIVATIONS)
@pytest.mark.parametrize("edge", ACTIVATIONS)
def test_every_activation_equals_dense_equations(vertex, edge):
    data = arrays(np.random.default_rng(2))
    config = DrinConfig(5, 6, 7, layers=3, vertex_activation=vertex, edge_activation=edge)
    model, weights = build(config)
    found = model(make_batch(data)).detach().numpy()
    there = data["present"]
    np.testing.assert_allclose(found[there], dense_scores(config, weights, data)[there], rtol=0, atol=1e-10)


@pytest.mark.parametrize("kept", [EDGES[:1], EDGES[1:], (EDGES[0], EDGES[3])])
def test_removed_relations_equal_a_masked_adjacency(kept):
    data = arrays(np.random.default_rng(3))
    config = DrinConfig(5, 6, 7, layers=3, edges=kept)
    model, weights = build(config)
    found = model(make_batch(data)).detach().numpy()
    there = data["present"]
    np.testing.assert_allclose(found[there], dense_scores(config, weights, data)[there], rtol=0, atol=1e-12)


def test_nan_in_padding_and_missing_pictures_reaches_no_score_and_no_gradient():
    clean = arrays(np.random.default_rng(4))
    dirty = {name: value.copy() for name, value in clean.items()}
    padding = ~clean["present"]
    for name in ("entity_text", "entity_image", "edges"):
        dirty[name][padding] = np.nan
    dirty["entity_image"][~clean["entity_image_present"]] = np.nan
    dirty["mention_image"][~clean["mention_image_present"]] = np.inf
    results = []
    for data in (clean, dirty):
        model, _ = build(DrinConfig(5, 6, 7, layers=3))
        batch = make_batch(data)
        scores = model(batch)
        model.loss(scores, batch).backward()
        results.append((scores.detach(), [p.grad for p in model.parameters()]))
    (scores, gradients), (dirty_scores, dirty_gradients) = results
    assert torch.equal(scores, dirty_scores)
    assert all(torch.isfinite(g).all() and g.abs().sum() > 0 for g in gradients)
    assert all(torch.equal(a, b) for a, b in zip(gradients, dirty_gradients, strict=True))


def test_scores_do_not_depend_on_the_other_mentions_of_a_batch():
    data = arrays(np.random.default_rng(5))
    model, _ = build(DrinConfig(5, 6, 7))
    alone = [model(make_batch({name: value[i : i + 1] for name, value in data.items()})) for i in range(3)]
    torch.testing.assert_close(torch.cat(alone), model(make_batch(data)), rtol=0, atol=1e-12)


def test_float32_is_within_1e_5_of_the_float64_oracle_at_full_width():
    rng = np.random.default_rng(6)
    data = arrays(rng, text=64, image=96)
    config = DrinConfig(64, 96, 768, layers=3)
    model, weights = build(config)
    single = {n: v.astype(np.float32) if v.dtype == np.float64 else v for n, v in data.items()}
    found = model.float()(make_batch(single)).detach().numpy()
    there = data["present"]
    np.testing.assert_allclose(found[there], dense_scores(config, weights, data)[there], rtol=0, atol=1e-5)


def test_parameter_names_are_the_public_ones():
    names = set(MODELS["drin"](DrinConfig(5, 6, 7, layers=3)).state_dict())
    projections = {f"{m}_{k}.weight" for m in ("mention", "entity") for k in ("text", "image")}
    layers = {f"layers.{i}.{w}.weight" for i in (0, 1) for w in ("vertex", "edge_mention", "edge_entity")}
    assert names == projections | layers | {"layers.2.vertex.weight"}
    tied = set(MODELS["drin"](DrinConfig(5, 6, 7, layers=3, tied=True)).state_dict())
    assert tied == {name for name in names if "edge_entity" not in name}


def test_margin_ranking_equals_a_loop_over_equation_17():
    rng = np.random.default_rng(7)
    scores, present = rng.normal(size=(6, 5)), rng.uniform(size=(6, 5)) > 0.3
    gold = np.array([0, 1, -1, 2, 4, 3])
    present[[0, 1, 3, 4, 5], [0, 1, 2, 4, 3]] = True
    present[4] = [False, False, False, False, True]  # gold alone: adds nothing
    terms = []
    for b in range(6):
        others = [scores[b, c] for c in range(5) if present[b, c] and c != gold[b]]
        if gold[b] >= 0 and others:
            terms.append(max(np.mean(others) - scores[b, gold[b]] + 0.25, 0))
    noisy = np.where(present, scores, np.nan)
    found = margin_ranking(torch.tensor(noisy), torch.tensor(gold), torch.tensor(present), 0.25)
    assert len(terms) == 4
    assert found.item() == pytest.approx(np.mean(terms), abs=1e-12)


def test_a_batch_without_any_usable_mention_has_loss_zero_and_finite_gradients():
    data = arrays(np.random.default_rng(8)) | {"gold": np.full(3, -1)}
    model, _ = build(DrinConfig(5, 6, 7))
    batch = make_batch(data)
    loss = model.loss(model(batch), batch)
    loss.backward()
    assert loss.item() == 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_one_batch_is_overfitted():
    data = arrays(np.random.default_rng(9), mentions=8, candidates=6, missing=False)
    data["gold"], data["present"] = np.arange(8) % 6, np.ones((8, 6), bool)
    model, _ = build(DrinConfig(5, 6, 32, margin=1.0))  # S- is a mean: a small margin may leave one candidate above
    batch = make_batch(data)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for _ in range(600):
        optimizer.zero_grad()
        loss = model.loss(model(batch), batch)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert (model(batch).argmax(1) == batch.gold).all()


def test_make_batch_keeps_dtypes_and_names_what_does_not_fit():
    data = arrays(np.random.default_rng(10))
    assert make_batch(data)["mention.text.span"].dtype == torch.float64
    half = {n: v.astype(np.float16) if v.dtype == np.float64 else v for n, v in data.items()}
    assert make_batch(half)["entity.image.vector"].dtype == torch.float16
    with pytest.raises(ConfigError, match=r"'gold' holds 57 at row 1, but mentions have 4 candidates"):
        make_batch(data | {"gold": np.array([0, 57, 1])})
    with pytest.raises(ConfigError, match=r"edges has shape \(3, 4, 2\), expected \(3, 4, 2, 2\)"):
        make_batch(data | {"edges": data["edges"][..., 0]})
    with pytest.raises(ConfigError, match=r"missing \['gold'\], not known \['label'\]"):
        make_batch({n: v for n, v in data.items() if n != "gold"} | {"label": data["gold"]})


def test_config_refuses_what_the_equations_do_not_have():
    with pytest.raises(ConfigError, match="choose from text_to_text"):
        DrinConfig(edges=("text_to_sound",))
    with pytest.raises(ConfigError, match="at least 1"):
        DrinConfig(layers=0)
