"""The best of all entities by codes are those of a product with each; codes are kept in a file, and made again."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import melcache
from cache import store
from cache.checks import gc
from cache.store.temporary_names import SEARCH
from common.errors import CacheError
from extract.retrieval import codes
from extract.retrieval.codes import Codes, Kept
from link.linker import Linker
from link.ranking import entity_search
from link.ranking.entity_search import EntitySearch
from train.evaluating import best_entities, ranking
from train.evaluating.whole_kb import Towers
from train.processes import World

VECTORS = np.random.default_rng(0).integers(-3, 4, (50, 6)).astype(np.float32) / 8


def all_of(codes):
    return codes._codes.tolist(), codes._numbers.tolist()


def made(place, rows=VECTORS.__getitem__):
    return Codes(rows, VECTORS.shape, place)


@pytest.mark.parametrize(("model", "options"), [("bert", {}), ("jmel", {"seeds": (0, 1)}), ("clip", {})])
def test_answers_are_those_of_a_product_with_all_entities(world, model, options, monkeypatch, tmp_path):
    run = world.run(model, protocol="whole-kb", **options)
    cache = world.copy(tmp_path)
    wanted = Linker.load(run, device="cpu", dataset=str(cache)).link(world.asked(), top=0)
    monkeypatch.setattr(entity_search, "FEWEST", 0)
    monkeypatch.setattr(codes, "FEWEST", 0)
    for _ in range(2):  # the second time codes are those of the file
        linker = Linker.load(run, device="cpu", dataset=str(cache))
        assert linker.link(world.asked(), top=0) == wanted
        assert [link.candidates for link in linker.link(world.asked()[:1], top=0)] == [wanted[0].candidates]
    assert len(list(cache.glob(f"{SEARCH}*"))) == 1


@pytest.mark.parametrize("model", ["bert", "drin", "ghmfc"])
def test_lists_of_many_entities_score_the_same_though_only_those_listed_are_projected(world, model, monkeypatch):
    wanted = world.linker(model).link(world.asked(), top=0)
    monkeypatch.setattr(entity_search, "FEWEST", 0)
    projected, project = [], ranking.project
    monkeypatch.setattr(
        ranking, "project", lambda head, table, those: (projected.append(len(those)), project(head, table, those))[1]
    )
    linker = world.linker(model)
    assert projected == []
    found = linker.link(world.asked(), top=0)
    assert projected and set(projected) == {ranking.TOGETHER}, "of fewer rows a product may be added up otherwise"
    for mine, its in zip(found, wanted, strict=True):
        assert [one.id for one in mine.candidates] == [one.id for one in its.candidates]
        assert [one.score for one in mine.candidates] == pytest.approx([one.score for one in its.candidates], abs=1e-5)


@pytest.mark.parametrize("held", [1 << 21, 150])
@pytest.mark.parametrize("k", [1, 7, 100, 900])
def test_the_best_and_their_scores_are_those_of_all_products_and_no_tie_is_cut(monkeypatch, held, k):
    for of, name, value in ((codes, "CHUNK", 64), (codes, "HELD", held), (entity_search, "RECHECKED", 40)):
        monkeypatch.setattr(of, name, value)
    generator = torch.Generator().manual_seed(0)
    mentions, entities = (torch.randn(count, 12, generator=generator) for count in (40, 800))
    entities /= entities.norm(dim=1, keepdim=True)
    entities[100:400:3], mentions[5] = entities[3], 0  # many tie
    mentions[6] = entities[3]
    towers = Towers(mentions.__getitem__, entities.__getitem__)
    table = SimpleNamespace(device=torch.device("cpu"), mention_count=40, entity_count=800)
    rows = torch.tensor([6, 5, 0, *range(7, 30)])
    found = EntitySearch(towers, table, None).best(towers, table, rows, k)
    wanted = best_entities.best(towers, table, rows, World(), k)
    assert all(torch.equal(mine, its) for mine, its in zip(found, wanted, strict=True))
    assert (wanted[0][0] == -1).any() if k < 900 else (wanted[0] >= 0).sum() == 26 * 800


def test_codes_are_taken_from_their_file_and_made_again_where_it_is_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr(codes, "FEWEST", 0)
    place = Kept(tmp_path / "cache", "0" * 64)
    wanted = all_of(made(None))
    assert all_of(made(place)) == wanted and len(place.path.read_bytes()) == 320 + 3 * 4 * 50 + 16
    assert all_of(made(place, rows=None)) == wanted, "nothing is made"
    whole = place.path.read_bytes()
    for damaged in (whole[:-1], whole + b"x", whole[:40] + b"\0\1" + whole[42:], b""):
        place.path.write_bytes(damaged)
        assert all_of(made(place)) == wanted and place.path.read_bytes() == whole


def test_codes_are_held_in_memory_where_no_file_can_be_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(codes, "FEWEST", 0)

    def full(path):
        raise CacheError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(store, "published", full)
    assert all_of(made(Kept(tmp_path, "0" * 64))) == all_of(made(None))
    assert "are held in memory and made again each time: cannot write" in capsys.readouterr().err


def test_small_codes_take_no_file(tmp_path):
    made(Kept(tmp_path, "0" * 64))
    assert not list(tmp_path.iterdir())


def test_gc_removes_codes(world, tmp_path):
    cache = world.copy(tmp_path)
    (cache / f"{SEARCH}{'0' * 64}").write_bytes(b"x")
    [found] = gc.collect(cache, delete=True).files
    assert found.kind == gc.CODES and not list(cache.glob(f"{SEARCH}*"))
    assert melcache.open(cache).id == melcache.open(world.cache).id
