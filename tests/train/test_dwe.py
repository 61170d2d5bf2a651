"""DWE's two heads against plain loops in float64, written from the equations alone; masks, switches, training."""

import dataclasses
import functools
import itertools
import math
import re
from collections import Counter

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import melcache
from bench.measuring.kernels import Count
from bench.training.plain_dwe import Plain
from cache.schema import CHOICES, READS
from cache.writing.synth import Synthetic, write
from common.errors import ConfigError
from train import loop
from train.cli import app
from train.config import TrainConfig
from train.data.batch import Batch
from train.data.table import Table
from train.heads.dwe.config import DweConfig
from train.heads.dwe_authors.config import DweAuthorsConfig
from train.heads.models import MODELS
from train.layers import pair_losses
from train.layers.attention import Attention
from train.layers.products import Cosines
from train.optimizing.adam import Adam, Schedule
from train.optimizing.checkpoint import Checkpoints
from train.optimizing.stacked_seeds import Stack
from train.optimizing.step import Step
from train.processes import World

CPU = torch.device("cpu")
P, K, T, C = 8, 3, 5, 4
CONFIG = {"dwe": DweConfig, "dwe_authors": DweAuthorsConfig}
# mention 0 has padded candidates; 1 no picture; 2 a picture without objects; 3 objects, none of them a person;
# 4 no attributes at all; 5 fills up the batch
LABELS = np.array([[1, 1, 7], [1, 1, 1], [0, 0, 0], [3, 9, 0], [1, 0, 0], [1, 1, 2]])
TOKENS = (5, 1, 3, 4, 2, 5)


def arrays(seed=0, dtype=np.float64):
    """A batch's columns; what is not there is filled as the cache and the table fill it."""
    rng = np.random.default_rng(seed)
    count = len(LABELS)
    made = {f"mention.joint.{name}": rng.normal(size=(count, P)) for name in ("mention", "mention_sentence", "image")}
    made["mention.joint.present"] = np.arange(count) != 1
    made["mention.crops.vector"], made["mention.attributes.faces"] = rng.normal(size=(2, count, K, P))
    made["mention.attributes.scene"] = rng.normal(size=(count, P))
    made["mention.crops.vector"][LABELS == 0] = 0
    made["mention.attributes.faces"][LABELS != 1] = 0
    made["mention.attributes.faces"][4] = made["mention.attributes.scene"][4] = 0
    made["mention.joint.image"][1] = 0
    made["mention.crops.labels"] = LABELS.astype(np.int32)
    made["joint_token.joint.vector"] = rng.normal(size=(count, T, P))
    made["joint_token.joint.present"] = np.arange(T) < np.array(TOKENS)[:, None]
    made["joint_token.joint.vector"][~made["joint_token.joint.present"]] = 0
    for name in ("text", "description"):
        made[f"entity.joint.{name}"] = rng.normal(size=(count, C, P))
    made["pair.candidates.lexical"] = rng.permuted(np.tile(np.arange(C) / C, (count, 1)), axis=1)
    return {name: value.astype(dtype) if value.dtype == np.float64 else value for name, value in made.items()}


def batch_of(made, gold=(0, 1, 3, 2, 1, -1)):
    present = torch.ones(len(LABELS), C, dtype=torch.bool)
    present[0, 2:] = False
    columns = {name: torch.from_numpy(value.copy()) for name, value in made.items()}
    return Batch(columns, present, torch.tensor(gold))


def head_of(name, **switches):
    """Return a head in evaluation mode and its weights; no weight or bias is left at a value that hides a mistake."""
    torch.manual_seed(1)
    switches = {"attention_heads": 2} | switches
    head = MODELS[name](CONFIG[name](joint_width=P, **switches)).double().eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return head, {key: value.detach().numpy() for key, value in head.state_dict().items()}


# the oracles: of numpy arrays, or of tensors where a gradient is asked for


def exp(x):
    return math.e**x


def log(x):
    return x.log() if torch.is_tensor(x) else math.log(x)


def join(vectors):
    return torch.cat(vectors) if torch.is_tensor(vectors[0]) else np.concatenate(vectors)


class Oracle:
    """Weights by name, and the operations that the equations name, one vector at a time."""

    def __init__(self, weights, config):
        self.weights, self.config = weights, config

    def linear(self, name, x):
        return self.weights[f"{name}.weight"] @ x + self.weights[f"{name}.bias"]

    def norm(self, name, x):
        deviation = (((x - x.mean()) ** 2).mean() + 1e-5) ** 0.5
        return (x - x.mean()) / deviation * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def attention(self, name, question, vectors):
        """Every vector is projected to a key and a value, as the equations say."""
        if not len(vectors):
            return 0 * question
        width, found = P // self.config.attention_heads, []
        q = self.linear(f"{name}.query", question)
        keys = [self.weights[f"{name}.key.weight"] @ x for x in vectors]
        values = [self.linear(f"{name}.readout.value", x) for x in vectors]
        for h in range(self.config.attention_heads):
            part = slice(h * width, (h + 1) * width)
            shares = [exp(q[part] @ key[part] / math.sqrt(width)) for key in keys]
            found.append(sum(share * value[part] for share, value in zip(shares, values, strict=True)) / sum(shares))
        return self.linear(f"{name}.readout.out", join(found))

    def gated(self, name, mention, unit):
        return unit / (1 + exp(-self.linear(name, join([mention, unit]))))


def cosine(x, y):
    return x @ y / ((x @ x) * (y @ y)) ** 0.5


def wanted(labels, config):
    return [k for k, label in enumerate(labels) if (label == 1 if config.persons_only else label > 0)]


def dwe_query(weights, config, made, row):
    """The query of a mention, what its attentions over objects and tokens brought, and whether it has an object."""
    oracle = Oracle(weights, config)
    mention = made["mention.joint.mention"][row]
    kept = wanted(made["mention.crops.labels"][row], config) if made["mention.joint.present"][row] else []
    objects = [made["mention.crops.vector"][row, k] for k in kept]
    if config.refine:
        attributes = [face for face in made["mention.attributes.faces"][row] if face.any()]
        attributes += [scene for scene in (made["mention.attributes.scene"][row],) if scene.any()]
        objects = [
            oracle.norm("attributes.norm", x + oracle.attention("attributes.attention", x, attributes)) for x in objects
        ]
    seen = oracle.attention("vision.attention", mention, objects)
    there = made["joint_token.joint.present"][row]
    read = oracle.attention("text.attention", mention, list(made["joint_token.joint.vector"][row][there]))
    fused = mention.copy()
    if objects:
        fused += oracle.gated("fusion.gates.vision", mention, oracle.norm("vision.norm", mention + seen))
    if there.any():
        fused += oracle.gated("fusion.gates.text", mention, oracle.norm("text.norm", mention + read))
    return oracle.linear("out", fused), seen, read, bool(objects)


def authors_views(weights, config, made, row):
    """A mention's five vectors, and whether its attention over objects had one to attend to."""
    oracle = Oracle(weights, config)

    def trans(kind, x):
        x = oracle.linear(f"{kind}_trans.0", x)
        return oracle.norm(f"{kind}_trans.2", x * (x > 0))

    mention = trans("text", made["mention.joint.mention"][row])
    sentence = trans("text", made["mention.joint.mention_sentence"][row])
    image = trans("img", made["mention.joint.image"][row])
    kept = wanted(made["mention.crops.labels"][row], config) if made["mention.joint.present"][row] else []
    rows = kept if config.mask_padding else range(K)
    objects = [trans("img", made["mention.crops.vector"][row, k] * (k in kept)) for k in rows]
    if "attention.query.weight" not in weights:
        return mention, sentence, image, None, None, bool(objects)
    vision = oracle.attention("attention", mention, objects)
    if config.shared_attention:
        text = oracle.attention("attention", mention, [sentence])
    else:  # whatever query and key a second attention has: over one vector its softmax is 1
        own = {f"text_attention.{name}": weights[f"attention.{name}"] for name in ("query.weight", "query.bias")}
        own["text_attention.key.weight"] = weights["attention.key.weight"]
        own |= {
            name.replace("text_attention", "text_attention.readout"): value
            for name, value in weights.items()
            if name.startswith("text_attention.")
        }
        text = Oracle(own, config).attention("text_attention", mention, [sentence])
    return mention, sentence, image, vision, text, bool(objects)


def authors_query(weights, config, made, row):
    oracle = Oracle(weights, config)
    mention, sentence, image, vision, text, _ = authors_views(weights, config, made, row)
    if config.fusion == "concat":
        fused = join([sentence, image, mention])
    elif config.fusion == "sum":
        fused = mention + vision + text
    else:
        fused = mention + oracle.gated("fusion.gates.vision", mention, vision)
        fused = fused + oracle.gated("fusion.gates.text", mention, text)
    return oracle.linear("out.1", fused)


def query_of(name, weights, config, made, row):
    return dwe_query(weights, config, made, row)[0] if name == "dwe" else authors_query(weights, config, made, row)


def info_nce(pairs, scale):
    """The mean over pairs (x, y) and both directions of -log softmax of a pair's cosine among all."""
    if not pairs:
        return 0.0
    total = 0.0
    for i, (x, y) in enumerate(pairs):
        across = [exp(scale * cosine(x, other)) for _, other in pairs]
        back = [exp(scale * cosine(other, y)) for other, _ in pairs]
        total += -log(across[i] / sum(across)) - log(back[i] / sum(back))
    return total / 2 / len(pairs)


def cosines(name, weights, config, made, batch):
    entities = made[f"entity.joint.{config.entity_text}"]
    found = np.full((len(LABELS), C), -np.inf)
    for row in range(len(LABELS)):
        query = query_of(name, weights, config, made, row)
        for c in range(C):
            if batch.present[row, c]:
                found[row, c] = cosine(query, entities[row, c])
    return found


DWE = [
    {"persons_only": p, "refine": r, "entity_text": e, "attention_heads": h}
    for p, r, e, h in itertools.product((False, True), (False, True), ("text", "description"), (1, 4))
]
AUTHORS = [
    {"fusion": f, "shared_attention": s, "mask_padding": m, "persons_only": p, "entity_text": e, "attention_heads": 2}
    for f, s, m, p, e in itertools.product(
        ("sum", "gate", "concat"), (True, False), (False, True), (False, True), ("text", "description")
    )
]
EVERY = [("dwe", switches) for switches in DWE] + [("dwe_authors", switches) for switches in AUTHORS]
BOTH = pytest.mark.parametrize("name", CONFIG)


def named(value):
    return value if isinstance(value, str) else "-".join(map(str, value.values()))


# scores


@pytest.mark.parametrize(("name", "switches"), EVERY, ids=named)
def test_scores_equal_loops(name, switches):
    made = arrays()
    batch = batch_of(made)
    head, weights = head_of(name, **switches)
    expected = cosines(name, weights, head.config, made, batch)
    found = head(batch).detach().numpy()
    there = batch.present.numpy()
    np.testing.assert_allclose(found[there], expected[there], rtol=0, atol=1e-9)
    assert np.isneginf(found[~there]).all()


@pytest.mark.parametrize(("name", "switches"), EVERY, ids=named)
def test_scores_equal_a_plain_program_with_torchs_own_attention(name, switches):
    batch = batch_of(arrays(3))
    head, _ = head_of(name, **switches, **({"hard_negatives": 1.0} if name == "dwe_authors" else {}))
    plain = Plain(head).eval()
    torch.testing.assert_close(plain(batch), head(batch), rtol=0, atol=1e-9)
    torch.testing.assert_close(plain.objective(batch), head.objective(batch), rtol=0, atol=1e-9)


@BOTH
def test_a_score_is_the_cosine_of_embed_and_project(name):
    batch = batch_of(arrays(4))
    head, _ = head_of(name)
    assert head.two_towers
    projected = head.project({key: batch[key] for key in head.projects})
    expected = torch.nn.functional.cosine_similarity(head.embed(batch)[:, None], projected, dim=-1)
    torch.testing.assert_close(head(batch)[batch.present], expected[batch.present], rtol=0, atol=1e-12)
    without = Batch({k: v for k, v in batch.columns.items() if k not in head.projects}, batch.present, batch.gold)
    assert torch.equal(head(without, projected), head(batch))


@BOTH
def test_float32_is_within_1e_5_of_the_oracle(name):
    made = arrays(5)
    head, weights = head_of(name)
    batch = batch_of(made)
    found = head.float()(batch_of({n: v.astype(np.float32) if v.dtype == np.float64 else v for n, v in made.items()}))
    expected = cosines(name, weights, head.config, made, batch)
    there = batch.present.numpy()
    np.testing.assert_allclose(found.detach().numpy()[there], expected[there], rtol=0, atol=1e-5)


# attention


def test_attention_equals_torchs_and_is_zero_over_nothing():
    torch.manual_seed(0)
    ours, theirs = Attention(P, 4).double(), torch.nn.MultiheadAttention(P, 4, batch_first=True).double()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_()
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.readout.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, torch.randn(P), ours.readout.value.bias]))  # any b_k
        theirs.out_proj.weight.copy_(ours.readout.out.weight)
        theirs.out_proj.bias.copy_(ours.readout.out.bias)
    questions, vectors = torch.randn(5, 2, P).double(), torch.randn(5, 6, P).double()
    there = torch.rand(5, 6) < 0.6
    there[0], there[1] = False, torch.arange(6) == 2
    found = ours(questions, vectors, there)
    expected = theirs(questions, vectors, vectors, key_padding_mask=~there)[0]
    torch.testing.assert_close(found[1:], expected[1:], rtol=0, atol=1e-12)
    assert not found[0].any()
    torch.testing.assert_close(found[1], ours.readout(vectors[1, 2]).expand(2, P), rtol=0, atol=1e-12)
    (found**2).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in ours.parameters())
    ours(questions[:1], vectors[:1], there[:1]).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in ours.parameters())


def test_attention_begins_as_torchs_does():
    torch.manual_seed(0)
    ours, theirs = Attention(256, 8), torch.nn.MultiheadAttention(256, 8)
    expected = float(theirs.in_proj_weight.detach().std())
    for layer in (ours.query, ours.key, ours.readout.value):
        assert float(layer.weight.detach().std()) == pytest.approx(expected, rel=0.02)
    assert not any(layer.bias.any() for layer in (ours.query, ours.readout.value, ours.readout.out))


def test_cosines_without_a_gradient_of_the_vectors():
    vectors = torch.randn(2, 3, 4, dtype=torch.float64)
    query = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda query: Cosines.apply(vectors, query)[0], (query,))


# losses


def test_losses_of_pairs_equal_loops():
    rng = np.random.default_rng(0)
    scores, counts = rng.normal(size=(6, 2)), np.array([1, 1, 0, 1, 1, 0], bool)
    scores[2] = np.nan, np.inf
    kept = [tuple(map(float, pair)) for pair in scores[counts]]
    found = torch.from_numpy(scores).requires_grad_()
    there = torch.from_numpy(counts)
    expected = np.mean([max(other - gold + 0.5, 0) for gold, other in kept])
    assert pair_losses.pair_triplet(found, there, 0.5).item() == pytest.approx(expected, abs=1e-12)
    expected = np.mean([math.log(1 + math.exp(first) + math.exp(second)) for first, second in kept])
    loss = pair_losses.n_pair(30 * found, there) + pair_losses.n_pair(found, there)
    expected += np.mean([math.log(1 + math.exp(30 * first) + math.exp(30 * second)) for first, second in kept])
    assert loss.item() == pytest.approx(expected, abs=1e-9)
    loss.backward()
    assert torch.isfinite(found.grad[there]).all()
    assert (
        pair_losses.n_pair(torch.tensor([[-1.0, 5000.0]]), torch.ones(1).bool()).item() == 5000
    )  # exp(5000) is infinite
    vectors = rng.normal(size=(6, 3))
    expected = sum((vectors[counts] ** 2).sum(1)) / 4
    assert pair_losses.squares(torch.from_numpy(vectors), there).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("counts", [[1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]])
def test_info_nce_equals_loops_and_leaves_out_who_does_not_count(counts):
    rng = np.random.default_rng(1)
    left, right = rng.normal(size=(2, 5, 4))
    left[1] = right[4] = 0  # what is not there
    expected = info_nce([(left[i], right[i]) for i in range(5) if counts[i] and i not in (1, 4)], 1 / 0.07)
    counts = torch.tensor(counts).bool() & torch.tensor([1, 0, 1, 1, 0]).bool()
    sides = [torch.from_numpy(side).requires_grad_() for side in (left, right)]
    loss = pair_losses.info_nce(*sides, counts, 1 / 0.07)
    assert loss.item() == pytest.approx(expected, abs=1e-9)
    loss.backward()
    for side in sides:
        assert torch.isfinite(side.grad).all()
        assert not side.grad[~counts].any()


def test_pick_never_takes_gold_or_padding():
    values = torch.tensor([[0.9, 0.5, 0.7, 2.0], [0.1, 0.2, 0.3, 0.4]])
    present = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).bool()
    assert pair_losses.pick(values, torch.tensor([0, 3]), present).tolist() == [2, 2]
    assert pair_losses.against(values, torch.tensor([0, -1]), torch.tensor([2, 1])).tolist() == [
        pytest.approx([0.9, 0.7]),
        pytest.approx([0.1, 0.2]),
    ]


COUNTED = (0, 1, 2, 3, 4)  # the last mention only fills the batch up


@pytest.mark.parametrize("refine", [True, False])
@pytest.mark.parametrize("persons_only", [True, False])
def test_the_objective_of_dwe_equals_loops(refine, persons_only):
    made = arrays(6)
    batch = batch_of(made)
    switches = {"refine": refine, "persons_only": persons_only, "alignment_weight": 0.7, "dropout": 0.0}
    head, weights = head_of("dwe", **switches)
    config, oracle = head.config, Oracle(weights, head.config)
    scores = cosines("dwe", weights, config, made, batch)
    ranking, coarse, fine = [], [], []
    for row in COUNTED:
        gold = int(batch.gold[row])
        hardest = max(scores[row, c] for c in range(C) if batch.present[row, c] and c != gold)
        ranking.append(max(hardest - scores[row, gold] + 0.5, 0))
        _, seen, read, has_objects = dwe_query(weights, config, made, row)
        if made["mention.joint.present"][row]:
            nothing = np.zeros(P)  # over one vector the question is of no weight
            whole = oracle.attention("vision.attention", nothing, [made["mention.joint.image"][row]])
            sentence = oracle.attention("text.attention", nothing, [made["mention.joint.mention_sentence"][row]])
            coarse.append((whole, sentence))
        if has_objects:
            fine.append((seen, read))
    assert (len(coarse), len(fine)) == (4, 2 if persons_only else 3)
    expected = np.mean(ranking) + 0.7 * (info_nce(coarse, 1 / 0.07) + info_nce(fine, 1 / 0.07))
    assert head.train().objective(batch).item() == pytest.approx(expected, abs=1e-9)


def authors_objective(weights, config, made, batch):
    """Return the loss where every negative is the likest name, one pair of mentions at a time."""
    views, ends, ranking, squares = [], [], [], []
    for row in COUNTED:
        gold = int(batch.gold[row])
        others = [c for c in range(C) if batch.present[row, c] and c != gold]
        other = max(others, key=lambda c: made["pair.candidates.lexical"][row, c])
        query = authors_query(weights, config, made, row)
        ends.append((query, made["entity.joint.text"][row, gold], made["entity.joint.text"][row, other]))
        views.append(authors_views(weights, config, made, row)[1:])
    for a, p, n in ends:
        drawn = [n] if config.negatives == "own" else [negative for _, _, negative in ends]
        if config.ranking_loss == "npair":
            ranking.append(log(1 + sum(exp(a @ (negative - p)) for negative in drawn)))
            squares.append(a @ a + p @ p)
        elif (loss := cosine(a, n) - cosine(a, p) + 0.5) > 0:
            ranking.append(loss)
    scale = exp(weights["log_scale"])
    coarse = info_nce([(image, sentence) for sentence, image, *_ in views], scale)
    fine = info_nce([(vision, text) for _, _, vision, text, attended in views if attended], scale)
    ranked = (sum(ranking) + 0.02 * sum(squares)) / len(COUNTED)
    return config.ranking_weight * ranked + config.alignment_weight * (coarse + fine)


OBJECTIVES = [s for s in AUTHORS if s["entity_text"] == "text"]
OBJECTIVES += [{**OBJECTIVES[0], "negatives": "own"}, {**OBJECTIVES[-1], "negatives": "own"}]
OBJECTIVES += [{**OBJECTIVES[0], "ranking_loss": "triplet"}, {**OBJECTIVES[-1], "ranking_loss": "triplet"}]


@pytest.mark.parametrize("switches", OBJECTIVES, ids=named)
def test_the_objective_of_dwe_authors_and_its_gradients_equal_loops(switches):
    made = arrays(7)
    batch = batch_of(made)
    given = {"dropout": 0.0, "hard_negatives": 1.0, "alignment_weight": 0.7, "ranking_weight": 3.0}
    head, _ = head_of("dwe_authors", **switches, **given)
    weights = {name: p.detach().clone().requires_grad_() for name, p in head.named_parameters()}
    expected = authors_objective(weights, head.config, {n: torch.from_numpy(v) for n, v in made.items()}, batch)
    found = head.train().objective(batch)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=0)
    gradients = torch.autograd.grad(expected, list(weights.values()), materialize_grads=True)
    found.backward()
    for (name, parameter), gradient in zip(head.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=1e-9, msg=name)


def test_a_new_temperature_is_that_of_clip():
    head = MODELS["dwe_authors"](DweAuthorsConfig(joint_width=P))
    assert float(head.log_scale.exp().detach()) == pytest.approx(1 / 0.07)


@BOTH
def test_what_fills_a_batch_up_changes_no_loss_and_no_gradient(name):
    made = arrays(8)
    gradients = []
    for dirty in (False, True):
        batch = batch_of(made)
        if dirty:
            for column in batch.columns.values():
                column[5] = column[0] if column.dtype == torch.bool else 7
        head, _ = head_of(name, dropout=0.0, **({"hard_negatives": 1.0} if name == "dwe_authors" else {}))
        head.objective(batch).backward()
        gradients.append([parameter.grad for parameter in head.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@BOTH
def test_a_batch_of_which_nothing_counts_has_loss_zero_and_finite_gradients(name):
    head, _ = head_of(name, dropout=0.0)
    loss = head.objective(batch_of(arrays(9), gold=[-1] * len(LABELS)))
    loss.backward()
    assert loss.item() == 0
    assert all(torch.isfinite(parameter.grad).all() for parameter in head.parameters() if parameter.grad is not None)


# negatives


def test_the_negative_is_mostly_the_likest_name_and_ties_are_drawn():
    made = arrays(10)
    made["pair.candidates.lexical"] = np.tile([0.9, 1.0, 1.0, 1.0], (len(LABELS), 1))
    batch = batch_of(made, gold=[0, 1, 1, 1, 1, 1])
    torch.manual_seed(0)
    for share, low in ((1.0, 0.0), (0.95, 0.05 / 3), (0.0, 1 / 3)):
        head, _ = head_of("dwe_authors", hard_negatives=share)
        drawn = torch.stack([head._negative(batch) for _ in range(2000)])
        assert (drawn[:, 0] == 1).all()  # its only other candidate
        assert not (drawn[:, 1:] == 1).any()
        shares = torch.stack([(drawn[:, 1:] == c).double().mean(0) for c in (0, 2, 3)])
        expected = torch.tensor([low, (1 - low) / 2, (1 - low) / 2], dtype=torch.float64)
        torch.testing.assert_close(shares, expected[:, None].expand_as(shares), rtol=0, atol=0.05)


def test_a_sampled_negative_is_any_other_candidate_alike():
    batch = batch_of(arrays(11))
    head, _ = head_of("dwe", negative="sampled", alignment_weight=0.0, triplet_margin=0.0)
    scores = torch.tensor([0.0, 0.1, 0.3, 0.7], dtype=torch.float64).expand(len(LABELS), C)
    one = Batch(
        batch.columns, batch.present & (torch.arange(len(LABELS)) == 1)[:, None], torch.tensor([0, 0] + [-1] * 4)
    )
    torch.manual_seed(0)
    found = torch.stack([head.loss(scores, one) for _ in range(3000)])
    for value in (0.1, 0.3, 0.7):
        assert float((found == value).double().mean()) == pytest.approx(1 / 3, abs=0.03)


# gradients and learning

LEARNING = [
    ("dwe", {}),
    ("dwe", {"refine": False, "alignment_weight": 0.0}),
    ("dwe", {"negative": "sampled", "entity_text": "description"}),
    ("dwe_authors", {}),
    ("dwe_authors", {"fusion": "concat", "alignment_weight": 0.0}),
    ("dwe_authors", {"fusion": "concat"}),
    ("dwe_authors", {"fusion": "gate", "shared_attention": False, "mask_padding": True, "ranking_loss": "triplet"}),
]


@pytest.mark.parametrize(("name", "switches"), LEARNING, ids=str)
def test_gradient_reaches_every_parameter(name, switches):
    head, _ = head_of(name, dropout=0.0, triplet_margin=2.0, **switches)
    head.objective(batch_of(arrays(12))).backward()
    reached = {key for key, parameter in head.named_parameters() if parameter.grad is not None and parameter.grad.any()}
    assert reached == set(dict(head.named_parameters()))


@pytest.mark.parametrize(("name", "switches"), LEARNING, ids=str)
def test_one_batch_is_learned(name, switches):
    made = arrays(13)
    for text in ("text", "description"):  # the N-pair loss compares dot products, the score is a cosine
        made[f"entity.joint.{text}"] /= np.linalg.norm(made[f"entity.joint.{text}"], axis=-1, keepdims=True) / 3
    batch = batch_of(made)
    torch.manual_seed(0)
    given = switches | ({"hard_negatives": 0.0} if name == "dwe_authors" else {})  # so that all negatives are seen
    head = MODELS[name](
        CONFIG[name](joint_width=P, attention_heads=2, dropout=0.0, triplet_margin=0.2, **given)
    ).double()
    optimizer = Adam(list(head.parameters()), Schedule(0.02))
    first = head.objective(batch).item()
    for _ in range(200):
        optimizer.zero_grad()
        loss = head.objective(batch)
        loss.backward()
        optimizer.step()
    assert (head.eval()(batch).argmax(1)[:5] == batch.gold[:5]).all()
    assert loss.item() < 0.2 * first


# masks


@BOTH
def test_padding_candidates_change_no_score(name):
    batch = batch_of(arrays(14))
    head, _ = head_of(name)
    before = head(batch)
    batch[head.projects[0]][0, 2:] = 7
    assert torch.equal(head(batch), before)


@pytest.mark.parametrize(("name", "switches"), [("dwe", {}), ("dwe", {"refine": False}), ("dwe_authors", {})], ids=str)
def test_other_mentions_change_no_score(name, switches):
    made = arrays(15)
    head, _ = head_of(name, **switches)
    whole = head(batch_of(made))
    for row in range(len(LABELS)):
        batch = batch_of(made)
        some = slice(row, row + 1)
        alone = Batch({n: v[some] for n, v in batch.columns.items()}, batch.present[some], batch.gold[some])
        torch.testing.assert_close(head(alone), whole[some], rtol=0, atol=1e-12)


def test_what_is_not_there_changes_nothing_in_dwe():
    made = arrays(16)
    head, _ = head_of("dwe")
    before = head(batch_of(made))
    made["mention.crops.vector"][LABELS == 0] = 7
    made["joint_token.joint.vector"][~made["joint_token.joint.present"]] = 7
    for column in ("crops.vector", "attributes.faces", "attributes.scene", "joint.image"):
        made[f"mention.{column}"][1] = 7  # its picture is missing
    torch.testing.assert_close(head(batch_of(made)), before, rtol=0, atol=1e-12)


def test_a_mention_without_picture_objects_or_tokens_still_has_a_score_and_a_gradient():
    made = arrays(17)
    made["joint_token.joint.present"][:] = False
    made["joint_token.joint.vector"][:] = 0
    made["mention.joint.present"][:] = False
    head, weights = head_of("dwe")
    batch = batch_of(made)
    expected = Oracle(weights, head.config).linear("out", made["mention.joint.mention"][1])
    np.testing.assert_allclose(head.embed(batch)[1].detach().numpy(), expected, rtol=0, atol=1e-12)
    head.objective(batch).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in head.parameters() if parameter.grad is not None)


def test_zeros_are_attended_in_dwe_authors_unless_masked():
    longer = arrays(18)
    for name in ("mention.crops.vector", "mention.crops.labels"):
        column = longer[name]
        longer[name] = np.concatenate([column, np.zeros_like(column[:, :2])], 1)
    for masked, same in ((True, [True] * 6), (False, [False, True, True, True, False, False])):  # three have no person
        head, _ = head_of("dwe_authors", mask_padding=masked)
        short, wide = head(batch_of(arrays(18))), head(batch_of(longer))
        assert torch.isclose(short, wide, rtol=0, atol=1e-12).all(1).tolist() == same


# switches


def test_without_refining_the_raw_crops_are_read():
    made = arrays(19)
    refined, _ = head_of("dwe")
    raw, weights = head_of("dwe", refine=False)
    assert {n for n in refined.state_dict() if n not in weights} == {
        n for n in refined.state_dict() if n.startswith("attributes.")
    }
    refined.load_state_dict(weights_as_tensors(weights), strict=False)
    batch = batch_of(made)
    crops = batch["mention.crops.vector"].clone()
    refined.attributes.forward = lambda objects, vectors, there: (crops, None)
    torch.testing.assert_close(refined(batch), raw(batch), rtol=0, atol=1e-12)
    for name in ("faces", "scene"):
        batch[f"mention.attributes.{name}"][:] = 7
    assert torch.equal(raw(batch), raw(batch_of(made)))


def weights_as_tensors(weights):
    return {name: torch.from_numpy(value.copy()) for name, value in weights.items()}


@BOTH
def test_without_the_alignment_loss_the_objective_is_the_ranking_loss(name):
    batch = batch_of(arrays(20))
    given = {"dropout": 0.0} | ({"hard_negatives": 1.0, "ranking_weight": 1.0} if name == "dwe_authors" else {})
    values = []
    for weight in (0.0, 1.0, 2.0):
        head, _ = head_of(name, alignment_weight=1.0, **given)
        head.config = dataclasses.replace(head.config, alignment_weight=weight)
        values.append(head.objective(batch).item())
    assert values[2] - values[1] == pytest.approx(values[1] - values[0], abs=1e-9)
    assert values[1] - values[0] > 0.1
    if name == "dwe":
        assert values[0] == pytest.approx(head.loss(head(batch), batch).item(), abs=1e-12)
    assert "log_scale" not in head_of(name, alignment_weight=0.0)[1]


def test_help_names_the_default_of_each_head():
    run = CliRunner().invoke(app, ["compare", "--models", "dwe,dwe_authors", "--help"], env={"COLUMNS": "300"})
    words = " ".join(run.stdout.split())
    assert "only objects that are persons [default: no; dwe_authors: yes]" in words
    assert re.search(r"--triplet-margin <float> [^\[]*\[default: 0.5\]", words)
    assert re.search(r"--dropout <float> [^\[]*\[default: 0.4\]", words)


@pytest.mark.parametrize(
    ("switches", "in_training", "in_evaluation"),
    [
        ({}, (2, 2, 1), (2, 1, 1)),
        ({"alignment_weight": 0.0}, (2, 1, 1), (2, 1, 1)),
        ({"fusion": "concat"}, (2, 2, 1), (2, 1, 0)),
        ({"fusion": "concat", "alignment_weight": 0.0}, (2, 1, None), (2, 1, None)),
    ],
    ids=str,
)
def test_dwe_authors_computes_nothing_twice_and_nothing_that_is_not_read(switches, in_training, in_evaluation):
    head, _ = head_of("dwe_authors", **switches)
    layers = ("text_trans", "img_trans", "attention")
    calls = Counter()
    for name in layers:
        if hasattr(head, name):
            getattr(head, name).register_forward_hook(lambda *_, name=name: calls.update([name]))
    for run, expected in ((head.objective, in_training), (head, in_evaluation)):
        calls.clear()
        run(batch_of(arrays(23)))
        assert tuple(calls[name] if hasattr(head, name) else None for name in layers) == expected


@BOTH
def test_the_description_is_read_only_where_it_is_asked_for(name):
    kind = CONFIG[name]
    assert kind().more == ()
    assert kind(entity_text="description").more == CHOICES[name]
    assert MODELS[name](kind(entity_text="description")).projects == ("entity.joint.description",)
    assert MODELS[name](kind()).projects == ("entity.joint.text",)
    assert "entity.joint.text" in READS[name]


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("dwe", {"attention_heads": 0}, "--attention-heads is 0; it must be at least 1"),
        ("dwe", {"dropout": 1.0}, "--dropout is 1; it must be 0 or more and less than 1"),
        ("dwe", {"triplet_margin": -1.0}, "--triplet-margin is -1"),
        ("dwe", {"alignment_weight": -1.0}, "--alignment-weight is -1; it must be 0 or more"),
        ("dwe", {"alignment_temperature": 0.0}, "--alignment-temperature is 0; it must be positive"),
        ("dwe_authors", {"ranking_weight": 0.0}, "--ranking-weight is 0; it must be positive"),
        ("dwe_authors", {"hard_negatives": 1.5}, "--hard-negatives is 1.5; it must be from 0 to 1"),
        (
            "dwe_authors",
            {"attention_heads": 7},
            "--attention-heads 7 does not divide 512, the width of the cache's CLIP vectors",
        ),
    ],
)
def test_what_the_heads_refuse(name, given, message):
    with pytest.raises(ConfigError, match=message):
        MODELS[name](CONFIG[name](**given))


# training


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """Return a function from signal and candidates to a small cache with the columns of both heads."""

    @functools.cache
    def cache_of(signal, candidates=10):
        path = tmp_path_factory.mktemp("dwe") / f"{signal}-{candidates}"
        write(path, Synthetic(1500, 300, candidates, signal, 0, ",".join(CONFIG), joint_width=16))
        return path

    return cache_of


def fit(path, run, name, head=None, **given):
    options = {"dataset": str(path), "run": run, "device": "cpu", "model": name, "epochs": 2, "batch": 64, "threads": 1}
    return loop.fit(TrainConfig(**options | {"learning_rate": 3e-3, "warm_up": 0} | given), head or CONFIG[name]())


@BOTH
@pytest.mark.parametrize("candidates", [10, 100])
def test_noise_stays_at_chance(caches, tmp_path, name, candidates):
    found = fit(caches(0.0, candidates), tmp_path, name, seeds=(0, 1, 2))
    deviation = np.sqrt(1 / candidates * (1 - 1 / candidates) / 150)
    for seed in found["seeds"]:
        assert abs(seed["test"]["top1"] - 1 / candidates) < 5 * deviation


@pytest.mark.parametrize(("name", "least"), [("dwe", 0.7), ("dwe_authors", 0.5)])
def test_signal_is_learned(caches, tmp_path, name, least):
    head = CONFIG[name](dropout=0.0)
    assert fit(caches(0.6), tmp_path, name, head, epochs=8)["mean"]["test"]["top1"] > least


def table_of(path, name):
    return Table(melcache.open(path), name, CPU, more=CHOICES[name])


STACKED = {"dwe": {}, "dwe_authors": {"hard_negatives": 1.0}}


@BOTH
def test_stacked_seeds_equal_each_alone(caches, name):
    table = table_of(caches(0.6), name)
    head = CONFIG[name](joint_width=16, dropout=0.0, **STACKED[name])
    rows = torch.arange(40).view(2, 20)
    stack = Stack(lambda: MODELS[name](head), (1, 2), CPU)
    stack.losses(table.batch(rows)).sum().backward()
    for i, seed in enumerate((1, 2)):
        alone = Stack(lambda: MODELS[name](head), (seed,), CPU)
        alone.losses(table.batch(rows[i])).sum().backward()
        for key, parameter in alone.parameters.items():
            torch.testing.assert_close(stack.parameters[key].grad[i], parameter.grad, rtol=1e-4, atol=1e-5)


@BOTH
def test_stacked_seeds_drop_different_numbers(caches, name):
    table = table_of(caches(0.6), name)
    stack = Stack(lambda: MODELS[name](CONFIG[name](joint_width=16)), (1, 1), CPU)
    losses = stack.losses(table.batch(torch.arange(20).expand(2, 20)))
    assert losses[0] != losses[1]


class Killed(BaseException):
    """A kill between two epochs, without a second process."""


@BOTH
@pytest.mark.parametrize("together", ["yes", "no"])
def test_a_killed_run_with_dropout_ends_bit_by_bit_like_an_uninterrupted_one(
    caches, tmp_path, monkeypatch, name, together
):
    options = {"seeds": (0, 1), "together": together, "epochs": 3, "warm_up": 20, "decay": True, "clip_norm": 1.0}
    options |= {"weight_decay": 1e-3, "batch": 128}
    whole = fit(caches(0.6), tmp_path / "whole", name, **options)
    real, kept = Checkpoints.keep, []

    def keep(self, tensors, what):
        real(self, tensors, what)
        kept.append(what["epoch"])
        if len(kept) == 2:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("train.optimizing.training_state.CHECKPOINT_SHARE", 1e9)
        patched.setattr(Checkpoints, "keep", keep)
        with pytest.raises(Killed):
            fit(caches(0.6), tmp_path / "cut", name, **options)
    resumed = fit(caches(0.6), tmp_path / "cut", name, **options)
    assert [seed["history"] for seed in resumed["seeds"]] == [seed["history"] for seed in whole["seeds"]]


@BOTH
@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_a_step_waits_for_nothing(caches, name, seeds):
    table = table_of(caches(0.6), name)
    stack = Stack(lambda: MODELS[name](CONFIG[name](joint_width=16)), seeds, CPU)
    schedule = Schedule(1e-3, warm_up=5, decay_to=50, weight_decay=1e-3, clip_norm=1.0)
    step = Step(stack, Adam(list(stack.parameters.values()), schedule, stacked=len(seeds) > 1), World(), "float32")
    rows = torch.arange(16).expand(len(seeds), 16).squeeze(0)
    step(table.batch(rows), 1.0)
    with Count() as counted:
        step(table.batch(rows), 1.0)
    assert not counted.waits


@BOTH
@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_bfloat16_is_close_to_float32(caches, name, seeds):
    table = table_of(caches(0.6), name)
    batch = table.batch(torch.arange(32).expand(len(seeds), 32).squeeze(0))
    head = CONFIG[name](joint_width=16, dropout=0.0, **STACKED[name])
    found = {}
    for precision in ("float32", "bfloat16"):
        stack = Stack(lambda: MODELS[name](head), seeds, CPU)
        step = Step(stack, Adam(list(stack.parameters.values()), Schedule(0.0)), World(), precision)
        loss = step(batch, 1.0).mean()
        found[precision] = float(loss), torch.cat([p.grad.flatten() for p in stack.parameters.values()])
    (exact, expected), (loss, gradient) = found.values()
    assert loss == pytest.approx(exact, rel=0.05)
    assert loss != exact
    assert torch.nn.functional.cosine_similarity(expected, gradient, dim=0) > 0.99
