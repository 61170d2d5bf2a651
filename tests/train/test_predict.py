"""Predictions of a run: judged they are the run's own results; probabilities and their calibration against loops."""

import csv
import dataclasses
import io
import json
import math
import os
import random
import re
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from cache.writing.synth import Synthetic, write
from common.errors import ConfigError, NotFiniteError
from train import loop
from train.cli import app
from train.config import TrainConfig
from train.config.judging import EvaluateConfig, PredictConfig
from train.data.row_names import row_names
from train.heads.registry import HEADS, OURS
from train.judging import calibration, predict, referee
from train.optimizing import checkpoint
from train.run_folder import run_files

SMALL = {"width": 4, "attention_heads": 2, "characters": 8, "character_width": 4}  # of heads that have these


def small(name):
    """The config of a head, small; None of one without weights."""
    if (kind := HEADS[name].config) is None:
        return None
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**{knob: value for knob, value in SMALL.items() if knob in known}).named(name)


CONFIGS = {name: small(name) for name in OURS}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A cache, and by head a run of it with two seeds."""
    folder = tmp_path_factory.mktemp("predicted")
    write(
        folder / "world", Synthetic(150, 30, 6, 0.6, 0, ",".join(CONFIGS), text_width=8, image_width=8, joint_width=8)
    )
    found = {}
    for name, head in CONFIGS.items():
        config = TrainConfig(
            dataset=str(folder / "world"), model=name, run=folder / name, epochs=2, seeds=(0, 1), batch=64, device="cpu"
        )
        found[name] = (config.run, loop.fit(config, head))
    return folder / "world", found


def predicted(run, out, **options):
    return predict.predict(PredictConfig(run=run, out=out, device="cpu", **options))


def test_a_trec_run_judged_is_the_runs_own_results(runs, tmp_path):
    cache, found = runs
    run, results = found["drin"]
    for seed in results["seeds"]:
        predicted(run, tmp_path / "said", seed=str(seed["seed"]), top=0, format="trec")
        judged = referee.judge(EvaluateConfig(predictions=tmp_path / "said", dataset=str(cache)))
        assert {metric: judged["metrics"][metric] for metric in seed["test"]} == seed["test"]


def test_what_a_line_holds_is_ranked_and_sums_to_one(runs, tmp_path):
    run = runs[1]["drin"][0]
    told = predicted(run, tmp_path / "all.jsonl", top=0)
    first, *lines = map(json.loads, (tmp_path / "all.jsonl").read_text().splitlines())
    assert first["selected_on"] == "valid" and told["mentions"] == len(lines) and told["seeds"] == [0, 1]
    for line in lines:
        scores = [candidate["score"] for candidate in line["candidates"]]
        assert scores == sorted(scores, reverse=True)
        shares = [math.exp((score - scores[0]) / told["temperature"]) for score in scores]
        expected = [share / sum(shares) for share in shares]
        assert [candidate["probability"] for candidate in line["candidates"]] == pytest.approx(expected, abs=1e-6)
        place = [candidate["id"] for candidate in line["candidates"]].index(line["gold"])
        assert line["rank"] == place + 1 and not line["nil"]
    predicted(run, tmp_path / "sure.jsonl", top=2, nil_below=0.9)
    sure = list(map(json.loads, (tmp_path / "sure.jsonl").read_text().splitlines()))[1:]
    assert [line["nil"] for line in sure] == [line["candidates"][0]["probability"] < 0.9 for line in lines]
    assert all(len(line["candidates"]) == 2 for line in sure)


def test_the_mean_of_seeds_is_the_mean_of_their_scores(runs, tmp_path):
    run, by_seed = runs[1]["bert"][0], []
    for seed in ("0", "1", "mean"):
        predicted(run, tmp_path / "said", seed=seed, top=0)
        lines = map(json.loads, (tmp_path / "said").read_text().splitlines()[1:])
        by_seed.append({(line["mention"], c["id"]): c["score"] for line in lines for c in line["candidates"]})
    first, second, mean = by_seed
    for key, score in mean.items():
        assert score == pytest.approx((first[key] + second[key]) / 2, abs=1e-6)


def test_a_row_a_candidate_and_the_command(runs, tmp_path):
    run = runs[1]["bert"][0]
    done = CliRunner().invoke(
        app, ["predict", "--run", str(run), "--out", str(tmp_path / "x.csv"), "--format", "csv", "--top", "3", "--json"]
    )
    told = json.loads(done.stdout)
    with (tmp_path / "x.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * told["mentions"] and set(rows[0]) == set(predict.FLAT)
    for options, message in (
        ({"seed": "7"}, "--seed 7: .* has 0, 1, or give mean"),
        ({"seed": "best"}, "or give mean"),
        ({"run": tmp_path}, "holds no finished run"),
    ):
        with pytest.raises(ConfigError, match=message):
            predict.predict(PredictConfig(**{"run": run, "out": tmp_path / "out"} | options))
    with pytest.raises(ConfigError, match="it is a probability"):
        PredictConfig(run=run, out=tmp_path, nil_below=2)


def test_a_mention_without_candidates_is_in_every_form_that_can_say_so(capsys):
    """It counts as wrong: one that is left out would be missed, or not be counted at all."""
    some = {"id": "Q1", "name": "one", "score": 0.5, "probability": 1.0}
    records = [
        {"mention": name, "gold": "Q1", "rank": None, "nil": not list_, "candidates": list_}
        for name, list_ in (("a", []), ("b", [some]))
    ]
    about = {"name": "x", "seeds": [{"history": []}], "cache_id": "0", "split": {"valid_from": None}}
    rows = list(csv.DictReader(io.StringIO(predict.FORMATS["csv"](records, about).decode())))
    assert [tuple(row.values()) for row in rows] == [
        ("a", "", "", "Q1", "", "", "", "True", "", "", "", ""),
        ("b", "", "", "Q1", "", "", "", "False", "Q1", "one", "0.5", "1.0"),
    ]
    assert predict.FORMATS["jsonl"](records, about).count(b'"mention"') == 2
    assert predict.FORMATS["trec"](records, about) == b"b Q0 Q1 1 0.5 x\n"
    assert "warning: 1 mentions have no candidates" in capsys.readouterr().err


def test_the_temperature_is_the_likeliest_of_a_fine_grid():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(200, 5))
    scores[::7, 3] = -np.inf
    gold = scores.argmax(1)
    gold[::3] = rng.integers(0, 3, len(gold[::3]))
    gold[::10] = -1
    found = calibration.temperature(scores * 4, gold)

    def likelihood(warm):
        total = 0.0
        for row, place in zip(scores * 4, gold, strict=True):
            if place >= 0:
                total += row[place] / warm - math.log(sum(math.exp(s / warm) for s in row if math.isfinite(s)))
        return total

    grid = np.exp(np.linspace(math.log(found) - 1, math.log(found) + 1, 41))
    assert max(grid, key=likelihood) == pytest.approx(found, rel=0.06)
    assert calibration.temperature(scores, np.full(200, -1)) == 1.0


def test_calibration_error_and_risk_are_those_of_loops():
    rng = random.Random(0)
    sure = np.array([rng.choice([0.1, 0.45, 0.5, 0.99, 1.0]) for _ in range(60)])
    right = np.array([float(rng.random() < p) for p in sure])
    expected = 0.0
    for low in range(15):
        inside = [(p, r) for p, r in zip(sure, right, strict=True) if min(int(p * 15), 14) == low]
        if inside:
            apart = sum(p for p, _ in inside) / len(inside) - sum(r for _, r in inside) / len(inside)
            expected += abs(apart) * len(inside) / 60
    assert calibration.expected_calibration_error(sure, right) == pytest.approx(expected)
    coverage, risk = calibration.risk_coverage(sure, right)
    for cover, bad in zip(coverage, risk, strict=True):
        threshold = sorted(sure, reverse=True)[round(cover * 60) - 1]
        answered = [1 - r for p, r in zip(sure, right, strict=True) if p >= threshold]
        assert (len(answered) / 60, sum(answered) / len(answered)) == pytest.approx((cover, bad))
    assert calibration.area_under_risk(np.full(9, 0.5), np.array([1, 0, 0] * 3)) == pytest.approx(2 / 3)
    exact = np.linspace(1, 0.5, 1000)
    wrong = np.zeros(1000)
    wrong[500:] = 1  # the surer half is right
    steps = [(1 - (1 - wrong)[:k].mean()) for k in range(1, 1001)]
    assert calibration.area_under_risk(exact, 1 - wrong) == pytest.approx(np.mean(steps), abs=2e-3)


def test_points_of_the_curve_are_on_it_and_few():
    rng = np.random.default_rng(1)
    sure = rng.random(5000)
    right = (rng.random(5000) < sure).astype(float)
    points = calibration.risk_points(sure, right, 50)
    curve = set(zip(*(values.tolist() for values in calibration.risk_coverage(sure, right)), strict=True))
    assert 45 <= len(points) <= 50 and set(map(tuple, points)) <= curve
    assert points == sorted(points) and points[-1] == [1.0, pytest.approx(1 - right.mean())]
    assert max(np.diff([0, *(cover for cover, _ in points)])) < 2 / 49
    assert calibration.risk_points(np.array([0.5, 0.5]), np.array([1.0, 0.0])) == [[1.0, 0.5]]
    assert calibration.risk_points(np.zeros(0), np.zeros(0)) == []


def strange(runs, tmp_path, change):
    """What predicting with a changed copy of DRIN's run is refused with, if it kept no scores."""
    run = shutil.copytree(runs[1]["drin"][0], tmp_path / "run", ignore=shutil.ignore_patterns("scores-*"))
    change(run, runs[1]["bert"][0])
    with pytest.raises((ConfigError, NotFiniteError)) as error:
        predicted(run, tmp_path / "out", seed="0")
    assert "\n" not in str(error.value)
    return str(error.value)


def another_seed(run, other):
    (run / "seed-1.safetensors").replace(run / "seed-0.safetensors")


def another_run(run, other):
    shutil.copy(other / "seed-0.safetensors", run)


def no_head(run, other):
    told = json.loads((run / "results.json").read_text())
    del told["digest"]
    told["config"]["model"] = "mine"
    (run / "results.json").write_bytes(run_files.written(run_files.sealed(told)))


def endless_weights(run, other):
    tensors, about, what = checkpoint.load(run / "seed-0.safetensors", lambda file: file.layout)
    checkpoint.save(run / "seed-0.safetensors", {name: 1e30 * held for name, held in tensors.items()}, about, what)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (another_seed, "seed-0.safetensors is not .*it is of another training than the results beside it"),
        (another_run, "seed-0.safetensors is not .*it is of another training than the results beside it"),
        (no_head, "is of the head 'mine', which melcache does not have"),
        (endless_weights, "scores of .*run are not finite"),
    ],
)
def test_a_run_of_parts_of_others_predicts_nothing(runs, tmp_path, change, message):
    assert re.search(message, strange(runs, tmp_path, change))


def test_sentences_of_a_release_stand_in_each_line(runs, tmp_path):
    asked = []

    def sentences(folder, reader):
        asked.append((folder, reader.path))
        return {name: f"a sentence of {name}" for name in row_names(reader, "mention.ids.id")[:-1]}

    config = PredictConfig(run=runs[1]["bert"][0], out=tmp_path / "out", split="all", release=tmp_path / "release")
    predict.predict(config, sentences)
    _, *lines = map(json.loads, (tmp_path / "out").read_text().splitlines())
    assert [line.get("text") for line in lines[:-1]] == [f"a sentence of {line['mention']}" for line in lines[:-1]]
    assert "text" not in lines[-1] and [folder for folder, _ in asked] == [tmp_path / "release"]
    with pytest.raises(ConfigError, match="only `melcache predict` reads releases"):
        predict.predict(config)


def test_a_pipe_to_write_to_is_refused_before_the_run_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=r"--out .*pipe: no regular file has that name"):
        predict.predict(PredictConfig(run=tmp_path / "absent", out=tmp_path / "pipe"))
