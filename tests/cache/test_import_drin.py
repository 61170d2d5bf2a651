"""DRIN's preprocessed arrays become a cache: every number against loops over the arrays, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import melcache
from cache import manifests, store
from cache.checks.verify import verify
from cache.cli import app
from cache.drin import arrays, convert, edges
from cache.drin import lists as numbering
from cache.schema import PARTS
from common.errors import CacheError, ConfigError, MelcacheError
from tests.worlds import synthetic_cache
from train import loop
from train.config import TrainConfig
from train.heads.drin.config import DrinConfig
from train.heads.drin_authors.config import DrinAuthorsConfig
from train.heads.ghmfc.config import GhmfcConfig
from train.heads.mel_hi.config import MelHiConfig

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("without_fsync")
SPLITS = {"train": 12, "valid": 4, "test": 3}
T, D, R, V, O = 9, 6, 4, 5, 3  # noqa: E741
ENTITIES = 20


def unit(x):
    return x / max(np.sqrt((x.astype(np.float64) ** 2).sum()), 1e-30)


def save(folder, name, values):
    np.save(folder / f"{name}.npy", values)


def lists_of(rng, count, candidates):
    """Lists of entity numbers, gold appended, and the answers; every third gold is not retrieved."""
    lists = np.array([rng.permutation(ENTITIES)[: candidates + 1] for _ in range(count)])
    answers = rng.integers(0, candidates, count)
    answers[::3] = candidates
    lists[:, -1] = lists[np.arange(count), answers]
    return lists, answers


def mentions_of(rng, folder, split, count, slots):
    lengths = rng.integers(4, T + 1, count)
    mask = (np.arange(T) < lengths[:, None]).astype(np.int64)
    start = np.array([rng.integers(0, length - 3) for length in lengths])
    made = {
        "mention-text-feature": rng.standard_normal((count, T, D)).astype(np.float32),
        "mention-text-mask": mask,
        "start-pos": start,
        "end-pos": start + 2,
        "mention-image-feature": rng.standard_normal((count, R, V)).astype(np.float32),
        "mention-object-feature": rng.standard_normal((count, O, V)).astype(np.float32),
        "mention-object-score": rng.uniform(0, 1, (count, O)).astype(np.float32),
        "similarity-miet": rng.uniform(-5, 35, (count, slots)).astype(np.float32),
        "similarity-eimt": rng.uniform(-5, 35, (count, slots)).astype(np.float32),
    }
    made["start-pos"][1], made["end-pos"][1] = T + 3, T + 5  # beyond the tokens that were kept
    made["mention-object-score"][2] = 0  # no detection
    made["mention-image-feature"][2] = 0  # no picture
    for name, values in made.items():
        save(folder, f"{name}_{split}", values)


def wikidiverse(folder, candidates=4):
    """A row for each slot of a list."""
    folder.mkdir(parents=True)
    rng, k = np.random.default_rng(0), candidates + 1
    entity = {
        "entity-attr-feature": rng.standard_normal((ENTITIES, D)).astype(np.float32),
        "entity-image-feature": rng.standard_normal((ENTITIES, 1, V)).astype(np.float32),
        "entity-object-feature": rng.standard_normal((ENTITIES, 1, V)).astype(np.float32),
        "entity-object-score": rng.uniform(0, 1, (ENTITIES, 1)).astype(np.float32),
    }
    entity["entity-image-feature"][3] = 0
    for split, count in SPLITS.items():
        lists, answers = lists_of(rng, count, candidates)
        if split == "train":
            lists[1, 0] = lists[1, 1] = lists[1, 2]  # padding: one entity again and again
            answers[1], lists[1, -1] = 3, lists[1, 3]
        mentions_of(rng, folder, split, count, k)
        save(folder, f"answer_{split}", answers)
        for name, values in entity.items():
            rows = values[lists.reshape(-1)]
            if name == "entity-attr-feature":  # gold at the end was encoded once more: another last bit
                twice = np.flatnonzero(answers < candidates) * k + candidates
                rows[twice] = np.nextafter(rows[twice], np.float32(9))
            save(folder, f"{name}_{split}", rows)
    return folder


def wikimel(folder, candidates=6):
    """A row for each entity."""
    folder.mkdir(parents=True)
    rng, k, tokens = np.random.default_rng(1), candidates + 1, 5
    lengths = rng.integers(3, tokens + 1, ENTITIES)
    save(folder, "entity-attr-feature", rng.standard_normal((ENTITIES, tokens, D)).astype(np.float32))
    save(folder, "entity-attr-mask", (np.arange(tokens) < lengths[:, None]).astype(np.int64))
    save(folder, "entity-image-feature_all", rng.standard_normal((ENTITIES, 1, V)).astype(np.float32))
    save(folder, "entity-object-feature_all", rng.standard_normal((ENTITIES, 1, V)).astype(np.float32))
    save(folder, "entity-object-score_all", rng.uniform(0, 1, (ENTITIES, 1)).astype(np.float32))
    qids = [f"Q{100 + 7 * row}" for row in range(ENTITIES)]
    (folder / "qid2idx.json").write_text(json.dumps({qid: row for row, qid in reversed(list(enumerate(qids)))}))
    for split, count in SPLITS.items():
        lists, answers = lists_of(rng, count, candidates)
        mentions_of(rng, folder, split, count, k)
        save(folder, f"answer_{split}", answers)
        save(folder, f"entity-name-raw_{split}", np.array(qids)[lists.reshape(-1)])
    return folder


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Both layouts, imported in several shards and blocks."""
    place = tmp_path_factory.mktemp("drin")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "SHARD_ROWS", 5)
        patch.setattr(edges, "PAIR_ROWS", 2)
        patch.setattr(arrays, "BLOCK", 300)
        patch.setattr(numbering, "CHUNK", 7)
        for name, make in (("wikidiverse", wikidiverse), ("wikimel", wikimel)):
            make(place / "arrays" / name)
            convert.run(place / "arrays" / name, place / "caches" / name, more=("regions", "tokens"))
    return place


class Oracle:
    """What must come out, by loops over the arrays as np.load gives them."""

    def __init__(self, folder):
        self.folder = folder
        self.by_entity = (folder / "qid2idx.json").exists()

    def all(self, name):
        return np.concatenate([np.load(self.folder / f"{name}_{split}.npy") for split in SPLITS])

    def answers(self):
        return self.all("answer")

    def slots(self):
        """What stands for each slot's entity: its qid, or the bytes of its arrays."""
        count = len(self.answers())
        if self.by_entity:
            return self.all("entity-name-raw").reshape(count, -1).tolist()
        found = [self.all(name) for name in ("entity-attr-feature", "entity-image-feature")]
        flat = [b"".join(array[row].tobytes() for array in found) for row in range(len(found[0]))]
        k = len(flat) // count
        return [flat[k * n : k * n + k] for n in range(count)]

    def entity(self, name, key):
        """The row of an entity array that belongs to what stands for an entity."""
        if self.by_entity:
            row = json.loads((self.folder / "qid2idx.json").read_text())[key]
            file = name if "attr" in name else f"{name}_all"
            return np.load(self.folder / f"{file}.npy")[row]
        return self.all(name)[[key for row in self.slots() for key in row].index(key)]

    def summary(self, features, scores):
        total = sum(float(s) for s in scores)
        return sum((s * unit(u) for s, u in zip(scores, features, strict=True)), np.zeros(V)) / (total or 1)


@pytest.fixture(params=["wikidiverse", "wikimel"])
def case(request, imported):
    return melcache.open(imported / "caches" / request.param), Oracle(imported / "arrays" / request.param)


def keys(reader, oracle):
    """What stands for each entity row, found through the lists: it must be one and the same wherever it is listed."""
    found = {}
    for row, slots in zip(reader.column("pair.candidates.candidates").tolist(), oracle.slots(), strict=True):
        for entity, slot in zip(row, slots, strict=False):
            if entity >= 0:
                assert found.setdefault(entity, slot) == slot
    assert len(set(found.values())) == len(found), "one entity has two rows"
    return found


def close(found, wanted, half=True):
    tolerance = {"rtol": 2e-3, "atol": 1e-3} if half else {"rtol": 2e-6, "atol": 1e-7}
    np.testing.assert_allclose(np.float64(found), np.float64(wanted), **tolerance)


def test_lists_are_the_first_slots_and_gold_is_where_the_answer_says(case):
    reader, oracle = case
    lists, gold = reader.column("pair.candidates.candidates"), reader.column("pair.candidates.gold")
    found, answers, slots = keys(reader, oracle), oracle.answers(), oracle.slots()
    last = len(slots[0]) - 1
    assert lists.shape == (19, last) and reader.manifest.candidates == last
    for n, (row, answer) in enumerate(zip(slots, answers, strict=True)):
        assert gold[n] == (answer if answer < last else -1)
        if gold[n] >= 0:
            assert found[lists[n, gold[n]]] == row[answer] and reader.column("mention.ids.gold")[n] == lists[n, gold[n]]
        else:
            known = reader.column("mention.ids.gold")[n]
            assert known >= 0 and known not in lists[n]
            assert found.get(known, row[last]) == row[last]
    assert 0 < (gold < 0).sum() < len(gold)


def test_an_entity_stands_once_in_a_list_at_golds_place_or_its_first(imported):
    reader = melcache.open(imported / "caches/wikidiverse")
    row, gold = reader.column("pair.candidates.candidates")[1], reader.column("pair.candidates.gold")[1]
    assert (row >= 0).tolist() == [True, False, False, True] and gold == 3
    assert reader.manifest.coverage["places of candidates that repeat another"] == 2
    repeated = numbering._without_repeats(np.array([[4, 7, 4, 4], [1, 1, 2, 2]]), np.array([2, -1]))
    assert repeated.tolist() == [[-1, 7, 4, -1], [1, -1, 2, -1]]


def test_wikidiverse_has_a_row_for_each_entity_that_is_listed_or_a_gold_not_retrieved(imported):
    reader, oracle = melcache.open(imported / "caches/wikidiverse"), Oracle(imported / "arrays/wikidiverse")
    used = set()
    for row, answer in zip(oracle.slots(), oracle.answers(), strict=True):
        used |= set(row[:-1]) | ({row[-1]} if answer == len(row) - 1 else set())
    ids = reader.strings("entity.ids.id")
    assert len(ids) == len(set(ids)) == len(used) <= ENTITIES


def test_wikimel_keeps_every_entity_under_its_qid(imported):
    reader = melcache.open(imported / "caches/wikimel")
    index = json.loads((imported / "arrays/wikimel/qid2idx.json").read_text())
    assert {qid: row for row, qid in enumerate(reader.strings("entity.ids.id"))} == index


def test_splits_and_ids_say_where_a_mention_came_from(case):
    reader, _ = case
    assert reader.manifest.splits == SPLITS
    assert reader.column("mention.ids.splits").tolist() == [1] * 12 + [2] * 4 + [4] * 3
    assert reader.strings("mention.ids.id") == [f"{split}-{n}" for split, count in SPLITS.items() for n in range(count)]


def test_mention_vectors_are_the_means_that_the_documents_say(case):
    reader, oracle = case
    tokens, mask = oracle.all("mention-text-feature"), oracle.all("mention-text-mask")
    starts, ends, pictures = oracle.all("start-pos"), oracle.all("end-pos"), oracle.all("mention-image-feature")
    for n in range(len(tokens)):
        count = int(mask[n].sum())
        under = [tokens[n, t].astype(np.float64) for t in range(starts[n] + 1, ends[n] + 1) if t < count]  # [CLS] is 0
        inner = [tokens[n, t].astype(np.float64) for t in range(1, count - 1)]
        assert reader.column("mention.text.found")[n] == bool(under)
        close(reader.column("mention.text.span")[n], sum(under or inner) / len(under or inner))
        close(reader.column("mention.text.sentence")[n], tokens[n, 0])
        close(reader.column("mention.image.vector")[n], sum(pictures[n].astype(np.float64)) / R)
        close(reader.column("mention.regions.vector")[n], pictures[n])
        there = bool((pictures[n] != 0).any())
        assert reader.column("mention.image.present")[n] == reader.column("mention.regions.present")[n] == there
    assert not reader.column("mention.text.found").all() and not reader.column("mention.image.present").all()


def test_tokens_are_those_of_each_mentions_sentence(case):
    reader, oracle = case
    tokens, mask = oracle.all("mention-text-feature"), oracle.all("mention-text-mask")
    starts, ends = oracle.all("start-pos"), oracle.all("end-pos")
    columns = {name: reader.column(f"mention.tokens.{name}") for name in ("first", "count", "start", "end")}
    vectors, following = reader.column("token.text.vector"), 0
    for n in range(len(tokens)):
        count = int(mask[n].sum())
        found = {name: int(values[n]) for name, values in columns.items()}
        assert (found["first"], found["count"]) == (following, count)
        close(vectors[following : following + count], tokens[n, :count])
        if reader.column("mention.text.found")[n]:
            assert (found["start"], found["end"]) == (starts[n] + 1, min(ends[n] + 1, count))
        else:
            assert (found["start"], found["end"]) == (-1, -1)
        following += count
    assert reader.manifest.tables["token"] == len(vectors) == following
    borders = [shard.start for shard in reader.manifest.shards if shard.part == "token.text"]
    assert len(borders) > 5 and set(borders) <= set(columns["first"].tolist())


def test_entity_vectors_are_those_of_the_entity_that_is_listed(case):
    reader, oracle = case
    for row, key in keys(reader, oracle).items():
        text, image = oracle.entity("entity-attr-feature", key), oracle.entity("entity-image-feature", key)[0]
        if oracle.by_entity:
            count = int(oracle.entity("entity-attr-mask", key).sum())
            close(reader.column("entity.text.sentence")[row], text[0])
            close(reader.column("entity.text.mean")[row], text[1 : count - 1].astype(np.float64).mean(0))
        else:
            close(reader.column("entity.text.pooler")[row], text)
        close(reader.column("entity.image.vector")[row], image)
        assert reader.column("entity.image.present")[row] == bool((image != 0).any())


def test_object_summaries_are_equation_11(case):
    reader, oracle = case
    features, scores = oracle.all("mention-object-feature"), oracle.all("mention-object-score")
    np.testing.assert_array_equal(reader.column("mention.objects.scores"), scores)
    for n in range(len(features)):
        close(reader.column("mention.objects.summary")[n], oracle.summary(features[n], scores[n]))
    for row, key in keys(reader, oracle).items():
        wanted = oracle.summary(oracle.entity("entity-object-feature", key), oracle.entity("entity-object-score", key))
        close(reader.column("entity.objects.summary")[row], wanted)


def test_the_four_edges_are_cosines_of_what_the_arrays_hold(case):
    reader, oracle = case
    lists, slots = reader.column("pair.candidates.candidates"), oracle.slots()
    edges = {name: reader.column(f"pair.alignment.{name}") for name in PARTS["pair.alignment"]}
    mention = "mention.text.sentence" if oracle.by_entity else "mention.text.span"
    miet, eimt = oracle.all("similarity-miet"), oracle.all("similarity-eimt")
    pictures, features = oracle.all("mention-image-feature"), oracle.all("mention-object-feature")
    scores = oracle.all("mention-object-score")
    for n, row in enumerate(slots):
        for c, key in enumerate(row[:-1]):
            if lists[n, c] < 0:
                assert all(values[n, c] == 0 for values in edges.values())
                continue
            text = oracle.entity("entity-attr-feature", key)
            text = text[0] if oracle.by_entity else text
            shown, there = pictures[n].any(), oracle.entity("entity-image-feature", key).any()
            close(edges["text_to_text"][n, c], unit(reader.column(mention)[n].astype(np.float64)) @ unit(text))
            close(edges["image_to_text"][n, c], miet[n, c] / 100 * shown, half=False)
            close(edges["text_to_image"][n, c], eimt[n, c] / 100 * there, half=False)
            theirs, weight = (oracle.entity(f"entity-object-{what}", key) for what in ("feature", "score"))
            total = sum(
                s * w * (unit(u) @ unit(v))
                for s, u in zip(scores[n], features[n], strict=True)
                for w, v in zip(weight, theirs, strict=True)
            ) / (sum(float(s) * float(w) for s in scores[n] for w in weight) or 1)
            close(edges["image_to_image"][n, c], total)


def test_what_the_arrays_cannot_give_is_absent_or_said(imported):
    diverse, mel = (melcache.open(imported / "caches" / name) for name in ("wikidiverse", "wikimel"))
    assert all("imported from DRIN's arrays" in warning for warning in diverse.manifest.warnings)
    assert any("no string scores" in warning for warning in mel.manifest.warnings)
    assert not mel.column("pair.candidates.lexical").any() and not mel.column("pair.candidates.lexical_gold").any()
    assert "entity.text.sentence" not in diverse.columns and "entity.text.mean" in mel.columns
    with pytest.raises(CacheError, match=r"lacks the columns entity\.text\.sentence, which drin reads"):
        diverse.require("drin")
    with pytest.raises(CacheError, match=r"lacks the parts entity\.joint, mention\.joint, which clip reads"):
        mel.require("clip")
    assert mel.require("drin") and mel.require("drin_authors", ("entity.text.mean", "entity.text.sentence"))


@pytest.mark.parametrize(
    ("name", "model", "head"),
    [
        ("wikimel", "drin", DrinConfig(width=8)),
        ("wikimel", "drin_authors", DrinAuthorsConfig(width=8)),
        ("wikidiverse", "drin_authors", DrinAuthorsConfig(width=8, entity_vector="pooler")),
        ("wikimel", "mel_hi", MelHiConfig(width=8)),
        ("wikimel", "ghmfc", GhmfcConfig(width=8, attention_heads=2)),
    ],
)
def test_heads_train_on_the_imported_cache(name, model, head, imported, tmp_path):
    given = {"dataset": name, "shards": imported / "caches", "run": tmp_path, "device": "cpu"}
    found = loop.fit(TrainConfig(model=model, epochs=1, seeds=(0,), **given), head)
    assert found["cache_id"] == melcache.open(imported / "caches" / name).id
    assert 0 <= found["mean"]["test"]["top1"] <= 1
    assert found["lexical"]["test"]["top1"] == pytest.approx(chance(melcache.open(imported / "caches" / name)))


def chance(reader):
    """Top-1 on test of who guesses: one in the candidates of each mention whose gold is among them."""
    there = (reader.column("pair.candidates.candidates") >= 0).sum(1)
    hit = np.where(reader.column("pair.candidates.gold") >= 0, 1 / there, 0)
    return hit[reader.column("mention.ids.splits") == 4].mean()


def test_the_command_imports_and_says_what_the_arrays_lack(imported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["import", "--from", "drin", str(imported / "arrays/wikimel"), "--name", "mel"])
    assert done.exit_code == 0, done.output
    assert "shards/mel: 19 mentions and 20 entities" in done.stdout and done.stdout.count("warning: imported") == 2
    assert melcache.open("mel").id in done.stdout


def test_the_recipe_names_the_arrays_by_their_sha256(imported):
    found = melcache.open(imported / "caches/wikimel").manifest.parts["mention.image"].recipe
    files = {f"mention-image-feature_{split}.npy" for split in SPLITS}
    assert found["origin"] == "DRIN's preprocessed arrays" and set(found["arrays"]) == files
    assert (
        found["arrays"]["mention-image-feature_test.npy"]
        == (
            subprocess.run(
                ["sha256sum", imported / "arrays/wikimel/mention-image-feature_test.npy"],
                capture_output=True,
                text=True,
            ).stdout.split()[0]
        )
    )


def test_a_second_import_keeps_every_shard_and_the_id_depends_on_the_arrays_alone(imported, tmp_path):
    ids = {convert.run(imported / "arrays/wikimel", tmp_path / place / "x").id for place in ("a", "b")}
    again = convert.run(imported / "arrays/wikimel", tmp_path / "a/x")
    assert ids == {again.id} and again.kept == again.shards > 0
    (one := tmp_path / "other").mkdir()
    for path in (imported / "arrays/wikimel").iterdir():
        os.link(path, one / path.name)
    scores = np.load(one / "mention-object-score_test.npy")
    (one / "mention-object-score_test.npy").unlink()
    scores[0, 0] += 0.125
    save(one, "mention-object-score_test", scores)
    changed = convert.run(one, tmp_path / "a/x")
    assert changed.id not in ids and 0 < changed.kept < changed.shards
    assert not [finding for finding in verify(tmp_path / "a/x") if finding.problem and finding.bytes]


def test_an_interrupted_import_leaves_no_cache_and_goes_on(imported, tmp_path, monkeypatch):
    wanted, calls, real = convert.run(imported / "arrays/wikidiverse", tmp_path / "one/x").id, [], store.publish

    def fails(*given, **named):
        calls.append(given)
        if len(calls) == 5:
            raise CacheError("the disk is full")
        return real(*given, **named)

    monkeypatch.setattr(store, "publish", fails)
    with pytest.raises(CacheError, match="disk is full"):
        convert.run(imported / "arrays/wikidiverse", tmp_path / "two/x")
    with pytest.raises(CacheError):
        manifests.load(tmp_path / "two/x")
    done = convert.run(imported / "arrays/wikidiverse", tmp_path / "two/x")
    assert done.id == wanted and done.kept == 4


def test_pooler_vectors_stand_for_cls_only_where_asked_for(imported, tmp_path):
    done = convert.run(imported / "arrays/wikidiverse", tmp_path / "x", pooler_as_text=True)
    reader = melcache.open(tmp_path / "x")
    np.testing.assert_array_equal(reader.column("entity.text.sentence"), reader.column("entity.text.pooler"))
    assert reader.require("drin") and any("not [CLS]" in warning for warning in done.warnings)
    with pytest.raises(ConfigError, match="WikiMEL's have \\[CLS\\] itself"):
        convert.run(imported / "arrays/wikimel", tmp_path / "y", pooler_as_text=True)


def test_another_cache_is_not_written_over(tmp_path, imported):
    synthetic_cache(tmp_path / "x")
    with pytest.raises(ConfigError, match="holds a cache that was not imported"):
        convert.run(imported / "arrays/wikimel", tmp_path / "x")


def shorter(values):
    return values[:-1]


def with_nan(values):
    values.reshape(len(values), -1)[1, 0] = np.nan
    return values


def with_huge(values):
    values.reshape(len(values), -1)[1, 0] = 1e6
    return values


DAMAGE = {
    "a file is missing": ("mention-object-score_valid", None, r"no mention-object-score_valid\.npy in"),
    "fewer rows": ("start-pos_train", shorter, r"start-pos_train\.npy: expected shape \(12\), found \(11,\)"),
    "fewer candidates": (
        "similarity-eimt_test", lambda x: x[:, 1:], r"eimt_test\.npy: expected shape \(3, 7\), found \(3, 6\)",
    ),
    "another width": (
        "mention-image-feature_valid", lambda x: x[..., 1:], r"expected shape \(4, 4, 5\), found \(4, 4, 4\)",
    ),
    "another number of axes": (
        "mention-text-feature_train", lambda x: x[..., 0], r"expected shape \(12, T, D\), found \(12, 9\)",
    ),
    "floats for integers": ("answer_test", np.float32, r"answer_test\.npy: expected integers .* found float32"),
    "strings for floats": ("similarity-miet_test", lambda x: x.astype(str), r"expected floats .* found <U"),
    "integers for strings": ("entity-name-raw_test", lambda x: np.arange(len(x)), r"expected strings .* found int64"),
    "pickled objects": (
        "mention-object-score_train", lambda x: x.astype(object), r"found pickled objects, which melcache never loads",
    ),
    "Fortran order": ("mention-text-feature_test", np.asfortranarray, r"in C order, found float32 in Fortran order"),
    "NaN": ("mention-image-feature_test", with_nan, r"mention-image-feature_test\.npy: row 1: .* found nan"),
    "too large": ("entity-attr-feature", with_huge, r"entity-attr-feature\.npy: row 1: .* found 1e\+06"),
    "NaN scores": ("mention-object-score_valid", with_nan, r"mention-object-score_valid\.npy: row 1: .* found nan"),
    "negative scores": ("mention-object-score_valid", np.negative, r"expected scores of 0 or more"),
    "NaN logits": ("similarity-miet_train", with_nan, r"similarity-miet_train\.npy: row 1: .* found nan"),
    "no logits": ("similarity-miet_train", lambda x: x * 100, r"expected CLIP's logits, cosines x 100; found"),
    "an answer out of range": ("answer_valid", lambda x: x + 7, r"answer_valid\.npy: row 0 holds .*, expected 0 to 6"),
    "an answer that gold is not": (
        "answer_valid", lambda x: (x + 1) % 6, r"answer_valid\.npy: row 0 holds 1, candidate Q\d+, but gold .* is Q\d+",
    ),
    "an unknown qid": (
        "entity-name-raw_valid", lambda x: np.char.replace(x, "Q1", "X"), r"row \d+ holds 'X\d+', which is not in qid",
    ),
}  # fmt: skip


def copy(source, target):
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_arrays_are_refused_in_one_line_that_names_the_file(name, imported, tmp_path):
    folder = copy(imported / "arrays/wikimel", tmp_path / "arrays")
    file, damage, told = DAMAGE[name]
    values = np.load(folder / f"{file}.npy")
    (folder / f"{file}.npy").unlink()
    if damage is not None:
        np.save(folder / f"{file}.npy", damage(values), allow_pickle=True)
    with pytest.raises(MelcacheError, match=told) as caught:
        convert.run(folder, tmp_path / "x")
    assert "\n" not in str(caught.value) and not (tmp_path / "x/manifest.json").exists()


class Bomb:
    """What runs code when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize(
    "file", ["mention-object-score_train", "entity-name-raw_test", "answer_valid", "entity-attr-feature"]
)
def test_no_array_runs_code(file, imported, tmp_path):
    folder, bomb = copy(imported / "arrays/wikimel", tmp_path / "arrays"), Bomb(tmp_path / "ran")
    np.save(folder / f"{file}.npy", np.array([bomb], object), allow_pickle=True)
    np.load(folder / f"{file}.npy", allow_pickle=True)
    bomb.marker.rmdir()  # it would
    with pytest.raises(CacheError, match=f"{file}.npy"):
        convert.run(folder, tmp_path / "x")
    assert not bomb.marker.exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "expected a .npy file of version 1 or 2, found none"),
        (b"PK\x03\x04" + bytes(100), "expected a .npy file of version 1 or 2, found none"),
        (b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 7)", "found none"),
        (b"\x93NUMPY\x03\x00" + bytes(200), "found none: version"),
    ],
)
def test_what_is_no_array_is_refused(content, told, imported, tmp_path):
    folder = copy(imported / "arrays/wikimel", tmp_path / "arrays")
    (folder / "similarity-miet_test.npy").write_bytes(content)
    with pytest.raises(CacheError, match=told):
        convert.run(folder, tmp_path / "x")


def test_an_array_copied_only_in_part_is_refused(imported, tmp_path):
    folder = copy(imported / "arrays/wikimel", tmp_path / "arrays")
    path = folder / "mention-text-feature_train.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CacheError, match=r"expected 2,720 bytes .* found 2,719: copied only in part\?"):
        convert.run(folder, tmp_path / "x")


@pytest.mark.parametrize("text", ["", "[1]", '{"Q1": 0}', '{"Q1": "a"}', '{"Q1": 0, "Q2": 0}', "[" * 100_000])
def test_a_damaged_index_of_entities_is_refused(text, imported, tmp_path):
    folder = copy(imported / "arrays/wikimel", tmp_path / "arrays")
    (folder / "qid2idx.json").write_text(text)
    with pytest.raises(CacheError, match=r"qid2idx\.json(:| is not JSON)"):
        convert.run(folder, tmp_path / "x")


def test_what_says_whose_the_rows_are_is_missed(imported, tmp_path):
    folder = copy(imported / "arrays/wikimel", tmp_path / "arrays")
    (folder / "qid2idx.json").unlink()
    with pytest.raises(CacheError, match=r"there is no qid2idx\.json in .*whose the rows"):
        convert.run(folder, tmp_path / "x")
    with pytest.raises(ConfigError, match="there is no directory"):
        convert.run(tmp_path / "nowhere", tmp_path / "x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CacheError, match=r"there is no answer_train\.npy in"):
        convert.run(tmp_path / "empty", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_fifo_does_not_block_the_import(imported, tmp_path):
    folder = copy(imported / "arrays/wikimel", tmp_path / "arrays")
    (folder / "answer_train.npy").unlink()
    os.mkfifo(folder / "answer_train.npy")
    with pytest.raises(CacheError, match="is not a regular file"):
        convert.run(folder, tmp_path / "x")


def test_memory_stays_bounded_whatever_the_arrays_hold(tmp_path):
    """A child imports 0.9 GB of arrays, holes mostly: none of them may stay in memory."""
    folder = tmp_path / "arrays"
    folder.mkdir()
    n, k = {"train": 900, "valid": 2, "test": 2}, 11

    def hole(name, *shape):
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", "<f4", shape).flush()

    for split, count in n.items():
        for name, shape in {"mention-text-feature": (128, 768), "mention-image-feature": (49, 2048)}.items():
            hole(f"{name}_{split}", count, *shape)
        hole(f"mention-object-feature_{split}", count, 3, 2048)
        hole(f"mention-object-score_{split}", count, 3)
        for name in ("similarity-miet", "similarity-eimt"):
            hole(f"{name}_{split}", count, k)
        for name, shape in {"attr": (768,), "image": (1, 2048), "object": (1, 2048)}.items():
            hole(f"entity-{name}-feature_{split}", count * k, *shape)
        hole(f"entity-object-score_{split}", count * k, 1)
        for name in ("answer", "start-pos", "end-pos"):
            save(folder, f"{name}_{split}", np.zeros(count, np.int64))
        save(folder, f"mention-text-mask_{split}", np.ones((count, 128), np.int64))
    code = (
        "import sys\nfrom pathlib import Path\nfrom cache.drin import convert\n"
        "print(convert.run(Path(sys.argv[1]), Path(sys.argv[2])).bytes)\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])\n"
    )
    command = [sys.executable, "-c", code, str(folder), str(tmp_path / "x")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    read, peak = map(int, done.stdout.split())
    assert read > 0.9e9 and peak * 1024 < 500e6
