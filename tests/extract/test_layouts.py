"""Layouts that people have on disk: clones as they are, newer papers' files, and those that are refused by name."""

import json
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from common.errors import DatasetError
from common.records import SPLITS, Entity, Image, split_mask
from extract.datasets import load, wikimel
from tests.worlds import write_files

REAL = Path(__file__).parents[3] / "shared" / "data"
TRAIN, VALID, TEST = (split_mask(name) for name in SPLITS)


def real(name: str) -> Path:
    if not (REAL / name).exists():
        pytest.skip(f"no ../shared/data/{name} here")
    return REAL / name


def sizes(dataset) -> list[int]:
    return [sum(mention.splits >> bit & 1 for mention in dataset.mentions) for bit in range(3)]


# --- MELBench and MEL-GHMFC


def captions(count: int) -> dict[str, dict]:
    return {
        str(i): {"sentence": f"Ann {i}", "mentions": ["Ann"], "entities": [f"Ann {i % 3}"], "answer": [f"Q{i % 3}"]}
        for i in range(count)
    }


@pytest.mark.parametrize("inside", ["", "Wikidata-MEL/"])
def test_a_clone_of_melbench_has_no_lists_and_is_split_by_caption(tmp_path, inside):
    write_files(tmp_path, {f"{inside}Wikidata-MEL.json": captions(1000)})
    dataset = load("wikimel", tmp_path)
    assert len(dataset.mentions) == 1000 and dataset.counts["captions split by melcache"] == 1000
    for count, share in zip(sizes(dataset), wikimel.SHARES, strict=True):
        assert count == pytest.approx(1000 * share, abs=60)  # four deviations
    assert all(mention.splits in (TRAIN, VALID, TEST) for mention in dataset.mentions)
    assert dataset.entities == [Entity(f"Q{i}", f"Ann {i}") for i in range(3)]
    assert dataset.warnings == [wikimel.UNSPLIT]
    again = load("wikimel", write_files(tmp_path, {f"{inside}Wikidata-MEL.json": captions(1500)}))
    assert again.mentions[:1000] == dataset.mentions  # whatever else the release has


def test_lists_beside_melbench_are_followed_though_names_are_missing(tmp_path):
    dataset = load("wikimel", write_files(tmp_path, {"Wikidata-MEL.json": captions(3), "splits.json": {"dev": ["1"]}}))
    assert [mention.splits for mention in dataset.mentions] == [0, VALID, 0]
    assert dataset.warnings == [] and "captions split by melcache" not in dataset.counts


def test_the_root_of_a_clone_holds_each_of_its_datasets(tmp_path):
    rich = {"Q5": {"sentence": "Ann", "mentions": "Ann", "entities": "Ann", "answer": "Q5"}}
    for name, content in (("Wikidata-MEL", captions(2)), ("Richpedia-MEL", rich)):
        (tmp_path / name).mkdir()
        with zipfile.ZipFile(tmp_path / name / f"{name}.zip", "w") as archive:
            archive.writestr(f"{name}.json", json.dumps(content))
    assert len(load("wikimel", tmp_path).mentions) == 2
    (mention,) = load("richpedia", tmp_path).mentions
    assert mention.image == Image(tmp_path / "Richpedia-MEL" / "images" / "Q5.jpg")
    with pytest.raises(DatasetError, match=r"looks like --dataset richpedia or --dataset wikimel$"):
        load("mimic", tmp_path)


def test_the_root_of_ghmfcs_clone_has_richpedia_without_a_valid_split(tmp_path):
    rich = {"Q5": {"sentence": "Ann", "mentions": "Ann", "entities": "Ann", "answer": "Q5"}}
    folder = "datasets/Richpedia-MEL"
    write_files(
        tmp_path, {f"{folder}/{name}": rich for name in ("train.json", "test.json")} | {f"{folder}/qid2ne.json": {}}
    )
    assert sizes(load("richpedia", tmp_path)) == [1, 0, 1]


def test_the_real_melbench_is_read_from_its_clone(tmp_path):
    (tmp_path / "Wikidata-MEL").mkdir()
    shutil.copy(real("wikimel/Wikidata-MEL.zip"), tmp_path / "Wikidata-MEL")
    dataset = load("wikimel", tmp_path)
    assert len(dataset.mentions) == 25_846
    assert [size / 25_846 for size in sizes(dataset)] == pytest.approx(wikimel.SHARES, abs=0.01)
    assert len({mention.gold for mention in dataset.mentions}) == len(dataset.entities)


# --- MIMIC's files in other papers


ROW = {"mentions": "Ann", "sentence": "Ann sang.", "imgPath": "", "answer": "Q1"}


@pytest.mark.parametrize("prefix", ["WikiDiverse_", "WikiMEL_", ""])
@pytest.mark.parametrize("valid", ["dev", "val", "valid"])
def test_mimic_files_under_other_names(tmp_path, prefix, valid):
    files = {f"{prefix}{split}.json": [ROW] for split in ("train", valid, "test")}
    dataset = load("mimic", write_files(tmp_path, files | {"kb_entity.json": [{"qid": "Q1", "entity_name": "Ann"}]}))
    assert [mention.id for mention in dataset.mentions] == ["train-0", "valid-0", "test-0"]
    assert sizes(dataset) == [1, 1, 1]


def test_m3els_desc_is_the_text_and_beside_attr_a_second_one(tmp_path):
    knowledge = [
        {"qid": "Q1", "entity_name": "Ann", "desc": "a singer", "image_list": []},
        {"qid": "Q2", "entity_name": "Bob", "desc": "a baker", "attr": "Sex: male.", "image_list": []},
    ]
    files = {f"WikiDiverse_{split}.json": [ROW] for split in ("train", "dev", "test")} | {"kb_entity.json": knowledge}
    assert load("mimic", write_files(tmp_path, files)).entities == [
        Entity("Q1", "Ann", "a singer"),
        Entity("Q2", "Bob", "Sex: male.", None, "a baker"),
    ]


@pytest.mark.parametrize("answer", ["nil", "NIL", "", None])
def test_mimic_answers_that_mean_nil_and_rows_without_one(tmp_path, answer):
    rows = [ROW | {"answer": answer}, {key: ROW[key] for key in ROW if key != "answer"}]
    files = {f"{split}.json": rows for split in ("train", "dev", "test")} | {"kb_entity.json": []}
    dataset = load("mimic", write_files(tmp_path, files))
    assert [(mention.gold, mention.labeled) for mention in dataset.mentions[:2]] == [(None, True), (None, False)]
    assert (dataset.counts["gold is nil"], dataset.counts["mentions without a label"]) == (3, 3)


def test_wikimel_records_without_an_answer_are_not_labeled(tmp_path):
    rows = {"1": {"sentence": "Ann, Bob", "mentions": ["Ann", "Bob"]}, "2": {"sentence": "Ann", "mentions": "Ann"}}
    dataset = load(
        "wikimel", write_files(tmp_path, {"nel_121.json": rows, "splits.json": {}, "qid2ne.json": {"Q1": "Ann"}})
    )
    assert [(mention.id, mention.gold, mention.labeled) for mention in dataset.mentions] == [
        ("1-0", None, False),
        ("1-1", None, False),
        ("2", None, False),
    ]


@pytest.mark.parametrize("name", ["m3el_like", "m3el_desc"])
def test_real_rows_in_m3els_files(name):
    dataset = load("mimic", real(f"layouts/{name}"))
    knowledge = json.loads((REAL / "layouts" / name / "kb_entity.json").read_text())
    assert len(dataset.mentions) == sum(sizes(dataset)) > 30 and min(sizes(dataset)) > 0
    texts = [entity.text for entity in dataset.entities if entity.id in {record["qid"] for record in knowledge}]
    assert texts == [record.get("attr") or record["desc"] for record in knowledge]
    assert all(texts)


@pytest.mark.parametrize("name", ["wikidiverse", "wikimel", "richpedia", "jsonl"])
def test_mimics_files_are_recognized_whatever_dataset_is_asked_for(tmp_path, name):
    prefix = "WIKIMEL_" if name == "wikimel" else ""
    files = {f"{prefix}{split}.json": [ROW] for split in ("train", "dev", "test")} | {"kb_entity.json": []}
    with pytest.raises(DatasetError, match=r"this looks like --dataset mimic$"):
        load(name, write_files(tmp_path, files))


# --- KGMEL


def kgmel(id, gold, picture="mention_9.jpg"):
    return {"id": id, "sentence": "Ann", "imgPath": picture, "mention": ["Ann"], "entity": ["Ann"], "answer": [gold]}


@pytest.mark.parametrize("root", ["", "dataset/", "data/dataset/"])
@pytest.mark.parametrize(
    "dataset, name", [("wikimel", "WikiMEL"), ("richpedia", "RichpediaMEL"), ("wikidiverse", "WikiDiverse")]
)
def test_kgmels_three_from_its_checkout_or_any_folder_in_it(tmp_path, root, dataset, name):
    rows = [kgmel(4, "Q1"), kgmel(5, "nil"), kgmel(6, "Q1")]
    lists = {"Other": {"train": [5]}, name: {"train": [4], "val": [5], "test": [6]}}
    files = {f"{root}{name}.json": rows, f"{root}mapping/ids_split_mappings.json": lists}
    files |= {f"{root}mapping/ids_blank_image.json": {name: [6]}, f"{root}image/{name}/mention_9.png": ""}
    found = load(dataset, write_files(tmp_path, files))
    assert [(mention.id, mention.splits, mention.gold) for mention in found.mentions] == [
        ("4", TRAIN, "Q1"),
        ("5", VALID, None),
        ("6", TEST, "Q1"),
    ]
    picture = Image(tmp_path / root / "image" / name / "mention_9.png")
    assert [mention.image for mention in found.mentions] == [picture, picture, Image(None, "blank")]
    assert found.name == dataset and "KGMEL" in found.source


def test_kgmels_rows_without_an_answer_are_not_labeled_and_null_is_nil(tmp_path):
    rows = [kgmel(4, None), {key: value for key, value in kgmel(5, "").items() if key != "answer"}]
    lists = {"train": [4], "val": [], "test": [5]}
    found = load("wikimel", write_files(tmp_path, {"WikiMEL.json": rows, "splits.json": lists}))
    assert [(mention.gold, mention.labeled) for mention in found.mentions] == [(None, True), (None, False)]
    assert found.entities == []


@pytest.mark.parametrize("dataset", ["wikimel", "richpedia"])
def test_real_rows_in_kgmels_files(dataset):
    found = load(dataset, real("layouts/kgmel"))
    assert len({mention.caption for mention in found.mentions}) == 50
    by_caption = Counter(next(iter({m.splits for m in found.mentions if m.caption == str(i)})) for i in range(50))
    assert by_caption == {TRAIN: 30, VALID: 10, TEST: 10}


def test_kgmels_file_without_lists_says_what_is_missing(tmp_path):
    with pytest.raises(DatasetError, match=r"looked for splits\.json, mapping/ids_split_mappings\.json"):
        load("wikimel", write_files(tmp_path, {"WikiMEL.json": [kgmel(4, "Q1")]}))


# --- refused by name


@pytest.mark.parametrize(
    "files, message",
    [
        (
            ("WIKIMEL_train.jsonl", "WIKIMEL_test.jsonl", "entities.jsonl", "wikimel_image.h5"),
            r"WIKIMEL_test\.jsonl is of FissFuse's .* inside an HDF5 file.*--dataset mimic",
        ),
        (("train.json", "dev.json", "test.json", "clip_vit_large_patch14_1024.hdf5"), r"GEMEL's release.*CLIP vectors"),
        (("datasets/dataset_WikiMEL/WikiMEL_testset_label.json",), r"I2CR's test sets.*no train split"),
        (("Weibo-MEL/Weibo-MEL.zip",), r"Weibo-MEL of MELBench.*without an id"),
        (("mention-text-feature_train.npy",), r"DRIN's preprocessed arrays.*melcache import --from drin"),
    ],
)
@pytest.mark.parametrize("dataset", ["wikimel", "wikidiverse", "mimic", "jsonl"])
def test_a_layout_that_is_not_read_is_recognized_in_one_line(tmp_path, dataset, files, message):
    with pytest.raises(DatasetError, match=f"No {dataset} release in .*{message}") as caught:
        load(dataset, write_files(tmp_path, dict.fromkeys(files, "")))
    assert "\n" not in str(caught.value)


def test_what_is_asked_for_is_read_whatever_lies_beside(tmp_path):
    write_files(
        tmp_path, {"mentions.jsonl": "", "entities.jsonl": '{"id": "E"}', "kb_entity.json": "", "Weibo-MEL.zip": ""}
    )
    assert [entity.id for entity in load("jsonl", tmp_path).entities] == ["E"]


def test_a_release_one_folder_further_down_is_pointed_at(tmp_path):
    write_files(tmp_path, {"WikiMEL/kb_entity.json": "[]", "RichpediaMEL/kb_entity.json": "[]", "other/a.json": ""})
    with pytest.raises(DatasetError, match=r"Did you mean --data \S+RichpediaMEL, --data \S+WikiMEL\?"):
        load("mimic", tmp_path)
