"""ours: scores by plain loops, what strings tell and what they must not, chance on noise, all entities, no pictures."""

import dataclasses
import math
import re

import numpy as np
import pytest
import torch

import cache as melcache
from cache.schema import READS
from cache.writing.synth import Synthetic, write
from train import loop, prepare
from train.config import TrainConfig
from train.data.string_facts import FACTS, LONGER, PRIOR, STRINGS, StringFacts
from train.data.table import Table
from train.evaluating import whole_kb
from train.evaluating.ranking import AmongAll, rank
from train.heads.models import build
from train.heads.ours.config import OursConfig
from train.heads.ours.model import COSINES, LEXICAL, PACE, STARTS, Ours
from train.heads.with_objective import WithObjective
from train.layers.negatives import narrowed
from train.processes import World

CPU = torch.device("cpu")
SMALL = OursConfig(text_width=8, joint_width=4, image_width=6)
PICTURES = ("mention.joint.image", "mention.image.vector", "entity.joint.image", "entity.image.vector")
MADE = (
    "Bill Clinton",
    "Clinton",
    "hillary clinton",
    "CLINTON",
    "Clinton Presba Anderson",
    "Bill",
    "?!",
    "bill  clinton",
    "",
)


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


@pytest.fixture
def named(monkeypatch):
    """Let strings of mentions and names of entities be some that share words."""
    real = melcache.Reader.strings

    def strings(self, column):
        count = len(real(self, column))
        return [MADE[(i * i + i // 7) % len(MADE)] for i in range(count)]

    monkeypatch.setattr(melcache.Reader, "strings", strings)


def table_of(path, head=SMALL, **given):
    reader = melcache.open(path)
    config = TrainConfig(dataset=str(path), model="ours", device="cpu", **given)
    return reader, prepare.table_of(config, head, reader, CPU)


def trained(config=SMALL):
    """Return a head whose weights are no longer those that it starts from, in float64."""
    torch.manual_seed(0)
    model = Ours(config)
    with torch.no_grad():
        model.weight.normal_(std=0.1)
        model.change.weight.normal_(std=0.3)
        model.change.bias.normal_(std=0.3)
    return model.double()


def unit(x):
    length = math.sqrt(sum(a * a for a in x))
    return [a / length if length else 0.0 for a in x]


def dot(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True))


def scored(model, mention, entity, facts, lexical):
    """Return the score of one pair by loops; columns by name, what strings say by fact."""
    cls, span = unit(mention["mention.text.sentence"]), unit(mention["mention.text.span"])
    own, rows = cls + span, zip(model.change.weight.tolist(), model.change.bias.tolist(), strict=True)
    changed = [x + dot(line, own) + bias for x, (line, bias) in zip(own, rows, strict=True)]
    half = len(cls)
    known = {
        "text": dot(unit(changed[:half]), unit(entity["entity.text.sentence"])),
        "mean": dot(unit(changed[half:]), unit(entity["entity.text.mean"])),
        "lexical": lexical,
        **facts,
    }
    for column, sides in COSINES.items():
        for name, other in sides.items():
            known[name] = dot(unit(mention[other]), unit(entity[column]))
    seen, both = any(entity["entity.joint.image"]), any(mention["mention.joint.image"])
    known |= {"entity_seen": float(seen), "both_seen": float(seen and both)}
    names = (*model.of_vectors, *model.of_strings)
    weights = [STARTS.get(name, 0) + PACE * w for name, w in zip(names, model.weight.tolist(), strict=True)]
    assert set(names) == set(known)
    return sum(w * known[name] for name, w in zip(names, weights, strict=True))


def words(text):
    return re.findall(r"[a-z0-9]+", text.lower())


def told(surfaces, names, golds, train, row, entity):
    """Return FACTS of a mention and an entity by loops; golds of mentions in `train` but the mention itself count."""
    mine, name = words(surfaces[row]), words(names[entity])
    same = [t for t in train if t != row and words(surfaces[t]) == mine and golds[t] >= 0]
    times, any_times = sum(golds[t] == entity for t in same), sum(golds[t] == entity for t in train if t != row)
    return {
        "exact": float(bool(mine) and mine == name),
        "first": float(bool(mine) and name[: len(mine)] == mine),
        "last": float(bool(mine) and name[-len(mine) :] == mine),
        "longer": max(-LONGER, min(LONGER, len(name) - len(mine))) / LONGER,
        "times": math.log1p(times),
        "share": times / max(1, len(same)),
        "other": float(bool(same) and not times),
        "of_any": math.log1p(any_times),
        "seen": float(any_times > 0),
    }


def test_scores_equal_loops(caches):
    _, table = table_of(caches(0.3))
    model, batch = trained(), table.batch(torch.arange(12))
    for column, rows in (
        ("mention.joint.image", 3), ("entity.joint.image", (slice(None), 2)), ("entity.image.vector", (4, 1)),
    ):  # fmt: skip
        batch[column][rows] = 0  # as what is missing in a batch
    batch = batch.like([t.double() if t.is_floating_point() else t for t in batch.tensors()])
    found = model(batch).detach()
    assert torch.equal(found, model(batch, model.project(batch.columns)))
    for i in range(12):
        mention = {name: column[i].tolist() for name, column in batch.columns.items() if name.startswith("mention.")}
        for j in range(6):
            if not batch.present[i, j]:
                assert found[i, j] == -math.inf
                continue
            entity = {name: c[i, j].tolist() for name, c in batch.columns.items() if name.startswith("entity.")}
            facts = dict(zip(FACTS, batch[STRINGS][i, j].tolist(), strict=True))
            expected = scored(model, mention, entity, facts, float(batch[LEXICAL][i, j]))
            assert float(found[i, j]) == pytest.approx(expected, abs=1e-9)


def test_at_first_texts_meet_as_they_were_extracted(caches):
    _, table = table_of(caches(0.3))
    model, batch = Ours(SMALL), table.batch(torch.arange(5))
    cosine = torch.nn.functional.cosine_similarity
    texts = cosine(batch["mention.text.sentence"][:, None], batch["entity.text.sentence"], -1)
    spans = cosine(batch["mention.text.span"][:, None], batch["entity.text.mean"], -1)
    expected = STARTS["text"] * texts + STARTS["mean"] * spans + STARTS["lexical"] * batch[LEXICAL]
    torch.testing.assert_close(model(batch), expected.masked_fill(~batch.present, -torch.inf))


def test_what_strings_tell_equals_loops_and_leaves_a_mentions_own_label_out(caches, named):
    reader, table = table_of(caches(0.3))
    surfaces, names = reader.strings("mention.ids.surface"), reader.strings("entity.ids.name")
    golds, train = reader.column("mention.ids.gold").tolist(), set(table.rows("train").tolist())
    rows = torch.cat([table.rows(split)[:25] for split in ("train", "valid", "test")])
    found, totals = table.batch(rows)[STRINGS], dict.fromkeys(FACTS, 0.0)
    for i, row in enumerate(rows.tolist()):
        for j, entity in enumerate(table.candidates[row].clamp(min=0).tolist()):
            expected = told(surfaces, names, golds, train, row, entity)
            assert dict(zip(FACTS, found[i, j].tolist(), strict=True)) == pytest.approx(expected, abs=1e-6)
            totals = {name: totals[name] + abs(value) for name, value in expected.items()}
    assert all(totals.values())


def test_strings_of_new_mentions_equal_loops_be_they_known_or_not(caches, named):
    reader, table = table_of(caches(0.3))
    surfaces, names = reader.strings("mention.ids.surface"), reader.strings("entity.ids.name")
    golds, train = reader.column("mention.ids.gold").tolist(), set(table.rows("train").tolist())
    unseen = [name for name in names if name.casefold() not in {surface.casefold() for surface in surfaces}][:2]
    strings = [*surfaces[:3], *unseen, "nobody's name", "?!", names[7].split()[0] + " x", " ".join("abcdefg")]
    rows = torch.tensor([-1, 1, *[-1] * (len(strings) - 2)])
    listed = torch.arange(5, dtype=torch.int32).expand(len(strings), 5)  # what is known of others is the same
    scores, every = torch.rand(len(strings), 5), torch.arange(60)
    before = table._strings.of(torch.arange(9), every)
    facts = table._strings.with_mentions(strings, rows, listed, scores)
    found = facts.of(torch.arange(len(strings)), every)
    for i, string in enumerate(strings):
        row = 1 if i == 1 else len(surfaces)  # the second is a mention of the dataset: its own label does not count
        for entity in range(60):
            expected = told([*surfaces, string], names, [*golds, -2], train, row, entity)
            assert dict(zip(FACTS, found[i, entity].tolist(), strict=True)) == pytest.approx(expected, abs=1e-6)
    assert torch.equal(facts.lexical(torch.arange(len(strings)), listed.long()), scores)
    assert torch.equal(table._strings.of(torch.arange(9), every), before)


def test_without_a_train_split_strings_have_no_past(caches, named):
    reader, table = table_of(caches(0.3))
    facts = StringFacts(reader, torch.zeros(900, dtype=torch.bool), CPU)
    found = facts.of(torch.arange(900), table.candidates.clamp(min=0).long())
    assert not found[..., [FACTS.index(name) for name in PRIOR]].any()
    assert torch.equal(found[..., :4], table.batch(torch.arange(900))[STRINGS][..., :4])


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


def test_ranks_among_all_entities_equal_loops(caches, named, monkeypatch):
    reader, table = table_of(caches(0.3), protocol="whole-kb")
    surfaces, names = reader.strings("mention.ids.surface"), reader.strings("entity.ids.name")
    golds, train = reader.column("mention.ids.gold").tolist(), set(table.rows("train").tolist())
    listed, lexical = (reader.column(f"pair.candidates.{name}") for name in ("candidates", "lexical"))
    model, rows = trained().float(), torch.cat([table.rows("test")[:12], table.rows("train")[:3]])
    batch = table.batch(rows, without=("entity.",))
    entities = table.features(model.projects, torch.arange(60))
    exact, expected = trained(), []
    for i, row in enumerate(rows.tolist()):
        mention = {name: column[i].tolist() for name, column in batch.columns.items() if name.startswith("mention.")}
        scores = []
        for e in range(60):
            place = np.flatnonzero(listed[row] == e)
            string = float(lexical[row][place[0]] if len(place) else lexical[row][listed[row] >= 0].min())
            entity = {name: column[e].tolist() for name, column in entities.items()}
            scores.append(scored(exact, mention, entity, told(surfaces, names, golds, train, row, e), string))
        expected.append(sum(score > scores[golds[row]] + 1e-5 for score in scores))
    better, tied = rank(model, AmongAll(table, rows), World())
    assert better.tolist() == expected and not tied.any()
    assert len(set(expected)) > 3
    for chunk, block in ((7, 16), (60, 8)):
        monkeypatch.setattr(whole_kb, "CHUNK", {"cpu": chunk})
        monkeypatch.setattr(whole_kb, "BLOCK", {"cpu": block})
        assert torch.equal(rank(model, AmongAll(table, rows), World())[0], better)


def test_the_same_entity_twice_ties_among_all(caches, named):
    _, table = table_of(caches(0.3), protocol="whole-kb")
    model, rows = trained().float(), table.rows("test")
    towers = whole_kb.towers_of(model, table)
    gold = table.column("mention.ids.gold").long()

    def doubled(those):  # every entity is the first one
        return towers.entities(torch.zeros_like(those))

    def pairs(mentions, entities):
        return towers.pairs(mentions, torch.zeros_like(entities))

    better, tied = whole_kb.ranks(whole_kb.Towers(towers.mentions, doubled, pairs), table, rows, World())
    assert not better[gold[rows] >= 0].any() and (tied[gold[rows] >= 0] == 59).all()


@pytest.mark.parametrize("objective", ["own", "listwise"])
def test_what_all_entities_are_ranked_by_is_what_lists_are(caches, objective):
    _, table = table_of(caches(0.3), protocol="whole-kb")
    head, rows = trained().float(), table.rows("test")[:20]
    model = head if objective == "own" else WithObjective(head, "ours", objective, 0, 0.25)
    facts, lexical = table.facts(rows, torch.arange(60))
    batch = table.batch(rows)
    places = table.candidates[rows].long()
    assert torch.equal(facts.take_along_dim(places[..., None], 1), batch[STRINGS])
    assert torch.equal(lexical.gather(1, places), batch[LEXICAL])
    towers = whole_kb.towers_of(model, table)
    scores = towers.mentions(rows) @ towers.entities(torch.arange(60)).T + towers.pairs(rows, torch.arange(60))
    with torch.no_grad():
        torch.testing.assert_close((head.reach() * scores).gather(1, places), model(batch), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("count", [1, 3])
def test_a_narrowed_batch_holds_gold_and_the_best_others(caches, count):
    _, table = table_of(caches(0.3))
    batch, scores = table.batch(torch.tensor([*range(30), -1])), torch.rand(31, 6)
    found = narrowed(batch, scores, count)
    for i in range(31):
        gold, there = int(batch.gold[i]), batch.present[i].tolist()
        others = sorted((j for j in range(6) if there[j] and j != gold), key=lambda j: -scores[i, j])[:count]
        kept = [j for j in range(count + 1) if found.present[i, j]]
        texts = {tuple(found["entity.text.mean"][i, j].tolist()) for j in kept if j != found.gold[i]}
        assert texts >= {tuple(batch["entity.text.mean"][i, j].tolist()) for j in others}
        if gold >= 0:
            assert torch.equal(found[STRINGS][i, found.gold[i]], batch[STRINGS][i, gold])
            assert torch.equal(found["entity.text.sentence"][i, found.gold[i]], batch["entity.text.sentence"][i, gold])
        else:
            assert found.gold[i] == -1
    assert torch.equal(found["mention.text.span"], batch["mention.text.span"])


def test_it_is_trained_on_the_candidates_that_strings_put_on_top(caches):
    _, table = table_of(caches(0.3))
    batch, model = table.batch(table.trainable(table.rows("train"))[:40]), trained().float()
    model.closest = 2
    scores = model.strings(batch[STRINGS], batch[LEXICAL]).detach()
    loss = []
    own = model(batch).detach()
    for i in range(40):
        gold = int(batch.gold[i])
        others = sorted((j for j in range(6) if batch.present[i, j] and j != gold), key=lambda j: -scores[i, j])[:2]
        loss.append(math.log(sum(math.exp(own[i, j] - own[i, gold]) for j in [gold, *others])))
    assert model.objective(batch).item() == pytest.approx(np.mean(loss), rel=1e-4)
    model.closest = 0
    assert model.objective(batch) == model.loss(model(batch), batch)


def test_noise_stays_at_chance_and_signal_is_learned(caches, tmp_path):
    scores = {}
    for signal in (0.0, 0.6):
        options = {"run": tmp_path / str(signal), "device": "cpu", "model": "ours", "epochs": 3, "learning_rate": 1e-3}
        config = TrainConfig(dataset=str(caches(signal)), **options)
        scores[signal] = loop.fit(config, OursConfig())["mean"]["test"]["top1"]
    assert abs(scores[0.0] - 1 / 6) < 4 * math.sqrt(5 / 36 / 90)
    assert scores[0.6] > 0.7


def test_the_prior_is_a_switch(caches):
    _, table = table_of(caches(0.3))
    batch, model = table.batch(torch.arange(30)), trained(dataclasses.replace(SMALL, prior=False)).float()
    before = model(batch)
    batch[STRINGS][..., [FACTS.index(name) for name in PRIOR]] = 9.0
    assert torch.equal(model(batch), before)
    assert not {*PRIOR} & {*model.of_strings}


def test_gradient_reaches_every_weight(caches):
    _, table = table_of(caches(0.3))
    model = trained().float()
    model.objective(table.batch(torch.arange(60))).backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("absent", [PICTURES, PICTURES[:2], PICTURES[2:]])
def test_pictures_of_which_none_is_there_cost_nothing_and_change_nothing(caches, monkeypatch, absent):
    reader, real = melcache.open(caches(0.3)), melcache.Reader.column
    gone = {f"{name.rpartition('.')[0]}.present" for name in absent}

    def column(self, name):
        found = real(self, name)
        return np.zeros_like(found) if name in gone else found

    monkeypatch.setattr(melcache.Reader, "column", column)
    held = melcache.Reader.stored

    def stored(self, names):
        return {n: np.zeros_like(c) if n in gone else c for n, c in held(self, names).items()}

    monkeypatch.setattr(melcache.Reader, "stored", stored)
    config = prepare.with_widths(OursConfig(), reader)
    assert set(config.absent) == set(absent)
    batches = [table_of(caches(0.3), head)[1].batch(torch.arange(20)) for head in (SMALL, config)]
    assert not {*absent} & {*batches[1].columns}
    whole, short = trained().float(), trained(config).float()
    weights = dict(zip((*whole.of_vectors, *whole.of_strings), whole.weight.tolist(), strict=True))
    kept = [weights[name] for name in (*short.of_vectors, *short.of_strings)]
    short.load_state_dict({**whole.state_dict(), "weight": torch.tensor(kept)})
    torch.testing.assert_close(short(batches[1]), whole(batches[0]))


def test_protocols_with_other_lists_tell_of_the_entities_there(caches, tmp_path):
    _, table = table_of(caches(0.3))
    other = table.with_lists(table.candidates.flip(1), table.gold, table.pairs())
    assert torch.equal(other.batch(torch.arange(40))[STRINGS], table.batch(torch.arange(40))[STRINGS].flip(1))
    config = TrainConfig(dataset=str(caches(0.3)), run=tmp_path, device="cpu", model="ours", epochs=1)
    assert loop.fit(dataclasses.replace(config, protocol="injected"), SMALL)["recall_ceiling"]["test"] == 1
    whole = dataclasses.replace(config, protocol="whole-kb", run=tmp_path / "c")
    assert (found := loop.fit(whole, SMALL))["ranked"] == "all"
    assert found["recall_ceiling"]["test"] == 1
    lists = table.with_lists(table.candidates, table.gold, {})  # without string scores: of the list they are known
    assert torch.equal(lists.batch(torch.arange(40))[LEXICAL], table.batch(torch.arange(40))[LEXICAL])


def test_objectives_and_wrappers_know_whole_lists(caches):
    _, table = table_of(caches(0.3))
    batch = table.batch(table.trainable(table.rows("train"))[:20])
    head = dataclasses.replace(SMALL, closest=1)
    model = build("ours", head, with_lexical=False, objective="listwise")
    assert model.objective(batch) == model.loss(model(batch), batch)
    both = build("ours", head, with_lexical=True)
    assert both.objective(batch) == both.head.objective(batch) + both.loss(both(batch), batch)


def test_it_reads_what_a_cache_has_by_default():
    assert not {"mention.tokens.first", "mention.crops.vector"} & set(READS["ours"])
