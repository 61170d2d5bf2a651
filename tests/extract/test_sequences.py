"""dzmned and mel_hi against loops of their equations; what they and ghmfc must not see; tables of sequences."""

import functools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import melcache
from bench.measuring.kernels import Count
from cache.writing.synth import Synthetic, write
from common.errors import CacheError, ConfigError
from train import loop
from train.cli import app
from train.config import TrainConfig
from train.data.batch import Batch
from train.data.features.sequences import Sequences
from train.data.table import Table
from train.heads.dzmned.config import DzmnedConfig
from train.heads.ghmfc.config import GhmfcConfig
from train.heads.mel_hi.config import MelHiConfig
from train.heads.models import MODELS, build
from train.heads.with_lexical import START
from train.layers.losses import between_modalities, triplet
from train.optimizing.adam import Adam, Schedule
from train.optimizing.stacked_seeds import Stack
from train.optimizing.step import Step
from train.prepare import with_widths
from train.processes import World

CPU = torch.device("cpu")
TEXT, IMAGE, REGIONS, TOKENS = 6, 5, 3, 7
WIDTHS = {"text_width": TEXT, "image_width": IMAGE}
SMALL = {**WIDTHS, "width": 8, "attention_heads": 2, "dropout": 0.0}
VARIANTS = {
    "dzmned": DzmnedConfig(**WIDTHS, width=6, character_width=4),
    "mel_hi": MelHiConfig(**WIDTHS, width=4, lstm_width=5, threshold=-0.1),
    "mel_hi, closed": MelHiConfig(**WIDTHS, width=4, threshold=1.0),
    "ghmfc": GhmfcConfig(**SMALL),
    "ghmfc released": GhmfcConfig(**SMALL, ghmfc="released", tokens=9, window=5, hard_negatives=1.0),
    "ghmfc light": GhmfcConfig(**SMALL | {"attention_heads": 1}, ghmfc="light", tokens=9),
    "ghmfc, linear, mention": GhmfcConfig(
        **SMALL, entity="linear", mention_token=True, ranking_loss="margin", contrastive=0
    ),
}


def new(variant, seed=0, **changed):
    torch.manual_seed(seed)
    return MODELS[name_of(variant)](replace(VARIANTS[variant], **changed)).double()


def name_of(variant):
    return variant.replace(",", "").split()[0]


def random_batch(seed=0, count=6, candidates=4):
    """Mention 0 has padding, 1 no picture, 2 no span, 3 a span at the end of its tokens, 5 no gold."""
    rng = np.random.default_rng(seed)
    lengths = np.array([7, 4, 5, 6, 3, 7])[:count]
    words = np.arange(TOKENS) < lengths[:, None]
    picture = np.arange(count) != 1
    pictured = rng.uniform(size=(count, candidates)) > 0.3
    pictured[:, 0] = True
    names = ["".join(rng.choice([*"abcdeΩ"], rng.integers(1, 4))) for _ in range(count * candidates)]
    columns = {
        "mention.text.span": rng.normal(size=(count, TEXT)),
        "mention.text.sentence": rng.normal(size=(count, TEXT)),
        "token.text.vector": rng.normal(size=(count, TOKENS, TEXT)) * words[..., None],
        "token.text.present": words,
        "mention.tokens.start": np.array([2, 1, -1, 4, 1, 3], np.int32)[:count],
        "mention.tokens.end": np.array([4, 3, -1, 6, 2, 4], np.int32)[:count],
        "mention.image.vector": rng.normal(size=(count, IMAGE)) * picture[:, None],
        "mention.image.present": picture,
        "mention.regions.vector": rng.normal(size=(count, REGIONS, IMAGE)) * picture[:, None, None],
        "mention.regions.present": picture,
        "mention.ids.surface": strings(["Elis", "a", "Ω!", "Bob", "", "Carlos"][:count]),
        "entity.text.sentence": rng.normal(size=(count, candidates, TEXT)),
        "entity.image.vector": rng.normal(size=(count, candidates, IMAGE)) * pictured[..., None],
        "entity.image.present": pictured,
        "entity.ids.name": strings(names).reshape(count, candidates, 6),
        "pair.candidates.lexical": rng.uniform(size=(count, candidates)),
        "entity.text.mean": rng.normal(size=(count, candidates, TEXT)),
    }
    present = np.ones((count, candidates), bool)
    present[0, 2:] = False
    gold = np.array([1, 0, 3, 2, 1, -1])[:count]
    tensors = {name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in columns.items()}
    return Batch(tensors, torch.from_numpy(present), torch.from_numpy(gold))


def strings(values):
    return np.array([value.encode() for value in values], "S6").view(np.uint8).reshape(len(values), 6)


def part_of(batch, rows):
    return Batch({name: column[rows] for name, column in batch.columns.items()}, batch.present[rows], batch.gold[rows])


# the equations once more, in numpy, one mention and one candidate at a time


class Weights:
    """Weights of a model by name: `w("a.b", x)` is the linear layer a.b of x."""

    def __init__(self, model):
        self.of = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}

    def __call__(self, name, x):
        return self.of[f"{name}.weight"] @ x + self.of.get(f"{name}.bias", 0)

    def norm(self, name, x):
        spread = math.sqrt(np.mean((x - x.mean()) ** 2) + 1e-5)
        return (x - x.mean()) / spread * self.of[f"{name}.weight"] + self.of[f"{name}.bias"]

    def projection(self, name, x):
        return self.norm(f"{name}.2", np.maximum(self(f"{name}.0", x), 0))


def cosine(x, y):
    return x @ y / max(math.sqrt(x @ x) * math.sqrt(y @ y), 1e-30)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


def gelu(x):
    return np.array([0.5 * value * (1 + math.erf(value / math.sqrt(2))) for value in x])


def lstm(gates, recurrent):
    """Last state of an LSTM; gates are what the inputs add to its four gates."""
    width = recurrent.shape[1]
    state, memory = np.zeros(width), np.zeros(width)
    for given in gates:
        enter, keep, cell, leave = np.split(given + recurrent @ state, 4)
        memory = sigmoid(keep) * memory + sigmoid(enter) * np.tanh(cell)
        state = sigmoid(leave) * np.tanh(memory)
    return state


def dzmned_score(config, w, one, candidate):
    def characters(text):
        text = [0, *(byte for byte in text if byte), 0]
        tables = [w.of[f"characters.tables.{i}.weight"] for i in range(3)]
        trigrams = [text[i : i + 3] for i in range(len(text) - 2)] or [[0, 0, 0]]
        return np.max([sum(table[byte] for table, byte in zip(tables, read, strict=True)) for read in trigrams], axis=0)

    k = characters(one["mention.ids.surface"])
    modalities = [w("word", one["mention.text.span"]), w("character", k)]
    modalities.append(w("image", one["mention.image.vector"]) if one["mention.image.present"] else 0 * modalities[0])
    attention = softmax(sigmoid(w("attention", np.concatenate(modalities))))
    fused = sum(a * modality for a, modality in zip(attention, modalities, strict=True))
    combined = cosine(fused, w("entity", one["entity.text.sentence"][candidate]))
    return (combined + cosine(k, characters(one["entity.ids.name"][candidate]))) / 2


def mel_hi_score(config, w, one, candidate):
    tokens = one["token.text.vector"][one["token.text.present"]]
    begin, end = one["mention.tokens.start"], one["mention.tokens.end"]
    if begin < 0:
        begin = end = len(tokens)
    picture = w("image", one["mention.image.vector"])
    alike = [
        cosine(one["mention.image.vector"], image) > config.threshold
        for image, there in zip(one["entity.image.vector"], one["present"], strict=True)
        if there
    ]
    if not (cosine(one["mention.text.sentence"], picture) > config.threshold and any(alike)):
        picture = np.zeros(config.text_width)
    into = np.concatenate([w.of["token.weight"], w.of["constant.weight"]], 1)
    contexts = []
    for context in (tokens[:begin], tokens[end:]):
        read = [np.concatenate([token, one["mention.text.span"], picture]) for token in context]
        contexts.append(lstm([into @ x + w.of["constant.bias"] for x in read], w.of["lstm.recurrent.weight"]))
    entity = np.concatenate(
        [one["entity.text.sentence"][candidate], w("image", one["entity.image.vector"][candidate])],
    )
    return cosine(w("mention", np.concatenate(contexts)), w("entity", entity))


ORACLES = {"dzmned": dzmned_score, "mel_hi": mel_hi_score}


def oracle(variant, model, batch):
    """Scores (B, C) of the loops above; padding is -inf."""
    score, weights = ORACLES[name_of(variant)], Weights(model)
    found = np.full(batch.present.shape, -np.inf)
    for row in range(len(found)):
        one = {name: column[row].numpy() for name, column in batch.columns.items()} | {
            "present": batch.present[row].numpy()
        }
        for candidate in np.flatnonzero(one["present"]):
            found[row, candidate] = score(VARIANTS[variant], weights, one, candidate)
    return found


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name_of(name) in ORACLES])
def test_scores_equal_loops(variant):
    for seed in range(3):
        model, batch = new(variant, seed), random_batch(seed)
        np.testing.assert_allclose(model(batch).detach().numpy(), oracle(variant, model, batch), rtol=0, atol=1e-12)


def test_the_gate_of_mel_hi_is_open_for_some_and_closed_for_others():
    model, batch = new("mel_hi"), random_batch()
    used = model._picture(batch).any(-1)
    assert used.any()
    assert not used[1]
    assert not used[torch.arange(6) != 1].all()
    assert not new("mel_hi, closed")._picture(batch).any()


def test_triplet_equals_a_loop_over_negatives():
    rng = np.random.default_rng(0)
    scores, present = rng.normal(size=(5, 4)) / 2, rng.uniform(size=(5, 4)) > 0.3
    gold = np.array([0, 2, -1, 1, 3])
    present[np.arange(5), np.maximum(gold, 0)] = True
    present[4, :3] = False
    losses = []
    for row in (0, 1, 3):  # the third has no gold, the last no other candidate
        others = [j for j in range(4) if present[row, j] and j != gold[row]]
        losses.append(np.mean([max(scores[row, j] - scores[row, gold[row]] + 0.5, 0) for j in others]))
    given = torch.from_numpy(np.where(present, scores, -np.inf)).requires_grad_()
    loss = triplet(given, torch.from_numpy(gold), torch.from_numpy(present), 0.5)
    assert float(loss.detach()) == pytest.approx(np.mean(losses))
    loss.backward()
    assert torch.isfinite(given.grad).all()
    assert not given.grad[[2, 4]].any()


def test_loss_between_modalities_equals_loops_over_counted_mentions():
    rng = np.random.default_rng(1)
    first, second, counted = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), np.array([True, False, True, True, True])
    vectors = [*first[counted], *second[counted]]
    losses = []
    for i, own in enumerate(vectors):
        exponents = [math.exp(cosine(own, other) / 0.6) for other in vectors]
        losses.append(-math.log(exponents[(i + 4) % 8] / (sum(exponents) - exponents[i])))
    first, second, counted = (torch.from_numpy(array) for array in (first, second, counted))
    assert float(between_modalities(first, second, counted, 0.6)) == pytest.approx(np.mean(losses))
    for kept in (1, 0):  # one mention has no others, none has no loss
        first.requires_grad_().grad = None
        loss = between_modalities(first, second, torch.arange(5) < kept, 0.6)
        loss.backward()
        assert float(loss.detach()) == pytest.approx(0)
        assert torch.isfinite(first.grad).all()


def test_the_objective_of_dzmned_is_the_sum_of_both_matches_losses():
    batch = random_batch()
    dzmned = new("dzmned")
    entity, mention = dzmned.project(batch.columns), dzmned.embed(batch)
    matches = [
        torch.nn.functional.cosine_similarity(entity[..., own], mention[:, None, own], -1)
        for own in (slice(6), slice(6, None))
    ]
    torch.testing.assert_close(dzmned.objective(batch), sum(dzmned.loss(match, batch) for match in matches))
    torch.testing.assert_close((matches[0] + matches[1])[batch.present] / 2, dzmned(batch)[batch.present])


@pytest.mark.parametrize("variant", [name for name in VARIANTS if "closed" not in name])
def test_gradient_reaches_every_parameter_and_one_batch_is_learned(variant):
    batch = random_batch()
    own = {  # a loss that compares gold with every candidate, and is 0 in the end
        "ghmfc light": {"ranking_loss": "margin"},
        "ghmfc released": {"hard_negatives": 0.0},
    }.get(variant, {})
    model = new(variant, margin=0.8, **own)  # the mean of the others can be far below gold while one is above it
    model.objective(batch).backward()
    small = {name: float(p.grad.abs().max()) for name, p in model.named_parameters() if p.grad.abs().max() < 1e-9}
    assert small == {}  # rounding alone gives 1e-18 where there is none
    adam = Adam(list(model.parameters()), Schedule(1e-2))
    for _ in range(80):
        adam.zero_grad()
        model.objective(batch).backward()
        adam.step()
    scores = model(batch).detach()
    assert (scores.argmax(1)[:5] == batch.gold[:5]).all()
    assert float(model.loss(scores, batch)) < 0.02


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_tokens_past_the_end_and_missing_pictures_change_no_score(variant):
    model, batch = new(variant), random_batch()
    before = model(batch)
    changed = {name: column.clone() for name, column in batch.columns.items()}
    for name, column in changed.items():
        if name.startswith("entity.") and column.is_floating_point():
            column[0, 2:] = 7.0
    changed["entity.ids.name"][0, 2:] = 66
    changed["token.text.vector"][~batch["token.text.present"]] = 7.0
    changed["mention.regions.vector"][1] = 7.0  # has no picture
    after = model(Batch(changed, batch.present, batch.gold))
    assert torch.equal(before, after)
    longer = {
        name: torch.nn.functional.pad(column, (0, 0) * (column.dim() - 2) + (0, 3))
        if name.startswith("token.")
        else column
        for name, column in batch.columns.items()
    }
    torch.testing.assert_close(model(Batch(longer, batch.present, batch.gold)), before, rtol=0, atol=1e-13)


@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_do_not_depend_on_the_other_mentions_of_a_batch(variant):
    model, batch = new(variant), random_batch()
    together = model(batch)
    for row in range(6):
        torch.testing.assert_close(model(part_of(batch, slice(row, row + 1)))[0], together[row], rtol=0, atol=1e-13)


@pytest.mark.parametrize("variant", VARIANTS)
def test_projecting_entities_once_changes_no_score(variant):
    model, batch = new(variant), random_batch()
    projected = model.project({name: batch[name] for name in model.projects})
    left = {name: column for name, column in batch.columns.items() if name not in model.projects}
    found = model(Batch(left, batch.present, batch.gold), projected)
    torch.testing.assert_close(found, model(batch), rtol=0, atol=1e-13)
    if model.two_towers:
        cosines = torch.nn.functional.cosine_similarity(projected, model.embed(batch)[:, None], -1)
        torch.testing.assert_close(found[batch.present], cosines[batch.present], rtol=0, atol=1e-13)


@pytest.mark.parametrize("variant", VARIANTS)
def test_stacked_seeds_have_the_losses_and_gradients_they_have_alone(variant):
    batch = random_batch()
    twice = batch.like([torch.stack([tensor, tensor.flip(0)]) for tensor in batch.tensors()])
    stack = Stack(lambda: new(variant, torch.initial_seed()), (1, 2), CPU)
    losses = stack.losses(twice)
    losses.sum().backward()
    for i, seed in enumerate((1, 2)):
        alone = Stack(lambda: new(variant, torch.initial_seed()), (seed,), CPU)
        loss = alone.losses(twice.like([tensor[i] for tensor in twice.tensors()]))
        loss.sum().backward()
        torch.testing.assert_close(losses[i], loss[0], rtol=0, atol=1e-12)
        for name, parameter in alone.parameters.items():
            if parameter.grad is not None:
                torch.testing.assert_close(stack.parameters[name].grad[i], parameter.grad, rtol=0, atol=1e-12)


def test_mentions_of_one_sentence_differ_for_ghmfc_only_with_the_mention_token():
    batch = random_batch()
    same = part_of(batch, torch.tensor([0, 0]))
    same.columns["mention.text.span"] = batch["mention.text.span"][:2]
    for variant, equal in (("ghmfc", True), ("ghmfc, linear, mention", False)):
        first, second = new(variant).embed(same).detach()
        assert np.allclose(first, second, rtol=0, atol=1e-13) == equal


def single_step(variant, precision):
    """A step in float32 and its gradients."""
    model = new(variant).float()
    step = Step(Stack(lambda: model, (0,), CPU), Adam(list(model.parameters()), Schedule(0.0)), World(), precision)
    batch = random_batch()
    batch = batch.like([x.float() if x.is_floating_point() else x for x in batch.tensors()])
    return lambda: step(batch, 1.0), lambda: torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_waits_for_nothing(variant):
    step, _ = single_step(variant, "float32")
    step()
    with Count() as counted:
        step()
    assert not counted.waits


@pytest.mark.parametrize("variant", ["dzmned", "mel_hi", "ghmfc", "ghmfc light"])
def test_bfloat16_is_close_to_float32(variant):
    found = {}
    for precision in ("float32", "bfloat16"):
        step, gradients = single_step(variant, precision)
        found[precision] = (float(step()), gradients())
    (exact, expected), (loss, got) = found.values()
    assert loss == pytest.approx(exact, rel=0.02)
    assert loss != exact
    assert torch.nn.functional.cosine_similarity(expected, got, 0) > 0.999


def test_the_string_score_joins_every_objective():
    batch = random_batch()
    for name in ("dzmned", "mel_hi", "ghmfc"):
        head = build(name, VARIANTS[name], with_lexical=True).double()
        head.objective(batch).backward()
        assert head.weight.grad.all()
        string = START * batch["pair.candidates.lexical"]
        assert torch.equal(head(batch), string.masked_fill(~batch.present, -torch.inf))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: MODELS["ghmfc"](GhmfcConfig(width=20)), "--width 20 must be a multiple of --attention-heads 8"),
        (lambda: GhmfcConfig(dropout=1.0), "--dropout is 1; it must be 0 or more, and less than 1"),
        (lambda: GhmfcConfig(contrastive=-1.0), "--contrastive is -1; it must be 0 or more"),
        (lambda: GhmfcConfig(contrastive_temperature=0.0), "--contrastive-temperature is 0; it must be positive"),
        (lambda: GhmfcConfig(tokens=0), "--tokens is 0; it must be at least 1"),
        (lambda: GhmfcConfig(triplet_margin=-0.1), "--triplet-margin is -0.1; it must be 0 or more"),
        (lambda: MelHiConfig(threshold=2), "--threshold is 2; it must be between -1 and 1, as cosines are"),
        (lambda: MelHiConfig(lstm_width=-1), "--lstm-width is -1; it must be 0 "),
        (lambda: DzmnedConfig(characters=0), "--characters is 0; it must be at least 1"),
    ],
)
def test_configs_refuse_what_cannot_be(given, message):
    with pytest.raises(ConfigError, match=message):
        given()


# tables


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """Return a function from signal and candidates to a cache in several shards with the columns of these heads."""

    @functools.cache
    def cache_of(signal, candidates=10):
        path = tmp_path_factory.mktemp("sequences") / f"signal-{signal}-{candidates}"
        heads, widths = "dzmned,mel_hi,ghmfc", {"text_width": 24, "image_width": 16}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("cache.writing.synth.SHARD_ROWS", 1000)
            write(path, Synthetic(1500, 300, candidates, signal, 0, heads, regions=4, **widths))
        return path

    return cache_of


@pytest.mark.parametrize("resident", ["device", "host", "mmap"])
@pytest.mark.parametrize("limit", [0, 12])
def test_sequences_are_gathered_as_a_loop_would(caches, resident, limit):
    reader = melcache.open(caches(0.5))
    table = Table(reader, "ghmfc", CPU, resident, tokens=limit)
    first, count = (reader.column(f"mention.tokens.{name}") for name in ("first", "count"))
    stored = reader.read("token.text.vector").astype(np.float32)
    longest = limit or count.max()
    rows = torch.tensor([[3, 1499, 700], [5, -1, 3]])
    for batch in (table.batch(rows), next(table.batches([rows]))):
        assert batch["token.text.vector"].shape == (2, 3, longest, 24)
        assert batch["mention.regions.vector"].shape == (2, 3, 4, 16)
        for place in np.ndindex(2, 3):
            row = max(int(rows[place]), 0)
            kept = min(count[row], longest)
            np.testing.assert_array_equal(
                batch["token.text.vector"][place][:kept], stored[first[row] : first[row] + kept]
            )
            assert not batch["token.text.vector"][place][kept:].any()
            assert batch["token.text.present"][place].tolist() == [step < kept for step in range(longest)]


def test_mentions_of_one_sentence_share_its_tokens():
    columns = {"mention.tokens.first": torch.tensor([4, 4, 0]), "mention.tokens.count": torch.tensor([3, 3, 4])}
    found = Sequences(columns, "mention.tokens", 7, 0, CPU)
    assert found.rows(torch.tensor([0, 1, 2])).tolist() == [[4, 5, 6, 6], [4, 5, 6, 6], [0, 1, 2, 3]]
    assert found.present(torch.tensor([1, 2])).tolist() == [[True, True, True, False], [True] * 4]


@pytest.mark.parametrize(("first", "count"), [(-1, 2), (0, 0), (5, 3), (7, 1)])
def test_sequences_outside_their_table_are_refused(first, count):
    columns = {"mention.tokens.first": torch.tensor([0, first]), "mention.tokens.count": torch.tensor([2, count])}
    with pytest.raises(CacheError, match=r"part mention\.tokens points outside the 7 rows of its table, or to no tok"):
        Sequences(columns, "mention.tokens", 7, 0, CPU)


@pytest.mark.parametrize("resident", ["device", "host", "mmap"])
def test_strings_are_gathered_as_their_first_bytes(caches, resident):
    reader = melcache.open(caches(0.5))
    table = Table(reader, "dzmned", CPU, resident, characters=3)
    batch = next(table.batches([torch.tensor([7, 1200])]))
    names, surfaces = reader.strings("entity.ids.name"), reader.strings("mention.ids.surface")
    for i, row in enumerate((7, 1200)):
        found = [batch["mention.ids.surface"][i], *batch["entity.ids.name"][i]]
        texts = [surfaces[row], *(names[e] for e in reader.column("pair.candidates.candidates")[row])]
        for got, text in zip(found, texts, strict=True):
            assert bytes(got.tolist()).rstrip(b"\0") == text.encode()[:3]
    projected = table.features(("entity.ids.name",), torch.tensor([4, 299]))["entity.ids.name"]
    assert projected.tolist() == [[ord("s"), ord("4"), 0], [ord("s"), ord("2"), ord("9")]]


# whole runs


def fit(path, run, model, head, **given):
    """Train fast: where there is a signal, one epoch learns it to a Top-1 of 0.6 and more."""
    config = {"dataset": str(path), "run": run, "device": "cpu", "model": model, "batch": 32, "learning_rate": 5e-3}
    return loop.fit(TrainConfig(**config | given), head)


TINY = {
    "dzmned": ("dzmned", DzmnedConfig(width=24, character_width=8, characters=6)),
    "mel_hi": ("mel_hi", MelHiConfig(width=24, lstm_width=24, tokens=12)),
    "ghmfc": ("ghmfc", GhmfcConfig(width=16, tokens=12, attention_heads=2, attention_layers=1, dropout=0.1)),
    "ghmfc light": ("ghmfc", GhmfcConfig(ghmfc="light", width=16, tokens=12, attention_heads=2)),
}


@pytest.mark.parametrize("variant", TINY)
def test_signal_is_learned(caches, tmp_path, variant):
    least = 0.25 if variant == "ghmfc light" else 0.8  # chance is 0.1
    assert fit(caches(0.6), tmp_path, *TINY[variant], epochs=3)["mean"]["test"]["top1"] > least


@pytest.mark.parametrize("variant", TINY)
@pytest.mark.parametrize("candidates", [10, 100])
def test_noise_stays_at_chance(caches, tmp_path, variant, candidates):
    seeds = (0, 1, 2) if candidates == 10 else (0,)
    found = fit(caches(0.0, candidates), tmp_path, *TINY[variant], seeds=seeds, epochs=1)
    deviation = np.sqrt(1 / candidates * (1 - 1 / candidates) / 150)
    for seed in found["seeds"]:
        assert abs(seed["test"]["top1"] - 1 / candidates) < 5 * deviation


def test_widths_come_from_the_cache_whatever_part_has_them(caches, tmp_path):
    write(tmp_path / "c", Synthetic(50, 20, 4, 0.0, 0, "ghmfc", text_width=24, image_width=16, regions=2))
    found = with_widths(GhmfcConfig(), melcache.open(tmp_path / "c"))
    assert (found.text_width, found.image_width) == (24, 16)


def test_a_cache_without_regions_is_refused_with_a_way_out(tmp_path):
    write(tmp_path / "c", Synthetic(50, 20, 4, 0.0, 0, "mel_hi", text_width=24, image_width=16))
    run = CliRunner().invoke(app, ["--dataset", str(tmp_path / "c"), "--model", "ghmfc", "--run", str(tmp_path / "r")])
    assert (run.exit_code, run.stderr) == (
        2,
        f"error: {tmp_path}/c lacks the parts mention.regions, which ghmfc reads. Compute them: melcache extract "
        "--dataset RELEASE --name c --for ghmfc, with the --data and --weights of the first time. Or take them "
        "from a teammate: melcache pull c URL --for ghmfc\n",
    )


def test_a_cache_without_descriptions_is_told_how_to_get_some(tmp_path):
    write(tmp_path / "c", Synthetic(50, 20, 4, 0.0, 0, "clip", joint_width=16))
    with pytest.raises(
        CacheError,
        match=r"--name c --for dwe --descriptions FILE \(melcache describe fetches one\), with .*\. Or",
    ):
        melcache.open(tmp_path / "c").require("dwe", ("entity.joint.description",))
    with pytest.raises(
        CacheError,
        match=r"lacks the parts .*, which dwe reads\. .*--name c --for dwe, with the --data .*\. Or take",
    ):
        melcache.open(tmp_path / "c").require("dwe")  # --for alone makes the rest


def test_a_choice_of_another_heads_loss_is_refused(caches):
    run = CliRunner().invoke(app, ["--dataset", str(caches(0.5)), "--model", "ghmfc", "--ranking-loss", "contrastive"])
    assert (run.exit_code, run.stderr) == (
        2,
        "error: --ranking-loss contrastive: ghmfc has triplet, drawn, margin, candidates\n",
    )


def test_help_names_every_default_of_an_option_that_heads_share():
    heads = "drin,bert,drin_authors,dwe_authors,ghmfc"
    shown = " ".join(CliRunner().invoke(app, ["compare", "--models", heads, "--help"]).output.split())
    assert "drin: D, hidden width (DRIN 4.4); bert, jmel, clip_linear: D, width of a modality in the joint" in shown
    # of ghmfc None is no default to show
    assert "ghmfc: D, width of the stacks (default: 512; light 768) [default: 768]" in shown
    assert "drin_authors: mean over candidates" in shown and "[default: auto; drin_authors: candidates;" in shown
    assert "a second level, of 1-, 2- and 3-grams (default: yes; light no) " in shown


def test_forms_of_ghmfc_are_options(caches, tmp_path):
    light = ["--ghmfc", "light", "--no-phrases", "--mention-token"]
    released = ["--ghmfc", "released", "--window", "6", "--hard-negatives", "0.5", "--partners"]
    where = ["--dataset", str(caches(0.5)), "--model", "ghmfc", "--epochs", "1", "--width", "16", "--tokens", "8"]
    for form in (light, released):
        run = CliRunner().invoke(app, [*where, *form, "--run", str(tmp_path / form[1])])
        assert run.exit_code == 0, run.stderr
    run = CliRunner().invoke(app, ["--model", "bert", "--phrases"])
    assert (run.exit_code, run.stderr) == (
        2,
        "error: --phrases is no option of bert; leave it out, or choose from ghmfc\n",
    )
