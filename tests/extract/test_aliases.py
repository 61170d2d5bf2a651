"""`--aliases`: other names of entities, from a file to lists and string scores; without it nothing changes."""

import gzip
import json
import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import melcache
from common.errors import ConfigError, DatasetError
from common.records import Dataset, Entity, Mention
from extract import pipeline
from extract.planning import candidate_lists
from extract.reading import aliases
from extract.retrieval import by_name
from tests.extract.test_by_plan import planned
from tests.extract.test_retrieval import odd_strings, score
from tests.worlds import entity_record, extract_config, mention_record, write_release

pytestmark = pytest.mark.usefixtures("toys_built_once", "without_fsync")
CITIES = Dataset("cities", [], [Entity("Q90", "Paris"), Entity("Q2", "Lyon"), Entity("Q3", "Rome")])
GIVEN = {"Q90": ("City of Light", "Paname"), "Q3": ("Roma",)}
LIST = '{"entity": "Q90", "aliases": ["Paname", "City  of Light"]}\n\n{"entity": "Q3", "aliases": ["Roma"]}\n'
ALONE = "".join(json.dumps({"entity": id, "alias": alias}) + "\n" for id, given in GIVEN.items() for alias in given)
TABLE = "Q3\tRoma\r\nQ90\tPaname\n\n Q90 \t City of Light \n"


def given(folder, name, content):
    path = folder / name
    content = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "alone.jsonl", "a.tsv", "a.tsv.gz", "bom.tsv"])
def test_every_format_gives_the_same_aliases(tmp_path, name):
    content = {"a": LIST, "l": ALONE, "b": "\ufeff" + TABLE}["l" if name[:2] == "al" else name[0]]
    content = TABLE if name.startswith("a.tsv") else content
    found = aliases.add(CITIES, given(tmp_path, name, content))
    assert found.aliases == GIVEN
    assert found.counts == {"aliases given": 3, "entities with aliases": 2}
    assert replace(found, aliases={}, counts={}) == CITIES


def test_what_is_no_other_name_is_counted(tmp_path):
    lines = ["Q90\tParis", "Q90\tPaname", "Q90\tPaname", "Q9\tNowhere", "Q3\t ", "Q2\tparis"]
    found = aliases.add(CITIES, given(tmp_path, "a.tsv", "\n".join(lines)))
    assert found.aliases == {"Q90": ("Paname",), "Q2": ("paris",)}
    assert found.counts == {
        "aliases given": 6,
        "aliases that repeat a name": 2,
        "aliases of no entity": 1,
        "aliases empty": 1,
        "entities with aliases": 2,
    }


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.tsv", b"Q90\tPaname\nQ90\tPar\xed", "a.tsv line 2 is not UTF-8: byte 0xed at position 7"),
        ("a.jsonl", b'{"entity": "Q90", "alias": "\xff"}', "a.jsonl line 1 is not UTF-8"),
        ("a.tsv", "Q90 Paname", "a.tsv line 1: expected entity<TAB>alias, found Q90 Paname"),
        ("a.tsv", "Q90\tPaname\tfr", "line 1: expected entity<TAB>alias"),
        ("a.tsv", "Q1\tPaname\nQ90\tParis", "names no entity of cities .* 2 aliases 1 are of other ids.*'Q90'"),
        ("a.tsv", "", "names no entity of cities .* of 0 aliases"),
        ("a.jsonl", '{"entity": "Q90"}', "expected the fields 'entity' and 'aliases', or 'alias', found 'entity'"),
        ("a.jsonl", '{"entity": "Q90", "aliases": "Paname"}', "aliases must be a list, found 'Paname'"),
        ("a.jsonl", '{"entity": "Q90", "aliases": ["Paname", 3]}', "each of aliases must be a string, found 3"),
        ("a.jsonl", '{"entity": 90, "alias": "Paname"}', "entity must be a string, found 90"),
        ("a.csv", "", "a.csv: expected a file named .jsonl or .tsv"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, name, content, said):
    with pytest.raises(DatasetError, match=said) as failed:
        aliases.add(CITIES, given(tmp_path, name, content))
    assert "\n" not in str(failed.value)
    with pytest.raises(DatasetError, match=r"--aliases .*gone.tsv: no such file"):
        aliases.add(CITIES, tmp_path / "gone.tsv")


@pytest.mark.parametrize("few", [0, 10**9])
@pytest.mark.parametrize("seed", range(6))
def test_an_entity_is_listed_by_the_best_of_its_names(monkeypatch, seed, few):
    monkeypatch.setattr(by_name, "FEW", few)
    rng = np.random.default_rng(seed)
    texts = odd_strings(random.Random(seed), 150)
    names, surfaces, k = texts[:20], texts[20:26], int(rng.integers(1, 20))
    others = {3: ["of", *texts[30:90]], 7: [texts[20]], 19: texts[90:]}
    found, scores = by_name.retrieve(surfaces, names, k, workers=1, aliases=others)
    best = [[max(score(s, t) for t in (name, *others.get(i, ()))) for i, name in enumerate(names)] for s in surfaces]
    for row, values in enumerate(best):
        expected = sorted(range(20), key=lambda i, values=values: (-values[i], names[i], i))[:k]
        assert found[row].tolist() == expected
        assert scores[row].tolist() == [values[i] for i in expected]
    listed = np.array([[19, -1, 0, 3], [-1] * 4, [3, 3, 7, 1]] + [[-1] * 4] * 3, np.int32)
    scored = by_name.lexical(surfaces, names, listed, others)
    assert scored.tolist() == [[best[r][i] if i >= 0 else 0 for i in row] for r, row in enumerate(listed)]


def test_many_names_of_one_entity_leave_places_for_others(monkeypatch):
    monkeypatch.setattr(by_name, "FEW", 0)
    others = {0: [f"abcdefg{letter}" for letter in "ijklmnopqrstuvwxyz"]}
    found, scores = by_name.retrieve(["abcdefgh"], ["abcdefgi", "abcdexyz", "zz"], 3, workers=1, aliases=others)
    assert found.tolist() == [[0, 1, 2]]
    assert scores[0].tolist() == [score("abcdefgh", name) for name in ("abcdefgi", "abcdexyz", "zz")]


def test_a_digest_is_of_what_is_called_how():
    shuffled = dict(reversed(GIVEN.items()))
    assert aliases.digest(GIVEN) == aliases.digest(shuffled) != aliases.digest(GIVEN | {"Q2": ("Lugdunum",)})


NAMES = ["Paris", "Lyon", "Rome", "Oslo"]
config = partial(extract_config, candidates=2, shard_rows=3)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    mentions = [("a day in Bytown", "Bytown"), ("Lyon by night", "Lyon"), ("in Urbs", "Urbs")]
    return write_release(
        tmp_path_factory.mktemp("release"),
        [mention_record(i, *mention, gold=f"e{i}") for i, mention in enumerate(mentions)],
        [entity_record(i, name, f"the city of {name}") for i, name in enumerate(NAMES)],
    )


@pytest.fixture(scope="module")
def plain(release, tmp_path_factory):
    return melcache.open(pipeline.run(config(release, tmp_path_factory.mktemp("plain"))))


def listed(reader):
    return [reader.column(f"pair.candidates.{name}").tolist() for name in ("candidates", "lexical", "lexical_gold")]


FILE = "e0\tBytown\ne2\tUrbs\ne9\tAtlantis\n"


@pytest.mark.parametrize("sources", [(), ("names",), ("names", "text")])
def test_lists_and_string_scores_are_by_all_names(release, plain, tmp_path, sources):
    options = {"aliases": given(tmp_path, "a.tsv", FILE), "candidates_from": sources}
    reader = melcache.open(pipeline.run(config(release, tmp_path, **options)))
    candidates, scores, gold = listed(reader)
    assert gold == [1, 1, 1] and listed(plain)[0][0][0] != 0
    if "text" not in sources:
        assert [row[0] for row in candidates] == [0, 1, 2]
    others = {0: ["Bytown"], 2: ["Urbs"]}
    for surface, row, values in zip(["Bytown", "Lyon", "Urbs"], candidates, scores, strict=True):
        assert values == [max(score(surface, t) for t in (NAMES[e], *others.get(e, ()))) for e in row]
    recipe = reader.manifest.parts["pair.candidates"].recipe
    assert recipe["aliases"] == aliases.digest({"e0": ("Bytown",), "e2": ("Urbs",)})
    counts = reader.manifest.coverage
    assert (counts["aliases given"], counts["aliases of no entity"], counts["entities with aliases"]) == (3, 1, 2)


def test_lists_of_the_release_are_scored_by_all_names():
    entities, others = [Entity("Q1", "Paris"), Entity("Q2", "Rome")], {"Q1": ("Paname",), "Q7": ("Paname",)}
    mention = Mention("m", "c", "in Paname", "Paname", 3, 9, "Q1", 1, candidates=("Q2", "Q1"))
    found = candidate_lists.make(Dataset("x", [mention], entities, aliases=others), 2)
    assert found.origin == "the release" and found.candidates.tolist() == [[1, 0]]
    assert found.lexical.tolist() == [[score("Paname", "Rome"), 1]] and found.lexical_gold.tolist() == [1]


def test_only_the_lists_change_and_only_by_what_the_file_says(release, plain, tmp_path):
    lines = '{"entity": "e2", "aliases": ["Urbs"]}\n{"entity": "e0", "aliases": ["Bytown"]}\n'
    files = given(tmp_path, "a.tsv", FILE), given(tmp_path, "b.jsonl", lines)
    here, there = (
        melcache.open(pipeline.run(config(release, tmp_path, name=path.stem, aliases=path))) for path in files
    )
    changed = {part for part in here.manifest.parts if here.manifest.parts[part] != plain.manifest.parts[part]}
    assert changed == {"pair.candidates"}, "of the recipes"
    assert all(here.manifest.parts[part] == there.manifest.parts[part] for part in here.manifest.parts)
    assert "aliases" not in plain.manifest.parts["pair.candidates"].recipe


def test_aliases_of_a_cache_are_not_left_out_unless_asked(release, plain, tmp_path):
    path = given(tmp_path, "a.tsv", FILE)
    made = melcache.open(pipeline.run(config(release, tmp_path, aliases=path)))
    with pytest.raises(ConfigError, match="was made with aliases; give --aliases again, or --aliases none to remove"):
        pipeline.run(config(release, tmp_path))
    assert melcache.open(made.path).id == made.id != plain.id
    assert melcache.open(pipeline.run(config(release, tmp_path, aliases=Path("none")))).id == plain.id


def test_workers_go_by_a_plan_that_holds_the_aliases(release, tmp_path):
    path = given(tmp_path, "a.tsv", FILE)
    alone = melcache.open(pipeline.run(config(release, tmp_path, aliases=path)))
    wanted = config(release, tmp_path / "planned", aliases=path)
    worker = planned(wanted)
    path.unlink()
    pipeline.run(worker)
    assert melcache.open(wanted.folder).id == alone.id
