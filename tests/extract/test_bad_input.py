"""Bad input never stops an extraction and never hides: pictures have their verdicts in the cache, texts their marks."""

import numpy as np
import pytest

import melcache
from cache.kinds import IMAGE_STATUS
from common.errors import DatasetError
from common.records import Dataset, Entity, Mention
from extract import datasets, pipeline
from tests.worlds import entity_record, extract_config, mention_record, write_release
from torture.strangers import bad_pictures

pytestmark = pytest.mark.usefixtures("toys_built_once")
LIMIT = 64  # BERT tokens kept of a sentence here
MEGABYTE = "harbor " * 150_000
# surface, sentence, where the surface begins (-1: not there); whether BERT must find it, and whether it is cut
TEXTS = {
    "plain": ("harbor", "the harbor at night", 4, True, False),
    "empty mention": ("", "the harbor at night", -1, False, False),
    "empty sentence": ("harbor", "", -1, False, False),
    "nothing at all": ("", "", -1, False, False),
    "blanks": ("   ", "   \t\n ", 0, False, False),
    "NUL": ("har\0bor", "the har\0bor\0", 4, True, False),
    "control characters": ("harbor", "\x01\x02\x1b[31m harbor\x7f", 9, True, False),
    "bidirectional controls": ("\u202eharbor", "the \u202eharbor\u2066 at \u200fnight", 4, True, False),
    "zero width": ("\u200b\ufeff", "the \u200b\ufeff", 4, False, False),
    "private use and unassigned": ("\ue000\U000e0001", "\ue000\U000e0001 harbor", 0, False, False),
    "emoji of many characters": ("👨‍👩‍👧‍👦", "the 👨‍👩‍👧‍👦 family", 4, True, False),
    "a thousand accents": ("a" + "\u0301" * 1000, "a" + "\u0301" * 1000 + " harbor", 0, True, False),
    "BERT's own tokens": ("[SEP]", "[CLS] the [SEP] [MASK] [PAD] [UNK]", 10, True, False),
    "CLIP's own tokens": ("harbor", "<end_of_text> the harbor", 18, True, False),
    "one word without end": ("x" * 5000, "x" * 5000, 0, True, False),
    "punctuation": ("!?", "!?..." * 5, 0, True, False),
    "many scripts": ("東京", "東京 هاربور λιμάνι 항구", 0, True, False),
    "a megabyte, mention first": ("harbor", MEGABYTE, 0, True, True),
    "a megabyte, mention last": ("castle", MEGABYTE + "castle", len(MEGABYTE), False, True),
    "span past the limit": ("castle", "harbor " * 100 + "castle", 700, False, True),
    "span across the limit": ("harbor " * 99, "harbor " * 100, 0, True, True),
}


def config(folder, **changes):
    return extract_config(folder, folder, sentence_tokens=LIMIT, **changes)


def finite(reader):
    """Whether every number of a cache is finite."""
    return all(np.isfinite(reader.column(name)).all() for name in reader.columns if reader.dtype(name).kind == "f")


# --- pictures


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """A cache of a world in which each entity, and each second one's mention, has one of the bad pictures."""
    folder = tmp_path_factory.mktemp("gallery")
    verdicts = bad_pictures.lay(folder / "images")
    names = list(verdicts)
    entities = [entity_record(i, f"name {i}", "", name) for i, name in enumerate(names)]
    mentions = [
        mention_record(i, f"name {i} again", f"name {i}", name, gold=f"e{i}") for i, name in enumerate(names) if i % 2
    ]
    write_release(folder, mentions, entities)
    return melcache.open(pipeline.run(config(folder, heads=("ghmfc", "dwe")))), names, verdicts


def test_each_bad_picture_has_its_verdict_in_the_cache(gallery):
    reader, names, verdicts = gallery
    assert len(verdicts) >= 60
    assert set(verdicts.values()) == set(IMAGE_STATUS) - {"none", "unreadable"}  # root may read everything
    for table in ("entity", "mention"):
        status = [IMAGE_STATUS[code] for code in reader.column(f"{table}.ids.image_status")]
        rows = [int(name[1:]) for name in reader.strings(f"{table}.ids.id")]
        assert {names[i]: verdict for i, verdict in zip(rows, status, strict=True)} == {
            names[i]: verdicts[names[i]] for i in rows
        }
        there = np.array([verdict == "ok" for verdict in status])
        for part in ("image", "joint", *(["regions"] if table == "mention" else [])):
            assert (reader.column(f"{table}.{part}.present") == there).all()


def test_each_verdict_is_counted_and_nothing_else_is(gallery):
    reader, names, verdicts = gallery
    for table, rows in (("entity", names), ("mention", names[1::2])):
        counted = {
            name.removeprefix(f"{table} images: "): count
            for name, count in reader.manifest.coverage.items()
            if name.startswith(f"{table} images: ")
        }
        found = [verdicts[name] for name in rows]
        assert counted == {verdict: found.count(verdict) for verdict in set(found)}
        assert sum(counted.values()) == reader.manifest.tables[table]
    assert finite(reader)


# --- texts


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A cache of the texts, as records: not every release could carry them."""
    folder = tmp_path_factory.mktemp("texts")
    mentions = [
        Mention(f"m{i}", f"c{i}", sentence, surface, start, -1 if start < 0 else start + len(surface), f"e{i}", 1)
        for i, (surface, sentence, start, *_) in enumerate(TEXTS.values())
    ]
    entities = [Entity(f"e{i}", surface, sentence) for i, (surface, sentence, *_) in enumerate(TEXTS.values())]
    release = Dataset("texts", mentions, entities)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", lambda name, source: release)
        return melcache.open(pipeline.run(config(folder, heads=("ghmfc", "dwe", "mel_hi"))))


def by_id(reader, table, column):
    names = list(TEXTS)
    values = reader.column(f"{table}.{column}").tolist()
    return {names[int(i[1:])]: value for i, value in zip(reader.strings(f"{table}.ids.id"), values, strict=True)}


def test_each_text_is_in_the_cache_with_its_marks(texts):
    assert texts.manifest.tables["mention"] == texts.manifest.tables["entity"] == len(TEXTS)
    assert by_id(texts, "mention", "text.found") == {name: found for name, (*_, found, _) in TEXTS.items()}
    assert by_id(texts, "mention", "text.truncated") == {name: cut for name, (*_, cut) in TEXTS.items()}
    long = {name for name, (_, sentence, *_) in TEXTS.items() if len(sentence) > 400}
    assert {name for name, cut in by_id(texts, "mention", "joint.truncated").items() if cut} >= long
    assert finite(texts)


def test_each_text_that_is_cut_or_not_found_is_counted(texts):
    counts = texts.manifest.coverage
    given = [start >= 0 for *_, start, _, _ in TEXTS.values()]
    found = [found for *_, found, _ in TEXTS.values()]
    assert counts["spans not found"] == given.count(False)
    assert counts["spans beyond the token limit"] == sum(g and not f for g, f in zip(given, found, strict=True))
    assert counts["mention texts cut by text"] == sum(cut for *_, cut in TEXTS.values())


def test_half_a_surrogate_pair_does_not_stop_an_extraction(tmp_path):
    mentions = [{"id": "m\ud800", "text": "the \udfff harbor", "mention": "harbor", "gold": "e"}]
    write_release(tmp_path, mentions, [{"id": "e", "name": "har\ud83dbor"}])
    reader = melcache.open(pipeline.run(config(tmp_path)))
    assert reader.strings("mention.ids.id") == ["m\ufffd"]
    assert reader.strings("entity.ids.name") == ["har\ufffdbor"]
    assert reader.column("mention.text.found").all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"start": 4, "end": 4}, "start 4, end 4 are not within a text of 10 characters"),
        ({"start": 4, "end": 99}, "start 4, end 99 are not within a text"),
        ({"start": -1, "end": 3}, "start -1, end 3 are not within a text"),
        ({"mention": ""}, "expected start and end, or mention"),
        ({"mention": "x", "image": "../secret.png"}, "image must be a path relative to"),
        ({"mention": "x", "image": "a\0.png"}, "image must be a path relative to"),
        ({"mention": "x", "image": "/etc/passwd"}, "image must be a path relative to"),
    ],
)
def test_a_record_that_makes_no_sense_is_refused_with_its_line(tmp_path, line, message):
    good = {"id": "m0", "text": "the harbor", "mention": "harbor"}
    write_release(tmp_path, [good, {"id": "m1", "text": "the harbor"} | line], [{"id": "e"}])
    with pytest.raises(DatasetError, match=rf"mentions\.jsonl line 2: {message}"):
        pipeline.run(config(tmp_path))
