"""Every layout of every dataset adapter on releases of a few records, and every trap that the real ones hold."""

import gzip
import hashlib
import json
import subprocess
import sys
import zipfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from common.errors import DatasetError
from common.records import Entity, Image, Mention, split_mask
from extract.datasets import ADAPTERS, jsonl, load
from extract.reading import picture_folders, readers
from tests.worlds import write_files

ROOT = Path(__file__).parents[2]
TRAIN, VALID, TEST = (split_mask(name) for name in ("train", "valid", "test"))
OURS = ("jsonl", "mimic", "richpedia", "wikidiverse", "wikimel")


def by_id(records):
    return {record.id: record for record in records}


# --- choosing an adapter


def test_unknown_dataset_names_the_known_ones(tmp_path):
    with pytest.raises(DatasetError, match=r"unknown dataset 'wikimal', expected one of: demo, jsonl, .*wikimel"):
        load("wikimal", tmp_path)


@pytest.mark.parametrize("name", OURS)
def test_every_adapter_is_a_module(name):
    assert find_spec(ADAPTERS[name])


def test_only_the_asked_adapter_is_imported(tmp_path):
    code = (
        "import sys; from pathlib import Path; from extract.datasets import load\n"
        "try: load('mimic', Path('.'))\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print(sorted(name for name in sys.modules if name.startswith('extract.datasets.')), 'torch' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert result.stdout == "DatasetError\n['extract.datasets.mimic'] False\n", result.stderr


@pytest.mark.parametrize("name", OURS)
def test_missing_release_prints_where_to_get_it_and_the_tree(name, tmp_path):
    with pytest.raises(DatasetError) as caught:
        load(name, tmp_path)
    first, *tree = str(caught.value).splitlines()
    assert first.startswith(f"No {name} release in {tmp_path}: looked for ")
    assert name == "jsonl" or "https://github.com/" in first
    assert any(f"data/{name}/" in line for line in tree)


def test_the_tree_is_printed_as_lines(tmp_path, capsys):
    from extract.cli import app

    run = CliRunner().invoke(app, ["--dataset", "jsonl", "--data", str(tmp_path), "--weights", "random-tiny"])
    assert run.exit_code == 2
    assert "\n    data/jsonl/\n" in run.stderr and "\ufffd" not in run.stderr


def test_a_folder_that_does_not_exist_is_said_to_be_none(tmp_path):
    with pytest.raises(DatasetError, match="gone, where there is no folder"):
        load("wikimel", tmp_path / "gone")


def test_the_release_of_another_dataset_is_recognized(tmp_path):
    with pytest.raises(DatasetError, match=r"looks like --dataset mimic"):
        load("wikidiverse", write_files(tmp_path, {"kb_entity.json": []}))


def test_no_folder_means_the_one_under_data(tmp_path, monkeypatch):
    write_files(tmp_path / "data" / "jsonl", {"mentions.jsonl": "", "entities.jsonl": '{"id": "E"}\n'})
    monkeypatch.chdir(tmp_path)
    dataset = load("jsonl", None)
    assert (dataset.name, [entity.id for entity in dataset.entities]) == ("jsonl", ["E"])


# --- reading files


@pytest.mark.parametrize("packed", ["plain", "gz", "zip"])
def test_json_reads_the_same_packed_or_not(tmp_path, packed):
    raw = b'{"a": [1, "\xc3\xa9"]}'
    if packed == "zip":
        with zipfile.ZipFile(tmp_path / "file.zip", "w") as archive:
            archive.writestr("__MACOSX/._file.json", "junk")
            archive.writestr("folder/file.json", raw)
    else:
        name, content = ("file.json.gz", gzip.compress(raw)) if packed == "gz" else ("file.json", raw)
        write_files(tmp_path, {name: content})
    assert readers.read_json(readers.find(tmp_path, "file.json"), dict) == {"a": [1, "é"]}


def test_zip_with_two_json_files_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "file.zip", "w") as archive:
        archive.writestr("a.json", "{}")
        archive.writestr("b.json", "{}")
    with pytest.raises(DatasetError, match=r"file\.zip must hold one \.json file, found 2"):
        readers.read_json(tmp_path / "file.zip", dict)


@pytest.mark.parametrize(
    "name, content",
    [("a.json.gz", gzip.compress(b"{}" * 99, mtime=0)[:-12]), ("a.json.gz", b"no gz"), ("a.zip", b"PK\3\4 cut")],
)
def test_file_copied_in_part_is_an_error_that_names_it(tmp_path, name, content):
    with pytest.raises(DatasetError, match=f"{name} cannot be read: .*Copied only in part"):
        readers.read_json(write_files(tmp_path, {name: content}) / name, dict)


@pytest.mark.parametrize(
    "content, message",
    [
        (b'{"a":\n 1, ', r"is not JSON: .* at line 2 column \d+"),
        (b'{"a": "\xe9"}', r"is not UTF-8: byte 0xe9 at position 7"),
        (b'{"a": {"b": 1, "b": 2}}', r"key 'b' appears twice"),
        (b"[" * 200_000, r"is not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", r"is not JSON that can be read"),
        (b"[]", r"the whole file must be a mapping, found \[\]"),
    ],
)
def test_bad_json_is_an_error_that_names_file_and_place(tmp_path, content, message):
    with pytest.raises(DatasetError, match=r"bad\.json.*" + message):
        readers.read_json(write_files(tmp_path, {"bad.json": content}) / "bad.json", dict)


@pytest.mark.parametrize(
    "raw, text",
    [
        (b'"\\ud83d!"', "\ufffd!"),
        (b'"!\\uDE00"', "!\ufffd"),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\xed\xa0\xbd!"', "\ufffd!"),
        (b'"\xed\xa0\xbd\xed\xb8\x80"', "\U0001f600"),
        (b'"a\x00b\x07\tc\n"', "a\0b\a\tc\n"),
        (b'"a\\u0000b"', "a\0b"),
    ],
)
def test_half_surrogates_are_replaced_and_control_characters_kept(tmp_path, raw, text):
    write_files(tmp_path, {"file.json": b'\xef\xbb\xbf{"key": [' + raw + b"]}"})
    found = readers.read_json(tmp_path / "file.json", dict)["key"][0]
    assert found == text
    assert found.encode()


def test_jsonl_lines_end_at_newlines_only(tmp_path):
    write_files(tmp_path, {"a.jsonl": '{"t": "x\u2028y"}\r\n\n{"t": "z"}'})
    records = list(readers.read_jsonl(tmp_path / "a.jsonl"))
    assert [record["t"] for _, record in records] == ["x\u2028y", "z"]
    assert [where.rsplit(" ", 1)[-1] for where, _ in records] == ["1", "3"]


def test_splits_go_by_any_of_their_names_and_an_id_may_stand_in_two(tmp_path):
    lists = {"train": [1, "2"], "val": [3], "dev": [4], "validation": [5], "valid": [6], "test": [1]}
    found = readers.read_split_ids(write_files(tmp_path, {"s.json": lists}) / "s.json")
    assert found == {"1": TRAIN | TEST, "2": TRAIN, **dict.fromkeys("3456", VALID)}


def test_unknown_split_name_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match=r"s\.json: unknown split 'extra', expected one of: train"):
        readers.read_split_ids(write_files(tmp_path, {"s.json": {"extra": []}}) / "s.json")


@pytest.mark.parametrize("word", ["valid", "val", "dev", "validation"])
def test_split_files_go_by_any_name_of_valid_but_by_one_only(tmp_path, word):
    write_files(tmp_path, {"a_train.json": "", f"a_{word}.json": "", "a_test.json.gz": b""})
    assert [path.name for path in readers.find_splits(tmp_path, ["b_{}.json", "a_{}.json"]).values()] == [
        "a_train.json",
        f"a_{word}.json",
        "a_test.json.gz",
    ]
    write_files(tmp_path, {"a_dev.json": "", "a_val.json": ""})
    with pytest.raises(DatasetError, match=r"a_\w+\.json and a_\w+\.json both hold the valid split, expected one"):
        readers.find_splits(tmp_path, ["a_{}.json"])


def test_a_byte_order_mark_alone_is_an_empty_line(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf\r\n\xef\xbb\xbf{"t": 1}\r\n')
    assert [record for _, record in readers.read_jsonl(tmp_path / "a.jsonl")] == [{"t": 1}]


# --- pictures


def test_picture_is_found_under_another_suffix_and_else_expected_under_its_own(tmp_path):
    write_files(tmp_path, dict.fromkeys(("a.png", "b.jpg", "b.png", "c.part", "d.JPEG"), b""))
    pictures = picture_folders.Pictures(tmp_path)
    found = {name: pictures.find(name).path.name for name in ("a.jpg", "b.png", "b.gif", "c.jpg", "d.jpg", "e.jpg")}
    assert found == {
        "a.jpg": "a.png",
        "b.png": "b.png",  # as named, though a .jpg is there too
        "b.gif": "b.jpg",
        "c.jpg": "c.jpg",  # a download that did not finish is no picture
        "d.jpg": "d.JPEG",
        "e.jpg": "e.jpg",
    }
    assert not pictures.find("e.jpg").path.exists()


@pytest.mark.parametrize("name", ["", "..", "a\0b.jpg", "é" * 130 + ".jpg"])
def test_name_that_no_file_can_have_gives_no_path(tmp_path, name):
    assert picture_folders.Pictures(tmp_path).find(name) == Image(None, "name")


CAFE, DECOMPOSED = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize("asked", [CAFE, DECOMPOSED])
@pytest.mark.parametrize("there", [CAFE, DECOMPOSED])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_picture_is_found_however_a_mac_wrote_its_accents(tmp_path, asked, there, suffix):
    write_files(tmp_path, {f"{there}{suffix}": b"", f"{there}.gif": b"", "cafe.jpg": b""})
    pictures = picture_folders.Pictures(tmp_path)
    assert pictures.find(f"{asked}.jpg") == Image(tmp_path / f"{there}{suffix}")
    assert pictures.find(f"{asked}.gif") == Image(tmp_path / f"{there}.gif")  # as named, though the other comes first


def test_of_two_pictures_whose_names_differ_in_that_alone_each_is_found(tmp_path):
    write_files(tmp_path, dict.fromkeys((f"{CAFE}.jpg", f"{DECOMPOSED}.jpg"), b""))
    pictures = picture_folders.Pictures(tmp_path)
    assert [pictures.find(f"{name}.jpg").path.name for name in (CAFE, DECOMPOSED)] == [
        f"{CAFE}.jpg",
        f"{DECOMPOSED}.jpg",
    ]


@pytest.mark.parametrize("asked", [CAFE, DECOMPOSED])
@pytest.mark.parametrize("there", [CAFE, DECOMPOSED])
def test_own_picture_is_found_in_a_folder_however_a_mac_wrote_its_accents(tmp_path, asked, there):
    folder = own(tmp_path, {"id": "a", "text": "Ann", "mention": "Ann", "image": f"{asked}/{asked}.jpg"})
    assert load("jsonl", folder).mentions[0].image.path == tmp_path / asked / f"{asked}.jpg"  # where it should be
    write_files(folder, {f"{there}/{there}.jpg": b""})
    assert load("jsonl", folder).mentions[0].image.path == tmp_path / there / f"{there}.jpg"


# --- spans


@pytest.mark.parametrize(
    "sentence, surface, given, left, start, finding",
    [
        ("Ann met Ann", "Ann", (8, 11), None, 8, None),
        ("Ann met Ann", "Ann", (7, 10), None, 8, "spans moved to where the mention stands"),
        ("Ann met Ann", "Ann", (None, None), ["Ann", " ", "meet"], 8, None),
        ("Ann met Ann", "Ann", (90, 93), [], 0, None),
        ("Ann met Ann", "Ann", (None, None), None, 0, "spans found more than once"),
        ("Annie met Ann", "Ann", (None, None), None, 10, "spans found more than once"),
        ("Annie met Anna", "Ann", (None, None), None, 0, "spans found more than once"),
        ("Ann met Bob", "Bob", (True, 3), None, 8, None),
        ("Hermann von Beckerath", "Hermann Beckerath", (None, None), None, -1, "spans not found"),
        ("Ann", "", (None, None), None, -1, "spans not found"),
    ],
)
def test_mention_is_located_by_its_span_then_its_context_then_as_a_whole_word(
    sentence, surface, given, left, start, finding
):
    counts = Counter()
    span = readers.locate(sentence, surface, counts, given, left)
    assert span == ((start, start + len(surface)) if start >= 0 else (-1, -1))
    assert +counts == ({finding: 1} if finding else {})


# --- WikiMEL


def caption(sentence, mentions, entities, answer):
    return {"id": "0", "sentence": sentence, "mentions": mentions, "entities": entities, "answer": answer}


BOBS = {
    "1": caption("Bob met Ann.", ["Bob", "Ann"], ["Bob B", "Ann A"], ["Q1", "Q2"]),
    "2": caption("Ann sang.", ["Ann"], ["Ann C"], ["Q3"]),
    "3": caption("Carl of Kent", ["Carl Kent"], ["Carl"], ["Q4"]),
    "4": caption("Bobs and Bob", ["Bob", "Bob"], ["Bob B", "Bob D"], ["Q1", "nil"]),
}
MELBENCH = {
    "Wikidata-MEL.json": BOBS,
    "splits.json": {"train": ["1", "8", "9"], "dev": ["2"], "test": ["3", "1"]},
    "qid2ne.json": {"Q1": "Bob B", "Q2": "Ann A", "Q3": "Ann C"},
    "qid2abs.json": {"Q1": "Sex: male.", "Q2": "Sex: female.", "Q3": None},
}


def test_melbench_gives_each_mention_of_a_caption_its_own_id_and_every_finding_is_counted(tmp_path):
    dataset = load("wikimel", write_files(tmp_path, MELBENCH))
    mentions = by_id(dataset.mentions)
    assert list(mentions) == ["1-0", "1-1", "2", "3", "4-0", "4-1"]
    assert mentions["1-1"] == Mention(
        "1-1", "1", "Bob met Ann.", "Ann", 8, 11, "Q2", TRAIN | TEST, Image(tmp_path / "images" / "1.jpg")
    )
    assert (mentions["3"].start, mentions["3"].end, mentions["3"].splits) == (-1, -1, TEST)
    assert (mentions["4-0"].start, mentions["4-0"].splits, mentions["4-1"].gold) == (9, 0, None)
    assert dataset.entities[2:] == [Entity("Q3", "Ann C"), Entity("Q4", "Carl")]
    assert dataset.counts == {
        "captions": 4,
        "captions in more than one split": 1,
        "mentions in more than one split": 2,
        "mentions in no split": 2,
        "gold is nil": 1,
        "ids without text": 2,
        "spans not found": 1,
        "spans found more than once": 2,
        "entities added from gold or candidates": 1,
        "entities without text": 2,
        "entities that name no picture": 4,
    }


def test_pictures_of_captions_may_have_any_suffix(tmp_path):
    dataset = load("wikimel", write_files(tmp_path, MELBENCH | {"images/1.PNG": b""}))
    assert {mention.image.path.name for mention in dataset.mentions} == {"1.PNG", "2.jpg", "3.jpg", "4.jpg"}


def test_melbench_without_its_captions_says_so(tmp_path):
    files = {name: content for name, content in MELBENCH.items() if name != "Wikidata-MEL.json"}
    with pytest.raises(DatasetError, match=r"looked for .*Wikidata-MEL\.json"):
        load("wikimel", write_files(tmp_path, files))


def test_ghmfc_file_without_lists_or_entities_says_which(tmp_path):
    write_files(tmp_path, {"nel_121.json": PAIR, "qid2ne.json": {}})
    with pytest.raises(DatasetError, match=r"looked for splits\.json, to split nel_121\.json"):
        load("wikimel", tmp_path)
    (tmp_path / "qid2ne.json").unlink()
    with pytest.raises(DatasetError, match=r"looked for qid2ne\.json, qid2abs\.json"):
        load("wikimel", write_files(tmp_path, {"splits.json": {}}))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"sentence": 7}, r"Wikidata-MEL.json record '2': sentence must be a string, found 7"),
        ({"mentions": ["Ann", "x"]}, r"record '2': 2 mentions, 1 answer, 1 entities, expected as many of each"),
        ({"mentions": [None]}, r"record '2': mentions must be a string, found None"),
        ({"answer": [["Q3"]]}, r"record '2': answer must be a string"),
    ],
)
def test_melbench_record_of_a_wrong_type_is_named(tmp_path, change, message):
    changed = {"Wikidata-MEL.json": BOBS | {"2": BOBS["2"] | change}}
    with pytest.raises(DatasetError, match=message):
        load("wikimel", write_files(tmp_path, MELBENCH | changed))


def row(sentence, surface, name, gold):
    return {"sentence": sentence, "mentions": surface, "entities": name, "answer": gold, "imgPath": "KVQAimgs/x.jpg"}


PAIR = {"7-0": row("Bob, Ann", "Bob", "Bob B", "Q1"), "7-1": row("Bob, Ann", "Ann", "Ann A", "Q2")}
GHMFC = {
    "mentions/WIKIMEL_train.json": PAIR,
    "mentions/WIKIMEL_valid.json": {"8": row("Ann", "Ann", "Ann A", "Q2")},
    "mentions/WIKIMEL_test.json": {"8": row("Ann", "Ann", "Ann A", "Q2"), "9": row("Eve", "Eve", "Eve", "nil")},
    "mentions/KVQAimgs/7.jpeg": b"",
    "candidates/qid2ne.json": {"Q1": "Bob B", "Q2": "Ann A"},
    "entities/qid2abs.json": {"Q1": "Sex: male.", "Q2": "Sex: female."},
    "entities/qid2brief.json": {"Q2": "Ann is a singer."},
    "entities/cleaned-images/Q1.png": b"",
    "candidates/top100/candidates-answer.tsv": "7-0\tQ1\tQ2\tQ1\n7-1\tQ9\tQ2\n8\tQ2\n",
}


def test_ghmfc_layout_finds_pictures_by_caption_candidates_by_mention_and_longer_texts(tmp_path):
    dataset = load("wikimel", write_files(tmp_path, GHMFC))
    mentions = by_id(dataset.mentions)
    assert {id: (mention.caption, mention.image.path.name) for id, mention in mentions.items()} == {
        "7-0": ("7", "7.jpeg"),
        "7-1": ("7", "7.jpeg"),
        "8": ("8", "8.jpg"),
        "9": ("9", "9.jpg"),
    }
    assert mentions["7-0"].image.path.parent == tmp_path / "mentions" / "KVQAimgs"
    assert [mention.candidates for mention in dataset.mentions] == [("Q1", "Q2"), ("Q9", "Q2"), ("Q2",), ()]
    assert [mention.splits for mention in dataset.mentions] == [TRAIN, TRAIN, VALID | TEST, TEST]
    pictures = tmp_path / "entities" / "cleaned-images"
    assert dataset.entities == [
        Entity("Q1", "Bob B", "Sex: male.", Image(pictures / "Q1.png")),
        Entity("Q2", "Ann A", "Sex: female.", Image(pictures / "Q2.jpg"), "Ann is a singer."),
        Entity("Q9", "Q9"),
    ]
    assert dataset.counts["mentions without candidates"] == 1


def test_entity_pictures_count_as_missing_where_the_layout_has_them(tmp_path):
    files = {name: content for name, content in GHMFC.items() if "cleaned-images" not in name}
    dataset = load("wikimel", write_files(tmp_path, files))
    assert dataset.entities[0].image == Image(tmp_path / "entities" / "cleaned-images" / "Q1.jpg")


def test_search_results_are_keyed_by_the_mention_string(tmp_path):
    files = MELBENCH | {"search_top100.json": {"Ann": ["Q2", "Q3"], "Bob": ["Q1"]}}
    mentions = by_id(load("wikimel", write_files(tmp_path, files)).mentions)
    assert {id: mention.candidates for id, mention in mentions.items()} == {
        "1-0": ("Q1",),
        "1-1": ("Q2", "Q3"),
        "2": ("Q2", "Q3"),
        "3": (),
        "4-0": ("Q1",),
        "4-1": ("Q1",),
    }


@pytest.mark.parametrize(
    "lists",
    [
        {"search_top100.json": {"Ann": ["NIL", "Q2", " ", "Q2"], "Bob": ["nil"]}},
        {"candidates-answer.tsv": "1-1\tNIL\tQ2\t \tQ2\n1-0\tnil\n"},
    ],
)
def test_candidates_and_names_that_mean_nil_are_no_entities(tmp_path, lists):
    names = MELBENCH["qid2ne.json"] | {"nil": "nothing"}
    dataset = load("wikimel", write_files(tmp_path, MELBENCH | lists | {"qid2ne.json": names}))
    mentions = by_id(dataset.mentions)
    assert (mentions["1-0"].candidates, mentions["1-1"].candidates) == ((), ("Q2",))
    assert not {"nil", "NIL", " "} & {entity.id for entity in dataset.entities}
    assert dataset.counts["candidates that are nil"] == 2


def test_one_file_of_single_mentions_is_split_by_caption_ids(tmp_path):
    files = {
        "nel_121.json": PAIR,
        "splits.json": {"train": [], "dev": [], "test": ["7", "8"]},
        "qid2ne.json": {"Q1": "Bob B", "Q2": "Ann A"},
    }
    dataset = load("wikimel", write_files(tmp_path, files))
    assert [(mention.id, mention.splits) for mention in dataset.mentions] == [("7-0", TEST), ("7-1", TEST)]
    assert dataset.counts["ids without text"] == 1


def test_two_splits_that_disagree_about_an_id_are_an_error_naming_both(tmp_path):
    changed = {"mentions/WIKIMEL_test.json": {"8": row("Eve", "Eve", "Eve", "Q2")}}
    with pytest.raises(
        DatasetError, match=r"WIKIMEL_test.json record '8' differs from .*WIKIMEL_valid.json record '8'"
    ):
        load("wikimel", write_files(tmp_path, GHMFC | changed))


def test_release_with_a_split_missing_is_incomplete(tmp_path):
    files = {name: content for name, content in GHMFC.items() if "_test" not in name}
    with pytest.raises(DatasetError, match=r"WIKIMEL_train\.json is present, but its counterpart for test is not"):
        load("wikimel", write_files(tmp_path, files))


# --- Richpedia-MEL


def rich(surface, qid):
    return {"id": qid, "sentence": f"{surface} sang.", "mentions": surface, "entities": surface, "answer": qid}


def test_richpedia_has_strings_needs_no_valid_split_and_its_later_crawl_lists_pictures(tmp_path):
    files = {
        "train.json": {"Q5": rich("Ann", "Q5")},
        "test.json": {"Q6": rich("Bob", "Q6") | {"img_list": ["raw_data/imgs/Q6_2.png", "raw_data/imgs/Q6_1.png"]}},
        "qid2ne.json": {"Q5": "Ann", "Q6": "Bob"},
        "qid2abs.json": {"Q5": "Occupation: singer."},
        "qid2abs_long.json": {"Q5": "Occupation: singer, painter."},
    }
    dataset = load("richpedia", write_files(tmp_path, files))
    assert dataset.name == "richpedia"
    assert [(mention.id, mention.splits, mention.image.path.name) for mention in dataset.mentions] == [
        ("Q5", TRAIN, "Q5.jpg"),
        ("Q6", TEST, "Q6_2.png"),
    ]
    assert dataset.entities[0] == Entity("Q5", "Ann", "Occupation: singer.", None, "Occupation: singer, painter.")


def test_richpedia_in_one_file_is_split_by_ids(tmp_path):
    files = {
        "Richpedia-MEL.json": {"Q5": rich("Ann", "Q5"), "Q6": rich("Bob", "Q6")},
        "splits.json": {"train": ["Q5"], "test": ["Q6"]},
        "qid2ne.json": {"Q5": "Ann", "Q6": "Bob"},
    }
    assert [mention.splits for mention in load("richpedia", write_files(tmp_path, files)).mentions] == [TRAIN, TEST]


# --- WikiDiverse

WIKI = "https://en.wikipedia.org/wiki/"
COMMONS = "https://upload.wikimedia.org/wikipedia/commons/a/ab/"


def hashed(segment: str, suffix: str) -> str:
    return hashlib.md5(segment.encode()).hexdigest() + suffix


def ten(sentence="Ann sang.", surface="Ann", gold=WIKI + "Ann", candidates=(), url=COMMONS + "A.jpg", **other):
    span = other.get("span", (0, 3))
    return [sentence, url, surface, "Person", other.get("left", []), [], gold, list(candidates), "music", *span]


def with_candidates(folder: Path, *test, **files) -> Path:
    rows = {"train": [ten()], "valid": [ten()], "test": list(test)}
    return write_files(folder, {f"candidates/{split}_w_10cands.json": rows[split] for split in rows} | files)


def of_test(folder: Path):
    return [mention for mention in load("wikidiverse", folder).mentions if mention.splits == TEST]


def test_ten_candidates_rows_become_mentions_and_the_pages_they_name_entities(tmp_path):
    first = ten(candidates=[WIKI + "Ann_B", WIKI + "Ann"])
    second = ten(surface="sang", gold=WIKI + "Song", span=(4, 8))
    dataset = load("wikidiverse", with_candidates(tmp_path, first, second))
    image = Image(tmp_path / "images" / hashed("A.jpg", ".jpg"))
    assert dataset.mentions[2:] == [
        Mention("test-0", "test-0", "Ann sang.", "Ann", 0, 3, "Ann", TEST, image, ("Ann B", "Ann"), "Person"),
        Mention("test-1", "test-0", "Ann sang.", "sang", 4, 8, "Song", TEST, image, (), "Person"),
    ]
    assert {entity.id for entity in dataset.entities} == {"Ann", "Ann B", "Song"}
    assert dataset.counts["captions"] == 3
    assert dataset.licence == "CC BY-SA 4.0"


@pytest.mark.parametrize(
    "gold, candidate",
    [
        ("nhttps://en.wikipedia.org/wiki/Jean_Luc", WIKI + "Jean_Luc"),
        ("]https://en.wikipedia.org/wiki/Jean_Luc", WIKI + "Jean-Luc"),
        ("ttps://en.wikipedia.org/wiki/Jean-Luc ", WIKI + "Jean_Luc"),
        (WIKI + "Beyonc%C3%A9", WIKI + "Beyoncé"),
        (WIKI + "Beyonc%C3%A9", "Beyoncé"),
        (WIKI + "AC/DC", WIKI + "AC%2FDC"),
        (WIKI + "Foo_%28bar%29", WIKI + "Foo_(bar)"),
        (WIKI + "Foo#History", WIKI + "Foo"),
        (WIKI + "Foo?oldid=712", WIKI + "Foo"),
        (WIKI + "Foo?oldid=712#History", WIKI + "Foo"),
        (WIKI + "Foo%3Foldid%3D712", WIKI + "Foo"),
        ("https://en.wikipedia.org/w/index.php?title=Foo_bar&oldid=712", WIKI + "Foo-bar"),
        ("https://en.wikipedia.org/w/index.php?oldid=712&amp;title=Foo+b%C3%A1r#x", WIKI + "Foo_bár"),
        ("https://en.m.wikipedia.org/wiki/Foo?redirect=no&x=1", "Foo"),
        ("https://en.wikipedia.org/w/index.php/Foo", "Foo"),
        ("https://en.wikipedia.org/?title=Foo&oldid=7", "Foo"),
        (WIKI + "Foo%23History", "Foo"),
        (WIKI + "Who_is_he?", WIKI + "Who_is_he%3F"),
        (WIKI + "Beyonce%CC%81", WIKI + "Beyonc%C3%A9"),
    ],
)
def test_damaged_gold_meets_its_candidate(tmp_path, gold, candidate):
    (mention,) = of_test(with_candidates(tmp_path, ten(gold=gold, candidates=[WIKI + "Other", candidate])))
    assert mention.candidates.index(mention.gold) == 1


def test_a_question_mark_belongs_to_a_title_and_a_url_without_one_is_nil(tmp_path):
    who, none = of_test(with_candidates(tmp_path, ten(gold=WIKI + "Who?"), ten(gold=WIKI + "#History")))
    assert (who.gold, none.gold) == ("Who?", None)
    assert {entity.id for entity in load("wikidiverse", tmp_path).entities} == {"Ann", "Who?"}


def test_urls_that_name_no_title_are_pages_of_their_own(tmp_path):
    asked = [f"https://en.wikipedia.org/{page}" for page in ("?curid=7", "?curid=8", "w/index.php?oldid=7")]
    folder = with_candidates(tmp_path, *(ten(gold=url) for url in asked))
    assert [mention.gold for mention in of_test(folder)] == asked


def test_spellings_of_one_page_are_one_entity_and_one_candidate(tmp_path):
    spellings = [WIKI + "Spider-Man", WIKI + "Spider_Man", WIKI + "Hulk"]
    folder = with_candidates(tmp_path, ten(gold=WIKI + "Spider_Man", candidates=spellings))
    (mention,) = of_test(folder)
    assert mention.candidates == ("Spider Man", "Hulk")
    assert by_id(load("wikidiverse", folder).entities)["Spider Man"].name == "Spider-Man"


@pytest.mark.parametrize("gold", ["nil", "NIL ", "", None])
def test_nil_gold_is_none_and_counted(tmp_path, gold):
    folder = with_candidates(tmp_path, ten(gold=gold))
    assert of_test(folder)[0].gold is None
    assert load("wikidiverse", folder).counts["gold is nil"] == 1


def test_the_page_named_nil_is_not_nil(tmp_path):
    assert of_test(with_candidates(tmp_path, ten(gold=WIKI + "Nil")))[0].gold == "Nil"


def test_wrong_offsets_are_replaced_by_the_nearest_occurrence_or_the_context(tmp_path):
    near = ten("Ann and Ann sang", span=(9, 12))
    context = ten("Ann and Ann sang", span=(-1, -1), left=["ann", "and"])
    absent = ten("Ann sang", "Eve")
    dataset = load("wikidiverse", with_candidates(tmp_path, near, context, absent))
    assert [(mention.start, mention.end) for mention in dataset.mentions[2:]] == [(8, 11), (8, 11), (-1, -1)]
    assert dataset.counts["spans moved to where the mention stands"] == 1
    assert dataset.counts["spans not found"] == 1


@pytest.mark.parametrize(
    "segment, stored, file",
    [
        ("A%20b.JPG", ".JPG", ".JPG"),  # hashed as written, not unquoted
        ("Map.svg", ".png", ".png"),
        ("Map.SVG", ".png", ".png"),
        ("250px-Map.svg.png", ".png", ".png"),
        ("Move.gif", ".gif", ".gif"),
        ("Move.gif", "Move.gif", "Move.gif"),  # what the release's own script makes of a gif
        ("Gone.jpg", None, ".jpg"),
        ("Gone.SVG", None, ".png"),
    ],
)
def test_picture_is_named_by_the_md5_of_the_last_url_segment(tmp_path, segment, stored, file):
    folder = with_candidates(tmp_path, ten(url=COMMONS + segment))
    if stored:
        write_files(folder, {"images/" + hashed(segment, stored): b""})
    assert of_test(folder)[0].image == Image(folder / "images" / hashed(segment, file))


def test_url_without_a_file_name_has_no_path_and_no_url_no_picture(tmp_path):
    first, second = of_test(with_candidates(tmp_path, ten(url=COMMONS), ten(url="")))
    assert (first.image, second.image) == (Image(None, "name"), None)


def test_mentions_look_in_the_folder_that_the_release_calls_wikinews(tmp_path):
    folder = write_files(with_candidates(tmp_path, ten()), {"wikinewsImgs/" + hashed("A.jpg", ".jpg"): b""})
    assert of_test(folder)[0].image.path.parent == folder / "wikinewsImgs"


DESCRIPTIONS = "entities/wikipedia_entity2desc_filtered.tsv"
URLS = "entities/wikipedia_entity2imgs.tsv"
SIDE = {
    **{f"entities/entity2brief_{split}.json": {"Ann_B": f"a singer, {split}"} for split in ("train", "valid", "test")},
    DESCRIPTIONS: "Other@@@@no\nAnn-B@@@@wrong\nAnn%5FB@@@@long@@@@text\nAnn@@@@known\nbroken\n",
    URLS: f"Ann@@@@url\nAnn_B@@@@{COMMONS}1.jpg[AND]{COMMONS}2.jpg\nSong@@@@{COMMONS}3.jpg\n",
}


def test_side_files_give_entities_their_texts_and_first_picture_that_is_there(tmp_path):
    folder = with_candidates(tmp_path, ten(candidates=[WIKI + "Ann_B", WIKI + "Song"]), **SIDE)
    write_files(folder, {"images/" + hashed("2.jpg", ".jpg"): b""})
    assert by_id(load("wikidiverse", folder).entities) == {
        "Ann": Entity("Ann", "Ann", "known", None, "known"),  # the picture table's first line is its header
        "Ann B": Entity(
            "Ann B", "Ann B", "a singer, train", Image(folder / "images" / hashed("2.jpg", ".jpg")), "long@@@@text"
        ),
        "Song": Entity("Song", "Song", "", Image(folder / "images" / hashed("3.jpg", ".jpg"))),
    }


def test_without_briefs_the_long_description_is_the_only_text(tmp_path):
    packed = gzip.compress(SIDE[DESCRIPTIONS].encode())
    folder = with_candidates(tmp_path, ten(), **{DESCRIPTIONS + ".gz": packed})
    assert by_id(load("wikidiverse", folder).entities)["Ann"] == Entity("Ann", "Ann", "known")


def test_table_cut_short_is_an_error_that_names_it(tmp_path):
    cut = gzip.compress(b"Ann@@@@text\n" * 99)[:-9]
    folder = with_candidates(tmp_path, ten(), **{DESCRIPTIONS + ".gz": cut})
    with pytest.raises(DatasetError, match=r"desc_filtered\.tsv\.gz cannot be read"):
        load("wikidiverse", folder)


@pytest.mark.parametrize(
    "record, message",
    [
        (ten()[:-1], "test_w_10cands.json record 0: expected 11 fields, found 10"),
        (ten(sentence=["Ann"]), "record 0: each of sentence, url, mention must be a string"),
        (ten(candidates=[3]), "record 0: each of candidates must be a string, found 3"),
        ({}, "record 0: a mention must be a list"),
    ],
)
def test_ten_candidates_row_of_a_wrong_type_is_named(tmp_path, record, message):
    with pytest.raises(DatasetError, match=message):
        load("wikidiverse", with_candidates(tmp_path, record))


SPANS = [["Ann", "Person", 8, 11, WIKI + "Ann_B"], ["met", "Other", 0, 3, "nil"]]
ANNOTATED = [
    ["Ann met Ann", COMMONS + "A.jpg", "music", SPANS],
    ["Bob", COMMONS + "B.jpg", "music", [["Bob", "Person", 0, 3, WIKI + "Bob"]]],
    ["Nobody", COMMONS + "C.jpg", "music", []],
]


def test_annotated_release_in_split_files(tmp_path):
    folder = write_files(tmp_path, {f"mentions/{split}.json": ANNOTATED[:1] for split in ("train", "dev", "test")})
    dataset = load("wikidiverse", folder)
    image = Image(folder / "images" / hashed("A.jpg", ".jpg"))
    assert dataset.mentions[2:4] == [
        Mention("valid-0-0", "valid-0", "Ann met Ann", "Ann", 8, 11, "Ann B", VALID, image, None, "Person"),
        Mention("valid-0-1", "valid-0", "Ann met Ann", "met", 4, 7, None, VALID, image, None, "Other"),
    ]
    assert dataset.counts["spans moved to where the mention stands"] == 3


def test_annotated_release_in_one_file_is_split_by_row(tmp_path):
    files = {"WikiDiverse.json": ANNOTATED, "splits.json": {"train": [0], "val": [1], "test": [1, 2, 3]}}
    dataset = load("wikidiverse", write_files(tmp_path, files))
    assert [(mention.id, mention.splits) for mention in dataset.mentions] == [
        ("0-0", TRAIN),
        ("0-1", TRAIN),
        ("1", VALID | TEST),
    ]
    assert dataset.counts["ids without text"] == 1


def test_annotated_row_of_a_wrong_type_is_named(tmp_path):
    short = ["Bob", COMMONS + "B.jpg", "music", [["Bob", "Person", 0, 3]]]
    files = {"WikiDiverse.json": [short], "splits.json": {"train": [0]}}
    with pytest.raises(DatasetError, match=r"WikiDiverse.json record 0: expected mention, type, start, end and url"):
        load("wikidiverse", write_files(tmp_path, files))


def kgmel(id, surfaces, names, golds, picture="mention_9.jpg"):
    sentence = " and ".join(surfaces)
    return {"id": id, "sentence": sentence, "imgPath": picture, "mention": surfaces, "entity": names, "answer": golds}


def test_kgmel_copy_gives_an_id_in_two_lists_both_splits_and_a_page_its_first_name(tmp_path):
    rows = [kgmel(4, ["Ann", "Bob"], ["Ann A", "Bob B"], ["Q1", "Q2"]), kgmel(5, ["Ann"], ["Ann Again"], ["Q1"])]
    files = {"WikiDiverse.json": rows, "splits.json": {"train": [4], "val": [], "test": [4, 5]}}
    dataset = load("wikidiverse", write_files(tmp_path, files))
    assert [(mention.id, mention.start, mention.splits) for mention in dataset.mentions] == [
        ("4-0", 0, TRAIN | TEST),
        ("4-1", 8, TRAIN | TEST),
        ("5", 0, TEST),
    ]
    assert dataset.mentions[0].image == Image(tmp_path / "images" / "mention_9.jpg")
    assert dataset.entities == [Entity("Q1", "Ann A"), Entity("Q2", "Bob B")]
    assert "KGMEL" in dataset.source


def test_kgmel_split_lists_may_be_those_of_all_its_datasets(tmp_path):
    lists = {"WikiMEL": {"train": [4]}, "WikiDiverse": {"test": [4]}}
    files = {"WikiDiverse.json": [kgmel(4, ["Ann"], ["Ann"], ["Q1"])], "mapping/ids_split_mappings.json": lists}
    assert load("wikidiverse", write_files(tmp_path, files)).mentions[0].splits == TEST


def test_kgmel_blank_file_stands_for_captions_without_a_picture(tmp_path):
    rows = [kgmel(4, ["Ann"], ["Ann"], ["Q1"], "mention_54.jpg")]
    dataset = load("wikidiverse", write_files(tmp_path, {"WikiDiverse.json": rows, "splits.json": {"test": [4]}}))
    assert dataset.mentions[0].image == Image(None, "blank")
    assert dataset.counts["captions with the blank picture"] == 1


def test_id_that_stands_twice_is_an_error_naming_both_places(tmp_path):
    rows = [kgmel(4, ["Ann"], ["Ann"], ["Q1"]), kgmel(6, ["Ann"], ["Ann"], ["Q1"]), kgmel(4, ["Bob"], ["Bob"], ["Q2"])]
    files = {"WikiDiverse.json": rows, "splits.json": {"test": [4]}}
    with pytest.raises(DatasetError, match="mention id '4' is used twice, in records 0 and 2"):
        load("wikidiverse", write_files(tmp_path, files))


# --- MIMIC


def mimic(folder: Path, family="WIKIMEL", entities=(), **rows) -> Path:
    base = [{"mentions": "Ann", "sentence": "Ann sang.", "imgPath": "KVQAimgs/7.png", "answer": "Q1"}]
    splits = {f"{family}_{split}.json": rows.get(split, base) for split in ("train", "dev", "test")}
    knowledge = [
        {"id": 0, "qid": "Q1", "entity_name": "Ann%20A", "attr": "a singer", "type": "entity", "image_list": ["Q1.jpg"]}
    ]
    return write_files(folder, splits | {"kb_entity.json": knowledge + list(entities)})


@pytest.mark.parametrize("family", ["WIKIMEL", "RichpediaMEL", "wiki_diverse"])
@pytest.mark.parametrize("folder", ["mention_image", "mention_images"])
def test_mimic_layout_of_each_dataset_with_either_picture_folder(tmp_path, family, folder):
    dataset = load("mimic", write_files(mimic(tmp_path, family), {f"{folder}/7.jpg": b""}))
    assert [mention.splits for mention in dataset.mentions] == [TRAIN, VALID, TEST]
    assert dataset.mentions[1].id == "valid-0"
    assert {mention.image for mention in dataset.mentions} == {Image(tmp_path / folder / "7.jpg")}  # it was converted
    assert dataset.entities == [Entity("Q1", "Ann A", "a singer", Image(tmp_path / "kb_image" / "Q1.jpg"))]


@pytest.mark.parametrize("named, stored", [("St. Louis.png", "St. Louis.jpg"), ("a.b.png", "a.jpg")])
def test_mimic_pictures_with_dots_in_their_names_are_told_apart(tmp_path, named, stored):
    files = dict.fromkeys(("St. Paul.jpg", "St. Louis.jpg", "a.jpg"), b"")  # its script cuts a name at the first dot
    rows = [{"mentions": "Ann", "sentence": "Ann", "imgPath": named, "answer": "Q1"}]
    folder = write_files(mimic(tmp_path, test=rows), {f"mention_image/{name}": files[name] for name in files})
    assert load("mimic", folder).mentions[2].image == Image(folder / "mention_image" / stored)


def test_mimic_entity_takes_its_first_picture_and_may_have_none(tmp_path):
    more = [
        {"qid": "Q2", "entity_name": "B", "attr": "", "image_list": ["Q2_b.jpg", "Q2_a.jpg"]},
        {"qid": "Q3", "entity_name": "C", "attr": "", "image_list": []},
    ]
    entities = by_id(load("mimic", mimic(tmp_path, entities=more)).entities)
    assert entities["Q2"].image == Image(tmp_path / "kb_image" / "Q2_b.jpg")
    assert entities["Q3"].image is None


def test_mimic_nil_unknown_gold_no_picture_and_encoded_mentions(tmp_path):
    rows = [
        {"mentions": "Ann", "sentence": "Ann sang.", "imgPath": "", "answer": "nil"},
        {"mentions": "Jos%C3%A9", "sentence": "With José.", "imgPath": "a.jpg", "answer": "Q77"},
        {"mentions": "100%25", "sentence": "It says 100%25", "imgPath": "a.jpg", "answer": "Q1"},
    ]
    dataset = load("mimic", mimic(tmp_path, test=rows))
    nil, encoded, literal = dataset.mentions[2:]
    assert (nil.gold, nil.image) == (None, None)
    assert (encoded.surface, encoded.start, encoded.gold) == ("José", 5, "Q77")
    assert (literal.surface, literal.start) == ("100%25", 8)
    assert dataset.entities[-1] == Entity("Q77", "Q77")
    assert dataset.counts["entities added from gold or candidates"] == 1
    assert dataset.counts["mentions that name no picture"] == 1


def test_mimic_row_for_nil_is_no_entity(tmp_path):
    dataset = load("mimic", mimic(tmp_path, entities=[{"qid": "NIL", "entity_name": "nil"}]))
    assert [entity.name for entity in dataset.entities] == ["Ann A"]
    assert dataset.counts["entities that are nil"] == 1


def test_mimic_entity_listed_twice_is_taken_once_and_counted(tmp_path):
    again = [{"qid": "Q1", "entity_name": "Ann Again", "attr": "", "image_list": []}]
    dataset = load("mimic", mimic(tmp_path, entities=again))
    assert [entity.name for entity in dataset.entities] == ["Ann A"]
    assert dataset.counts["entities listed twice"] == 1


def test_mimic_picture_name_can_not_leave_its_folder(tmp_path):
    entity = {"qid": "Q2", "entity_name": "B", "attr": "", "image_list": ["../../../etc/passwd"]}
    up = {"qid": "Q3", "entity_name": "C", "attr": "", "image_list": ["a/.."]}
    entities = by_id(load("mimic", mimic(tmp_path, entities=[entity, up])).entities)
    assert entities["Q2"].image == Image(tmp_path / "kb_image" / "passwd")
    assert entities["Q3"].image == Image(None, "name")


def test_two_mimic_releases_in_one_folder_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="holds WIKIMEL and wiki_diverse, expected one release"):
        load("mimic", mimic(mimic(tmp_path), "wiki_diverse"))


@pytest.mark.parametrize("key", ["sentence", "mentions"])
def test_mimic_record_without_its_text_is_named(tmp_path, key):
    record = {"mentions": "Ann", "sentence": "Ann sang.", "imgPath": "", "answer": "Q1"}
    del record[key]
    with pytest.raises(DatasetError, match=f"WIKIMEL_test.json record 0: {key} must be a string, found None"):
        load("mimic", mimic(tmp_path, test=[record]))


# --- our own layout


def own(folder: Path, *mentions: dict, entities=({"id": "E"},)) -> Path:
    lines = {"mentions.jsonl": mentions, "entities.jsonl": entities}
    return write_files(folder, {name: "".join(json.dumps(line) + "\n" for line in lines[name]) for name in lines})


def test_own_mention_needs_only_id_text_and_offsets_or_surface(tmp_path):
    folder = own(
        tmp_path,
        {"id": "a", "text": "Ann sang", "start": 0, "end": 3},
        {"id": "b", "text": "Annie met Ann", "mention": "Ann", "split": "test", "gold": "E"},
        {
            "id": "c",
            "text": "Ann",
            "mention": "Eve",
            "start": -1,
            "end": -1,
            "split": ["train", "test"],
            "candidates": [],
        },
    )
    dataset = load("jsonl", folder)
    assert dataset.mentions == [
        Mention("a", "a", "Ann sang", "Ann", 0, 3, None, 0, labeled=False),
        Mention("b", "b", "Annie met Ann", "Ann", 10, 13, "E", TEST),
        Mention("c", "c", "Ann", "Eve", -1, -1, None, TRAIN | TEST, None, (), labeled=False),
    ]
    assert dataset.entities == [Entity("E", "E")]
    assert dataset.counts["mentions in no split"] == 1


def test_what_is_written_is_read_back_the_same(tmp_path):
    picture = Image(tmp_path / "images" / "a b.jpg")
    mentions = [
        Mention("m", "c", 'Ann "É"\n\u2028\0', "Ann", 0, 3, "E", TRAIN | TEST, picture, ("E", "F"), "Person"),
        Mention("n", "c", "Ann", "Eve", -1, -1, None, VALID, None, ()),
        Mention("o", "o", "Ann", "Ann", 0, 3, None, 0),
        Mention("p", "p", "Ann", "Ann", 0, 3, None, 0, labeled=False),
    ]
    entities = [Entity("E", "Ann", "a singer", picture, "a singer from Kent"), Entity("F", "F")]
    jsonl.write(tmp_path, mentions, entities)
    dataset = load("jsonl", tmp_path)
    assert (dataset.mentions, dataset.entities) == (mentions, entities)


def test_picture_outside_the_folder_is_not_written(tmp_path):
    with pytest.raises(DatasetError, match="lies outside"):
        jsonl.write(tmp_path / "data", [], [Entity("E", "E", "", Image(tmp_path / "a.jpg"))])


def test_own_entities_named_only_by_gold_or_candidates_are_added(tmp_path):
    folder = own(tmp_path, {"id": "a", "text": "Ann", "start": 0, "end": 3, "gold": "X", "candidates": ["E", "Y", "X"]})
    dataset = load("jsonl", folder)
    assert [entity.id for entity in dataset.entities] == ["E", "X", "Y"]
    assert dataset.counts["entities added from gold or candidates"] == 2


ANN = {"id": "a", "text": "Ann sang", "start": 0, "end": 3}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"text": 5}, "text must be a string, found 5"),
        ({"id": 5}, "id must be a string, found 5"),
        ({"start": None, "end": None}, "expected start and end, or mention, found neither"),
        ({"end": 9}, "start 0, end 9 are not within a text of 8 characters"),
        ({"start": True}, "start True, end 3 are not within"),
        ({"start": 3}, "start 3, end 3 are not within"),
        ({"mention": "Eve"}, r"text\[0:3\] is 'Ann', but mention is 'Eve'"),
        ({"image": "/etc/passwd"}, "image must be a path relative to"),
        ({"image": "images/../../x.jpg"}, "image must be a path relative to"),
        ({"image": ""}, "image must be a path relative to"),
        ({"split": "development"}, "unknown split 'development', expected one of: train, valid, val, dev"),
        ({"split": [1]}, "each of split must be a string, found 1"),
        ({"candidates": "E"}, "candidates must be a list, found 'E'"),
        ({"candidates": ["E", ""]}, "candidates hold an empty id"),
        ({"candidates": [3]}, "each of candidates must be a string, found 3"),
        ({"gold": 7}, "gold must be a string, found 7"),
        ({"gold": False}, "gold must be a string, found False"),
        ({"id": ""}, "id '' is empty"),
        ({"id": " "}, "id ' ' is empty"),
        ({"split": 0}, "split must be a list, found 0"),
        ({"start": None, "end": None, "mention": " "}, "expected start and end, or mention, found neither"),
        ({"golden": "E"}, "unknown field 'golden', expected: id, caption, text"),
    ],
)
def test_own_record_with_a_mistake_is_named_by_file_and_line(tmp_path, change, message):
    with pytest.raises(DatasetError, match=r"mentions\.jsonl line 2: " + message):
        load("jsonl", own(tmp_path, ANN, {**ANN, "id": "b", **change}))


@pytest.mark.parametrize("gold", [None, "", "  ", "nil", "NIL", "Nil "])
def test_own_gold_that_says_nil_is_nil_and_no_gold_is_no_label(tmp_path, gold):
    dataset = load("jsonl", own(tmp_path, ANN | {"gold": gold}, ANN | {"id": "b"}, ANN | {"id": "c", "gold": "E"}))
    assert [(mention.gold, mention.labeled) for mention in dataset.mentions] == [
        (None, True),
        (None, False),
        ("E", True),
    ]
    assert [entity.id for entity in dataset.entities] == ["E"]
    assert (dataset.counts["gold is nil"], dataset.counts["mentions without a label"]) == (1, 1)
    assert dataset.doubts == []


def test_own_entity_must_have_an_id_that_gold_can_name(tmp_path):
    for id, message in (("", "id '' is empty"), ("NIL", "id 'NIL' means that a mention has no entity")):
        with pytest.raises(DatasetError, match=rf"entities\.jsonl line 2: {message}"):
            load("jsonl", own(tmp_path, ANN, entities=({"id": "E"}, {"id": id})))


def test_own_candidate_that_is_nil_is_left_out_and_counted(tmp_path):
    dataset = load("jsonl", own(tmp_path, ANN | {"candidates": ["nil", "E"]}))
    assert dataset.mentions[0].candidates == ("E",)
    assert dataset.counts["candidates that are nil"] == 1


def test_ids_that_a_column_of_strings_can_not_tell_apart_are_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"mention id 'a\\x00' in record 1 holds a NUL"):
        load("jsonl", own(tmp_path, ANN, ANN | {"id": "a\0"}))
    with pytest.raises(DatasetError, match=r"entity id 'E\\x00' in record 1 holds a NUL"):
        load("jsonl", own(tmp_path, ANN | {"gold": "E\0"}))


@pytest.mark.parametrize("word", ["valid", "dev", "val", "validation", "Dev", "VAL"])
def test_own_split_goes_by_any_name_of_valid(tmp_path, word):
    mentions = load("jsonl", own(tmp_path, ANN | {"split": word}, ANN | {"id": "b", "split": ["train", word]})).mentions
    assert [mention.splits for mention in mentions] == [VALID, TRAIN | VALID]


def test_own_gold_and_candidates_that_no_entity_has_are_named_by_line(tmp_path):
    lines = [ANN | {"id": f"m{i}", "gold": f"X{i}", "candidates": ["E", "Y"]} for i in range(4)]
    doubts = load("jsonl", own(tmp_path, ANN | {"gold": "E"}, *lines)).doubts
    where = tmp_path / "mentions.jsonl"
    assert doubts[:3] == [
        f"{where} line 2: gold 'X0' is not in entities.jsonl",
        f"{where} line 2: candidate 'Y' is not in entities.jsonl",
        f"{where} line 3: gold 'X1' is not in entities.jsonl",
    ]
    assert len(doubts) == 6
    assert doubts[-1] == (  # with --strict an error, without a warning: true of both
        "4 golds and 4 candidates are not in entities.jsonl: typing errors? Without --strict they become "
        "entities without a text"
    )


def test_own_id_that_stands_twice_is_an_error_naming_both_lines(tmp_path):
    with pytest.raises(
        DatasetError, match=r"mentions\.jsonl line 3: id 'a' is already used in .*mentions\.jsonl line 1"
    ):
        load("jsonl", own(tmp_path, ANN, {**ANN, "id": "b"}, ANN))
    with pytest.raises(DatasetError, match=r"entities\.jsonl line 2: id 'E' is already used in .* line 1"):
        load("jsonl", own(tmp_path, ANN, entities=({"id": "E"}, {"id": "E", "name": "other"})))
