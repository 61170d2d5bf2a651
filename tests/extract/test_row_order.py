"""Adding to a dataset: rows stay where they are, and only what is new is encoded."""

import json
import random
import shutil
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

import melcache
from cache import manifests
from cache.checks import diff
from cache.names import PartName
from cache.sharing import push
from common.errors import CacheError, ConfigError
from common.records import Dataset, Entity, Mention
from extract import pipeline
from extract.config import ExtractConfig
from extract.planning import row_order
from extract.planning.layout import Layout
from extract.planning.row_order import EarlierRows
from extract.reading.string_columns import stored
from tests.worlds import entity_record, extract_config, mention_record, write_pictures, write_release
from torture.strangers import odd_remotes, strange_remotes
from torture.strangers.strange_manifests import sealed

pytestmark = pytest.mark.usefixtures("toys_built_once")
COUNT = 200  # entities; one percent of them are two
COLORS = ("red", "green", "blue", "yellow", "white", "black", "orange", "purple", "pink", "gray")


# --- order and ranges, without encoders


def entity(name):
    return Entity(name, f"name of {name}")


def mention(name, sentence):
    return Mention(name, "c", sentence, "it", -1, -1, None, 1)


def release(entities, mentions):
    return Dataset("world", [mention(*one) for one in mentions], [entity(one) for one in entities])


def as_cache(data, layout):
    ids = {"entity": np.array([stored(e.id) for e in data.entities], "S"),
           "mention": np.array([stored(m.id) for m in data.mentions], "S")}  # fmt: skip
    return EarlierRows(ids, layout)


def names(data):
    return [e.id for e in data.entities], [m.id for m in data.mentions]


def test_a_first_extraction_keeps_the_releases_order_and_brings_mentions_of_a_sentence_together():
    data, layout = row_order.arrange(release("dacb", [("m0", "x"), ("m1", "y"), ("m2", "x"), ("m3", "z")]), None, 2)
    assert names(data) == (list("dacb"), ["m0", "m2", "m1", "m3"])
    assert layout == Layout({"entity": [(0, 2), (2, 4)], "mention": [(0, 2), (2, 4)]}, ((4, 4),))


def test_new_rows_stand_behind_the_old_ones_in_ranges_of_their_own():
    first = row_order.arrange(release("abcde", [("m0", "x"), ("m1", "y")]), None, 2)
    data, layout = row_order.arrange(release("aXbcYdeZ", [("m2", "w"), ("m0", "x"), ("m1", "y")]), as_cache(*first), 2)
    assert names(data) == (list("abcdeXYZ"), ["m0", "m1", "m2"])
    assert layout.borders["entity"] == [(0, 2), (2, 4), (4, 5), (5, 7), (7, 8)]
    assert layout.borders["mention"] == [(0, 2), (2, 3)]
    assert layout.generations == ((5, 2), (8, 3))


def test_a_new_mention_of_an_old_sentence_moves_no_other():
    old = [("m0", "x"), ("m1", "y"), ("m2", "z"), ("m3", "w")]
    first = row_order.arrange(release("a", old), None, 2)
    data, layout = row_order.arrange(release("a", [*old, ("m4", "y"), ("m5", "v")]), as_cache(*first), 2)
    assert names(data)[1] == ["m0", "m1", "m2", "m3", "m4", "m5"]
    assert layout.borders["mention"] == [(0, 2), (2, 4), (4, 6)]
    assert layout.generations == ((1, 4), (1, 6))


def test_mentions_whose_sentence_was_changed_stand_together_within_their_range():
    old = [("m0", "x"), ("m1", "x"), ("m2", "x"), ("m3", "w")]
    first = row_order.arrange(release("a", old), None, 4)
    changed = [("m0", "x"), ("m1", "y"), ("m2", "x"), ("m3", "y"), ("m4", "y"), ("m5", "z"), ("m6", "y")]
    data, layout = row_order.arrange(release("a", changed), as_cache(*first), 4)
    assert names(data)[1] == ["m0", "m2", "m1", "m3", "m4", "m6", "m5"]
    assert layout.borders["mention"] == [(0, 4), (4, 7)]


def test_rows_that_are_gone_shorten_their_range_only():
    first = row_order.arrange(release("abcdef", [("m0", "x")]), None, 2)
    data, layout = row_order.arrange(release("abdefG", [("m0", "x")]), as_cache(*first), 2)
    assert names(data)[0] == list("abdefG")
    assert layout.borders["entity"] == [(0, 2), (2, 3), (3, 5), (5, 6)]
    assert layout.generations == ((5, 1), (6, 1))


def test_a_table_that_has_hardly_a_row_left_is_numbered_anew(capsys):
    first = row_order.arrange(release("abcdef", [("m0", "x"), ("m1", "y")]), None, 2)
    data, layout = row_order.arrange(release("ZfYX", [("m1", "y"), ("m0", "x"), ("m2", "z")]), as_cache(*first), 2)
    assert names(data) == (list("ZfYX"), ["m0", "m1", "m2"])
    assert layout.generations == ((0, 2), (4, 3))
    assert "entity rows are numbered anew: only 1 of the earlier cache's 6" in capsys.readouterr().err


@pytest.mark.parametrize("seed", range(100))
def test_whatever_is_changed_every_record_is_there_once_and_no_sentence_is_cut(seed):
    rng = random.Random(seed)
    size = rng.randint(1, 7)
    entities, mentions = [f"e{i}" for i in range(20)], [(f"m{i}", f"s{rng.randrange(15)}") for i in range(25)]
    data, layout = row_order.arrange(release(entities, mentions), None, size)
    for step in range(4):
        entities = [e for e in entities if rng.random() < 0.95] + [f"e{step}-{i}" for i in range(rng.randrange(4))]
        mentions = [
            (m, s if rng.random() < 0.9 else f"s{rng.randrange(15)}") for m, s in mentions if rng.random() < 0.9
        ]
        mentions += [(f"m{step}-{i}", f"s{rng.randrange(30)}") for i in range(rng.randrange(6))]
        rng.shuffle(entities)
        rng.shuffle(mentions)
        old = as_cache(data, layout)
        data, layout = row_order.arrange(release(entities, mentions), old, size)
        assert sorted(names(data)[0]) == sorted(entities)
        assert sorted((m.id, m.sentence) for m in data.mentions) == sorted(mentions)
        rows = [m.sentence for m in data.mentions]
        for begin, end in layout.borders["mention"]:
            starts = [row for row in range(begin, end) if row == begin or rows[row] != rows[row - 1]]
            assert len(starts) == len(set(rows[begin:end]))
        fresh = layout.generations[-2][1] if len(layout.generations) > 1 else 0
        assert all(rows[end - 1] != rows[end] for _, end in layout.borders["mention"][:-1] if end > fresh)
        for table, count in (("entity", len(entities)), ("mention", len(mentions))):
            cuts = layout.borders[table]
            assert [0, *(end for _, end in cuts)] == [*(begin for begin, _ in cuts), count]
            assert all(begin < end for begin, end in cuts)
        assert layout.generations[-1] == (len(entities), len(mentions))
        assert all(a <= b for before, after in pairwise(layout.generations) for a, b in zip(before, after, strict=True))
        again = row_order.arrange(release(entities, mentions), as_cache(data, layout), size)
        assert (names(again[0]), again[1]) == (names(data), layout)


# --- the whole extraction


def write_world(folder, entities, mentions):
    """Write a jsonl release: entities id -> (name, text, color), mentions id -> (sentence, surface, color, gold)."""
    entity_records, mention_records = [], []
    for row, (name, (title, text, color)) in enumerate(entities.items()):
        entity_records.append(entity_record(row, title, text, picture(folder, color), id=name))
    for row, (name, (sentence, surface, color, gold)) in enumerate(mentions.items()):
        more = {"id": name, "gold": gold, "split": ("train", "valid", "test")[row % 3]}
        mention_records.append(mention_record(row, sentence, surface, picture(folder, color), **more))
    write_release(folder, mention_records, entity_records)


def picture(folder, color):
    name = f"{color}.png"
    if not (folder / "images" / name).exists():
        write_pictures(folder, {name: (30, 24)}, tuple(random.Random(color).randbytes(3)))
    return name


def two_hundred_cities():
    rng = random.Random(3)
    words = "harbor forest market desert island valley castle village river mountain".split()
    entities = {
        f"e{i}": (f"{rng.choice(words)} {i}", " ".join(rng.choices(words, k=rng.randrange(1, 9))), COLORS[i % 10])
        for i in range(COUNT)
    }
    mentions = {}
    for i in range(12):
        gold = f"e{rng.randrange(COUNT)}"
        mentions[f"m{i}"] = (f"{entities[gold][0]} in spring {i // 2}", entities[gold][0], f"shot {i // 2}", gold)
    return entities, mentions


def config(tmp_path, **changes):
    known = {"data": tmp_path / "r", "shards": tmp_path / "s", "candidates": 4, "shard_rows": 64}
    return extract_config(**known | changes)


def run(tmp_path, entities, mentions, watched, **changes):
    write_world(tmp_path / "r", entities, mentions)
    reader = melcache.open(pipeline.run(config(tmp_path, **changes)))
    return reader, watched[-1]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The world's release and cache before anything is added; tests copy it."""
    folder = tmp_path_factory.mktemp("first")
    write_world(folder / "r", *two_hundred_cities())
    pipeline.run(config(folder))
    return folder


@pytest.fixture
def old(first, tmp_path):
    shutil.copytree(first, tmp_path, dirs_exist_ok=True)
    return melcache.open(tmp_path / "s" / "world")


def inserted(entities, more):
    """Put new entities somewhere in the middle of the release."""
    items = list(entities.items())
    return dict([*items[:77], *more.items(), *items[77:]])


def encoded(work):
    e = work.encoders
    return {
        "bert": e.text.counts["texts"],
        "clip texts": e.joint.counts["texts"],
        "clip pictures": e.joint.counts["pictures"],
        "resnet": e.image.counts["pictures"],
        "detector": e.objects.counts["pictures"],
        "decoded": work.pictures.decoded,
    }


NEW = {"new0": ("palace 0", "a new one", "teal"), "new1": ("palace 1", "harbor forest", "navy")}


def test_one_percent_more_entities_encodes_their_texts_and_pictures_and_nothing_else(old, tmp_path, watched):
    entities, mentions = two_hundred_cities()
    grown, work = run(tmp_path, inserted(entities, NEW), mentions, watched)
    assert encoded(work) == dict.fromkeys(("bert", "clip texts", "clip pictures", "resnet", "detector", "decoded"), 2)
    kinds = ("text", "joint", "image", "objects")
    files = {shard.file for shard in old.manifest.shards if shard.part.kind in kinds or shard.part == "mention.ids"}
    assert files <= {shard.file for shard in grown.manifest.shards}
    assert grown.manifest.generations == ((COUNT, 12), (COUNT + 2, 12))
    assert grown.column("entity.ids.id")[-2:].tolist() == [b"new0", b"new1"]


def test_a_grown_cache_holds_what_a_fresh_one_does_row_by_row(old, tmp_path, watched):
    entities, mentions = two_hundred_cities()
    more = mentions | {"m99": ("a palace by night", "palace", "night", "new0")}
    grown, _ = run(tmp_path, inserted(entities, NEW), more, watched)
    fresh, _ = run(tmp_path, inserted(entities, NEW), more, watched, name="fresh")
    assert grown.id != fresh.id
    found = diff.compare(grown, fresh)
    assert {part["state"] for part in found["parts"].values()} == {"alike"}
    apart = {
        f"{name}.{column}": rows
        for name, part in found["parts"].items()
        for column, (rows, *_) in part["values"].items()
        if rows
    }
    assert not apart
    ids = {name: reader.column("entity.ids.id") for name, reader in (("grown", grown), ("fresh", fresh))}
    golds = grown.column("mention.ids.gold")
    named = dict(zip(grown.column("mention.ids.id").tolist(), ids["grown"][golds].tolist(), strict=True))
    assert named == {name.encode(): gold.encode() for name, (*_, gold) in more.items()}
    lists = {
        name: dict(
            zip(
                reader.column("mention.ids.id").tolist(),
                ids[name][reader.column("pair.candidates.candidates")].tolist(),
                strict=True,
            )
        )
        for name, reader in (("grown", grown), ("fresh", fresh))
    }
    assert lists["grown"] == lists["fresh"]


def test_which_namesakes_are_listed_does_not_depend_on_history(tmp_path, watched):
    entities = {f"Q{i}": ("same", "", COLORS[i]) for i in range(1, 6)}
    mentions = {"m0": ("the same", "same", "shot", "Q1"), "m1": ("same again", "same", "shot", "Q2")}
    run(tmp_path, entities, mentions, watched)
    more = {"Q0": ("same", "", "teal")} | entities
    grown, _ = run(tmp_path, more, mentions, watched)
    fresh, _ = run(tmp_path, more, mentions, watched, name="fresh")
    names = [r.column("entity.ids.id")[r.column("pair.candidates.candidates")].tolist() for r in (grown, fresh)]
    assert names[0] == names[1] == [[b"Q0", b"Q1", b"Q2", b"Q3"]] * 2


def test_the_same_release_again_changes_nothing_and_is_the_grown_cache(old, tmp_path, watched):
    entities, mentions = two_hundred_cities()
    grown, _ = run(tmp_path, inserted(entities, NEW), mentions, watched)
    again, work = run(tmp_path, inserted(entities, NEW), mentions, watched)
    assert again.id == grown.id
    assert work.draft.made == 0
    write_world(tmp_path / "r", *two_hundred_cities())
    back, work = run(tmp_path, entities, mentions, watched)
    assert back.id == old.id
    assert not any(encoded(work).values())


@pytest.mark.parametrize(
    "head, part, table",
    [("ghmfc", "mention.tokens", "token.text"), ("dwe", "mention.joint_tokens", "joint_token.joint")],
)
def test_a_new_mention_of_an_old_sentence_encodes_that_sentence_again_and_no_other(
    old, tmp_path, watched, head, part, table
):
    entities, mentions = two_hundred_cities()
    sentence, _, shot, gold = mentions["m4"]
    first, _ = run(tmp_path, entities, mentions, watched, heads=(head,))
    more = mentions | {"m99": (sentence, "spring", shot, gold)}
    grown, work = run(tmp_path, entities, more, watched, heads=(head,))
    found = encoded(work) | {"clip sentences": work.encoders.joint.counts["sentences token by token"]}
    if head == "ghmfc":  # of the word, and of the word with its sentence; dwe's attributes have texts of their own
        assert found.pop("clip texts") == 2
    assert found | {"clip texts": 0} == dict.fromkeys(encoded(work), 0) | {"bert": 1, "clip sentences": head == "dwe"}
    begin, count = (grown.column(f"{part}.{name}") for name in ("first", "count"))
    vectors = grown.column(f"{table}.vector").astype(float)
    new, twin = (vectors[begin[row] : begin[row] + count[row]] for row in (12, list(mentions).index("m4")))
    np.testing.assert_allclose(new, twin, atol=4e-3)
    assert begin[12] == len(first.column(f"{table}.vector"))


def test_a_new_entity_that_has_an_old_mentions_text_and_picture_leaves_the_mention_alone(old, tmp_path, watched):
    entities, mentions = two_hundred_cities()
    _, surface, shot, _ = mentions["m3"]
    grown, work = run(tmp_path, entities | {"new0": (surface, "", shot)}, mentions, watched)
    assert encoded(work) == dict.fromkeys(("bert", "clip texts", "clip pictures", "resnet", "detector", "decoded"), 1)
    parts = ("mention.joint", "mention.image", "mention.objects", "mention.text")
    kept = {shard.file for shard in old.manifest.shards if shard.part in parts}
    assert kept <= {shard.file for shard in grown.manifest.shards}


def test_a_row_that_goes_costs_its_own_range(old, tmp_path, watched):
    entities, mentions = two_hundred_cities()
    gone = next(name for name in list(entities)[64:128] if all(gold != name for *_, gold in mentions.values()))
    entities.pop(gone)
    grown, work = run(tmp_path, entities, mentions, watched)
    assert 0 < encoded(work)["bert"] <= 63
    assert gone.encode() not in grown.column("entity.ids.id").tolist()
    assert [s.rows for s in grown.manifest.shards if s.part == "entity.ids"] == [64, 63, 64, 8]


def test_a_grown_cache_that_has_lost_shards_is_mended_to_the_same_id(old, tmp_path, watched):
    entities, mentions = two_hundred_cities()
    grown, _ = run(tmp_path, inserted(entities, NEW), mentions, watched)
    rng = random.Random(1)
    files = [shard.file for shard in grown.manifest.shards if not shard.part.endswith(".ids")]
    for name in rng.sample(files, 5):
        (grown.path / name).unlink()
    mended, work = run(tmp_path, inserted(entities, NEW), mentions, watched)
    assert (mended.id, work.draft.made) == (grown.id, 5)


def test_growth_that_is_killed_goes_on_to_the_same_cache(old, tmp_path, watched, monkeypatch):
    entities, mentions = two_hundred_cities()
    whole = tmp_path / "whole"
    shutil.copytree(tmp_path / "s", whole / "s")
    wanted, _ = run(whole, inserted(entities, NEW), mentions, watched)
    write_world(tmp_path / "r", inserted(entities, NEW), mentions)

    class KilledError(BaseException):
        pass

    class Killed(pipeline.Work):
        def _finish(self, rows):
            if rows.table == victim:
                raise KilledError
            super()._finish(rows)

    for victim in ("mention", "pair"):  # noqa: B007, read by Killed
        with monkeypatch.context() as patch, pytest.raises(KilledError):
            patch.setattr(pipeline, "Work", Killed)
            pipeline.run(config(tmp_path))
        assert melcache.open(tmp_path / "s" / "world").id == old.id
    grown, work = run(tmp_path, inserted(entities, NEW), mentions, watched)
    assert grown.id == wanted.id
    assert encoded(work)["bert"] == 0


def test_who_has_nothing_takes_the_order_of_what_is_published_and_computes_only_what_is_newer(
    old, tmp_path, watched, capsys
):
    entities, mentions = two_hundred_cities()
    mine, _ = run(tmp_path, inserted(entities, NEW), mentions, watched)
    push.push(mine.path, str(tmp_path / "remote"))
    remote = {"remote": str(tmp_path / "remote"), "shards": tmp_path / "theirs"}
    theirs, work = run(tmp_path, inserted(entities, NEW), mentions, watched, **remote)
    assert (theirs.id, work.draft.made, work.draft.kept) == (mine.id, 0, 0)
    newer = {"later": ("hall 7", "in a valley", "olive")}
    theirs, work = run(
        tmp_path, newer | inserted(entities, NEW), mentions, watched, **remote | {"shards": tmp_path / "x"}
    )
    assert encoded(work) == dict.fromkeys(("bert", "clip texts", "clip pictures", "resnet", "detector", "decoded"), 1)
    assert theirs.manifest.generations == ((COUNT, 12), (COUNT + 2, 12), (COUNT + 3, 12))
    for path in (tmp_path / "remote").glob("mention.ids*"):
        path.write_bytes(bytes(len(path.read_bytes())))
    anew, _ = run(tmp_path, inserted(entities, NEW), mentions, watched, **remote | {"shards": tmp_path / "y"})
    assert anew.manifest.generations == ((COUNT + 2, 12),)
    assert "Rows are numbered anew" in capsys.readouterr().err


def test_reorder_gives_the_id_of_a_fresh_extraction(old, tmp_path, watched):
    entities, mentions = two_hundred_cities()
    anew, _ = run(tmp_path, inserted(entities, NEW), mentions, watched, reorder=True)
    fresh, _ = run(tmp_path, inserted(entities, NEW), mentions, watched, name="fresh")
    content = [replace(r.manifest.dataset, name="") for r in (anew, fresh)]
    assert content[0] == content[1]
    shards = [[(s.file, s.sha256) for s in r.manifest.shards] for r in (anew, fresh)]
    assert shards[0] == shards[1]


def test_a_limited_cache_is_not_grown(tmp_path, watched):
    entities, mentions = two_hundred_cities()
    limited, _ = run(tmp_path, entities, mentions, watched, limit=2)
    assert limited.manifest.generations is None
    whole, _ = run(tmp_path, entities, mentions, watched)
    assert whole.manifest.generations == ((COUNT, 12),)
    assert whole.column("entity.ids.id").tolist() == [name.encode() for name in entities]


def test_damaged_ids_of_a_cache_that_has_not_grown_are_computed_anew(old, tmp_path, watched):
    damage_ids(old)
    mended, work = run(tmp_path, *two_hundred_cities(), watched)
    assert (mended.id, work.draft.made) == (old.id, 1)


def test_a_grown_cache_whose_ids_are_damaged_or_that_would_be_limited_is_not_renumbered(old, tmp_path, watched):
    entities, mentions = two_hundred_cities()
    grown, _ = run(tmp_path, inserted(entities, NEW), mentions, watched)
    with pytest.raises(ConfigError, match=r"^--limit would replace the grown cache in .*; give it another --name"):
        pipeline.run(config(tmp_path, limit=2))
    path = damage_ids(grown)
    with pytest.raises(CacheError, match=rf"^{path} is damaged, and this cache has grown: .*--reorder$"):
        pipeline.run(config(tmp_path))
    anew, _ = run(tmp_path, inserted(entities, NEW), mentions, watched, reorder=True)
    assert anew.manifest.generations == ((COUNT + 2, 12),)


def damage_ids(reader):
    path = reader.path / next(s.file for s in reader.manifest.shards if s.part == "mention.ids")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return path


def test_a_team_of_two_who_grow_in_turn_have_one_cache(old, tmp_path, watched, capsys):
    """Ann publishes what Bob has, grows it twice and publishes by the way; Bob then takes all of it."""
    entities, mentions = two_hundred_cities()
    remote, bob = {"remote": str(tmp_path / "remote")}, {"shards": tmp_path / "bob"}
    push.push(old.path, remote["remote"])
    run(tmp_path, entities, mentions, watched, **remote, **bob)
    run(tmp_path, inserted(entities, NEW), mentions, watched, **remote, push=True)
    newest = {"later": ("hall 7", "in a valley", "olive")} | inserted(entities, NEW)
    anns, _ = run(tmp_path, newest, mentions, watched, **remote, push=True)
    bobs, work = run(tmp_path, newest, mentions, watched, **remote, **bob)
    assert (bobs.id, work.draft.made) == (anns.id, 0)
    assert bobs.manifest.generations == ((COUNT, 12), (COUNT + 2, 12), (COUNT + 3, 12))
    older, work = run(tmp_path, entities, mentions, watched, **remote, shards=tmp_path / "eve")
    assert (older.id, work.draft.made) == (old.id, 0)
    with pytest.raises(CacheError, match=r"is finished, but not published: .* has another cache.*--replace"):
        run(tmp_path, entities, mentions, watched, **remote, shards=tmp_path / "eve", push=True)


def test_a_copy_of_an_owner_that_is_encoded_anew_is_copied_anew(tmp_path, watched):
    """An owner's batch decides its last bits: a later generation's copy of it must not keep the old ones."""
    entities, mentions = two_hundred_cities()
    options = {"storage": "float32", "shard_rows": 64}
    run(tmp_path, entities, mentions, watched, **options)
    copies = {"copy": entities["e3"], "other": entities["e70"]}
    run(tmp_path, entities | copies, mentions, watched, **options)
    title, text, color = entities["e5"]
    entities["e5"] = (title, f"{text} {text} longer than all others, with pictures {'and words ' * 30}", color)
    grown, _ = run(tmp_path, entities | copies, mentions, watched, **options)
    for shard in grown.manifest.shards:
        if shard.part.kind != "ids":
            (grown.path / shard.file).unlink()
    again, _ = run(tmp_path, entities | copies, mentions, watched, **options)
    assert again.id == grown.id


@pytest.mark.parametrize(
    "generations", [[], [[1, 2]], [[COUNT + 1, 12], [COUNT, 12]], [[COUNT]], [["x", 12]], "all", [[COUNT, 12.0]]]
)
def test_generations_that_do_not_count_up_to_the_tables_are_refused(old, generations):
    changed = manifests.seal(old.manifest.as_json() | {"generations": generations})
    with pytest.raises(CacheError, match="generations"):
        manifests.check(changed, "here")


def test_a_cache_that_was_pulled_without_ids_tells_no_order_and_a_grown_one_says_so(tmp_path):
    folder = tmp_path / "toy"
    strange_remotes.extract(folder, "", 1)
    told = json.loads((folder / "manifest.json").read_text())
    assert EarlierRows.of(folder).layout.generations == ((5, 3),)
    odd_remotes.TOLD["no entity ids"](folder, told)
    for generations, grown in ([[5, 3]], False), ([[2, 1], [5, 3]], True):
        (folder / "manifest.json").write_bytes(sealed(told | {"generations": generations}))
        if grown:
            with pytest.raises(CacheError, match=r"holds no entity\.ids\.id, and this cache has grown.* --reorder"):
                EarlierRows.of(folder)
        else:
            assert EarlierRows.of(folder) is None


def told(entities, mentions, generations=1):
    """What a manifest tells of an order: ranges of entity and mention rows."""
    ranges = [("entity", rows) for rows in entities] + [("mention", rows) for rows in mentions]
    shards = [SimpleNamespace(part=PartName(f"{table}.ids"), rows=rows) for table, rows in ranges]
    tables = {"entity": sum(entities), "mention": sum(mentions)}
    return SimpleNamespace(tables=tables, shards=shards, generations=(tuple(tables.values()),) * generations)


@pytest.mark.parametrize(
    ("manifest", "worth"),
    [
        (told([2048, 952], [500, 500]), True),
        (told([2048, 2048, 1904], [2000]), True),  # half of it may be in the release still
        (told([2048, 2048, 1905], [1000]), False),
        (told([3000], [1001] * 2), False),
        (told([3000] + [10] * 80, [1000] + [1] * 20), True),  # grown a hundred times
        (told([1] * 3000, [1] * 1000), False),  # more shards than a manifest may list
        (told([1000], [1000], row_order.MOST_GENERATIONS), True),
        (told([1000], [1000], row_order.MOST_GENERATIONS + 1), False),
    ],
)
def test_an_order_from_elsewhere_is_followed_where_its_ranges_can_be_computed_and_listed(manifest, worth):
    assert row_order.worth(manifest, (3000, 1000), ExtractConfig()) == worth


def test_ranges_from_elsewhere_are_as_large_as_fit_in_memory():
    large = row_order.MOST_ROWS
    for rows, size, worth in ((large, 2048, True), (large + 1, 2048, False), (large + 1, large + 1, True)):
        manifest = told([rows], [1000])
        assert row_order.worth(manifest, (rows, 1000), ExtractConfig(shard_rows=size)) == worth
