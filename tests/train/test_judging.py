"""Predictions of any system: judged as our own runs are and as ir_measures judges, or refused in one line."""

import json
import random

import numpy as np
import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

import melcache
from cache.writing.synth import Synthetic, write
from common.errors import ConfigError
from train import loop
from train.cli import app
from train.config import TrainConfig
from train.config.judging import EvaluateConfig
from train.data.row_names import row_names
from train.evaluating import metrics
from train.heads.joint.config import JointConfig
from train.judging import predictions, qrels, referee, show

TEST = 4


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged")
    write(folder / "world", Synthetic(150, 30, 6, 0.5, 0, "bert", text_width=8))
    return folder / "world"


@pytest.fixture(scope="module")
def world(cache):
    """By mention of test: the id of its gold, and those of its candidates."""
    reader = melcache.open(cache)
    ids, names = (row_names(reader, f"{table}.ids.id") for table in ("mention", "entity"))
    gold, lists = reader.column("mention.ids.gold"), reader.column("pair.candidates.candidates")
    rows = np.flatnonzero(reader.column("mention.ids.splits") & TEST)
    return {ids[row]: (names[gold[row]], [names[entity] for entity in lists[row] if entity >= 0]) for row in rows}


def lines(found):
    return "".join(json.dumps({"mention": name, "candidates": own}) + "\n" for name, own in found.items())


def scored(pairs):
    return [{"id": name, "score": score} for name, score in pairs]


def judged(cache, path, **options):
    return referee.judge(EvaluateConfig(predictions=path, dataset=str(cache), **options))


def test_a_constant_scorer_has_chance_under_every_protocol(cache, world, tmp_path):
    path = tmp_path / "constant.jsonl"
    for letter in "ABCD":
        every = row_names(melcache.open(cache), "entity.ids.id")
        path.write_text(
            lines({m: scored([(n, 0.5) for n in (every if letter == "C" else own)]) for m, (_, own) in world.items()})
        )
        found = judged(cache, path, protocol=letter)["metrics"]
        assert found["top1"] == pytest.approx(found["chance_top1"], abs=1e-12)
        assert found["adjusted_top1"] == pytest.approx(0, abs=1e-12)
        assert found["top1"] == pytest.approx(
            np.mean([1 / (30 if letter == "C" else len(own)) for _, own in world.values()])
        )


def test_the_order_of_a_file_and_names_help_nobody(cache, world, tmp_path):
    """Gold at position 0 under one score is chance; an entity of gold's name is a miss."""
    first, other = tmp_path / "first.jsonl", tmp_path / "other.jsonl"
    first.write_text(lines({m: scored([(g, 1), *((n, 1) for n in own if n != g)]) for m, (g, own) in world.items()}))
    assert judged(cache, first)["metrics"]["top1"] == pytest.approx(1 / 6)
    other.write_text(lines({m: scored([(g + "-namesake", 2), (g, 1)]) for m, (g, _) in world.items()}))
    found = judged(cache, other)
    assert found["metrics"]["top1"] == 0 and found["metrics"]["top3"] == 1
    assert found["unknown_candidates"] == len(world)


@pytest.mark.parametrize("protocol", ["retrieved", "whole-kb"])
def test_a_head_is_judged_as_its_own_run_says(cache, world, tmp_path, protocol):
    config = TrainConfig(
        dataset=str(cache), model="bert", run=tmp_path / "run", epochs=2, device="cpu", protocol=protocol
    )
    own = loop.fit(config, JointConfig(width=4))["seeds"][0]["test"]
    letter = {"retrieved": "A", "whole-kb": "C"}[protocol]
    reader = melcache.open(cache)
    ids, path = row_names(reader, "mention.ids.id"), tmp_path / "again.jsonl"
    ranks = load_file(tmp_path / "run/ranks-0.safetensors")
    told = {}
    for row, better, tied in zip(*(ranks[name].tolist() for name in ("rows", "better", "tied")), strict=True):
        above = [(f"above-{n}", 2.0) for n in range(better if better < metrics.NEVER else 0)]
        beside = [(f"beside-{n}", 1.0) for n in range(tied)]
        gold = [(world[ids[row]][0], 1.0)] if better < metrics.NEVER else []
        told[ids[row]] = scored([*above, *beside, *gold])
    path.write_text(lines(told))
    found = judged(cache, path, protocol=letter, against=tmp_path / "run")
    assert {name: found["metrics"][name] for name in own} == own
    assert all(of["mean"] == 0 and of["p"] == 1 for of in found["differences"].values())
    for slices in found["slices"].values():
        total = sum(of["top1"] * of["mentions"] for of in slices.values())
        assert total == pytest.approx(own["top1"] * own["mentions"])


def test_predictions_are_not_lost_to_golds_of_the_same_name(cache, tmp_path):
    (tmp_path / "answers").write_text("a week's work")
    with pytest.raises(ConfigError, match="would replace"):
        qrels.write(EvaluateConfig(qrels=tmp_path / "answers", predictions=tmp_path / "answers", dataset=str(cache)))
    assert (tmp_path / "answers").read_text() == "a week's work"


def test_a_thousand_random_runs_equal_ir_measures(cache, world, tmp_path):
    ir_measures = pytest.importorskip("ir_measures", reason="ir-measures is of the group dev")
    measures = {"top1": ir_measures.Success @ 1, "top5": ir_measures.Success @ 5, "mrr": ir_measures.RR}
    qrels.write(EvaluateConfig(qrels=tmp_path / "qrels", dataset=str(cache)))
    golds = list(ir_measures.read_trec_qrels(str(tmp_path / "qrels")))
    reader, rng = melcache.open(cache), random.Random(0)
    rows = referee.rows_of(reader, "test", "retrieved")
    path = tmp_path / "run.trec"
    for _ in range(1000):
        told = [
            f"{m} Q0 {name} 0 {score} r"
            for m, (_, own) in world.items()
            for name, score in zip(rng.sample(own, rng.randint(1, len(own))), rng.sample(range(100), 6), strict=False)
        ]
        path.write_text("\n".join(told))
        better, tied, _ = referee.ranked(predictions.read(path), reader, rows, "retrieved")
        expected = ir_measures.calc_aggregate(measures.values(), golds, ir_measures.read_trec_run(str(path)))
        found = metrics.summarize(better, tied)
        assert {name: expected[measure] for name, measure in measures.items()} == pytest.approx(
            {name: found[name] for name in measures}
        )


BAD = {
    "no file": (None, "there is no such file"),
    "empty": ("", "is empty"),
    "no JSON": ("{", "line 1 is no JSON"),
    "no object": ('{"mention": "m", "candidates": []}\n[]', "line 2: expected"),
    "no candidates": ('{"mention": "m"}', "line 1: expected"),
    "no score": ('{"mention": "m", "candidates": [{"id": "e"}]}', "a candidate is not"),
    "text as score": ('{"mention": "m", "candidates": [{"id": "e", "score": "1"}]}', "a candidate is not"),
    "NaN": ('{"mention": "m", "candidates": [{"id": "e", "score": NaN}]}', "score of candidate 'e' is nan"),
    "infinite": ("m Q0 e 1 inf r", "score of candidate 'e' is inf"),
    "no float": ('{"mention": "m", "candidates": [{"id": "e", "score": 1%s}]}' % ("0" * 400), "'e' is beyond 2e"),
    "mention twice": ('{"mention": "m", "candidates": []}\n' * 2, "line 2: mention 'm' stands there twice"),
    "candidate twice": ('{"mention": "m", "candidates": ["e", "e"]}', "candidate 'e' stands there twice"),
    "five fields": ("m Q0 e 1 2", "line 1 has 5 fields"),
    "no number": ("m Q0 e 1 best r", "line 1: the score is 'best'"),
    "mention unknown": ('{"mention": "nobody", "candidates": []}', "1 mentions that the cache does not have"),
    "selected on": ('{"system": "x", "selected_on": "dev"}', "selected_on is 'dev'"),
    "no text": (b"\xff\xfe{}", "is not UTF-8"),
    "whole and infinite": (
        f'{{"mention": "m", "candidates": [{{"id": "e", "score": 1{"0" * 400}}}]}}',
        "score of candidate 'e' is beyond 2e.308",
    ),
    "name twice": (
        '{"mention": "m", "candidates": ["e"], "candidates": ["f"]}',
        "line 1 is no JSON .*'candidates' twice",
    ),
    "score twice": ('{"mention": "m", "candidates": [{"id": "e", "score": 1, "score": 2}]}', "says 'score' twice"),
    "twice far apart": (
        json.dumps({"mention": "m", "candidates": [*map(str, range(60_000)), "59999"]}),
        "candidate '59999' stands there twice",  # 60,000 copies of 60,000 names took half a minute
    ),
}


def test_a_mark_in_front_of_the_text_is_none_of_it(tmp_path):
    path = tmp_path / "marked.jsonl"
    path.write_text('{"mention": "m", "candidates": ["e"]}', encoding="utf-8-sig")
    assert predictions.read(path).lists["m"].ids == ("e",)


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_prediction_is_one_line(cache, tmp_path, name):
    content, message = BAD[name]
    path = tmp_path / "bad"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=message) as error:
        judged(cache, path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_a_mention_without_answer_and_a_list_without_gold_are_named(cache, world, tmp_path):
    path = tmp_path / "some.jsonl"
    path.write_text(lines({name: scored([(gold, 1)]) for name, (gold, _) in list(world.items())[1:]}))
    with pytest.raises(ConfigError, match=f"lacks 1 of the {len(world)} mentions, first '{next(iter(world))}'"):
        judged(cache, path)
    told = {name: scored([(gold, 1)]) for name, (gold, _) in world.items()} | {next(iter(world)): []}
    path.write_text(lines(told))
    with pytest.raises(ConfigError, match=f"mention '{next(iter(world))}': protocol B puts gold into every list"):
        judged(cache, path, protocol="B")
    assert judged(cache, path)["metrics"]["recall"] == pytest.approx(1 - 1 / len(world))


def test_two_systems_differ_by_what_a_loop_says(cache, world, tmp_path):
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path, right in zip(paths, (0.9, 0.4), strict=True):
        rng = random.Random(right)
        told = {m: scored([(g, 2 * (rng.random() < right)), (own[0] + "-x", 1)]) for m, (g, own) in world.items()}
        path.write_text('{"system": "s & t", "selected_on": "test"}\n' + lines(told))
    found = judged(cache, paths[0], against=paths[1])
    assert (found["system"], found["selected_on"]) == ("s & t", "test")
    tops = [judged(cache, path)["metrics"]["top1"] for path in paths]
    assert found["differences"]["top1"]["mean"] == pytest.approx(tops[0] - tops[1])
    low, high = found["intervals"]["top1"]
    assert low < tops[0] <= high
    command = ["evaluate", "--predictions", str(paths[0]), "--dataset", str(cache)]
    told = {
        flag: CliRunner().invoke(app, [*command, *flag.split()]).stdout for flag in ("", "--json", "--tsv", "--latex")
    }
    assert json.loads(told["--json"])["metrics"]["top1"] == tops[0]
    assert told["--tsv"].splitlines()[1].split("\t")[5] == f"{tops[0]:.6f}"
    assert told["--latex"].startswith(r"s \& t & " + f"{100 * tops[0]:.1f}") and told["--latex"].strip().endswith(r"\\")
    assert "selected on test" in told[""] and "adjusted top1" in told[""]


def test_which_scores_of_a_run_are_compared_is_told(cache, world, tmp_path):
    """The mean of the seeds' metrics, by a loop over what each seed's results say."""
    path, run = tmp_path / "all.jsonl", tmp_path / "run"
    path.write_text(lines({m: scored([(gold, 1)]) for m, (gold, _) in world.items()}))
    for seeds, told in (((0,), "metrics of seed 0"), ((0, 1), "mean of the metrics of seeds 0, 1")):
        given = {"epochs": 1, "device": "cpu", "seeds": seeds}
        own = loop.fit(TrainConfig(dataset=str(cache), model="bert", run=run, **given), JointConfig(width=4))["seeds"]
        found = judged(cache, path, against=run)
        assert found["against_is"] == told
        assert found["differences"]["mrr"]["mean"] == pytest.approx(1 - np.mean([seed["test"]["mrr"] for seed in own]))
        shown = show.form(EvaluateConfig(predictions=path))(found)
        assert f"\n{run}: {told}" in shown and ("their mean scores are another system" in shown) is (len(seeds) > 1)
        *slices, headline, differences = shown.split("\n\n")
        assert len(slices) == 2 and headline.startswith("system") and differences.startswith("minus"), "in sight"
    assert judged(cache, path, against=path)["against_is"] == "metrics of its lists"
    assert judged(cache, path)["against_is"] is None


def test_what_a_file_says_is_printed_as_text(cache, world, tmp_path):
    path = tmp_path / "odd.jsonl"
    path.write_text('{"system": "\\u001b[31mred"}\n' + lines({name: [] for name in world}))
    assert "\x1b" not in show.form(EvaluateConfig(predictions=path))(judged(cache, path))
