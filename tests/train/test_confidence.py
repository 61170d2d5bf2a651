"""Calibration, risk and coverage, and abstention where no entity is right: against loops."""

import itertools
import json
import random
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import melcache
from common.errors import ConfigError
from tests.train import test_protocols
from tests.train.test_predict import CONFIGS
from train import loop, results
from train.config import TrainConfig
from train.config.judging import EvaluateConfig, PredictConfig
from train.inspecting import finished_run
from train.judging import calibration, confidence, predict, predictions, referee, show
from train.studies import summary


def looped_error(sure, right, bins=15):
    """Guo et al. (2017), Eq. 3: bins (m-1)/M to m/M, |B|/n of |acc - conf|."""
    total = 0.0
    for m in range(1, bins + 1):
        inside = [i for i, p in enumerate(sure) if (m - 1) / bins <= p < m / bins or (m == bins and p == 1)]
        if inside:
            accuracy = sum(right[i] for i in inside) / len(inside)
            mean = sum(sure[i] for i in inside) / len(inside)
            total += len(inside) / len(sure) * abs(accuracy - mean)
    return total


def looped_area(sure, right):
    """Geifman et al. (2019): the mean, over thresholds that are the confidences themselves, of the selective risk."""
    risks = []
    for threshold in sure:
        answered = [1 - r for p, r in zip(sure, right, strict=True) if p >= threshold]
        risks.append(sum(answered) / len(answered))
    return sum(risks) / len(risks)


def looped_threshold(sure, right, nil):
    """Return how many are right at best, over all thresholds between confidences."""
    values = sorted(set(sure))
    tried = [0.0, *((a + b) / 2 for a, b in itertools.pairwise(values))]
    return max(sum((n if p < t else r) for p, r, n in zip(sure, right, nil, strict=True)) for t in tried)


@pytest.mark.parametrize("seed", range(20))
def test_measures_of_confidence_are_those_of_loops(seed):
    rng = random.Random(seed)
    sure = [rng.choice([0.0, 0.2, 1 / 3, 0.5, 0.99, 1.0, rng.random()]) for _ in range(40)]
    nil = [rng.random() < 0.3 for _ in sure]
    right = [0.0 if n else rng.choice([0.0, 0.5, 1.0]) for n in nil]
    given = tuple(map(np.array, (sure, right, nil)))
    found = confidence.calibrated(*given[:2])
    assert found["ece"] == pytest.approx(looped_error(sure, right))
    assert found["area_under_risk"] == pytest.approx(looped_area(sure, right))
    threshold = confidence.nil_threshold(*given)
    told = confidence.abstaining(*given[1:], given[0] < threshold)
    assert told["accuracy_with_nil"] * 40 == pytest.approx(looped_threshold(sure, right, nil))


def test_what_abstaining_counts_on_four_mentions():
    """Nil and abstained: right. Nil and answered: wrong. An entity and abstained: wrong in any case."""
    right, nil = np.array([0.0, 0.0, 1.0, 1.0]), np.array([True, True, False, False])
    told = confidence.abstaining(right, nil, np.array([True, False, True, False]))
    assert told == {"abstained": 0.5, "nil": 2.0, "nil_accuracy": 0.5, "accuracy_with_nil": 0.5}
    nowhere = confidence.abstaining(right, np.zeros(4, bool), np.zeros(4, bool))
    assert (nowhere["nil"], nowhere["nil_accuracy"], nowhere["accuracy_with_nil"]) == (0.0, 0.0, 0.5)


def test_the_threshold_is_the_lowest_of_the_best_and_none_where_abstaining_gains_nothing():
    sure = np.array([0.1, 0.2, 0.8, 0.9])
    assert confidence.nil_threshold(sure, np.array([0, 0, 1, 1.0]), np.array([1, 1, 0, 0], bool)) == 0.5
    assert confidence.nil_threshold(sure, np.array([0, 0, 1, 1.0]), np.array([1, 0, 0, 0], bool)) == pytest.approx(0.15)
    assert confidence.nil_threshold(sure, np.ones(4), np.zeros(4, bool)) == 0
    assert confidence.nil_threshold(np.full(4, 0.5), np.zeros(4), np.ones(4, bool)) == 0
    assert confidence.nil_threshold(np.zeros(0), np.zeros(0), np.zeros(0, bool)) == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A cache whose release has mentions without gold, and a run of two seeds on it."""
    folder = tmp_path_factory.mktemp("nil")
    world = test_protocols.write_columns(folder / "world", test_protocols.world_columns(mentions=300))
    config = TrainConfig(
        dataset=str(world), model="bert", run=folder / "run", epochs=2, seeds=(0, 1), device="cpu", batch=64
    )
    return world, config.run, loop.fit(config, CONFIGS["bert"])


def test_results_hold_what_predictions_judged_say(trained, tmp_path):
    world, run, found = trained
    assert finished_run.results_of(run)["confidence"] == json.loads(json.dumps(found["confidence"]))
    for seed in found["confidence"]["seeds"]:
        said = tmp_path / "said"
        told = predict.predict(
            PredictConfig(
                run=run, out=said, seed=str(seed["seed"]), top=3, device="cpu", nil_below=min(1, seed["nil_below"])
            )
        )
        assert (told["temperature"], told["nil_below"]) == (seed["temperature"], seed["nil_below"])
        judged = referee.judge(EvaluateConfig(predictions=said, dataset=str(world)))["confidence"]
        assert judged == {name: seed[name] for name in judged}
        assert judged["nil"] > 5 and len(judged) == 7
        assert seed["risk_coverage"][-1][0] == 1.0
    mean = found["confidence"]["mean"]
    assert mean["ece"] == pytest.approx(np.mean([seed["ece"] for seed in found["confidence"]["seeds"]]))


def test_the_temperature_is_of_valid_alone(trained):
    """Whatever test's golds are, the temperature and the threshold stay."""
    world, run, found = trained
    reader = melcache.open(world)
    from train.judging import stored_scores

    scores = stored_scores.read(run, found, reader, 0)
    valid = scores["valid"]
    warm = calibration.temperature(valid.scores, stored_scores.golds_of(reader, valid))
    assert found["confidence"]["seeds"][0]["temperature"] == warm
    other = confidence.of_seed(reader, {"test": scores["test"]})
    assert (other["temperature"], other["nil_below"], other["abstained"]) == (1.0, 0.0, 0.0)


def test_the_table_says_how_far_to_believe_it(trained, tmp_path):
    _, run, found = trained
    shown = results.show(found, run)
    of = found["confidence"]["mean"]
    assert f"expected calibration error {100 * of['ece']:.1f}" in shown
    assert f"of {of['nil']:,.0f} mentions without gold in the cache" in shown
    assert "confidence" not in results.show(found | {"confidence": None}, run)


def test_nothing_is_said_of_abstention_where_nobody_abstains_and_no_entity_is_missing():
    told = {"abstained": 0.0, "nil": 0.0, "nil_accuracy": 0.0, "accuracy_with_nil": 0.9}
    assert show._confidence_lines(told) == []
    [line] = show._confidence_lines(told | {"abstained": 0.1})
    assert line.startswith("abstains on 10.0% of the mentions") and line.endswith("and on 90.0% of all")
    assert show._confidence_lines(told | {"nil": 3.0}) != []


@pytest.mark.parametrize(("seeds", "said"), [([0, 1, 2], "the mean scores of 3 seeds"), ([4], "seed 4")])
def test_predict_says_whose_scores_these_are(seeds, said):
    found = {"out": "x", "run": "r", "name": "drin", "seeds": seeds, "split": "test", "mentions": 9,
             "temperature": 1.0, "ece": None, "nil_below": 0.0}  # fmt: skip
    assert predict.show(found) == f"x: 9 mentions of test by drin, {said}, temperature 1"


def test_a_run_without_scores_of_a_seed_has_no_confidence(trained, tmp_path):
    world, run, found = trained
    (run / "scores-1.safetensors").rename(tmp_path / "away")
    assert confidence.of_run(run, found, melcache.open(world)) is None
    (tmp_path / "away").rename(run / "scores-1.safetensors")


SAID = {
    "no probability": (
        '{"id": "e", "score": 1}, {"id": "f", "score": 2, "probability": 0.5}',
        "of candidate 'e' is None",
    ),
    "above 1": ('{"id": "e", "score": 1, "probability": 1.1}', "is 1.1; all have one, 0 to 1"),
    "NaN": ('{"id": "e", "score": 1, "probability": NaN}', "is nan"),
    "text": ('{"id": "e", "score": 1, "probability": "1"}', "is '1'"),
}


@pytest.mark.parametrize("case", SAID)
def test_what_is_no_probability_is_named(tmp_path, case):
    candidates, message = SAID[case]
    (tmp_path / "said").write_text(f'{{"mention": "m", "candidates": [{candidates}]}}')
    with pytest.raises(ConfigError, match=f"line 1, mention 'm': the probability.* {message}"):
        predictions.read(tmp_path / "said")
    (tmp_path / "said").write_text('{"mention": "m", "nil": 1, "candidates": []}')
    with pytest.raises(ConfigError, match="line 1: nil is 1; expected true or false"):
        predictions.read(tmp_path / "said")


def test_systems_that_say_less_are_judged_by_what_they_say(trained, tmp_path):
    world, _, _ = trained
    reader = melcache.open(world)
    rows, golds = referee.rows_of(reader, "test", "retrieved"), reader.column("mention.ids.gold")
    said = tmp_path / "said"

    def judged(line):
        said.write_text("".join(json.dumps({"mention": str(row), **line(row)}) + "\n" for row in rows))
        return referee.judge(EvaluateConfig(predictions=said, dataset=str(world)))

    plain = judged(lambda row: {"candidates": [str(golds[row])] if golds[row] >= 0 else []})
    assert plain["confidence"] is None
    knowing = judged(lambda row: {"candidates": [str(golds[row])], "nil": bool(golds[row] < 0)})
    assert knowing["confidence"]["nil_accuracy"] == knowing["confidence"]["accuracy_with_nil"] == 1
    assert "right on 100.0% of the" in show.form(EvaluateConfig(predictions=said))(knowing)
    sure = judged(lambda row: {"candidates": [{"id": str(golds[row]), "score": 1, "probability": 0.75}]})
    assert set(sure["confidence"]) == {"ece", "area_under_risk", "risk_coverage"}
    share = np.mean(golds[rows] >= 0)
    assert sure["confidence"]["ece"] == pytest.approx(abs(share - 0.75))
    assert sure["confidence"]["risk_coverage"] == [[1.0, pytest.approx(1 - share)]]


def test_a_terminals_table_marks_the_best_and_a_pipes_does_not(trained):
    _, run, found = trained
    config = TrainConfig(dataset=found["config"]["dataset"], shards=Path(found["config"]["shards"]), run=run)
    tested = summary.beside_lexical(found, config)
    assert tested["mean"] == pytest.approx(found["mean"]["test"]["top1"] - found["lexical"]["test"]["top1"])
    assert tested["interval"][0] <= tested["mean"] <= tested["interval"][1] and 0 < tested["holm"] <= 1
    for holm, sign, said in (
        (0.0499, "†", "† top1 differs from that of"),
        (0.0501, "", "does not differ significantly"),
    ):
        shown = results.show(found, run, marked=True, tested=tested | {"holm": holm})
        (row,) = (line for line in shown.splitlines() if line.startswith("bert "))
        assert re.split(r" {2,}", row)[1].endswith(sign) and said in shown and ("†" in row) == bool(sign)
    assert summary.beside_lexical(found | {"protocol": "C whole-kb"}, config) is None
    plain, marked = results.show(found, run), results.show(found, run, marked=True)
    assert "*" not in plain and "* the best of its column" in marked
    first, test = found["lexical"]["test"], found["mean"]["test"]
    rows = [line for line in marked.splitlines() if line.startswith(("lexical", "bert"))][:2]
    shown = ("top1", "top1_of_ambiguous", "top3", "top5", "mrr")
    best = [[of[m] == max(first[m], test[m]) for m in shown] for of in (first, test)]
    for row, stars in zip(rows, best, strict=True):
        assert [cell.endswith("*") for cell in re.split(r"  +", row)[1 : 1 + len(shown)]] == stars


def test_how_seeds_stand_is_said_of_those_that_go_on():
    """Of two seeds the means of those in the last epoch; the best epoch is named of one alone."""

    def epoch(loss, top1):
        return {"loss": loss, "valid": {"top1": top1}}

    run = SimpleNamespace(config=SimpleNamespace(select="top1", epochs=9))
    one = [epoch(0.5, 0.25), epoch(0.4, 0.2)]
    assert results.so_far(run, [one], [1]) == "epoch 2 of 9, loss 0.4, valid top1 20.0, best 25.0 (epoch 1)"
    two = [one, [epoch(0.3, 0.35), epoch(0.2, 0.45)]]
    assert results.so_far(run, two, [1, 2]) == "epoch 2 of 9, loss 0.3, valid top1 32.5, best 35.0"
    assert results.so_far(run, [one, two[1][:1]], [1, 1]) == "epoch 2 of 9, loss 0.4, valid top1 20.0, best 25.0"
    assert results.so_far(run, [one], [0]) == "epoch 2 of 9, loss 0.4, valid top1 20.0"
