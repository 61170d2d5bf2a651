"""Candidates by vectors and by several sources: exact lists, ties by name and id, whatever the order of rows."""

import tracemalloc
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import melcache
from cache.checks.verify import verify
from common.errors import CacheError, ConfigError
from common.records import Dataset, Entity, Mention
from extract import pipeline
from extract.planning import candidate_lists
from extract.reading.entity_columns import Entities
from extract.retrieval import by_name, codes, nearest
from extract.retrieval.by_vectors import VECTORS, by_cosine, fused
from extract.retrieval.name_order import NameOrder
from extract.retrieval.nearest import Mapped, Nearest, Once
from tests.worlds import entity_record, extract_config, mention_record, write_release

pytestmark = pytest.mark.usefixtures("toys_built_once", "without_fsync")


def steps(vectors):
    """Unit vectors as whole steps of the grid."""
    units = vectors.astype(np.float64) / np.maximum(np.linalg.norm(vectors.astype(np.float64), axis=1), 1e-300)[:, None]
    return np.rint(units * 2**25).astype(np.int64)


@pytest.mark.parametrize("search", [Nearest, Once])
@pytest.mark.parametrize(("block", "chunk", "group"), [(16, 8192, 64), (3, 7, 2), (5, 1, 1)])
@pytest.mark.parametrize("kept", [1 << 21, 20])
@pytest.mark.parametrize("k", [1, 6, 40, 60])
def test_nearest_entities_are_those_of_integers(monkeypatch, search, block, chunk, group, kept, k):
    for name, value in (("BLOCK", block), ("RECHECKED", 9), ("HELD", kept), ("EACH", kept // block), ("OF_K", 1)):
        monkeypatch.setattr(nearest, name, value)
    for name, value in (("CHUNK", chunk), ("GROUP", group), ("HELD", kept)):
        monkeypatch.setattr(codes, name, value)
    rng = np.random.default_rng(0)
    mentions, entities = rng.normal(size=(11, 9)).astype(np.float16), rng.normal(size=(40, 9)).astype(np.float16)
    entities[5:25] = entities[5]  # they tie
    entities[30], mentions[3] = 0, 0
    order, told = rng.permutation(40), []
    scores = steps(mentions) @ steps(entities).T
    expected = [sorted(range(40), key=lambda e, row=row: (-row[e], order[e]))[:k] for row in scores]
    assert search(entities, order).best(mentions, k, told.append).tolist() == expected
    assert sum(told) == 11 and search(entities, order).best(mentions[:0], k, int).shape == (0, min(k, 40))


@pytest.mark.parametrize("search", [Nearest, Once])
@pytest.mark.parametrize("noise", [0, 3e-5, 1e-3, 1.0])
def test_nearest_entities_are_found_among_thousands_that_codes_cannot_tell_apart(search, noise):
    rng = np.random.default_rng(2)
    mentions = rng.normal(size=(3, 33))
    entities = rng.normal(size=(2_500, 33))
    entities[::2] = mentions[rng.integers(0, 3, 1_250)] + noise * entities[::2]
    given = entities.astype(np.float16)
    scores, order = steps(mentions.astype(np.float16)) @ steps(given).T, rng.permutation(2_500)
    mapped = Mapped([(0, given[:700]), (700, given[700:])])
    some = search(mapped, order)
    expected = [sorted(range(2_500), key=lambda e, row=row: (-row[e], order[e]))[:20] for row in scores]
    assert some.best(mentions.astype(np.float16), 20, int).tolist() == expected


@pytest.mark.parametrize("search", [Nearest, Once])
@pytest.mark.parametrize("alike", ["all", "those without a picture"])
def test_what_is_kept_is_bounded_where_entities_tie(monkeypatch, search, alike):
    """Of thousands that tie none is lost before its place by name is asked, and few are held at once."""
    rng = np.random.default_rng(4)
    entities, mentions = rng.normal(size=(3_000, 8)).astype(np.float16), rng.normal(size=(5, 8)).astype(np.float16)
    if alike == "all":
        entities[:] = entities[0]
    else:  # the few others are opposite to all mentions, so that the k nearest are some of those
        mentions = np.abs(mentions)
        entities = np.where(np.arange(3_000)[:, None] % 100 == 0, -np.abs(entities), np.float16(0))
    order, held, cat = rng.permutation(3_000), [], torch.cat
    bounds = ((codes, "CHUNK", 64), (codes, "HELD", 500), (nearest, "EACH", 500 // nearest.BLOCK))
    for of, name, value in (*bounds, (nearest, "OF_K", 1), (nearest, "RECHECKED", 100)):
        monkeypatch.setattr(of, name, value)
    monkeypatch.setattr(
        codes.torch, "cat", lambda given, **more: (held.append(sum(map(len, given))), cat(given, **more))[1]
    )
    scores = steps(mentions) @ steps(entities).T
    expected = [sorted(range(3_000), key=lambda e, row=row: (-row[e], order[e]))[:7] for row in scores]
    assert search(entities, order).best(mentions, 7, int).tolist() == expected
    assert max(held) <= 500 + 64 * 5, "pairs at once; all that tie are 15,000"


def test_codes_leave_few_entities_to_compare():
    rng = np.random.default_rng(3)
    entities = rng.normal(size=(20_000, 64)).astype(np.float16)
    some = Nearest(entities, np.arange(20_000))
    possible = some._possible(nearest.unit(rng.normal(size=(4, 64))), 10, int)
    assert [10 <= len(rows) <= 200 for rows in possible] == [True] * 4


def test_a_mention_without_a_vector_is_compared_with_none(monkeypatch):
    some = Nearest(np.eye(3, 4, dtype=np.float16), np.array([2, 0, 1]))
    monkeypatch.setattr(some, "_possible", None)  # which would keep all entities: they tie
    assert some.best(np.zeros((2, 4), np.float16), 2, int).tolist() == [[1, 2]] * 2


class Repeated:
    """Rows of a few vectors, over and over."""

    def __init__(self, count):
        rng = np.random.default_rng(5)
        self._vectors, self.shape = rng.normal(size=(3_001, 64)).astype(np.float16), (count, 64)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        return self._vectors[rows % len(self._vectors)]


def peak_of(function, *given):
    tracemalloc.start()
    function(*given)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


@pytest.fixture
def small_passes(monkeypatch):
    """64 mentions are compared with 2,048 entities at a time."""
    for of, name, value in ((codes, "CHUNK", 2_048), (nearest, "HELD", 1 << 15), (nearest, "EACH", 1 << 9)):
        monkeypatch.setattr(of, name, value)


def test_a_search_that_is_made_once_holds_neither_entities_nor_mentions(small_passes, monkeypatch):
    def peak(search, entities, mentions):
        some = search(Repeated(entities), np.arange(entities)) if search is Once else None
        given, order = Repeated(mentions)[np.arange(mentions)], np.arange(entities)
        return peak_of(lambda: (some or search(Repeated(entities), order)).best(given, 4, int))

    small = peak(Once, 8_192, 64)
    assert peak(Once, 32_768, 64) - small < 24_576 and peak(Once, 8_192, 256) - small < 192 * 128
    assert peak(Nearest, 32_768, 64) - peak(Nearest, 8_192, 64) > 24_576 * 64, "what codes of all would take"
    passes, chunks = [], codes.in_chunks
    monkeypatch.setattr(nearest, "in_chunks", lambda *given: (passes.append(given), chunks(*given))[1])
    peak(Once, 4_096, 256)
    assert len(passes) == 4


def test_pairs_stay_in_the_room_that_was_made_for_them():
    """What stays between a comparison's large arrays would pin their memory: 3 GB of it at a million entities."""
    vectors, mentions = nearest.unit(Repeated(900)[np.arange(900)]), nearest.unit(Repeated(9)[np.arange(5)])
    room = codes.room(120)
    found = codes.Possible(mentions, 3, lambda place, rows: rows[:3], room)
    floor = found._floor.data_ptr()
    for begin in range(0, 900, 90):
        scales, some, rest = codes.coded(vectors[begin : begin + 90])
        numbers = np.stack([scales, codes.length(rest), codes.length(vectors[begin : begin + 90])])
        found.compare(begin, torch.from_numpy(some), torch.from_numpy(numbers))
        assert all(mine is its for mine, its in zip(found._room, room, strict=True)) and found._taken <= 120
    assert found._floor.data_ptr() == floor and min(map(len, found.rows())) >= 3


def test_lists_by_vectors_are_made_without_the_column_of_entities_in_memory(small_passes):
    """Vectors here would take 128 bytes an entity, their codes 76, lists of names and ids 130."""
    mention, entity = VECTORS["text"]

    def peak(count):
        entities = Entities(Entity(f"Q{row}", f"a name of {row}") for row in range(count))
        mentions = [Mention(f"m{row}", "c", "a name", "a name", 0, 6, "Q7", 1) for row in range(8)]
        columns = {mention: Repeated(8)[np.arange(8)], "mention.text.found": np.ones(8, bool)}
        columns["mention.text.sentence"] = columns[mention]
        pieces = {entity: [(begin, Repeated(2_048)) for begin in range(0, count, 2_048)]}
        draft = SimpleNamespace(column=columns.__getitem__, pieces=pieces.__getitem__)
        dataset = Dataset("world", mentions, entities)
        return peak_of(candidate_lists.by_sources, dataset, 4, ("text",), draft)

    peak(2_048)  # what it imports
    assert peak(32_768) - peak(8_192) < 24_576


def test_maps_of_a_column_have_no_gaps(release, tmp_path, watched):
    pipeline.run(config(release, tmp_path, candidates_from=("text",)))
    draft, name = watched[-1].draft, "entity.text.sentence"
    pieces = draft.pieces(name)
    assert [start for start, _ in pieces] == [0, 3, 6]
    assert np.concatenate([rows for _, rows in pieces]).tolist() == draft.column(name).tolist()
    draft._entries["entity.text"].sort(key=lambda entry: -entry.start)
    assert [start for start, _ in draft.pieces(name)] == [0, 3, 6]
    del draft._entries["entity.text"][1]
    with pytest.raises(CacheError, match=r"rows before 6 are in no finished shard"):
        draft.pieces(name)


def test_lists_do_not_depend_on_the_order_of_rows():
    rng = np.random.default_rng(1)
    mentions, entities = rng.normal(size=(6, 4)), rng.integers(-1, 2, (30, 4)).astype(np.float32)
    names, ids = [f"name {i % 7}" for i in range(30)], [f"Q{i}" for i in range(30)]
    moved = rng.permutation(30)
    first = by_cosine(mentions, entities, 9, NameOrder(names, ids), int)
    place = NameOrder([names[i] for i in moved], [ids[i] for i in moved])
    second = by_cosine(mentions, entities[moved], 9, place, int)
    assert [[ids[e] for e in row] for row in first] == [[ids[moved[e]] for e in row] for row in second]


def test_fusion_is_the_sum_of_reciprocal_ranks():
    one, two = np.array([[4, 2, 0, -1]], np.int32), np.array([[2, 3]], np.int32)
    order = np.array([9, 8, 7, 1, 6])
    scores = {4: 1 / 61, 2: 1 / 62 + 1 / 61, 0: 1 / 63, 3: 1 / 62}
    expected = sorted(scores, key=lambda entity: (-scores[entity], order[entity]))
    assert fused([one, two], 6, order).tolist() == [[*expected, -1, -1]]
    assert fused([one, two], 2, order).tolist() == [expected[:2]]
    alike = np.array([[0, 3]], np.int32), np.array([[3, 0]], np.int32)
    assert fused(alike, 2, order).tolist() == [[3, 0]], "a tie goes by name and id"


NAMES = ["Paris", "Lyon", "Rome", "Oslo", "Bonn", "Bern", "Riga"]
config = partial(extract_config, candidates=3, shard_rows=3)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Mentions with lists of their own; the last one's span stands nowhere in its sentence."""
    mentions = [(f"a day in {name}", name) for name in NAMES] + [("nothing here", "Paris")]
    listed = {"candidates": ["e1", "e2"]}
    return write_release(
        tmp_path_factory.mktemp("release"),
        [mention_record(i, *mention, gold=f"e{i % 7}", **listed) for i, mention in enumerate(mentions)],
        [entity_record(i, name, f"the city of {name}") for i, name in enumerate(NAMES)],
    )


def lists_of(path):
    reader = melcache.open(path)
    return reader, reader.column("pair.candidates.candidates").tolist()


def expected_of(reader, mention, entity, k=3):
    """By integers: the nearest of all entities, ties by name and id."""
    vectors = reader.read(mention)
    if mention.endswith("span"):
        lost = ~reader.column("mention.text.found")
        assert lost.any()
        vectors[lost] = reader.read("mention.text.sentence")[lost]
    scores = steps(vectors) @ steps(reader.read(entity)).T
    names, ids = reader.strings("entity.ids.name"), reader.strings("entity.ids.id")
    return [sorted(range(len(names)), key=lambda e, row=row: (-row[e], names[e], ids[e]))[:k] for row in scores]


@pytest.mark.parametrize("source", ["text", "joint"])
def test_lists_by_vectors_are_those_of_the_cache(release, tmp_path, source, capsys):
    reader, found = lists_of(pipeline.run(config(release, tmp_path, candidates_from=(source,))))
    assert found == expected_of(reader, *VECTORS[source])
    said = reader.manifest.parts["pair.candidates"].recipe["origin"]
    assert said == f"cosine of {' and '.join(VECTORS[source])}, ties by name and id"
    assert said in capsys.readouterr().out
    again = lists_of(pipeline.run(config(release, tmp_path, candidates_from=(source,))))
    assert (again[0].id, again[1]) == (reader.id, found) and "shards computed" not in capsys.readouterr().err


def test_sources_are_fused_and_replace_what_the_release_lists(release, tmp_path):
    paths = {name: tmp_path / name for name in ("own", "names", "text", "both")}
    given = {"own": (), "names": ("names",), "text": ("text",), "both": ("text", "names")}
    found = {name: lists_of(pipeline.run(config(release, paths[name], candidates_from=given[name]))) for name in paths}
    assert found["own"][1][0] == [1, 2]
    reader, names = found["names"]
    assert [row[0] for row in names] == [*range(7), 0] and reader.manifest.candidates == 3
    deep = (
        expected_of(reader, *VECTORS["text"], k=7),
        by_name.retrieve(reader.strings("mention.ids.surface"), NAMES, 7, ids=reader.strings("entity.ids.id"))[
            0
        ].tolist(),
    )
    order = sorted(range(7), key=NAMES.__getitem__)
    for row, got in enumerate(found["both"][1]):
        score = {e: sum(1 / (61 + ranked[row].index(e)) for ranked in deep) for e in range(7)}
        assert got == sorted(score, key=lambda e, score=score: (-score[e], order.index(e)))[:3]
    assert len({reader.id for reader, _ in found.values()}) == 4


def test_only_pairs_differ_from_the_cache_beside(release, tmp_path, watched):
    pipeline.run(config(release, tmp_path, name="one"))
    two = melcache.open(pipeline.run(config(release, tmp_path, name="two", candidates_from=("text",))))
    one = melcache.open(tmp_path / "one")
    assert sum(watched[-1].encoders.text.counts.values()) == 0 and watched[-1].draft.made == 6
    differ = {part for part in one.manifest.parts if one.manifest.parts[part] != two.manifest.parts[part]}
    assert differ == {"pair.candidates", "pair.alignment"}
    assert verify(tmp_path / "two")


def test_a_cache_whose_lists_change_in_its_folder_is_that_of_a_new_one(release, tmp_path):
    for sources in ((), ("text",), ("joint", "names"), ("text",)):
        here = melcache.open(pipeline.run(config(release, tmp_path / "here", candidates_from=sources)))
        there = tmp_path / "-".join(("new", *sources))
        assert here.id == melcache.open(pipeline.run(config(release, there, candidates_from=sources))).id


def test_a_limited_extraction_ranks_the_entities_that_it_keeps(release, tmp_path):
    _, found = lists_of(pipeline.run(config(release, tmp_path, limit=2, candidates_from=("text",))))
    assert len(found) == 2


@pytest.mark.parametrize(
    ("sources", "said"),
    [(("names", "bm25"), "bm25 is none of names, text, joint"), (("text", "text"), "stands there twice")],
)
def test_sources_that_are_none_are_refused(release, tmp_path, sources, said):
    with pytest.raises(ConfigError, match=said):
        config(release, tmp_path, candidates_from=sources)
