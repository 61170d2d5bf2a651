"""The four protocols: edges of any pair, gold put into lists, ranks among all entities, numbers that are refused."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from typer.testing import CliRunner

import melcache
from cache.edges import ALIGNMENT_READS, EDGES, GRID, align
from cache.fingerprint import content_hash, shard_key
from cache.names import PartName
from cache.reader import Reader
from cache.writing.draft import Draft
from cache.writing.synth import Synthetic, write
from cache.writing.writer import PartPlan, Shard, ShardPlan
from common.errors import CacheError, NotFiniteError
from train import loop
from train.cli import app
from train.config import TrainConfig
from train.data.table import Table
from train.evaluating import computed_edges, metrics, protocols, whole_kb
from train.evaluating.protocols import ranking_of
from train.evaluating.untrained_heads import clip_of_all, prior_of_all
from train.heads.drin.config import DrinConfig
from train.heads.drin_authors.config import DrinAuthorsConfig
from train.heads.joint.config import JointConfig
from train.heads.models import build
from train.heads.registry import HEADS
from train.prepare import data_of
from train.prepare import table_of as held_table
from train.processes import World

CPU = torch.device("cpu")
N, E, C = 90, 50, 6
D, V, P = 20, 12, 16
CLIP = ("mention.joint.mention_sentence", "entity.joint.text"), ("mention.joint.image", "entity.joint.image")


def world_columns(seed=0, mentions=N, listed=C, twins=True):
    """Columns of a small world: pictures and golds are missing, lists are padded, of entities 7 and 8 all is the same.

    Unless lists hold all entities, nobody means or lists the last entity.
    """
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, E - 1, mentions).astype(np.int32)
    gold[rng.random(mentions) < 0.1] = -1
    columns = {}
    for side, rows in (("mention", mentions), ("entity", E)):
        own = {
            "mention": {"text.span": D, "text.sentence": D, "joint.sentence": P, "joint.mention_sentence": P},
            "entity": {"text.sentence": D, "joint.text": P},
        }[side]
        for name, width in {**own, "joint.image": P, "image.vector": V, "objects.summary": V}.items():
            values = rng.normal(size=(rows, width))
            if name == "objects.summary":
                values *= (rng.random((rows, 1)) < 0.7) * 0.8 / np.linalg.norm(values, axis=1, keepdims=True)
            columns[f"{side}.{name}"] = values.astype(np.float16)
        for part in ("joint", "image"):
            columns[f"{side}.{part}.present"] = rng.random(rows) < 0.7
    for name, values in columns.items():
        if twins and name.startswith("entity."):
            values[8] = values[7]
    lists = np.stack([rng.permutation(E)[:listed] for _ in range(mentions)]).astype(np.int32)
    if listed < E:
        lists = np.stack([rng.permutation(E - 1)[:listed] for _ in range(mentions)]).astype(np.int32)
        lengths = rng.integers(1, listed + 1, mentions)
        for row in np.flatnonzero((rng.random(mentions) < 0.6) & (gold >= 0)):
            if gold[row] not in lists[row]:
                lists[row, rng.integers(lengths[row])] = gold[row]
        lists[np.arange(listed) >= lengths[:, None]] = -1
    hits = (lists == gold[:, None]) & (gold >= 0)[:, None]
    edges = align({name: columns[name] for name in ALIGNMENT_READS}, lists)
    lexical = rng.integers(0, 20, lists.shape).astype(np.float32) / 20
    splits = (1 << rng.integers(0, 3, mentions)).astype(np.uint8)
    splits[:2] = 6  # in valid and in test
    return columns | {
        "mention.ids.splits": splits,
        "mention.ids.gold": gold,
        "mention.ids.surface": np.array([f"s{i % 9}" for i in gold], "S4"),
        "pair.candidates.candidates": lists,
        "pair.candidates.gold": np.where(hits.any(1), hits.argmax(1), -1).astype(np.int32),
        "pair.candidates.lexical": lexical,
        "pair.candidates.lexical_gold": rng.random(mentions).astype(np.float32),
        **{f"pair.alignment.{edge}": values for edge, values in edges.items()},
    }


def write_columns(folder, columns):
    """Write a cache of these columns."""
    draft, parts = Draft(folder), {}
    for name, values in columns.items():
        parts.setdefault(name.rpartition(".")[0], {})[name.rpartition(".")[2]] = values
    for part, held in parts.items():
        rows = len(next(iter(held.values())))
        plan = PartPlan(PartName(part), {"producer": "test"}, {n: (v.dtype.str, v.shape[1:]) for n, v in held.items()})
        shard = Shard(ShardPlan(plan, 0, 0, rows, shard_key(plan.fingerprint, [content_hash(part)])))
        for name, values in held.items():
            shard.put(name, np.arange(rows), values)
        draft.save(shard)
    mentions, splits = len(columns["mention.ids.splits"]), columns["mention.ids.splits"]
    about = {
        "dataset": {"name": folder.name, "content": "0" * 64, "licence": "none", "source": "test"},
        "tables": {"entity": E, "mention": mentions, "pair": mentions},
        "candidates": columns["pair.candidates.candidates"].shape[1],
        "splits": {name: int((splits >> bit & 1).sum()) for bit, name in enumerate(("train", "valid", "test"))},
        "coverage": {},
        "warnings": [],
    }
    draft.finish(about, {})
    return folder


@pytest.fixture(scope="module")
def columns():
    return world_columns()


@pytest.fixture(scope="module")
def world_cache(columns, tmp_path_factory):
    return write_columns(tmp_path_factory.mktemp("protocols") / "world", columns)


@pytest.fixture(scope="module")
def everyone(tmp_path_factory):
    """A cache whose lists hold all entities, in an order of their own."""
    return write_columns(
        tmp_path_factory.mktemp("protocols") / "everyone", world_columns(seed=3, mentions=240, listed=E)
    )


def fit(path, run, model, **given):
    options = {"dataset": str(path), "run": run, "device": "cpu", "model": model, "epochs": 2, "batch": 16}
    heads = {"bert": JointConfig, "clip_linear": JointConfig, "jmel": JointConfig, "drin": DrinConfig}
    head = heads[model](width=8) if model in heads else None
    if isinstance(head, JointConfig):
        head = JointConfig(head=model, width=8)
    return loop.fit(TrainConfig(**options | given), head)


def table_of(path, *more, head="bert", resident="device"):
    return Table(melcache.open(path), head, CPU, resident, ("mention.ids.gold", *more))


def model_of(name="bert", seed=0):
    torch.manual_seed(seed)
    return build(name, JointConfig(head=name, width=8, text_width=D, image_width=V, joint_width=P), with_lexical=False)


def unit(vector):
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length if length else 0.0 for x in vector]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def looped_edges(columns, mention, entity):
    """Eq. 6-8 and 11 of one pair, in Python's floats; what has no picture has no edge."""
    m = {name: columns[f"mention.{name}"][mention] for name in ("joint.present",)}
    there = (bool(m["joint.present"]), bool(columns["entity.joint.present"][entity]))

    def cosine(a, b):
        return dot(unit(columns[a][mention].tolist()), unit(columns[b][entity].tolist()))

    return {
        "text_to_text": cosine("mention.text.sentence", "entity.text.sentence"),
        "text_to_image": cosine("mention.joint.sentence", "entity.joint.image") if there[1] else 0.0,
        "image_to_text": cosine("mention.joint.image", "entity.joint.text") if there[0] else 0.0,
        "image_to_image": dot(
            columns["mention.objects.summary"][mention].tolist(), columns["entity.objects.summary"][entity].tolist()
        ),
    }


def looped_ranks(scores, golds):
    """How many stand above gold, and how many beside it, of scores (n, E) as lists."""
    better, tied = [], []
    for row, gold in zip(scores, golds, strict=True):
        above = sum(score > row[gold] for score in row) if gold >= 0 else metrics.NEVER
        better.append(above)
        tied.append(sum(score == row[gold] for score in row) - 1 if gold >= 0 else 0)
    return better, tied


# the edges of any pair


@pytest.mark.parametrize("resident", ["device", "host", "mmap"])
def test_edges_equal_those_that_extraction_stores(world_cache, columns, resident):
    aligned = computed_edges.table_of(melcache.open(world_cache), resident, CPU)
    lists = torch.from_numpy(columns["pair.candidates.candidates"]).long()
    found = computed_edges.edges(aligned, torch.arange(N), lists).flatten(2).numpy()
    for i, edge in enumerate(EDGES):
        stored = columns[f"pair.alignment.{edge}"]
        assert stored.any(), edge
        np.testing.assert_array_equal(found[..., i], stored, err_msg=edge)


def test_edges_equal_loops_for_pairs_outside_the_lists(world_cache, columns, monkeypatch):
    monkeypatch.setattr(computed_edges, "PAIRS", 7)
    rows, entities = torch.tensor([0, 5, 17]), torch.arange(E).expand(3, E)
    found = computed_edges.edges(computed_edges.table_of(melcache.open(world_cache), "device", CPU), rows, entities)
    assert found.shape == (3, E, 2, 2)
    for i, mention in enumerate(rows.tolist()):
        for entity in range(E):
            expected = looped_edges(columns, mention, entity)
            assert found[i, entity].flatten().tolist() == pytest.approx([expected[edge] for edge in EDGES], abs=1e-6)


# B: gold is put in


def test_gold_goes_to_the_first_padding_or_replaces_the_last_candidate():
    candidates = torch.tensor([[4, 5, 6], [4, -1, -1], [-1, 5, -1], [4, 5, -1], [4, 5, 6], [1, 2, 3]])
    gold = torch.tensor([-1, -1, -1, 1, -1, -1])
    wanted = torch.tensor([9, 9, 9, 5, -1, 1])  # the fourth has its gold, the fifth is nil
    rows, places = protocols.missing(candidates, gold, wanted)
    assert (rows.tolist(), places.tolist()) == ([0, 1, 2, 5], [2, 1, 0, 2])


@pytest.mark.parametrize("resident", ["device", "host", "mmap"])
def test_injected_lists_equal_a_loop(world_cache, columns, resident):
    config = TrainConfig(dataset=str(world_cache), model="drin", protocol="injected", device="cpu")
    reader = melcache.open(world_cache)
    before = Table(reader, "drin", CPU, resident, protocols.columns(ranking_of(config), reader))
    table = protocols.injected(ranking_of(config), reader, before)
    (batch,), put = table.batches([torch.arange(N)]), 0
    for row in range(N):
        listed = columns["pair.candidates.candidates"][row].tolist()
        lexical = columns["pair.candidates.lexical"][row].tolist()
        edges = [[float(columns[f"pair.alignment.{edge}"][row, j]) for edge in EDGES] for j in range(C)]
        gold = int(columns["mention.ids.gold"][row])
        if gold >= 0 and gold not in listed:
            place = listed.index(-1) if -1 in listed else C - 1
            expected = looped_edges(columns, row, gold)
            listed[place], lexical[place] = gold, float(columns["pair.candidates.lexical_gold"][row])
            edges[place] = [expected[edge] for edge in EDGES]
            put += 1
        assert table.candidates[row].tolist() == listed
        assert int(table.gold[row]) == (listed.index(gold) if gold >= 0 else -1)
        assert batch.present[row].tolist() == [entity >= 0 for entity in listed]
        assert batch["pair.candidates.lexical"][row].tolist() == lexical
        np.testing.assert_allclose(batch["pair.alignment"][row].flatten(1), edges, atol=1e-6, rtol=0)
        for j, entity in enumerate(listed):
            if entity >= 0:
                np.testing.assert_array_equal(
                    batch["entity.text.sentence"][row, j], columns["entity.text.sentence"][entity]
                )
    untouched = (before.gold >= 0) | (torch.from_numpy(columns["mention.ids.gold"]) < 0)
    assert 0 < put < N - int(untouched.sum()) + 1
    assert torch.equal(before.candidates[untouched], table.candidates[untouched])
    assert torch.equal(before.pairs()["pair.alignment"][untouched], table.pairs()["pair.alignment"][untouched])
    assert before.candidates.tolist() == columns["pair.candidates.candidates"].tolist()


@pytest.mark.parametrize("model", ["lexical", "prior", "clip", "bert", "drin"])
@pytest.mark.parametrize("resident", ["device", "mmap"])
def test_recall_of_injected_lists_is_one_but_for_nil(world_cache, columns, tmp_path, model, resident):
    found = fit(world_cache, tmp_path, model, protocol="injected", resident=resident)
    gold = columns["mention.ids.gold"][columns["mention.ids.splits"] >> 2 & 1 == 1]
    assert 0.5 < np.mean(gold >= 0) < 1
    assert found["protocol"] == "B injected"
    for metric in (
        found["recall_ceiling"]["test"],
        found["mean"]["test"]["recall"],
        found["lexical"]["test"]["recall"],
    ):
        assert metric == pytest.approx(np.mean(gold >= 0))
    assert fit(world_cache, tmp_path / "a", "lexical")["recall_ceiling"]["test"] < metric


def test_nothing_is_put_into_lists_that_hold_every_gold(everyone):
    config, reader = TrainConfig(dataset=str(everyone), protocol="injected", device="cpu"), melcache.open(everyone)
    before = Table(reader, "drin", CPU, "device", protocols.columns(ranking_of(config), reader))
    after = protocols.injected(ranking_of(config), reader, before)
    assert torch.equal(before.candidates, after.candidates) and torch.equal(before.gold, after.gold)
    assert all(torch.equal(column, after.pairs()[name]) for name, column in before.pairs().items())


def test_training_sees_injected_lists(world_cache, columns, tmp_path, monkeypatch):
    seen = []
    real = loop.run_epoch

    def spy(run, step, orders, *rest):
        seen.append((run.data.table, orders))
        return real(run, step, orders, *rest)

    monkeypatch.setattr(loop, "run_epoch", spy)
    fit(world_cache, tmp_path, "bert", protocol="injected", epochs=1)
    table, orders = seen[0]
    train = np.flatnonzero((columns["mention.ids.splits"] & 1 == 1) & (columns["mention.ids.gold"] >= 0))
    there = [row for row in train.tolist() if int(table.present[row].sum()) > 1]
    assert sorted(orders[0].tolist()) == there
    assert (table.gold[train] >= 0).all()


def test_injecting_needs_columns_and_names_those_that_lack(columns, tmp_path):
    older = write_columns(tmp_path / "older", {n: v for n, v in columns.items() if n != "pair.candidates.lexical_gold"})
    with pytest.raises(
        CacheError,
        match=r"lacks the columns pair\.candidates\.lexical_gold, which bert under --protocol injected reads\. Compute",
    ):
        fit(older, tmp_path / "run", "bert", protocol="injected")
    lean = write_columns(tmp_path / "lean", {n: v for n, v in columns.items() if ".objects." not in n})
    fit(lean, tmp_path / "bert", "bert", protocol="injected", epochs=1)  # reads no edges
    with pytest.raises(
        CacheError, match=r"lacks the parts entity\.objects, mention\.objects, which drin under .* injected"
    ):
        fit(lean, tmp_path / "drin", "drin", protocol="injected")
    both = r"melcache extract .* --name lean --for drin, .* melcache pull lean URL --for drin,entity\.objects,mention"
    with pytest.raises(CacheError, match=r"which drin under --protocol whole-kb reads\. Compute them: " + both):
        fit(lean, tmp_path / "drin", "drin", protocol="whole-kb")
    fit(lean, tmp_path / "whole", "bert", protocol="whole-kb", epochs=1)  # ranks all without a first stage


# C: all entities


def looped_scores(path, columns, rows, name="bert"):
    """The head's cosine with every entity, from its layers' outputs in float64."""
    model, table = model_of(name), table_of(path, head=name)
    mentions = model.embed(table.batch(rows)).double().tolist()
    entities = model.project(table.features(model.projects, torch.arange(E))).double().tolist()
    return model, table, [[dot(unit(m), unit(e)) for e in entities] for m in mentions]


@pytest.mark.parametrize("resident", ["device", "host", "mmap"])
@pytest.mark.parametrize("name", ["bert", "jmel", "clip_linear"])
def test_ranks_among_all_entities_equal_loops(world_cache, columns, name, resident):
    rows = torch.arange(N)
    model, _, scores = looped_scores(world_cache, columns, rows, name)
    golds = columns["mention.ids.gold"].tolist()
    table = table_of(world_cache, head=name, resident=resident)
    better, tied = whole_kb.ranks(whole_kb.towers_of(model, table), table, rows, World())
    assert (better.tolist(), tied.tolist()) == looped_ranks(scores, golds)
    assert {tied[row].item() for row in range(N) if golds[row] in (7, 8)} == {1}  # the one beside the other


@pytest.mark.parametrize(("chunk", "block", "group"), [(1, 90, 90), (7, 3, 50), (16, 90, 13), (49, 1, 8), (4096, 5, 1)])
def test_no_size_of_a_chunk_changes_a_rank(world_cache, monkeypatch, chunk, block, group):
    model, table, rows = model_of(), table_of(world_cache), torch.arange(N)
    aligned = computed_edges.table_of(melcache.open(world_cache), "device", CPU)
    expected = whole_kb.ranks(whole_kb.towers_of(model, table), table, rows, World())
    best = whole_kb.nearest(computed_edges.towers(aligned), aligned, rows, 11, World())
    monkeypatch.setattr(whole_kb, "CHUNK", {"cpu": chunk})
    monkeypatch.setattr(whole_kb, "BLOCK", {"cpu": block})
    monkeypatch.setattr(whole_kb, "GROUP", group)
    found = whole_kb.ranks(whole_kb.towers_of(model, table), table, rows, World())
    assert all(map(torch.equal, found, expected))
    assert torch.equal(whole_kb.nearest(computed_edges.towers(aligned), aligned, rows, 11, World()), best)


def test_scores_are_sums_without_rounding():
    rng = np.random.default_rng(0)
    vectors = torch.from_numpy(rng.normal(size=(60, 700))).float()
    table = type("T", (), {"entity_count": 60, "mention_count": 60})()
    towers = whole_kb.Towers(lambda rows: whole_kb._unit(vectors[rows]), lambda rows: whole_kb._unit(vectors[rows]))
    held = whole_kb.vectors_of(towers, table, "entity", torch.arange(60)).double()
    steps = (held * GRID).long()
    assert torch.equal(steps.double(), held * GRID)
    np.testing.assert_allclose(held, vectors / vectors.norm(dim=1, keepdim=True), rtol=0, atol=2 / GRID)
    exact = [[sum(a * b for a, b in zip(x, y, strict=True)) for y in steps.tolist()] for x in steps[:4].tolist()]
    for order in (torch.arange(700), torch.randperm(700)):
        products = held[:4, order] @ held[:, order].T * GRID**2
        assert products.long().tolist() == exact


def test_constant_vectors_tie_with_every_entity(world_cache):
    table, rows = table_of(world_cache), torch.arange(N)
    towers = whole_kb.Towers(lambda rows: torch.full((len(rows), 5), 0.3), lambda rows: torch.full((len(rows), 5), 0.3))
    better, tied = whole_kb.ranks(towers, table, rows, World())
    there = table.column("mention.ids.gold") >= 0
    assert not better[there].any() and (tied[there] == E - 1).all()
    assert (better[~there] == metrics.NEVER).all() and not tied[~there].any()
    assert metrics.summarize(better, tied)["top1"] == pytest.approx(float(there.float().mean()) / E)


def test_vectors_are_computed_in_pieces_of_one_size(world_cache, monkeypatch):
    """A row of a matrix product may differ in its last bit between sizes: gold must equal itself."""
    monkeypatch.setattr(whole_kb, "PIECES", {"mention": 32, "entity": 20})
    table, towers, sizes = table_of(world_cache), whole_kb.towers_of(model_of(), table_of(world_cache)), set()

    def watched(vectors):
        return lambda rows: (sizes.add((vectors.__name__, len(rows))), vectors(rows))[1]

    whole_kb.ranks(whole_kb.Towers(watched(towers.mentions), watched(towers.entities)), table, torch.arange(N), World())
    assert sizes == {("mentions", 32), ("entities", 20)}


class Largest(TorchFunctionMode):
    """Watch the size of every tensor that is made."""

    numel = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, (tuple, list)) else [found]:
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return found


def test_no_tensor_is_larger_than_a_block_times_a_chunk(tmp_path, monkeypatch):
    write(tmp_path / "wide", Synthetic(150, 1000, 4, 0.5, 0, "bert", text_width=16))
    table, model = table_of(tmp_path / "wide"), build("bert", JointConfig(text_width=16, width=8), with_lexical=False)
    monkeypatch.setattr(whole_kb, "CHUNK", {"cpu": 256})
    monkeypatch.setattr(whole_kb, "BLOCK", {"cpu": 32})
    monkeypatch.setattr(whole_kb, "PIECES", {"mention": 64, "entity": 256})
    rows, towers = torch.arange(150), whole_kb.towers_of(model, table)
    for search in (whole_kb.ranks, lambda *given: whole_kb.nearest(*given[:3], 5, World())):
        with Largest() as largest:
            search(towers, table, rows, World())
        assert largest.numel == 32 * 256


def test_processes_share_the_mentions(world_cache, monkeypatch):
    model, table, rows = model_of(), table_of(world_cache), torch.arange(N)
    towers = whole_kb.towers_of(model, table)
    aligned = computed_edges.table_of(melcache.open(world_cache), "device", CPU)
    expected = whole_kb.ranks(towers, table, rows, World())
    best = whole_kb.nearest(computed_edges.towers(aligned), aligned, rows, 4, World())
    added = []
    monkeypatch.setattr(World, "add", lambda self, tensors: added.append([tensor.clone() for tensor in tensors]))
    for rank in range(3):
        whole_kb.ranks(towers, table, rows, World(rank, 3))
    better, tied = (sum(parts) for parts in zip(*added, strict=True))
    nil = table.column("mention.ids.gold") < 0
    assert torch.equal(better.masked_fill(nil, metrics.NEVER), expected[0]) and torch.equal(tied, expected[1])
    added.clear()
    for rank in range(3):
        whole_kb.nearest(computed_edges.towers(aligned), aligned, rows, 4, World(rank, 3))
    assert torch.equal(sum(found for (found,) in added), best)


def test_prior_among_all_entities_equals_loops(world_cache, columns):
    surface, gold = columns["mention.ids.surface"].tolist(), columns["mention.ids.gold"].tolist()
    train = np.flatnonzero(columns["mention.ids.splits"] & 1)
    counts = [[sum(surface[t] == string and gold[t] == e for t in train) for e in range(E)] for string in surface]
    table = table_of(world_cache, head="prior")
    better, tied = prior_of_all(table, torch.arange(N), World())
    assert (better.tolist(), tied.tolist()) == looped_ranks(counts, gold)
    assert len(set(better.tolist())) > 2


def test_clip_among_all_entities_equals_loops(world_cache, columns):
    scores = []
    for row in range(N):
        scores.append([])
        for entity in range(E):
            total = 0.0
            for of_mention, of_entity in CLIP:
                there = columns["mention.joint.present"][row] and columns["entity.joint.present"][entity]
                if there or of_entity.endswith("text"):
                    total += dot(unit(columns[of_mention][row].tolist()), unit(columns[of_entity][entity].tolist()))
            scores[-1].append(total)
    table = table_of(world_cache, head="clip")
    better, tied = clip_of_all(table, torch.arange(N), World())
    assert (better.tolist(), tied.tolist()) == looped_ranks(scores, columns["mention.ids.gold"].tolist())


@pytest.mark.parametrize("model", ["clip", "prior", "bert", "clip_linear"])
def test_lists_of_all_entities_make_retrieved_and_whole_kb_one(everyone, tmp_path, model):
    listed, every = (fit(everyone, tmp_path / p, model, protocol=p) for p in ("retrieved", "whole-kb"))
    assert listed["mean"]["test"]["mean_rank"] > 3
    for one, other in zip(listed["seeds"], every["seeds"], strict=True):
        assert one["test"] == other["test"] and one["valid"] == other["valid"] and one["ties"] == other["ties"]
    assert listed["lexical"] == every["lexical"]
    assert listed["mean"]["test"] == fit(everyone, tmp_path / "b", model, protocol="injected")["mean"]["test"]
    given = fit(everyone, tmp_path / "d", model, protocol="given")["mean"]["test"]
    assert given["top5"] == pytest.approx(listed["mean"]["test"]["top5"] / listed["mean"]["test"]["recall"])


def test_drin_re_ranks_every_entity_as_it_ranks_lists_of_all(tmp_path):
    # no twins: float32 rounds the scores of one entity at two places of a list to two numbers
    path = write_columns(tmp_path / "everyone", world_columns(seed=3, mentions=240, listed=E, twins=False))
    listed = fit(path, tmp_path / "a", "drin")
    every = fit(path, tmp_path / "c", "drin", protocol="whole-kb")
    assert (every["ranked"], every["candidates"]) == ("best", E)
    assert every["mean"]["test"] == pytest.approx(listed["mean"]["test"])
    assert every["ties"]["pessimistic"] == pytest.approx(listed["ties"]["pessimistic"])


@pytest.mark.parametrize("model", ["bert", "clip", "prior"])
def test_noise_stays_at_chance_among_all_entities(tmp_path, model):
    write(tmp_path / "noise", Synthetic(2000, 80, 10, 0.0, 0, "bert,clip,prior", text_width=16, joint_width=8))
    found = fit(tmp_path / "noise", tmp_path / "run", model, protocol="whole-kb", epochs=1, batch=64)
    for k in (1, 20):
        deviation = math.sqrt(k / 80 * (1 - k / 80) / 200)
        assert abs(found["mean"]["test"][f"top{k}"] - k / 80) < 5 * deviation
    assert found["mean"]["test"]["recall"] == 1


def test_signal_is_found_among_all_entities(tmp_path):
    write(tmp_path / "signal", Synthetic(1500, 200, 10, 0.8, 0, "bert", text_width=32))
    found = fit(tmp_path / "signal", tmp_path / "run", "bert", protocol="whole-kb", epochs=10, learning_rate=1e-2)
    assert found["mean"]["test"]["top1"] > 0.3  # chance 0.005


# C, re-ranked


def looped_alignment(columns, mention):
    """The sum of the four edges with every entity, each less its mean over the entities that have it."""
    edges = [looped_edges(columns, mention, entity) for entity in range(E)]
    there = {
        "text_to_image": columns["entity.joint.present"],
        "image_to_image": columns["entity.objects.summary"].any(1),
    }
    found = [0.0] * E
    for edge in EDGES:
        having = [entity for entity in range(E) if edge not in there or there[edge][entity]]
        mean = sum(edges[entity][edge] for entity in having) / len(having)
        for entity in having:
            found[entity] += edges[entity][edge] - mean
    return found


def test_re_ranked_are_the_best_by_alignment_score_and_gold_outside_is_a_miss(world_cache, columns, tmp_path):
    config = TrainConfig(dataset=str(world_cache), model="drin", protocol="whole-kb", rerank=9, device="cpu")
    reader = melcache.open(world_cache)
    table = Table(reader, "drin", CPU, "device", protocols.columns(ranking_of(config), reader))
    test = protocols.splits(ranking_of(config), reader, table, World())["test"]
    hits = 0
    for row in test.rows.tolist():
        scores = looped_alignment(columns, row)
        best = sorted(range(E), key=lambda entity: (-round(scores[entity], 9), entity))[:9]
        assert test.table.candidates[row].tolist() == best
        gold = int(columns["mention.ids.gold"][row])
        assert int(test.table.gold[row]) == (best.index(gold) if gold in best else -1)
        hits += gold in best
        expected = [[looped_edges(columns, row, entity)[edge] for edge in EDGES] for entity in best]
        batch = test.table.batch(torch.tensor([row]))
        np.testing.assert_allclose(batch["pair.alignment"][0].flatten(1), expected, atol=1e-6, rtol=0)
    assert 0 < hits < len(test.rows)
    found = fit(world_cache, tmp_path, "drin", protocol="whole-kb", rerank=9)
    assert found["recall_ceiling"]["test"] == found["mean"]["test"]["recall"] == pytest.approx(hits / len(test.rows))
    assert (found["protocol"], found["candidates"], found["entities"]) == ("C whole-kb", 9, E)


def test_any_head_may_re_rank(world_cache, tmp_path):
    recalls = {
        model: fit(world_cache, tmp_path / model, model, protocol="whole-kb", rerank=9)["recall_ceiling"]["test"]
        for model in ("bert", "clip", "prior", "drin")
    }
    assert len(set(recalls.values())) == 1
    assert fit(world_cache, tmp_path / "all", "bert", protocol="whole-kb")["recall_ceiling"]["test"] > recalls["bert"]


def test_as_many_as_the_lists_hold_are_re_ranked_if_nothing_else_is_said(world_cache, tmp_path):
    assert fit(world_cache, tmp_path, "drin", protocol="whole-kb", epochs=1)["candidates"] == C


# gold as a vertex


LEAKING = DrinAuthorsConfig(D, V, 8, entity_vector="sentence", leak_gold=True)


@pytest.mark.parametrize("given", [{}, {"protocol": "whole-kb", "rerank": 4}], ids=["list", "best"])
def test_leaked_gold_outside_the_list_is_a_vertex_and_not_ranked(world_cache, columns, given):
    config, reader = (
        TrainConfig(dataset=str(world_cache), model="drin_authors", device="cpu", **given),
        melcache.open(world_cache),
    )
    data = data_of(config, LEAKING, reader, held_table(config, LEAKING, reader, CPU), World())
    places, lost = given.get("rerank", C), 0
    for table, rows in ((data.table, data.rows), (data.splits["test"].table, data.splits["test"].rows)):
        listed = C if table is data.table else places
        assert (table.places, table.candidates.shape[1]) == (listed, listed + 1)
        batch = table.batch(rows)
        assert not batch.present[:, listed].any()
        for i, row in enumerate(rows.tolist()):
            gold = int(columns["mention.ids.gold"][row])
            outside = gold >= 0 and int(batch.gold[i]) < 0
            assert batch["pair.vertices"][i].tolist() == [*batch.present[i, :listed].tolist(), outside]
            if outside:
                lost += 1
                expected = looped_edges(columns, row, gold)
                found = batch["pair.alignment"][i, listed].flatten()
                np.testing.assert_allclose(found, [expected[edge] for edge in EDGES], atol=1e-6, rtol=0)
                text = columns["entity.text.sentence"][gold]
                image = columns["entity.image.vector"][gold] * columns["entity.image.present"][gold]
                np.testing.assert_array_equal(batch["entity.text.sentence"][i, listed], text.astype(np.float32))
                np.testing.assert_array_equal(batch["entity.image.vector"][i, listed], image.astype(np.float32))
    assert lost > 5
    assert (data.ranked, data.warnings) == (places, ())
    head = build("drin_authors", LEAKING, with_lexical=False)
    honest = build("drin_authors", replace(LEAKING, leak_gold=False), with_lexical=False)
    honest.load_state_dict(head.state_dict())
    changed, known = (head(batch) != honest(batch)).any(1), torch.from_numpy(columns["mention.ids.gold"])[rows] >= 0
    assert changed[known & (batch.gold < 0)].all()
    assert not changed[~known].any()


@pytest.mark.parametrize("protocol", ["injected", "given"])
def test_protocols_without_lost_golds_need_no_place_for_them(world_cache, protocol):
    config, reader = TrainConfig(model="drin_authors", device="cpu", protocol=protocol), melcache.open(world_cache)
    data = data_of(config, LEAKING, reader, held_table(config, LEAKING, reader, CPU), World())
    assert data.table.candidates.shape[1] == C


def test_a_cache_that_lacks_what_edges_are_computed_from_says_that_lost_golds_are_no_vertices(columns, tmp_path):
    held = {name: values for name, values in columns.items() if not name.startswith("mention.joint.sentence")}
    config, reader = (
        TrainConfig(model="drin_authors", device="cpu"),
        melcache.open(write_columns(tmp_path / "less", held)),
    )
    table = held_table(config, LEAKING, reader, CPU)
    data = data_of(config, LEAKING, reader, table, World())
    lost = sum(gold >= 0 > place for gold, place in zip(columns["mention.ids.gold"], table.gold.tolist(), strict=True))
    assert data.table.candidates.shape[1] == C
    assert data.warnings == (
        f"--leak-gold: of {lost} mentions gold was not retrieved and is, other than in the authors' code, no vertex "
        "either: the cache lacks what its edges are computed from (mention.joint.sentence)",
    )
    fitted = loop.fit(
        TrainConfig(str(tmp_path / "less"), "drin_authors", 1, run=tmp_path / "run", device="cpu"), LEAKING
    )
    assert fitted["warnings"][-1] == data.warnings[0]


# what is said


def run(*given):
    return CliRunner().invoke(app, list(map(str, given)))


def test_the_table_says_among_what_gold_is_ranked(world_cache, tmp_path):
    common = ("--dataset", world_cache, "--epochs", 1, "--device", "cpu", "--protocol", "whole-kb", "--run")
    shown = run(*common, tmp_path / "bert", "--model", "bert", "--width", 8).stdout
    assert "protocol C whole-kb, all 50 entities, expected ties" in shown
    assert "lexical, in its list" in shown
    shown = run(*common, tmp_path / "drin", "--model", "drin", "--width", 8, "--rerank", 9).stdout
    recall = 100 * json.loads((tmp_path / "drin/results.json").read_text())["recall_ceiling"]["test"]
    assert (
        f"re-ranking the 9 best of 50 entities by alignment score; recall of these 9: {recall:.1f}, expected" in shown
    )
    shown = run(*common, tmp_path / "lexical", "--model", "lexical").stdout
    assert "protocol C whole-kb, within lists of 6, since other entities have no string score" in shown


def test_valid_may_be_ranked_in_the_lists_and_test_among_all(world_cache, tmp_path):
    quick = fit(world_cache, tmp_path / "quick", "bert", protocol="whole-kb", select_among="list", epochs=3)
    listed = fit(world_cache, tmp_path / "listed", "bert", epochs=3)
    assert quick["seeds"][0]["history"] == listed["seeds"][0]["history"]
    assert quick["watched"] == "A retrieved"
    assert quick["seeds"][0]["valid"] != listed["seeds"][0]["valid"]
    every = fit(world_cache, tmp_path / "every", "bert", protocol="whole-kb", epochs=quick["seeds"][0]["epoch"])
    assert (every["watched"], len(every["seeds"][0]["history"])) == ("C whole-kb", quick["seeds"][0]["epoch"])
    assert every["seeds"][0]["history"][-1]["valid"] == quick["seeds"][0]["valid"]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (("--protocol", "nonsense"), "--protocol nonsense: choose from retrieved, injected, whole-kb, given"),
        (("--rerank", "5"), "--rerank is an option of --protocol whole-kb alone"),
        (("--select-among", "list"), "--select-among is an option of --protocol whole-kb alone"),
        (("--protocol", "whole-kb", "--rerank", "-1"), "--rerank is -1; it must be 0 or more"),
        (
            ("--layers", "2"),
            "--layers is no option of bert; leave it out, or choose from drin, drin_authors",
        ),  # drin's 2
        (
            ("--protocol", "whole-kb", "--with-lexical"),
            "--with-lexical needs string scores, which entities outside the lists do not have: leave it out, or choose "
            "a --protocol other than whole-kb",
        ),
    ],
)
def test_options_that_do_not_fit_are_one_line(world_cache, given, error):
    found = run("--dataset", world_cache, "--model", "bert", *given)
    assert (found.exit_code, found.stderr) == (2, f"error: {error}\n")


@pytest.mark.parametrize("command", ["compare", "ablate", "sweep"])
def test_every_command_refuses_string_scores_of_all_entities(world_cache, tmp_path, command):
    found = run(
        command, "--dataset", world_cache, "--run", tmp_path / "run", "--protocol", "whole-kb", "--with-lexical"
    )
    assert found.exit_code == 2
    assert "--with-lexical needs string scores, which entities outside the lists do not have" in found.stderr
    assert not (tmp_path / "run").exists()


def test_a_head_with_string_scores_is_no_cosine_of_two_towers():
    bert = JointConfig(head="bert", width=8, text_width=D, image_width=V, joint_width=P)
    assert build("bert", bert, with_lexical=False).two_towers
    assert not build("bert", bert, with_lexical=True).two_towers


# comparing heads that rank different entities


def compared(folder, run_folder, *options):
    common = ("--seeds", "0", "--epochs", 1, "--width", 8, "--device", "cpu", "--protocol", "whole-kb")
    done = run("compare", "--dataset", folder, "--run", run_folder, *common, *options)
    assert done.exit_code == 0, done.stderr
    found = json.loads((run_folder / "compare.json").read_text())
    return {entry["name"]: entry for entry in found["entries"]}, found["base"], done.stdout


def test_heads_that_rank_different_entities_are_not_subtracted(world_cache, tmp_path):
    found, base, text = compared(world_cache, tmp_path, "--models", "lexical,bert,drin")
    assert base == "prior"  # of heads without weights the first that ranks as most do: all entities
    ranked = {name: (entry["ranked"], entry["candidates"]) for name, entry in found.items()}
    assert ranked == {"prior": ("all", E), "lexical": ("list", C), "bert": ("all", E), "drin": ("best", C)}
    assert {name for name, entry in found.items() if entry["difference"]} == {"bert"}
    assert found["bert"]["difference"]["top1"]["holm"] == found["bert"]["difference"]["top1"]["p"]  # of one
    for name, entry in found.items():
        assert entry["recall_ceiling"] == pytest.approx(entry["mean"]["test"]["recall"])
        line = next(line for line in text.splitlines() if line.startswith(name))
        among = {"list": f"list of {C}", "best": f"best {C}", "all": f"all {E}"}[entry["ranked"]]
        assert line.split()[1 : 1 + len(among.split())] == among.split()
        assert f" {100 * entry['recall_ceiling']:.1f} " in line
    assert "No difference from prior is given where a head ranks others" in text
    assert (tmp_path / "compare.md").read_text().count("No difference from prior") == 1


def test_heads_that_rank_the_same_entities_are_subtracted_from_one_of_them(world_cache, tmp_path):
    found, base, text = compared(world_cache, tmp_path, "--models", "bert,drin", "--rerank", 9)
    assert base == "prior"
    assert {name for name, entry in found.items() if entry["difference"]} == {"bert", "drin"}
    assert "C whole-kb, best 9, " in text
    assert "No difference" not in text
    found, base, _ = compared(world_cache, tmp_path / "asked", "--models", "clip,drin", "--baseline", "drin")
    assert base == "drin"
    assert not any(entry["difference"] for entry in found.values())
    found, base, _ = compared(world_cache, tmp_path / "alone", "--models", "drin")
    assert (base, list(found)) == ("drin", ["drin"])


# three rules for ties


@pytest.mark.parametrize("protocol", ["retrieved", "injected", "whole-kb", "given"])
def test_ties_under_three_rules_equal_loops(world_cache, columns, tmp_path, protocol):
    """`prior` ties a lot: counts of how often a string meant an entity."""
    found = fit(world_cache, tmp_path, "prior", protocol=protocol)
    surface, gold = columns["mention.ids.surface"].tolist(), columns["mention.ids.gold"].tolist()
    train = np.flatnonzero(columns["mention.ids.splits"] & 1)
    hits, mentions = {"optimistic": 0, "expected": 0.0, "pessimistic": 0}, 0
    for row in np.flatnonzero(columns["mention.ids.splits"] >> 2 & 1):
        listed = [e for e in columns["pair.candidates.candidates"][row].tolist() if e >= 0]
        if protocol == "given" and gold[row] not in listed:
            continue
        mentions += 1
        if protocol == "injected" and gold[row] >= 0 and gold[row] not in listed:
            listed = [*(listed[:-1] if len(listed) == C else listed), gold[row]]
        listed = list(range(E)) if protocol == "whole-kb" else listed
        if gold[row] < 0 or gold[row] not in listed:
            continue
        scores = {e: sum(surface[t] == surface[row] and gold[t] == e for t in train) for e in listed}
        above = sum(score > scores[gold[row]] for score in scores.values())
        beside = sum(score == scores[gold[row]] for score in scores.values())
        hits["optimistic"] += above < 3
        hits["pessimistic"] += above + beside <= 3
        hits["expected"] += sum(above + place < 3 for place in range(beside)) / beside
    assert hits["pessimistic"] < hits["expected"] < hits["optimistic"]
    assert found["mean"]["test"]["top3"] == pytest.approx(hits["expected"] / mentions)
    for rule in ("optimistic", "pessimistic"):
        assert found["ties"][rule]["top3"] == pytest.approx(hits[rule] / mentions)


# numbers that are not finite


@pytest.fixture
def planted(monkeypatch):
    """Let a column read a number that is not finite, as a stranger's cache could."""
    real = Reader.stored

    def plant(name, row, value=np.nan):
        def stored(self, names, **given):
            found = real(self, names, **given)
            if name in found:
                found[name][row, 1] = value
            return found

        monkeypatch.setattr(Reader, "stored", stored)

    return plant


@pytest.mark.parametrize(
    ("model", "given", "name"),
    [
        ("bert", {}, "entity.text.sentence"),
        ("bert", {"protocol": "whole-kb"}, "entity.text.sentence"),
        ("bert", {"protocol": "whole-kb"}, "mention.text.span"),
        ("drin", {}, "entity.image.vector"),
        ("drin", {"protocol": "whole-kb"}, "entity.joint.text"),
        ("drin", {"protocol": "whole-kb"}, "mention.objects.summary"),
        ("drin", {"protocol": "injected"}, "entity.objects.summary"),
        ("clip", {}, "mention.joint.mention_sentence"),
        ("clip", {"protocol": "whole-kb"}, "entity.joint.text"),
        ("lexical", {}, "pair.candidates.lexical"),
    ],
)
def test_a_number_that_is_not_finite_is_named_with_its_column(
    world_cache, columns, tmp_path, planted, model, given, name
):
    gold = columns["mention.ids.gold"]
    outside = (columns["pair.candidates.gold"] < 0) & (gold >= 0)
    row = (
        int(gold[outside][0])
        if name.startswith("entity.")
        else int(np.flatnonzero(columns["mention.ids.splits"] & 4)[0])
    )
    if name.startswith("entity.image"):
        row = int(np.flatnonzero(columns["entity.image.present"])[0])
    if name == "pair.candidates.lexical":
        row = int(
            np.flatnonzero(
                (columns["pair.candidates.candidates"] >= 0).all(1) & (columns["mention.ids.splits"] & 4 > 0)
            )[0]
        )
    planted(name, row)
    with pytest.raises(NotFiniteError, match=rf"^column {name} of .* holds nan in row {row}, where .* cache again"):
        fit(world_cache, tmp_path, model, **given)


def test_an_entity_in_no_list_that_is_not_finite_stops_whole_kb(world_cache, columns, tmp_path, planted):
    assert max(columns["pair.candidates.candidates"].max(), columns["mention.ids.gold"].max()) < E - 1
    planted("entity.text.sentence", E - 1, np.inf)
    fit(world_cache, tmp_path / "a", "bert", epochs=1)
    with pytest.raises(NotFiniteError, match=r"column entity\.text\.sentence of .* holds inf in row 49,"):
        fit(world_cache, tmp_path / "c", "bert", protocol="whole-kb", epochs=1)


def test_a_gold_outside_the_entities_is_refused(columns, tmp_path):
    wrong = columns | {"mention.ids.gold": columns["mention.ids.gold"] + 1 * (columns["mention.ids.gold"] == 3) * E}
    path = write_columns(tmp_path / "wrong", wrong | {"mention.ids.gold": wrong["mention.ids.gold"].astype(np.int32)})
    with pytest.raises(CacheError, match=r"mention\.ids\.gold of .* holds 53 in row \d+, expected -2 to 49"):
        fit(path, tmp_path / "run", "bert", protocol="whole-kb")


def test_a_learning_rate_too_large_is_still_what_is_blamed(world_cache, tmp_path):
    with pytest.raises(NotFiniteError, match=r"seed 0 .* not finite after epoch 1 .*smaller --learning-rate"):
        fit(world_cache, tmp_path, "bert", learning_rate=1e38)


# a head of one's own

READER = """
from dataclasses import dataclass
import torch
from torch import nn
from torch.nn.functional import cosine_similarity
from train.layers.losses import margin_ranking
from train.heads.base import Head

READS = ("mention.text.span", "entity.text.sentence")


@dataclass(frozen=True)
class Config:
    text_width: int = 768


class Model(Head):
    PLACE

    def __init__(self, config):
        super().__init__()
        self.mention = nn.Linear(config.text_width, 8)

    def embed(self, batch):
        return self.mention(batch["mention.text.span"])

    def project(self, columns):
        return self.mention(columns["entity.text.sentence"])

    def forward(self, batch, projected=None):
        found = cosine_similarity(self.embed(batch)[:, None], self.project(batch.columns), dim=-1)
        return (found + MORE).masked_fill(~batch.present, -torch.inf)

    def loss(self, scores, batch):
        return margin_ranking(scores, batch.gold, batch.present, margin=0.25)
"""
LISTED = 'batch["pair.candidates.lexical"]'


@pytest.fixture
def own(tmp_path):
    """Train a head of one's own, READER with `more` and `place`; nothing knows of it afterwards."""
    before = dict(HEADS)

    def run(folder, more, place, options):
        path = tmp_path / "own_head.py"
        path.write_text(READER.replace("MORE", more).replace("PLACE", place))
        given = ["--model", str(path), "--dataset", str(folder), "--run", str(tmp_path / "run"), "--device", "cpu"]
        return CliRunner().invoke(app, [*given, "--epochs", "1", *options.split()])

    yield run
    HEADS.clear()
    HEADS.update(before)


@pytest.mark.parametrize(
    ("more", "place", "options", "message"),
    [
        (LISTED, "pass", "--protocol whole-kb --rerank 20", "pair.candidates.lexical, which is known of the lists"),
        (LISTED, "pass", "--protocol whole-kb", "pair.candidates.lexical, which is known of the lists alone"),
        (LISTED, "two_towers = True", "--protocol whole-kb", "pair.candidates.lexical, which is known of the lists"),
        ('batch["pair.alignment"].sum((2, 3))', "pass", "", "pair.alignment, which a batch does not hold: name it in"),
        (
            'batch["mention.text.sentence"][:, :1]',
            "pass",
            "",
            "mention.text.sentence, which a batch does not hold: name it in",
        ),
        (
            'batch["entity.text.sentence"][..., 0]',
            'projects = ("entity.text.sentence",)',
            "",
            "entity.text.sentence, which a batch",
        ),
    ],
)
def test_a_column_that_a_protocol_lacks_is_known_before_training(
    world_cache, own, monkeypatch, more, place, options, message
):
    monkeypatch.setattr(loop, "run_epoch", lambda *given: pytest.fail("it was trained"))
    monkeypatch.setattr(whole_kb, "nearest", lambda *given: pytest.fail("entities were searched"))
    run = own(world_cache, more, place, options)
    assert run.exit_code == 2 and message in run.stderr and run.stderr.count("\n") == 1


@pytest.mark.parametrize("options", ["", "--protocol injected", "--protocol given"])
def test_string_scores_are_there_wherever_lists_are_ranked(world_cache, own, options):
    assert own(world_cache, LISTED, "pass", options).exit_code == 0


def test_another_error_of_a_head_keeps_its_traceback(world_cache, own):
    assert type(own(world_cache, '{}["mine"]', "pass", "").exception) is KeyError
