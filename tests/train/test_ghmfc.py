"""The forms of ghmfc against loops in float64 written from their equations: scores, losses and all gradients."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import ConfigError
from train.data.batch import Batch
from train.heads.ghmfc.co_attention import UnbiasedNorm
from train.heads.ghmfc.config import GhmfcConfig
from train.heads.models import MODELS
from train.layers.losses import between_modalities

TEXT, IMAGE, REGIONS, LONGEST, LONG = 6, 4, 3, 7, 9  # texts are filled up from 7 to 9 tokens
SMALL = {"text_width": TEXT, "image_width": IMAGE, "width": 8, "attention_heads": 2, "dropout": 0.0}
LONGER = {"tokens": LONG, "hard_negatives": 1.0}
RELEASED = GhmfcConfig(**SMALL, **LONGER, ghmfc="released", window=5)
LIGHT = GhmfcConfig(**SMALL, **LONGER, ghmfc="light")
VARIANTS = {
    "original": GhmfcConfig(**SMALL),
    "original, linear, mention": GhmfcConfig(**SMALL, entity="linear", mention_token=True, ranking_loss="margin"),
    "released": RELEASED,
    "released, masked, mention": replace(RELEASED, padding="masked", mention_token=True, phrases=False),
    "released, pooled, mention": replace(RELEASED, mention_token=True, contrastive=0.5, entity_vector="mean"),
    "decoder, pooled": replace(RELEASED, blocks="decoder", window=0, partners=True, ranking_loss="triplet"),
    "light": LIGHT,
    "light, pooler": replace(LIGHT, entity_vector="pooler", ranking_loss="margin"),
    "light, masked, cls, mention": replace(LIGHT, padding="masked", entity="cls", mention_token=True),
}
GOLD = torch.tensor([1, 0, 3, 2, -1])


def batch_of(seed=0):
    """Mention 0 has padding, 1 no picture, 4 no gold in its list; mention 3 has the longest sentence."""
    rng = np.random.default_rng(seed)
    words = torch.arange(LONGEST) < torch.tensor([5, 4, 6, LONGEST, 3])[:, None]
    picture = torch.arange(5) != 1

    def normal(*shape):
        return torch.from_numpy(rng.normal(size=(5, *shape)))

    columns = {
        "mention.text.span": normal(TEXT),
        "token.text.vector": normal(LONGEST, TEXT) * words[..., None],
        "token.text.present": words,
        "mention.regions.vector": normal(REGIONS, IMAGE) * picture[:, None, None],
        "mention.regions.present": picture,
        "pair.candidates.lexical": torch.from_numpy(rng.uniform(size=(5, 4))),
        **{f"entity.text.{name}": normal(4, TEXT) for name in ("sentence", "mean", "pooler")},
    }
    present = torch.ones(5, 4, dtype=torch.bool)
    present[0, 2:] = False
    return Batch(columns, present, GOLD)


def new(variant, seed=0, **changed):
    """Return a head whose weights hide no mistake, none being 0 or 1."""
    torch.manual_seed(seed)
    head = MODELS["ghmfc"](replace(VARIANTS[variant], **changed)).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return head


# the equations once more, one mention at a time: its tokens and regions are the rows of matrices, nothing is masked


class Oracle:
    """Weights by name, and what the equations name."""

    def __init__(self, weights, config):
        self.weights, self.config = weights, config.resolved

    def linear(self, name, x):
        return x @ self.weights[f"{name}.weight"].T + self.weights.get(f"{name}.bias", 0)

    def norm(self, name, x, *, unbiased=False):
        away = x - x.mean(-1, keepdim=True)
        squares, width = (away**2).sum(-1, keepdim=True), x.shape[-1]
        deviation = (squares / (width - 1)).sqrt() + 1e-6 if unbiased else (squares / width + 1e-5).sqrt()
        return away / deviation * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def own_norm(self, name, x):
        return self.norm(name, x, unbiased=self.config.blocks == "released")

    def projection(self, name, x):
        return self.norm(f"{name}.2", self.linear(f"{name}.0", x).clamp(min=0))

    def attention(self, name, x, memory):
        """What each of x reads in memory, head by head."""
        query, key, value = (
            self.linear(f"{name}.{kind}", rows) for kind, rows in (("query", x), ("key", memory), ("value", memory))
        )
        found = []
        for own in torch.arange(query.shape[1]).chunk(self.config.attention_heads):
            exponents = (query[:, own] @ key[:, own].T / math.sqrt(len(own))).exp()
            found.append(exponents @ value[:, own] / exponents.sum(1, keepdim=True))
        return self.linear(f"{name}.out", torch.cat(found, 1))

    def stack(self, name, x, own, memory):
        """All layers; of x only the rows at the places `own` are read."""
        for layer in range(self.config.attention_layers):
            here = f"{name}.layers.{layer}"
            normal = self.own_norm(f"{here}.within_norm", x) if self.config.blocks == "decoder" else x
            asking = x + self.attention(f"{here}.within", normal, normal[own])
            if self.config.blocks == "decoder":
                x, asking = asking, self.own_norm(f"{here}.across_norm", asking)
            if len(memory):
                x = x + self.attention(f"{here}.across", asking, memory)
            hidden = self.linear(f"{here}.feed.0", self.own_norm(f"{here}.feed_norm", x)).clamp(min=0)
            x = x + self.linear(f"{here}.feed.3", hidden)
        return self.own_norm(f"{name}.norm", x)

    def tokens(self, one):
        """The vectors of a sentence, and the places of those that are tokens."""
        count = int(one["token.text.present"].sum())
        rows, words = list(one["token.text.vector"][:count]), [True] * count
        if self.config.padding == "pooled":
            rows += [torch.zeros(TEXT, dtype=torch.float64)] * (LONG - count)
            words += [False] * (LONG - count)
        if self.config.mention_token:
            place = 1 if self.config.window else 0
            rows.insert(place, one["mention.text.span"])
            words.insert(place, True)
        return torch.stack(rows), [place for place, word in enumerate(words) if word]

    def phrases(self, text):
        nothing, found = torch.zeros_like(text[0]), []
        for i, token in enumerate(text):
            before, after = (text[j] if 0 <= j < len(text) else nothing for j in (i - 1, i + 1))
            grams = ([token], [token, before], [token, before, after])
            each = [self.projection(f"fusion.phrases.grams.{n}", torch.cat(gram)) for n, gram in enumerate(grams)]
            found.append(torch.stack(each).amax(0))
        return torch.stack(found)

    def co_attention(self, one):
        """The filtered vector of a mention, and the means of t and v."""
        vectors, places = self.tokens(one)
        text = self.projection("fusion.token", vectors)
        regions = self.projection("fusion.region", one["mention.regions.vector"])
        means = text.mean(0), regions.mean(0)
        if self.config.window:
            text = text[1 : 1 + self.config.window]
            places = [place - 1 for place in places if 1 <= place <= self.config.window]
        levels, own, seen = {"words": text}, 0, 0
        if self.config.phrases:
            levels["phrase_level"] = self.phrases(text)
        regions = regions if one["mention.regions.present"] else regions[:0]
        for level, x in levels.items():
            refined = regions
            if len(regions):
                refined = self.stack(f"fusion.{level}.regions", regions, range(len(regions)), x[places])
                seen = seen + refined.amax(0)
            own = own + self.stack(f"fusion.{level}.text", x, places, refined).amax(0)
        own = fused = self.norm("fusion.pooled.0", own)
        if len(regions):
            seen = self.norm("fusion.pooled.1", seen)
            gates = torch.cat([self.linear("fusion.gate", own), self.linear("fusion.gate", seen)]).exp()
            fused = (gates[0] * own + gates[1] * seen) / gates.sum()
        return self.linear("fusion.filter", torch.cat([own, fused])).clamp(min=0), means

    def light(self, one):
        """The vector of a mention in DRIN's version."""
        text, places = self.tokens(one)
        regions, both = one["mention.regions.vector"], []
        for i, (side, x, own, memory) in enumerate(
            (("text", text, text[places], regions), ("image", regions, regions, text[places]))
        ):
            here = f"fusion.{side}"
            read = self.norm(f"{here}.norms.0", self.attention(f"{here}.across", x, memory))
            read = self.norm(f"{here}.norms.1", read + self.linear(f"{here}.feeds.0", read))
            read = self.norm(f"{here}.norms.2", self.attention(f"{here}.within", read, own))
            read = self.norm(f"{here}.norms.3", read + self.linear(f"{here}.feeds.1", read))
            one_side = self.linear(f"fusion.sides.{i}", read.amax(0))
            both.append(0.5 * one_side * (1 + torch.erf(one_side / math.sqrt(2))))
        shares = self.linear("fusion.score", torch.cat(both)).exp()
        return (shares[0] * both[0] + shares[1] * both[1]) / shares.sum()

    def ends(self, batch):
        """The vectors of mentions and of their candidates, and the means of t and v."""
        mentions, means = [], []
        for row in range(len(GOLD)):
            one = {name: column[row] for name, column in batch.columns.items()}
            vector, mean = (self.light(one), None) if self.config.blocks == "light" else self.co_attention(one)
            mentions.append(self.linear("mention", vector) if self.config.entity == "cls" else vector)
            means.append(mean)
        entities = batch[f"entity.text.{self.config.entity_vector}"]
        return mentions, self.linear("entity", entities) if self.config.entity == "linear" else entities, means

    def ranking(self, batch, mentions, entities):
        """The ranking loss, one pair of scores at a time."""
        listed = [(b, c) for b, c in np.ndindex(*batch.present.shape) if batch.present[b, c]]
        score = {(b, c): cosine(mentions[b], entities[b, c]) for b, c in listed}
        kind, terms = self.config.ranking_loss, []
        for b, gold in enumerate(GOLD.tolist()):
            others = [place for place in listed if place[0] == b and place[1] != gold]
            if kind == "candidates":
                positive = score[b, gold] if gold >= 0 else 0
                terms.append(sum((score[place] - positive + 0.25).clamp(min=0) for place in listed) / len(listed))
            elif gold >= 0 and kind == "margin":
                mean = sum(score[place] for place in others) / len(others)
                terms.append((mean - score[b, gold] + 0.25).clamp(min=0))
            elif gold >= 0 and kind == "triplet":
                terms.append(sum((score[place] - score[b, gold] + 0.5).clamp(min=0) for place in others) / len(others))
            elif gold >= 0:
                drawn = max(others, key=lambda place: float(batch["pair.candidates.lexical"][place]))
                gold, other = (cosine(mentions[b], entities[b, c], 1e-5) for c in (gold, drawn[1]))
                terms.append((other - gold + 0.5).clamp(min=0))
        return sum(terms) / len(terms)

    def objective(self, batch):
        mentions, entities, means = self.ends(batch)
        loss = self.ranking(batch, mentions, entities)
        if self.config.contrastive:
            loss = loss + self.config.contrastive * contrasted([means[0], *means[2:4]], self.config.partners)
        return loss


def cosine(x, y, more=0.0):
    return x @ y / (x.norm() * y.norm() + more)


def contrasted(pairs, partners):
    """The mean of -log of a partner's share among the others, of both modalities, with or without it."""
    vectors, terms = [*(text for text, _ in pairs), *(image for _, image in pairs)], []
    for i, own in enumerate(vectors):
        exponents = [(cosine(own, other) / 0.6).exp() for other in vectors]
        partner = (i + len(pairs)) % len(vectors)
        rest = sum(e for j, e in enumerate(exponents) if j != i and (partners or j != partner))
        terms.append(-(exponents[partner] / rest).log())
    return sum(terms) / len(terms)


@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_equal_loops(variant):
    head, batch = new(variant, 1), batch_of(1)
    weights = {name: p.detach() for name, p in head.named_parameters()}
    mentions, entities, _ = Oracle(weights, head.config).ends(batch)
    expected = torch.stack(
        [torch.stack([cosine(m, e) for e in row]) for m, row in zip(mentions, entities, strict=True)]
    )
    torch.testing.assert_close(head(batch), expected.masked_fill(~batch.present, -torch.inf), rtol=0, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_and_gradients_equal_loops(variant):
    head, batch = new(variant), batch_of()
    weights = {name: p.detach().clone().requires_grad_() for name, p in head.named_parameters()}
    found, expected = head.objective(batch), Oracle(weights, head.config).objective(batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    gradients = torch.autograd.grad(expected, list(weights.values()))
    found.backward()
    for (name, parameter), gradient in zip(head.named_parameters(), gradients, strict=True):
        assert gradient.abs().max() > 1e-9, name
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=1e-12, msg=name)


def test_without_partners_one_mention_has_no_loss():
    first, second = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    for counted in (1, 0):
        loss = between_modalities(first, second, torch.arange(4) < counted, 0.6, partners=False)
        (gradient,) = torch.autograd.grad(loss, first)
        assert loss.item() == 0
        assert torch.isfinite(gradient).all()


def test_the_norm_of_equal_numbers_has_a_finite_gradient():
    x = torch.ones(2, 8, dtype=torch.float64, requires_grad=True)
    found = UnbiasedNorm(8).double()(x)
    found.sum().backward()
    assert not found.any()
    assert torch.isfinite(x.grad).all()


# what the forms are


def test_light_has_the_parameters_of_drins_baseline():
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in MODELS["ghmfc"](GhmfcConfig(ghmfc="light")).parameters())
    # theirs also has biases of keys, which add the same to all logits of a softmax
    assert count + 2 * (768 + 2048) == 47_373_058


def test_a_form_decides_only_what_is_not_given():
    original = {"padding": "masked", "window": 0, "phrases": True, "contrastive": 1.0, "partners": True}
    original |= {"entity": "cls", "entity_vector": "sentence", "width": 512, "tokens": 32, "dropout": 0.4}
    assert GhmfcConfig().resolved == GhmfcConfig(blocks="decoder", ranking_loss="triplet", **original)
    given = GhmfcConfig(ghmfc="released", phrases=False, tokens=40)
    changed = {"padding": "pooled", "window": 32, "partners": False, "phrases": False, "tokens": 40, "dropout": 0.3}
    assert given.resolved == replace(given, **original | changed, blocks="released", ranking_loss="drawn")
    light = GhmfcConfig(ghmfc="light", entity_vector="pooler").resolved
    assert (light.blocks, light.entity, light.entity_vector, light.width) == ("light", "linear", "pooler", 768)
    assert (light.tokens, light.ranking_loss, light.contrastive, light.dropout) == (128, "candidates", 0, 0.1)
    assert light.more == ("entity.text.pooler",)
    assert [GhmfcConfig(ghmfc=form).learns_without_gold for form in ("original", "released", "light")] == [0, 0, 1]


@pytest.mark.parametrize("given", [{"phrases": True}, {"contrastive": 0.5}, {"window": 4}], ids=str)
def test_light_has_no_part_of_the_others(given):
    with pytest.raises(ConfigError, match=f"--{next(iter(given))} is no part of DRIN's light version of ghmfc"):
        GhmfcConfig(ghmfc="light", **given)


def test_the_heads_of_light_divide_the_caches_widths():
    with pytest.raises(ConfigError, match=r"--attention-heads 8 does not divide 500, the width of the cache's picture"):
        MODELS["ghmfc"](GhmfcConfig(768, 500, ghmfc="light"))


@torch.no_grad()
def test_weights_begin_as_those_of_the_codes_do():
    torch.manual_seed(0)
    width, wide = 96, 192
    released = MODELS["ghmfc"](GhmfcConfig(wide, wide, ghmfc="released", width=width, attention_layers=1)).fusion
    pairs = [(released.token[0].weight, nn.init.xavier_uniform_(torch.empty(width, wide)))]
    pairs += [
        (gram[0].weight, nn.init.xavier_uniform_(nn.Conv1d(width, width, n).weight))
        for n, gram in enumerate(released.phrases.grams, start=1)
    ]
    light = MODELS["ghmfc"](GhmfcConfig(width, wide, ghmfc="light", width=width)).fusion.text
    across, within = nn.MultiheadAttention(width, 8, kdim=wide, vdim=wide), nn.MultiheadAttention(width, 8)
    pairs += [(light.across.query.weight, across.q_proj_weight), (light.across.key.weight, across.k_proj_weight)]
    pairs += [(getattr(light.within, name).weight, within.in_proj_weight) for name in ("query", "key", "value")]
    for ours, theirs in pairs:
        assert float(ours.std()) == pytest.approx(float(theirs.std()), rel=0.03)
    for attention in (light.across, light.within):
        assert not any(layer.bias.any() for layer in (attention.query, attention.value, attention.out))
