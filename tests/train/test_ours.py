"""ours: scores by plain loops, what strings tell and what they must not, chance on noise, the switch, protocols."""

import dataclasses
import math

import numpy as np
import pytest
import torch

import cache as melcache
from cache.schema import READS
from cache.writing.synth import Synthetic, write
from common.errors import ConfigError
from train import loop, prepare
from train.config import TrainConfig
from train.data.string_facts import FACTS, PRIOR, STRINGS
from train.data.table import Table
from train.heads.ours.config import OursConfig
from train.heads.ours.model import CLIP, KNOWN, PACE, STARTS, Ours

CPU = torch.device("cpu")
SMALL = OursConfig(text_width=8, width=5)


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """Return a function from signal to a cache of 900 mentions."""
    made = {}

    def cache_of(signal):
        if signal not in made:
            made[signal] = tmp_path_factory.mktemp("ours") / f"signal-{signal}"
            widths = {"text_width": 8, "image_width": 6, "joint_width": 4}
            write(made[signal], Synthetic(900, 60, 6, signal, 0, "ours", **widths))
        return made[signal]

    return cache_of


def table_of(path, **given):
    reader = melcache.open(path)
    config = TrainConfig(dataset=str(path), model="ours", device="cpu", **given)
    return reader, prepare.table_of(config, SMALL, reader, CPU)


def cosine(x, y):
    length = math.sqrt(sum(a * a for a in x)) * math.sqrt(sum(b * b for b in y))
    return sum(a * b for a, b in zip(x, y, strict=True)) / length if length else 0.0


def linear(layer, x):
    weight, bias = layer.weight.detach().tolist(), layer.bias.detach().tolist()
    return [sum(w * v for w, v in zip(line, x, strict=True)) + b for line, b in zip(weight, bias, strict=True)]


def test_scores_equal_loops(caches):
    _, table = table_of(caches(0.3))
    torch.manual_seed(0)
    model = Ours(dataclasses.replace(SMALL, text_width=8)).double()
    with torch.no_grad():
        model.weight.normal_(std=0.1)
    batch = table.batch(torch.arange(12))
    for picture, column, rows in (
        ("mention.joint", "image", 3),
        ("entity.joint", "image", (slice(None), 2)),
        ("entity.image", "vector", (4, 1)),
    ):
        batch[f"{picture}.present"][rows] = False  # what is missing is 0 in a batch
        batch[f"{picture}.{column}"][rows] = 0
    batch = batch.like([t.double() if t.is_floating_point() else t for t in batch.tensors()])
    found = model(batch).detach()
    weights = [STARTS.get(n, 0) + PACE * w for n, w in zip(KNOWN, model.weight.detach().tolist(), strict=True)]
    missing = 0
    for i in range(12):
        span, cls = batch["mention.text.span"][i].tolist(), batch["mention.text.sentence"][i].tolist()
        for j in range(6):
            if not batch.present[i, j]:
                assert found[i, j] == -math.inf
                continue
            text = batch["entity.text.sentence"][i, j].tolist() + batch["entity.text.mean"][i, j].tolist()
            entity = linear(model.entity, text)
            values = [
                cosine(linear(model.span, span + cls), entity[:5]),
                cosine(linear(model.context, cls), entity[5:]),
            ]
            values += [cosine(batch[m][i].tolist(), batch[e][i, j].tolist()) for m, e in CLIP.values()]
            there = bool(batch["entity.joint.present"][i, j]), bool(batch["mention.joint.present"][i])
            missing += not all(there)
            values += [float(there[0]), float(all(there)), float(batch["pair.candidates.lexical"][i, j])]
            values += batch[STRINGS][i, j].tolist()
            assert float(found[i, j]) == pytest.approx(sum(map(math.prod, zip(weights, values, strict=True))), abs=1e-9)
    assert missing


def test_what_strings_tell_equals_loops_and_leaves_a_mentions_own_label_out(caches):
    reader, table = table_of(caches(0.3))
    surfaces, names = reader.strings("mention.ids.surface"), reader.strings("entity.ids.name")
    gold, train = reader.column("mention.ids.gold"), set(table.rows("train").tolist())
    rows = torch.cat([table.rows(split)[:25] for split in ("train", "valid", "test")])
    found, seen = table.batch(rows)[STRINGS], 0
    for i, row in enumerate(rows.tolist()):
        same = [t for t in train - {row} if surfaces[t].casefold() == surfaces[row].casefold() and gold[t] >= 0]
        for j, entity in enumerate(table.candidates[row].clamp(min=0).tolist()):
            times = sum(gold[t] == entity for t in same)
            exact = surfaces[row].casefold() == names[entity].casefold()
            expected = [float(exact), math.log1p(times), times / max(1, len(same))]
            assert found[i, j].tolist() == pytest.approx(expected, abs=1e-6)
            seen += times
    assert seen > 0


def test_strings_are_the_same_but_for_case(caches, monkeypatch):
    reader = melcache.open(caches(0.3))
    real, first = type(reader).strings, int(reader.column("pair.candidates.candidates")[0, 0])

    def strings(self, column):
        texts = real(self, column)
        texts[0 if column == "mention.ids.surface" else first] = "Łódź" if column == "mention.ids.surface" else "łÓDŹ"
        return texts

    monkeypatch.setattr(type(reader), "strings", strings)
    exact = Table(reader, "ours", CPU, strings=True).batch(torch.tensor([0]))[STRINGS][0, :, 0]
    assert exact[0] == 1 and not exact[1:].any()


def test_labels_of_valid_and_test_are_in_no_feature(caches, monkeypatch):
    reader, table = table_of(caches(0.3))
    before = table.batch(torch.arange(900))[STRINGS]
    real, train = type(reader).column, table.rows("train").numpy()

    def column(self, name):
        found = np.array(real(self, name))
        if name == "mention.ids.gold":
            found[np.setdiff1d(np.arange(900), train)] = 7
        return found

    monkeypatch.setattr(type(reader), "column", column)
    assert torch.equal(Table(reader, "ours", CPU, strings=True).batch(torch.arange(900))[STRINGS], before)


def test_noise_stays_at_chance_and_signal_is_learned(caches, tmp_path):
    scores = {}
    for signal in (0.0, 0.6):
        options = {"run": tmp_path / str(signal), "device": "cpu", "model": "ours", "epochs": 3, "learning_rate": 1e-3}
        config = TrainConfig(dataset=str(caches(signal)), **options)
        scores[signal] = loop.fit(config, OursConfig(width=16))["mean"]["test"]["top1"]
    assert abs(scores[0.0] - 1 / 6) < 4 * math.sqrt(5 / 36 / 90)
    assert scores[0.6] > 0.7


def test_the_prior_is_a_switch(caches):
    _, table = table_of(caches(0.3))
    batch = table.batch(torch.arange(30))
    torch.manual_seed(0)
    model = Ours(dataclasses.replace(SMALL, prior=False))
    before = model(batch)
    batch[STRINGS][..., [FACTS.index(name) for name in PRIOR]] = 9.0
    assert torch.equal(model(batch), before)
    assert len(model.weight) == len(KNOWN) - len(PRIOR)


def test_gradient_reaches_every_weight(caches):
    _, table = table_of(caches(0.3))
    model = Ours(SMALL)
    model.objective(table.batch(torch.arange(60))).backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in model.parameters())


def test_protocols_with_other_lists_tell_of_the_entities_there(caches, tmp_path):
    _, table = table_of(caches(0.3))
    other = table.with_lists(table.candidates.flip(1), table.gold, table.pairs())
    assert torch.equal(other.batch(torch.arange(40))[STRINGS], table.batch(torch.arange(40))[STRINGS].flip(1))
    config = TrainConfig(dataset=str(caches(0.3)), run=tmp_path, device="cpu", model="ours", epochs=1)
    assert loop.fit(dataclasses.replace(config, protocol="injected"), SMALL)["recall_ceiling"]["test"] == 1
    with pytest.raises(ConfigError, match="entities outside the lists do not have"):
        loop.fit(dataclasses.replace(config, protocol="whole-kb", run=tmp_path / "c"), SMALL)


def test_it_reads_what_a_cache_has_by_default():
    assert not {"mention.tokens.first", "mention.crops.vector"} & set(READS["ours"])
