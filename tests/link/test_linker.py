"""Linking: as the test of the run scored, whatever is linked together; vectors made anew as the cache's are."""

import json

import numpy as np
import pytest

import melcache
from common.errors import CacheError, ConfigError
from extract import pipeline
from extract.retrieval.nearest import Nearest
from link.linker import Linker
from link.ranking import candidate_lists
from link.records import NewMention
from tests.link import world as worlds
from tests.worlds import entity_record, extract_config, mention_record, write_release
from train import loop
from train.config import TrainConfig
from train.heads.registry import HEADS as KNOWN
from train.inspecting.finished_run import results_of
from train.judging import stored_scores
from train.judging.scoring import Scorer

pytestmark = pytest.mark.usefixtures("toys_built_once", "without_fsync")
HEADS = ("drin", "ours", "dzmned", "ghmfc", "mel_hi", "dwe", "jmel")
ROUNDED = 2e-3  # of what stands in float16


def scored(world, model):
    """The batch evaluation: by mention id, the score of each entity id of its list."""
    reader = melcache.open(world.cache)
    run = world.run(model)
    rows = np.arange(reader.manifest.tables["mention"])
    found = Scorer(run, results_of(run), reader, [0], "cpu").scored(rows)
    ids, entities = reader.strings("mention.ids.id"), reader.strings("entity.ids.id")
    return {
        ids[row]: {entities[e]: float(s) for e, s in zip(listed, scores, strict=True) if e >= 0}
        for row, listed, scores in zip(rows, found.entities, found.scores, strict=True)
    }


def answers(links):
    return {link.mention.id: {found.id: found.score for found in link.candidates} for link in links}


@pytest.mark.parametrize("model", HEADS)
def test_mentions_of_the_dataset_score_as_in_the_batch_evaluation_bit_for_bit(world, model):
    wanted, linker, asked = scored(world, model), world.linker(model), world.asked()
    links = linker.link(asked, top=0)
    assert [link.known for link in links] == [mention.id for mention in asked]
    assert answers(links) == wanted
    alone = [linker.link([mention], top=0)[0] for mention in asked[::7]]
    assert answers(alone) == {mention.id: wanted[mention.id] for mention in asked[::7]}
    for link in links:
        assert [c.score for c in link.candidates] == sorted((c.score for c in link.candidates), reverse=True)
        assert sum(c.probability for c in link.candidates) == pytest.approx(1)


def test_the_mean_of_seeds_is_that_of_the_batch_evaluation(world, monkeypatch):
    run, asked = world.run("jmel", seeds=(0, 1)), world.asked()[::5]
    mean, second = (Linker.load(run, device="cpu", release=world.release, seed=seed) for seed in ("mean", "1"))
    assert answers(second.link(asked)) != answers(mean.link(asked))
    monkeypatch.setattr(stored_scores, "mean", lambda every: every[-1])
    assert answers(second.link(asked)) == answers(mean.link(asked))


@pytest.mark.parametrize("model", HEADS)
def test_vectors_made_anew_are_the_caches_but_for_rounding(world, model, monkeypatch):
    linker, asked = world.linker(model), world.asked()
    known = linker.link(asked, top=0)
    monkeypatch.setattr(linker._known, "row", lambda content, id: -1)
    made = linker.link(asked, top=0)
    assert [link.known for link in made] == [None] * len(asked)
    assert [link.picture for link in made] == [link.picture for link in known]
    for mine, theirs in zip(made, known, strict=True):
        assert answers([mine])[mine.mention.id] == pytest.approx(answers([theirs])[mine.mention.id], abs=20 * ROUNDED)


def test_some_known_and_some_new_mentions_in_any_order_do_not_disturb_each_other(world):
    linker = world.linker("ghmfc")
    new = NewMention("Nobody in Oslo slept, and Rome was far", "Rome", id="n0")
    other = NewMention(
        "Nobody in Oslo slept, and Rome was far", "Oslo", image=world.release / "images/green.png", id="n1"
    )
    asked = world.asked()[:6]
    together = linker.link([new, *asked[:3], other, *asked[3:]], top=0)
    alone = [linker.link([mention], top=0)[0] for mention in (new, *asked[:3], other, *asked[3:])]
    for mine, theirs in zip(together, alone, strict=True):
        assert answers([mine])[mine.mention.id] == pytest.approx(answers([theirs])[mine.mention.id], abs=20 * ROUNDED)
    assert [link.known for link in together] == [None, "m0", "m1", "m2", None, "m3", "m4", "m5"]


def test_a_run_links_on_when_its_cache_has_grown(world, tmp_path):
    run, before = world.run("drin"), world.linker("drin").link(world.asked(), top=0)
    world.copy(tmp_path)
    more = [mention_record(90, "Paris at noon", "Paris", "red.png", split="train")]
    release = worlds.write(tmp_path / "release", more)
    cache = pipeline.run(extract_config(release, tmp_path / "shards", heads=("ghmfc", "mel_hi", "dwe"), candidates=4))
    assert melcache.open(cache).id != melcache.open(world.cache).id
    after = Linker.load(run, dataset=str(cache), device="cpu").link(world.asked(), top=0)
    assert answers(after) == answers(before)


def test_a_cache_by_another_recipe_is_refused_though_its_widths_are_the_same(world, tmp_path):
    run = world.run("drin")
    other = pipeline.run(extract_config(world.release, tmp_path / "shards", candidates=4, sentence_tokens=9))
    with pytest.raises(CacheError, match=r"mention\.text is made by another recipe .* --dataset and --shards"):
        Linker.load(run, dataset=str(other), device="cpu")


def test_new_entities_take_part_as_if_they_had_been_extracted(world, tmp_path):
    more = [entity_record(7, "Lyon", "a red thing", "red.png"), entity_record(8, "Lyonesse", "a tale")]
    file = world.release / "more.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in more))
    asked = [NewMention("Lyon by night", "Lyon", image=world.release / "images/red.png", id="x")]
    own = [NewMention("Rome by night", "Rome", image=world.release / "images/white-third.png", id="y")]
    for model in ("drin", "ours"):
        linker = world.linker(model, entities=file)
        [link] = linker.link(asked, top=0)
        release = worlds.write(tmp_path / model / "release", (), more)
        config = extract_config(release, tmp_path / model / "shards", heads=("dwe",), candidates=4)
        grown = Linker.load(world.run(model), dataset=str(pipeline.run(config)), device="cpu")
        [wanted] = grown.link(asked, top=0)
        assert {"e7", "e8", "e5"} <= answers([link])["x"].keys() == answers([wanted])["x"].keys()
        assert answers([link])["x"] == pytest.approx(answers([wanted])["x"], abs=20 * ROUNDED)
        assert next(c for c in link.candidates if c.id == "e8").entity.new
        assert linker.entity("e8").description == "a tale" and linker.entity("e9") is None
        assert answers(linker.link(own, top=0))["y"].keys() == answers(grown.link(own, top=0))["y"].keys()


def test_an_entity_that_the_cache_has_is_no_new_one(world):
    file = world.release / "double.jsonl"
    file.write_text(json.dumps(entity_record(3, "Rome")) + "\n")
    with pytest.raises(ConfigError, match=r"1 of its 1 entities are in .* already, first 'e3'"):
        world.linker("drin", entities=file)


def test_a_file_without_entities_is_one_line(world, tmp_path):
    (tmp_path / "none.jsonl").write_text("")
    for name, match in (("none.jsonl", "is empty"), ("absent.jsonl", "there is no such file")):
        with pytest.raises(ConfigError, match=match):
            world.linker("drin", entities=tmp_path / name)


def test_new_entities_of_a_described_cache_have_a_second_text(world, tmp_path):
    lines = [record | {"description": f"a long tale of {record['name']}"} for record in worlds.entities()[:4]]
    release = worlds.write(tmp_path / "release")
    write_release(release, worlds.mentions(), [*lines, *worlds.entities()[4:]])
    cache = pipeline.run(extract_config(release, tmp_path / "shards", heads=("dwe",), candidates=4))
    config = TrainConfig(dataset=str(cache), model="dwe", run=tmp_path / "run", epochs=1, device="cpu")
    head = KNOWN["dwe"].config(entity_text="description")
    assert "entity.joint.description" in head.more
    loop.fit(config, head)
    more = [entity_record(7, "Lyon", "a red thing"), entity_record(8, "Lyon", "x", description="a tale")]
    (release / "more.jsonl").write_text("".join(json.dumps(record) + "\n" for record in more))
    linker = Linker.load(tmp_path / "run", device="cpu", entities=release / "more.jsonl")
    [link] = linker.link([NewMention("Lyon by night", "Lyon")], top=0)
    assert {"e7", "e8"} <= {found.id for found in link.candidates}


def test_given_candidates_are_ranked_alone_and_unknown_ones_are_named(world):
    linker = world.linker("drin")
    [link] = linker.link([NewMention("Oslo by night", "Oslo", candidates=("e5", "e0", "e5"))])
    assert sorted(found.id for found in link.candidates) == ["e0", "e5"] and not link.nil
    [empty] = linker.link([NewMention("Oslo by night", "Oslo", candidates=())])
    assert empty.candidates == () and empty.nil
    with pytest.raises(ConfigError, match="mention 1: candidate 'e99' is no entity"):
        linker.link([NewMention("Oslo by night", "Oslo", candidates=("e1", "e99"))])


def test_pictures_pass_the_guard_of_extraction_as_paths_and_as_bytes(world, tmp_path):
    linker = world.linker("drin")
    path = world.release / "images/green-third.png"
    by_path, by_bytes, broken, absent, none = linker.link(
        [
            NewMention("Oslo by night", "Oslo", image=path),
            NewMention("Oslo by night", "Oslo", image=path.read_bytes()),
            NewMention("Oslo by night", "Oslo", image=path.read_bytes()[:60]),
            NewMention("Oslo by night", "Oslo", image=tmp_path / "none.png"),
            NewMention("Oslo by night", "Oslo"),
        ]
    )
    assert by_path.candidates == by_bytes.candidates and by_path.picture == "ok"
    assert [link.picture for link in (broken, absent, none)] == ["corrupt", "missing", "none"]
    assert broken.candidates[0].evidence["image_to_text"] is None is none.candidates[0].evidence["image_to_image"]
    assert by_path.candidates[0].evidence["image_to_text"] is not None


def test_abstention_and_the_number_of_candidates(world):
    linker = world.linker("drin")
    asked = [NewMention("Oslo by night", "Oslo")]
    [link] = linker.link(asked, top=1, nil_below=1.0)
    assert len(link.candidates) == 1 and link.nil
    assert not linker.link(asked, nil_below=link.candidates[0].probability)[0].nil


def test_candidates_are_those_that_the_caches_own_retrieval_finds(world, tmp_path, monkeypatch, capsys):
    options = {"candidates": 3, "candidates_from": ("text", "names")}
    cache = pipeline.run(extract_config(world.release, world.cache.parent, name="by-text", **options))
    linker, asked = Linker.load(world.run("drin"), dataset=str(cache), device="cpu"), world.asked()
    known = linker.link(asked, top=0)
    reader = melcache.open(cache)
    ids, listed = reader.strings("entity.ids.id"), reader.column("pair.candidates.candidates")
    rows = {id: row for row, id in enumerate(reader.strings("mention.ids.id"))}
    for link in known:
        assert {c.id for c in link.candidates} == {ids[e] for e in listed[rows[link.known]] if e >= 0}
    monkeypatch.setattr(linker._known, "row", lambda content, id: -1)
    made = linker.link(asked, top=0)
    assert [answers([link]).keys() for link in made] == [answers([link]).keys() for link in known]
    assert (
        sum({c.id for c in a.candidates} == {c.id for c in b.candidates} for a, b in zip(made, known, strict=True)) > 20
    )
    # an index that finds all: the same answers, and how much it finds is said
    monkeypatch.setattr(candidate_lists, "Approximate", type("All", (Nearest,), {"name": "all"}))
    linker = Linker.load(world.run("drin"), dataset=str(cache), device="cpu", index="faiss")
    monkeypatch.setattr(linker._known, "row", lambda content, id: -1)
    assert [answers([link]) for link in linker.link(asked, top=0)] == [answers([link]) for link in made]
    assert "index faiss of text (all) finds 100.0% of the" in capsys.readouterr().err


def test_an_index_of_vectors_is_refused_where_lists_are_by_name(world):
    with pytest.raises(ConfigError, match=r"--index faiss is of vectors, and the lists of .* are retrieved by name"):
        Linker.load(world.run("drin"), device="cpu", index="faiss")


@pytest.mark.parametrize("sources", [(), ("names",), ("names", "text")])
def test_aliases_of_a_cache_count_for_new_mentions_too(world, tmp_path, monkeypatch, sources):
    path = tmp_path / "aliases.tsv"
    path.write_text("e2\tChristiania\ne0\tParis Gate\ne0\tLutetia\n")
    config = extract_config(
        world.release,
        world.cache.parent,
        name=f"aliases{len(sources)}",
        aliases=path,
        candidates=3,
        candidates_from=sources,
    )
    cache, options = pipeline.run(config), {"device": "cpu"}
    linker = Linker.load(world.run("drin"), dataset=str(cache), aliases=path, **options)
    reader, rows = melcache.open(cache), np.arange(24)
    columns = {name: reader.column(name)[rows] for name in linker._lists.columns}
    known, new = (
        linker._lists.of(reader.strings("mention.ids.surface"), columns, there, [None] * 24)
        for there in (rows, np.full(24, -1))
    )
    for held, found in zip(known, new, strict=True):
        assert held.tobytes() == found.tobytes()
    [link] = linker.link([NewMention("a gate in Christiania", "Christiania")], top=0)
    assert "e2" in {candidate.id for candidate in link.candidates}
    assert linker._lists.strings("Lutetia", np.array([0, -1, 5])).tolist()[:2] == [1, 0]
    other = tmp_path / "other.tsv"
    other.write_text("e2\tKristiania\n")
    for given, said in (
        (None, "made with aliases: give their file with --aliases"),
        (other, r"holds others .* Give the"),
    ):
        with pytest.raises(ConfigError, match=said):
            Linker.load(world.run("drin"), dataset=str(cache), aliases=given, **options)
    with pytest.raises(ConfigError, match=r"were made without\. Leave it out"):
        Linker.load(world.run("drin"), dataset=str(world.cache), aliases=path, **options)
