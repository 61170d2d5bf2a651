"""Mentions that nobody has labeled, and a release without a valid split, from the release to every output."""

import contextlib
import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import melcache
from cache.schema import UNLABELED
from common.errors import ConfigError, DatasetError
from extract import pipeline
from extract.preparation import prepare
from tests.worlds import extract_config, write_release
from train import loop
from train.cli import app
from train.config import TrainConfig
from train.config.inspecting import ExplainConfig, SlicesConfig
from train.config.judging import EvaluateConfig, PredictConfig
from train.data import splits
from train.evaluating.metrics import NEVER
from train.evaluating.ranking import rank_baseline
from train.heads.drin.config import DrinConfig
from train.heads.drin_authors.config import DrinAuthorsConfig
from train.heads.joint.config import JointConfig
from train.inspecting import doctor, explain, slices
from train.judging import predict, referee
from train.prepare import data_of, table_of
from train.processes import World

pytestmark = pytest.mark.usefixtures("toys_built_once")
NAMES = ("harbor", "castle", "river", "garden")


def line(number):
    """One of 60 mentions: three to a caption, a tenth nil, a fifth not labeled; train and test, no valid."""
    name, caption = NAMES[number % 4], number // 3
    record = {"id": f"m{number}", "caption": f"c{caption}", "text": f"the {name} of {number}", "mention": name}
    record["split"] = "test" if caption % 4 == 3 else "train"
    return record if number % 5 == 2 else record | {"gold": None if number % 10 == 1 else f"e{number % 8}"}


LINES = [line(number) for number in range(60)]
LABELED = {split: [one for one in LINES if "gold" in one and one["split"] == split] for split in ("train", "test")}
ALL = {split: [one for one in LINES if one["split"] == split] for split in ("train", "test")}


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    """A finished cache; tests only read it."""
    folder = tmp_path_factory.mktemp("unlabeled")
    entities = [{"id": f"e{i}", "name": NAMES[i % 4], "text": f"number {i}"} for i in range(8)]
    write_release(folder, LINES, entities)
    return melcache.open(pipeline.run(extract_config(folder, folder, objects=1)))


def run(reader, folder, model, head=None, **options):
    config = TrainConfig(dataset=str(reader.path), model=model, run=folder / model, device="cpu", **options)
    return loop.fit(config, head)


# --- extraction


def test_the_cache_says_which_mentions_are_not_labeled(extracted):
    ids = extracted.strings("mention.ids.id")
    for name in ("mention.ids.gold", "pair.candidates.gold"):
        marked = {ids[row] for row in np.flatnonzero(extracted.column(name) == UNLABELED)}
        assert marked == {one["id"] for one in LINES if "gold" not in one}, name
    nil = {ids[row] for row in np.flatnonzero(extracted.column("mention.ids.gold") == -1)}
    assert nil == {one["id"] for one in LINES if one.get("gold", "") is None}
    unlabeled = np.isin(ids, [one["id"] for one in LINES if "gold" not in one])
    assert (extracted.column("pair.candidates.lexical_gold")[unlabeled] == 0).all()
    counts = extracted.manifest.coverage
    assert (counts["mentions without a label"], counts["gold is nil"]) == (12, 6)


@pytest.mark.parametrize("gold, told", [({}, "recall@1 -, recall@2 -"), ({"gold": None}, "recall@1 0.0%")])
def test_recall_of_mentions_without_labels_is_not_a_number(tmp_path, capsys, gold, told):
    mention = {"id": "m", "text": "the harbor", "mention": "harbor", **gold}
    write_release(tmp_path, [mention], [{"id": "e"}, {"id": "f"}])
    pipeline.run(extract_config(tmp_path, tmp_path))
    printed = capsys.readouterr().out
    assert told in printed
    assert ("over 0 labeled mentions" in printed) == (not gold)


def test_doubts_are_said_and_strict_refuses_them(tmp_path, capsys):
    write_release(tmp_path, [{"id": "m", "text": "x", "mention": "x", "gold": "typo"}], [{"id": "e"}])
    with pytest.raises(
        DatasetError, match=r"mentions\.jsonl line 1: gold 'typo' is not in entities\.jsonl, which --strict"
    ):
        prepare(extract_config(tmp_path, tmp_path, strict=True))
    prepare(extract_config(tmp_path, tmp_path))
    assert "warning: " in (said := capsys.readouterr().err) and "line 1: gold 'typo'" in said


# --- training


def test_heads_without_weights_need_no_valid_split_and_count_labeled_mentions_alone(extracted, tmp_path):
    found = run(extracted, tmp_path, "lexical")
    assert found["mean"].keys() == found["lexical"].keys() == found["recall_ceiling"].keys() == {"test"}
    assert found["mean"]["test"]["mentions"] == len(LABELED["test"]) < len(ALL["test"])
    assert found["unlabeled"] == {
        "train": len(ALL["train"]) - len(LABELED["train"]), "valid": 0, "test": len(ALL["test"]) - len(LABELED["test"])
    }  # fmt: skip
    # two entities have each name, so gold is first in expectation half of the time where it is not nil
    right = sum(one["gold"] is not None for one in LABELED["test"]) / 2
    assert found["mean"]["test"]["top1"] == pytest.approx(right / len(LABELED["test"]))


def test_prior_counts_the_labels_of_train(extracted, tmp_path):
    assert run(extracted, tmp_path, "prior")["mean"]["test"]["mentions"] == len(LABELED["test"])


@pytest.mark.parametrize("protocol", ["retrieved", "whole-kb"])
def test_a_train_split_that_is_nil_throughout_tells_prior_nothing(extracted, tmp_path, monkeypatch, protocol):
    config = TrainConfig(dataset=str(extracted.path), model="prior", run=tmp_path, device="cpu", protocol=protocol)
    table = table_of(config, None, extracted, torch.device("cpu"))
    gold = table.column("mention.ids.gold")
    gold[table.rows("train")] = -1
    data = data_of(config, None, extracted, table, World())
    better, tied = rank_baseline("prior", data.splits["test"], table, World())
    known = better < NEVER
    assert known.any() and (better[known] == 0).all() and (tied[known] == (2 if protocol == "retrieved" else 7)).all()


def test_a_release_without_train_serves_heads_that_need_none(extracted, tmp_path, monkeypatch):
    column = extracted.column
    masks = np.where(column("mention.ids.splits") == 4, 4, 0).astype(np.uint8)
    monkeypatch.setattr(extracted, "column", lambda name: masks if name == "mention.ids.splits" else column(name))
    for model, message in (("lexical", ""), ("clip", ""), ("prior", "train split$"), ("bert", "train split$")):
        config = TrainConfig(dataset=str(extracted.path), model=model, run=tmp_path, device="cpu")
        table = table_of(config, None, extracted, torch.device("cpu"))
        with pytest.raises(ConfigError, match=message) if message else contextlib.nullcontext():
            data_of(config, None, extracted, table, World())


@pytest.mark.parametrize("protocol", ["retrieved", "injected", "whole-kb", "given"])
def test_no_protocol_counts_what_is_not_labeled(extracted, tmp_path, protocol):
    known = [one for one in LABELED["test"] if one["gold"] is not None or protocol != "given"]
    options = {"protocol": protocol, "valid_from": "train:0.2", "epochs": 1}
    found = run(extracted, tmp_path, "bert", JointConfig(width=4), **options)
    assert found["mean"]["test"]["mentions"] == len(known)
    assert found["split"]["valid_from"] == "train:0.2"
    command = ["--dataset", str(extracted.path), "--model", "bert", "--width", "4", "--run", str(tmp_path / "bert")]
    told = CliRunner().invoke(
        app, [*command, "--device", "cpu", "--epochs", "1", "--protocol", protocol, "--valid-from", "train:0.20"]
    )  # the same share: nothing is trained anew
    assert told.exit_code == 0, told.output
    assert f"{len(known)} mentions (3 more are not labeled)" in told.stdout
    assert "valid from train:0.2" in told.stdout


def test_a_trained_head_without_a_valid_split_is_told_how_to_get_one(extracted, tmp_path):
    with pytest.raises(ConfigError, match=r"no mention to use in its valid split\. .*--valid-from train:0\.1"):
        run(extracted, tmp_path, "drin", DrinConfig(width=4))


def test_no_loss_sees_what_is_not_labeled(extracted, tmp_path):
    """drin_authors learns from mentions without gold, too: of nil, not of what nobody has said."""
    config = TrainConfig(
        dataset=str(extracted.path), model="drin_authors", run=tmp_path, device="cpu", valid_from="train:0.2"
    )
    head = DrinAuthorsConfig()
    table = table_of(config, head, extracted, torch.device("cpu"))
    data = data_of(config, head, extracted, table, World())
    ids = extracted.strings("mention.ids.id")
    used = {ids[row] for rows in (data.rows, data.watched.rows) for row in rows.tolist()}
    assert used == {one["id"] for one in LABELED["train"]}
    assert any(one["gold"] is None and ids.index(one["id"]) in data.rows.tolist() for one in LABELED["train"])


def test_compare_doctor_slices_and_explain_know_what_is_not_labeled(extracted, tmp_path):
    common = ["--dataset", str(extracted.path), "--device", "cpu", "--epochs", "1"]
    run = tmp_path / "compare"
    told = CliRunner().invoke(
        app,
        [
            "compare",
            *common,
            "--models",
            "lexical,drin",
            "--width",
            "4",
            "--seeds",
            "0",
            "--valid-from",
            "train:0.2",
            "--run",
            str(run),
        ],
    )
    assert told.exit_code == 0, told.output
    assert f"{len(LABELED['test'])} mentions (3 more are not labeled), split " in told.stdout
    found = json.loads((run / "compare.json").read_text())
    assert found["split"] == {"digest": splits.digest_of(extracted), "known": None, "valid_from": "train:0.2"}
    told = CliRunner().invoke(app, ["slices", "--run", str(run / "drin"), "--by", "gold", "--json"])
    sliced = json.loads(told.stdout)["slices"]["gold entity in train"]
    assert sum(part["mentions"] for part in sliced.values()) == len(LABELED["test"])
    told = CliRunner().invoke(app, ["explain", "--run", str(run / "drin"), "--mention", "m2"])
    assert told.stdout.startswith("mention m2 (river) of train, not labeled, seed 0"), told.output
    assert "*" not in told.stdout
    examined = doctor.examine(extracted)
    assert examined["splits"]["test"]["labeled"] == len(LABELED["test"])
    assert examined["splits"]["test"]["gold_in_train"] <= len(LABELED["test"])
    (row,) = (row for row in doctor.show(examined).splitlines() if row.startswith("are labeled"))
    assert row.endswith("12 (80.0%)")


def test_what_was_held_out_is_not_train_to_slices_explain_and_evaluate(extracted, tmp_path):
    own = run(extracted, tmp_path, "drin", DrinConfig(width=4), valid_from="train:0.9", epochs=1)
    masks = dict(zip(extracted.strings("mention.ids.id"), splits.masks(extracted, "train:0.9").tolist(), strict=True))
    seen = {one.get("gold") for one in LINES if masks[one["id"]] == 1}
    golds = [one["gold"] for one in LABELED["test"] if one["gold"] is not None]
    sliced = slices.examine(SlicesConfig(run=tmp_path / "drin", by=("gold",)))["slices"]["gold entity in train"]
    assert 0 < sliced["not seen"]["mentions"] == sum(gold not in seen for gold in golds)
    held = next(name for name, mask in masks.items() if mask == 2)
    assert explain.explain(ExplainConfig(run=tmp_path / "drin", mention=held))["split"] == ["valid"]
    for split in ("valid", "test"):
        predict.predict(PredictConfig(run=tmp_path / "drin", out=tmp_path / "said", split=split, top=0, device="cpu"))
        judged = referee.judge(EvaluateConfig(predictions=tmp_path / "said", dataset=str(extracted.path), split=split))
        assert judged["metrics"].items() >= own["seeds"][0][split].items()
    told = judged["slices"]["gold entity in train"]
    assert {label: of["top1"] for label, of in told.items()} == {
        label: of["mean"]["top1"] for label, of in sliced.items()
    }
    assert judged["split"]["valid_from"] == "train:0.9"


def test_compare_runs_what_needs_no_valid_split_and_says_why_the_rest_did_not(extracted, tmp_path):
    told = CliRunner().invoke(
        app,
        [
            "compare",
            "--dataset",
            str(extracted.path),
            "--device",
            "cpu",
            "--models",
            "lexical,drin",
            "--seeds",
            "0",
            "--run",
            str(tmp_path / "compare"),
        ],
    )
    assert told.exit_code == 0, told.output
    assert "not run: drin: " in told.stdout and "--valid-from train:0.1" in told.stdout


def test_a_run_on_another_split_is_refused(extracted, tmp_path):
    run(extracted, tmp_path, "bert", JointConfig(width=4), valid_from="train:0.2", epochs=1)
    with pytest.raises(ConfigError, match=r"belongs to another run: valid_from train:0\.2, now train:0\.3"):
        run(extracted, tmp_path, "bert", JointConfig(width=4), valid_from="train:0.3", epochs=1)
