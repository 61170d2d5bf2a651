"""The extraction stage from a release to a cache: every item encoded once, masks and counts, interruption, limits."""

import json
import os
import random
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import melcache
from cache import manifests
from cache.edges import EDGES
from cache.kinds import IMAGE_STATUS
from cache.names import PartName
from common.errors import ConfigError, CoverageError, DatasetError
from extract import images, pipeline
from extract.cli import app
from extract.encoders import Encoders
from tests.worlds import entity_record, extract_config, mention_record, write_release
from torture.machines.kills import Calls
from torture.machines.unlisted_rot import take_back
from torture.processes import child
from train.evaluating import computed_edges

pytestmark = pytest.mark.usefixtures("toys_built_once")
LONG = " ".join(["harbor"] * 150)
ENTITIES = [  # name, text, picture
    ("Paris", "capital of France", "red.png"),
    ("Paris", "capital of France", "again.png"),  # other bytes on disk, the same picture file
    ("Lyon", "", "blue.png"),
    ("Rome", "capital of Italy", None),
    ("Rome", "capital of Italy", "cut.png"),
    ("Nice", "", "drawing.svg"),
    ("Oslo", LONG, None),
    ("Bonn", "on the Rhine", "absent.png"),
    ("Bern", "", "green.png"),
    ("Riga", "in Latvia", "red.png"),
]
MENTIONS = [  # caption, sentence, surface, picture, gold
    ("c0", "Paris and Lyon at night", "Paris", "red.png", "e0"),
    ("c1", "A walk in Rome", "Rome", "wide.png", "e3"),
    ("c0", "Paris and Lyon at night", "Lyon", "red.png", "e2"),
    ("c2", "Lyon", "Lyon", "cut.png", "e2"),
    ("c3", "Paris and Lyon at night", "Paris", "wide.png", "e1"),
    ("c4", "Nothing stands here", "Oslo", "absent.png", "e6"),
    ("c5", f"{LONG} Bonn", "Bonn", None, "e7"),
    ("c6", "A walk in Rome", "walk", "green.png", None),
    ("c7", "Bern by day", "Bern", "blue.png", "e8"),
]
READABLE = {"red.png", "blue.png", "green.png", "wide.png"}
TABLES = ("entity", "mention")
UNREADABLE = {"cut.png", "drawing.svg"}


def write_pictures(folder):
    folder.mkdir(parents=True)
    for name, size, color in (
        ("red.png", (40, 30), "red"),
        ("blue.png", (64, 64), "blue"),
        ("green.png", (33, 50), "green"),
        ("wide.png", (90, 20), "yellow"),
    ):
        picture = Image.new("RGB", size, color)
        picture.paste("black", (size[0] // 2, 0, size[0] // 2 + 3, size[1]))
        picture.save(folder / name)
    shutil.copyfile(folder / "red.png", folder / "again.png")
    whole = (folder / "blue.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")


def write_world(folder, mentions=MENTIONS, entities=ENTITIES, candidates=None):
    """Write a jsonl release; `candidates` by mention id."""
    if not (folder / "images").exists():
        write_pictures(folder / "images")
    records = []
    for i, (caption, sentence, surface, picture, gold) in enumerate(mentions):
        more = {"caption": caption, "gold": gold, "split": ["train", "valid", "test"][i % 3]}
        more |= {"candidates": candidates[f"m{i}"]} if candidates else {}
        records.append(mention_record(i, sentence, surface, picture, **more))
    return write_release(folder, records, [entity_record(i, *entity) for i, entity in enumerate(entities)])


config = partial(extract_config, sentence_tokens=64, candidates=4, workers=2)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def extracted(release, tmp_path_factory):
    """A finished cache of the world, in shards of four rows; tests only read it."""
    return melcache.open(pipeline.run(config(release, tmp_path_factory.mktemp("shards"), shard_rows=4)))


def counted(work):
    e = work.encoders
    return {
        "decoded": work.pictures.decoded,
        "bert": e.text.counts["texts"],
        "clip texts": e.joint.counts["texts"],
        "clip pictures": e.joint.counts["pictures"],
        "resnet pictures": e.image.counts["pictures"],
        "detector": e.objects.counts["pictures"],
    }


def entity_texts():
    return [f"{name}: {text}" if text else name for name, text, _ in ENTITIES]


def expected_counts():
    """What a set of every distinct text and picture file says; the neutral picture is one more of two encoders."""
    sentences = {sentence for _, sentence, *_ in MENTIONS}
    surfaces = {surface for _, _, surface, *_ in MENTIONS}
    both = {f"{surface} [SEP] {sentence}" for _, sentence, surface, *_ in MENTIONS}
    return {
        "decoded": len(READABLE | UNREADABLE),
        "bert": len(set(entity_texts())) + len(sentences),
        "clip texts": len(set(entity_texts()) | sentences | surfaces | both),
        "clip pictures": len(READABLE) + 1,
        "resnet pictures": len(READABLE) + 1,
        "detector": len(READABLE),
    }


# --- every distinct item once


@pytest.mark.parametrize("shard_rows", [1, 4, 2048])
def test_every_distinct_text_and_picture_is_encoded_once_whatever_the_shards(release, tmp_path, watched, shard_rows):
    pipeline.run(config(release, tmp_path, shard_rows=shard_rows))
    assert counted(watched[0]) == expected_counts()


def test_a_second_run_encodes_nothing_and_has_the_same_id(release, tmp_path, watched):
    ids = [melcache.open(pipeline.run(config(release, tmp_path, shard_rows=4))).id for _ in range(2)]
    assert ids[0] == ids[1]
    assert set(counted(watched[1]).values()) == {0}
    assert watched[1].draft.made == 0
    assert watched[1].draft.kept == watched[0].draft.made


def test_the_trainer_computes_the_edges_that_the_cache_holds(extracted):
    lists = torch.from_numpy(extracted.column("pair.candidates.candidates").astype(np.int64))
    aligned = computed_edges.table_of(extracted, "device", torch.device("cpu"))
    found = computed_edges.edges(aligned, torch.arange(len(lists)), lists).flatten(2).numpy()
    for i, edge in enumerate(EDGES):
        stored = extracted.column(f"pair.alignment.{edge}")
        assert stored.any(), edge
        np.testing.assert_array_equal(found[..., i], stored, err_msg=edge)


def test_a_repeated_item_has_its_owners_vector_bit_for_bit(extracted):
    mentions = extracted.strings("mention.ids.id")
    texts = {f"e{i}": text for i, text in enumerate(entity_texts())}
    files = {"again.png": "red.png"}
    held = {"text": [], "clip": [], "cls": [], "picture": []}
    for row, name in enumerate(extracted.strings("entity.ids.id")):
        picture = ENTITIES[int(name[1:])][2]
        held["text"].append((texts[name], row))
        held["clip"].append((texts[name], "entity.joint.text", row))
        if picture in READABLE or picture in files:
            held["picture"].append((files.get(picture, picture), "entity", row))
    for row, name in enumerate(mentions):
        _, sentence, surface, picture, _ = MENTIONS[int(name[1:])]
        held["cls"].append((sentence, row))
        for column, text in (("mention", surface), ("sentence", sentence)):
            held["clip"].append((text, f"mention.joint.{column}", row))
        held["clip"].append((f"{surface} [SEP] {sentence}", "mention.joint.mention_sentence", row))
        if picture in READABLE:
            held["picture"].append((picture, "mention", row))
    repeats = 0
    first = {}
    vectors = {}
    for text, row in held["text"]:
        vectors[text, f"text {row}"] = [
            extracted.column(f"entity.text.{c}")[row] for c in ("sentence", "mean", "pooler")
        ]
    for text, row in held["cls"]:
        vectors["sentence", text, f"{row}"] = [extracted.column("mention.text.sentence")[row]]
    for text, column, row in held["clip"]:
        vectors["clip", text, f"{column} {row}"] = [extracted.column(column)[row]]
    for picture, table, row in held["picture"]:
        names = [f"{table}.{c}" for c in ("image.vector", "joint.image", "objects.boxes", "objects.summary")]
        vectors["picture", picture, f"{table} {row}"] = [extracted.column(name)[row] for name in names]
    for (*item, slot), values in vectors.items():
        owner = first.setdefault(tuple(item), values)
        repeats += owner is not values
        for value, expected in zip(values, owner, strict=True):
            assert value.tobytes() == expected.tobytes(), (item, slot)
            assert np.any(value), (item, slot)
    assert repeats >= 15
    assert len({b"".join(v.tobytes() for v in values) for values in first.values()}) == len(first)


# --- descriptions

BRIEFS = {
    "e0": "Paris stands on the Seine.",
    "Lyon": "Lyon stands on the Rhone.",
    "e3": "Rome: capital of Italy",
    "x": "?",
}


@pytest.fixture(scope="module")
def described(release, tmp_path_factory):
    """A cache of the world with descriptions made from scratch, and the file of them; tests only read it."""
    folder = tmp_path_factory.mktemp("described")
    (folder / "briefs.json").write_text(json.dumps(BRIEFS))
    wanted = config(release, folder, shard_rows=4, descriptions=folder / "briefs.json")
    return melcache.open(pipeline.run(wanted)), wanted.descriptions


def test_an_entity_without_description_holds_its_other_text_where_others_have_one(
    extracted, described, release, tmp_path
):
    reader = described[0]
    text, description = (reader.column(f"entity.joint.{name}") for name in ("text", "description"))
    assert text.tobytes() == extracted.column("entity.joint.text").tobytes()
    clip = Encoders(config(release, tmp_path)).joint
    for row, name in enumerate(reader.strings("entity.ids.id")):
        given = BRIEFS.get(name) or ("Lyon stands on the Rhone." if ENTITIES[row][0] == "Lyon" else None)
        expected = clip.encode_texts([given or entity_texts()[row]])[0]
        np.testing.assert_allclose(description[row].astype(float), expected, atol=2e-3)
        same = given in (None, "Rome: capital of Italy")  # that is e3's other text
        assert (description[row].tobytes() == text[row].tobytes()) == same
    assert {what: count for what, count in reader.manifest.coverage.items() if "descri" in what} == {
        "descriptions given": 4,
        "descriptions used": 3,
        "descriptions for no entity": 1,
        "entities without a description": 7,
    }
    licence = reader.manifest.dataset.licence
    assert licence.startswith(extracted.manifest.dataset.licence + "; descriptions: ")


def test_descriptions_added_to_a_cache_cost_only_clip_and_give_the_id_of_a_fresh_one(
    described, release, tmp_path, watched
):
    options = {"shard_rows": 4, "max_missing": 1.0}
    plain = melcache.open(pipeline.run(config(release, tmp_path, **options)))
    renewed = melcache.open(pipeline.run(config(release, tmp_path, **options, descriptions=described[1])))
    assert renewed.id == described[0].id != plain.id
    done = counted(watched[1])
    assert (done["bert"], done["resnet pictures"], done["detector"]) == (0, 0, 0)
    parts = [reader.manifest.parts for reader in (plain, renewed)]
    changed = {name for name in parts[0] if parts[0][name].fingerprint != parts[1][name].fingerprint}
    assert changed == {"entity.joint", "pair.alignment"}
    stated = [part["entity.joint"].recipe.get("description") for part in parts]  # what stands in decides the numbers
    assert stated == [None, "else name: text"]
    keys = [{(shard.part, shard.key) for shard in reader.manifest.shards} for reader in (plain, renewed)]
    # mention.joint: in this world mentions share texts and pictures with entities, and so copy from entity.joint
    remade = {part for part, _ in keys[1] - keys[0]}
    assert remade <= {"entity.ids", "entity.joint", "mention.joint", "pair.candidates", "pair.alignment"}
    assert {"entity.ids", "entity.joint"} <= remade


def test_other_descriptions_change_the_shards_that_hold_them_and_those_that_copy_from_them(
    described, release, tmp_path
):
    path = tmp_path / "briefs.json"
    path.write_text(json.dumps(BRIEFS | {"e0": "Paris is old."}))
    reader = melcache.open(pipeline.run(config(release, tmp_path, shard_rows=4, descriptions=path)))
    parts = [r.manifest.parts for r in (described[0], reader)]
    assert parts[0] == parts[1]
    keys = [{s.key: (s.part, s.start) for s in r.manifest.shards} for r in (described[0], reader)]
    remade = {place for key, place in keys[1].items() if key not in keys[0]}
    assert ("entity.joint", 0) in remade and not any(part in ("entity.text", "mention.text") for part, _ in remade)
    assert reader.id != described[0].id


# --- masks, statuses, neutral rows, counts


def test_statuses_masks_and_neutral_rows(extracted):
    codes = {None: "none", "absent.png": "missing", "cut.png": "corrupt", "drawing.svg": "svg"}
    for table, records in (("entity", [(e[2],) for e in ENTITIES]), ("mention", [(m[3],) for m in MENTIONS])):
        names = extracted.strings(f"{table}.ids.id")
        expected = [codes.get(records[int(name[1:])][0], "ok") for name in names]
        status = [IMAGE_STATUS[code] for code in extracted.column(f"{table}.ids.image_status")]
        assert status == expected
        there = np.array([code == "ok" for code in expected])
        for kind, column in (("image", "vector"), ("joint", "image")):
            assert (extracted.column(f"{table}.{kind}.present") == there).all()
            blanks = extracted.column(f"{table}.{kind}.{column}")[~there]
            assert len({row.tobytes() for row in blanks}) == 1 and np.any(blanks)
            assert blanks[0].tobytes() not in {
                row.tobytes() for row in extracted.column(f"{table}.{kind}.{column}")[there]
            }
        for column in ("boxes", "scores", "labels", "summary"):
            assert not extracted.column(f"{table}.objects.{column}")[~there].any()
    for kind, column in (("image", "vector"), ("joint", "image")):
        blank = {
            extracted.column(f"{t}.{kind}.{column}")[~extracted.column(f"{t}.{kind}.present")][0].tobytes()
            for t in TABLES
        }
        assert len(blank) == 1


def test_the_neutral_vector_is_the_encoders_of_the_declared_gray_picture(extracted, release, tmp_path):
    encoders = Encoders(config(release, tmp_path))
    gray = Image.new("RGB", (224, 224), (128, 128, 128))
    blank = int(np.flatnonzero(~extracted.column("entity.image.present"))[0])
    expected = encoders.pictures([gray], [PartName("entity.image"), PartName("entity.joint")])
    for kind, column in (("image", "vector"), ("joint", "image")):
        np.testing.assert_array_equal(
            extracted.column(f"entity.{kind}.{column}")[blank], expected[f"entity.{kind}"][column][0].astype(np.float16)
        )
    assert images.neutral().tobytes() == gray.tobytes()


def test_coverage_counts_are_those_counted_by_hand(extracted):
    counts = extracted.manifest.coverage
    expected = {
        "mentions": 9,
        "entities": 10,
        "spans not found": 1,
        "spans beyond the token limit": 1,
        "gold is nil": 1,
        "entity images: ok": 5,
        "entity images: none": 2,
        "entity images: missing": 1,
        "entity images: corrupt": 1,
        "entity images: svg": 1,
        "mention images: ok": 6,
        "mention images: none": 1,
        "mention images: missing": 1,
        "mention images: corrupt": 1,
        "entity texts cut by text": 1,
        "entity texts cut by joint": 1,
        "mention texts cut by text": 1,
        "mention texts cut by joint": 1,
    }
    assert {name: counts[name] for name in expected} == expected
    found = dict(zip(extracted.strings("mention.ids.id"), extracted.column("mention.text.found"), strict=True))
    assert {name for name, there in found.items() if not there} == {"m5", "m6"}
    cut = dict(zip(extracted.strings("entity.ids.id"), extracted.column("entity.text.truncated"), strict=True))
    assert {name for name, there in cut.items() if there} == {"e6"}


def test_mentions_keep_their_own_ids_gold_and_splits_after_grouping(extracted):
    names = extracted.strings("mention.ids.id")
    entities = extracted.strings("entity.ids.id")
    assert sorted(names) == sorted(f"m{i}" for i in range(len(MENTIONS)))
    for row, name in enumerate(names):
        caption, _, surface, _, gold = MENTIONS[int(name[1:])]
        assert extracted.strings("mention.ids.caption")[row] == caption
        assert extracted.strings("mention.ids.surface")[row] == surface
        assert extracted.column("mention.ids.splits")[row] == 1 << int(name[1:]) % 3
        stored = extracted.column("mention.ids.gold")[row]
        assert (entities[stored] if stored >= 0 else None) == gold


def test_alignment_is_that_of_the_stored_columns(extracted):
    for edge in ("text_to_text", "text_to_image", "image_to_text", "image_to_image"):
        values = extracted.column(f"pair.alignment.{edge}")
        assert np.isfinite(values).all() and np.any(values)
    cls, text = (extracted.column(n).astype(float) for n in ("mention.text.sentence", "entity.text.sentence"))
    for m, listed in enumerate(extracted.column("pair.candidates.candidates")):
        for c, e in enumerate(listed):
            expected = cls[m] @ text[e] / np.linalg.norm(cls[m]) / np.linalg.norm(text[e])
            assert extracted.column("pair.alignment.text_to_text")[m, c] == pytest.approx(expected, abs=1e-5)


# --- too many missing


def test_too_many_missing_pictures_stop_with_exit_code_3_and_say_what_to_do(release, tmp_path):
    options = ["--dataset", "jsonl", "--data", str(release), "--shards", str(tmp_path), "--weights", "random-tiny"]
    result = CliRunner().invoke(app, [*options, "--device", "cpu", "--max-missing", "0.1"])
    assert result.exit_code == 3
    lines = [line for line in result.stderr.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    assert "of the 8 pictures that the release names cannot be used" in lines[0]
    assert "pass at least --max-missing 0." in lines[0] and "Put them where the release expects them" in lines[0]
    assert not list(tmp_path.rglob("manifest.json"))


def test_pictures_that_turn_out_broken_stop_later_and_keep_finished_shards(release, tmp_path, watched):
    # 1 of 8 is missing, 2 more turn out broken
    with pytest.raises(CoverageError, match=r"2 of the 8 .*1 corrupt, 1 missing.*--max-missing 0\.25 to continue"):
        pipeline.run(config(release, tmp_path, shard_rows=1, max_missing=0.2))
    kept = {path.name for path in tmp_path.rglob("*.h5")}
    assert len(kept) == watched[0].draft.made > 10
    assert not list(tmp_path.rglob("manifest.json"))
    finished = melcache.open(pipeline.run(config(release, tmp_path, shard_rows=1)))
    assert watched[1].draft.kept == len(kept)
    assert kept <= {shard.file for shard in finished.manifest.shards}


def test_the_limit_on_missing_pictures_is_met_exactly(release, tmp_path):
    assert melcache.open(pipeline.run(config(release, tmp_path, max_missing=3 / 8))).id


# --- limits and candidates


def test_limit_keeps_the_first_captions_and_only_the_entities_they_need(release, tmp_path):
    made = melcache.open(pipeline.run(config(release, tmp_path, limit=2, candidates=2)))
    assert sorted(made.strings("mention.ids.id")) == ["m0", "m1", "m2"]  # captions c0 and c1
    needed = set(made.column("pair.candidates.candidates").ravel()) | set(made.column("mention.ids.gold"))
    assert set(range(made.manifest.tables["entity"])) == needed - {-1}
    names = made.strings("entity.ids.name")
    assert {"Paris", "Lyon", "Rome"} <= set(names) and len(names) < len(ENTITIES)
    for row, gold in enumerate(made.column("mention.ids.gold")):
        listed, at = made.column("pair.candidates.candidates")[row], made.column("pair.candidates.gold")[row]
        assert at < 0 or listed[at] == gold


def test_limit_does_not_change_what_a_mention_holds(release, extracted, tmp_path):
    few = melcache.open(pipeline.run(config(release, tmp_path, limit=2)))
    for row, name in enumerate(few.strings("mention.ids.id")):
        other = extracted.strings("mention.ids.id").index(name)
        np.testing.assert_allclose(
            few.column("mention.text.span")[row].astype(float), extracted.column("mention.text.span")[other], atol=2e-3
        )
        names = [r.strings("entity.ids.id") for r in (few, extracted)]
        listed = [r.column("pair.candidates.candidates")[i] for r, i in ((few, row), (extracted, other))]
        assert [names[0][e] for e in listed[0]] == [names[1][e] for e in listed[1]]


def test_a_limit_that_leaves_no_entity_is_one_line(tmp_path):
    candidates = {f"m{i}": ["e0"] if i else [] for i in range(2)}
    mentions = [("c0", "Nil here", "Nil", None, None), ("c1", "Paris", "Paris", None, "e0")]
    write_world(tmp_path / "r", mentions, candidates=candidates)
    with pytest.raises(DatasetError, match=r"--limit"):
        pipeline.run(config(tmp_path / "r", tmp_path, limit=1))


def test_released_candidates_are_taken_in_their_order_without_repeats(tmp_path):
    lists = {f"m{i}": [f"e{(i + j) % 10}" for j in range(i % 4)] for i in range(len(MENTIONS))}
    lists["m5"] = ["e6", "e1", "e6"]
    made = melcache.open(pipeline.run(config(write_world(tmp_path / "r", candidates=lists), tmp_path)))
    entities = made.strings("entity.ids.id")
    table = made.column("pair.candidates.candidates")
    assert table.shape == (9, 3)
    for row, name in enumerate(made.strings("mention.ids.id")):
        expected = list(dict.fromkeys(lists[name]))
        assert [entities[e] for e in table[row] if e >= 0] == expected
        gold = MENTIONS[int(name[1:])][4]
        assert made.column("pair.candidates.gold")[row] == (expected.index(gold) if gold in expected else -1)
    assert not made.column("pair.candidates.lexical")[table < 0].any()
    misses = sum(m[4] is not None and m[4] not in lists[f"m{i}"] for i, m in enumerate(MENTIONS))
    assert made.manifest.coverage["gold not among candidates"] == misses > 0


def test_without_released_lists_names_are_retrieved(extracted):
    names = extracted.strings("entity.ids.name")
    for surface, listed in zip(
        extracted.strings("mention.ids.surface"), extracted.column("pair.candidates.candidates"), strict=True
    ):
        if surface in names:
            assert names[listed[0]] == surface


# --- interruption


@pytest.fixture(scope="module")
def finished(release, tmp_path_factory):
    shards = tmp_path_factory.mktemp("finished")
    return config(release, shards, shard_rows=2), melcache.open(pipeline.run(config(release, shards, shard_rows=2))).id


@pytest.mark.parametrize("seed", range(20))
def test_a_resumed_run_redoes_what_is_missing_and_has_the_same_id(finished, watched, seed):
    wanted, identity = finished
    rng = random.Random(seed)
    files = sorted(wanted.folder.glob("*.h5"))
    lost = rng.sample(files, rng.randrange(1, len(files) + 1))
    take_back(wanted.folder)
    for path in lost:
        path.unlink()
    assert melcache.open(pipeline.run(wanted)).id == identity
    assert watched[0].draft.made == len(lost)
    assert all(count <= expected_counts()[name] for name, count in counted(watched[0]).items() if "pict" not in name)


def test_a_shard_that_was_damaged_before_the_manifest_is_made_again_and_told(finished, watched, capsys):
    wanted, identity = finished
    take_back(wanted.folder)
    victim = sorted(wanted.folder.glob("entity.image-*.h5"))[1]
    data = victim.read_bytes()
    victim.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))  # the last picture's `present`
    assert melcache.open(pipeline.run(wanted)).id == identity
    assert watched[0].draft.made == 1 and victim.read_bytes() == data
    assert f"1 shards in {wanted.folder} are recomputed: damaged since they were" in capsys.readouterr().err


def test_a_changed_release_in_an_old_folder_has_the_id_of_a_fresh_extraction(tmp_path):
    rng = random.Random(5)
    words = "harbor forest market desert island valley castle village river mountain".split()

    def texts(count):
        return [" ".join(rng.choices(words, k=rng.randrange(2, 12))) for _ in range(count)]

    entities = [(text.split()[0], text, None) for text in texts(16)]
    entities += entities[:7]  # copies, in another shard than their owners
    mentions = [(f"c{i}", text, text.split()[0], None, "e0") for i, text in enumerate(texts(12))]
    options = {"shard_rows": 8, "storage": "float32", "name": "grown"}
    release = write_world(tmp_path / "r", mentions, entities)
    pipeline.run(config(release, tmp_path / "old", **options))
    entities[7:8] = [("harbor", "harbor " * 40, None)]  # another batch for the owners in the first shard
    write_world(release, mentions, entities)
    grown = melcache.open(pipeline.run(config(release, tmp_path / "old", **options)))
    fresh = melcache.open(pipeline.run(config(release, tmp_path / "new", **options)))
    assert grown.id == fresh.id


def test_a_missing_picture_that_is_now_an_empty_file_is_found_again(tmp_path):
    release = write_world(tmp_path / "r")
    pipeline.run(config(release, tmp_path / "old"))
    (release / "images" / "absent.png").touch()
    renewed, fresh = (melcache.open(pipeline.run(config(release, tmp_path / name))) for name in ("old", "new"))
    assert "entity images: empty" in renewed.manifest.coverage
    assert renewed.id == fresh.id


def test_an_extraction_after_a_limited_one_has_the_id_of_a_fresh_one(finished, release, tmp_path):
    identity = finished[1]
    for limit in (1, 4, None):
        folder = pipeline.run(config(release, tmp_path, shard_rows=2, limit=limit))
    assert melcache.open(folder).id == identity


# children of one process that has imported everything; kills come by shards finished, whatever the machine's speed
def killed(release, shards, kind, fatal):
    """Extract in a forked process whose `fatal`-th call of a kind is its last; return its status."""

    def work():
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        Calls(fatal, (kind,))
        pipeline.run(config(release, shards, shard_rows=2))

    return os.waitpid(child(work), 0)[1]


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("kills", [5, pytest.param(30, marks=pytest.mark.slow)])
def test_a_killed_extraction_resumes_to_the_same_cache_and_leaves_nothing(kills, release, tmp_path):
    whole, work = pipeline.run(config(release, tmp_path / "whole", shard_rows=2)), tmp_path / "work"
    rng, there = random.Random(1), []
    for _ in range(kills):  # in a call for one of the next shards
        calls, most = ("write", "fsync", "link", "unlink"), 40 // kills
        status = killed(release, work, rng.choice(calls), rng.randint(0, most))
        assert os.WIFSIGNALED(status) and not (work / "world/manifest.json").exists()
        there.append(len(list(work.glob("world/*.h5"))))
    assert there == sorted(there) and len(set(there)) > 3
    assert killed(release, work, "write", None) == 0
    assert melcache.open(work / "world").id == melcache.open(whole).id
    assert sorted(path.name for path in (work / "world").iterdir()) == sorted(path.name for path in whole.iterdir())


def test_lists_are_no_longer_than_the_knowledge_base(release, tmp_path):
    reader = melcache.open(pipeline.run(config(release, tmp_path, candidates=100)))
    assert reader.manifest.candidates == reader.manifest.tables["entity"]
    assert reader.column("pair.candidates.candidates").min() >= 0


def test_more_shards_than_a_manifest_may_list_stop_before_any_work(release, tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "MAX_SHARDS", 20)
    with pytest.raises(
        ConfigError, match=r"^that would be 53 shards, and a manifest lists at most 20: use --shard-rows 12$"
    ):
        pipeline.run(config(release, tmp_path, shard_rows=2))
    assert not (tmp_path / "world").exists()
    pipeline.run(config(release, tmp_path, shard_rows=12))


def test_a_limited_cache_says_so(release, tmp_path):
    reader = melcache.open(pipeline.run(config(release, tmp_path, limit=2)))
    assert any("limited to the first 2 captions" in warning for warning in reader.manifest.warnings)


def test_lists_for_some_mentions_only_are_refused(release, tmp_path):
    lines = [json.loads(line) for line in (release / "mentions.jsonl").read_text().splitlines()]
    entities = [json.loads(line) for line in (release / "entities.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("candidates", None)
    lines[0]["candidates"] = [entity["id"] for entity in entities[:2]]
    copy = write_release(tmp_path / "copy", lines, entities)
    with pytest.raises(DatasetError, match=r"^1 of \d+ mentions have a candidate list and the others none"):
        pipeline.run(config(copy, tmp_path))
