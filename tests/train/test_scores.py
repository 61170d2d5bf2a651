"""Scores that runs keep: read they are what the heads give again, and predictions from them the runs' own results."""

import json
import shutil
from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import melcache
from cache.edges import rounded
from cache.writing.synth import Synthetic, write
from common.errors import ConfigError
from common.options import from_json
from tests.train import test_protocols
from tests.train.test_predict import CONFIGS
from train import loop
from train.config import TrainConfig
from train.config.judging import EvaluateConfig, PredictConfig
from train.evaluating import best_entities, exact_scores, metrics, protocols, ranking, whole_kb
from train.evaluating.whole_kb import Towers
from train.heads.registry import HEADS
from train.inspecting import finished_run
from train.judging import gold_rank, predict, referee, scoring, stored_scores
from train.optimizing import checkpoint
from train.processes import World
from train.run_folder import run_files
from train.run_folder.run_files import NUMBERS

ENTITIES = 130  # more than a run keeps of a mention


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    names = ",".join(CONFIGS)
    sizes = {"text_width": 8, "image_width": 8, "joint_width": 8}
    write(folder / "world", Synthetic(90, ENTITIES, 6, 0.3, 0, names, shares=(0.5, 0.2, 0.3), **sizes))
    return folder / "world"


@pytest.fixture(scope="module")
def edges(tmp_path_factory):
    """A cache with what edges of any pair are computed from, and gold that is missing in lists."""
    return test_protocols.write_columns(tmp_path_factory.mktemp("edges") / "edges", test_protocols.world_columns())


def fitted(cache, run, name, **given):
    given = {"epochs": 2, "device": "cpu", "batch": 64} | given
    return loop.fit(TrainConfig(dataset=str(cache), model=name, run=run, **given), CONFIGS[name])


@pytest.fixture(scope="module")
def drin(cache, tmp_path_factory):
    """A run of two seeds."""
    run = tmp_path_factory.mktemp("kept") / "drin"
    fitted(cache, run, "drin", seeds=(0, 1))
    return run


@pytest.fixture
def run(drin, tmp_path):
    """A copy of it."""
    shutil.copytree(drin, tmp_path / "run")
    return tmp_path / "run"


def predicted(run, out, **options):
    return predict.predict(PredictConfig(run=run, out=out, device="cpu", **options))


def judged(cache, path, letter="A", **options):
    return referee.judge(EvaluateConfig(predictions=path, dataset=str(cache), protocol=letter, **options))["metrics"]


def no_head(*_):
    raise AssertionError("a head was asked, though its scores were kept")


RERANKED = [name for name in CONFIGS if protocols.Ranking(HEADS[name], "whole-kb").reranks]


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in RERANKED])
def test_the_best_of_all_entities_judged_by_lists_alone_are_the_runs_own_so_far(cache, tmp_path, monkeypatch, name):
    """Ranks are exact as far as a list reaches; a gold whose tie reaches beyond it counts as not there."""
    results = fitted(cache, tmp_path / "run", name, protocol="whole-kb", epochs=1)
    monkeypatch.setattr(scoring, "Heads", no_head)
    predicted(tmp_path / "run", tmp_path / "said", top=0)
    found = judged(cache, tmp_path / "said", "C", lists_only=True)
    ranks = load_file(tmp_path / "run/ranks-0.safetensors")
    better, tied = ranks["better"], ranks["tied"]
    if results["ranked"] == "all":  # all but lexical, which ranks its list
        lost = better + tied >= best_entities.KEPT
        assert lost.any() or name in ("clip", "ours")  # else nothing of this is tried
        better, tied = better.masked_fill(lost, metrics.NEVER), tied.masked_fill(lost, 0)
        own = results["seeds"][0]["test"]
        assert all(found[f"top{k}"] == own[f"top{k}"] for k in (1, 5, 10, 20)) or name == "prior"
    expected = metrics.summarize(better, tied)
    assert {metric: found[metric] for metric in expected} == expected


def test_seeds_that_rank_all_entities_have_a_mean(cache, tmp_path):
    """Each kept a list of its own: the mean is of the scores of all entities."""
    run = tmp_path / "run"
    fitted(cache, run, "jmel", protocol="whole-kb", seeds=(0, 1), epochs=1)
    reader, results = melcache.open(cache), finished_run.results_of(run)
    scorers = [scoring.Scorer(run, results, reader, seeds, "cpu") for seeds in ([0], [1], [0, 1])]
    rows = np.flatnonzero(reader.column("mention.ids.splits") == 4)
    first, second, mean = (scorer.scored(rows) for scorer in scorers)
    tables = [
        {
            (row, entity): score
            for row, *own in zip(rows, f.entities, f.scores, strict=True)
            for entity, score in zip(*own, strict=True)
        }
        for f in (first, second, mean)
    ]
    better, tied = scorers[2].gold_ranks(mean)
    alone, beside = gold_rank.in_lists(reader, mean)
    listed = alone < metrics.NEVER
    assert (better[listed] == alone[listed]).all() and (tied[listed] == beside[listed]).all()
    assert (~listed).any() and (better[~listed] >= (mean.entities[~listed] >= 0).sum(1)).all()
    everything = scorers[2].heads.gold_ranks(torch.from_numpy(rows))
    assert np.array_equal(everything[0], better) and np.array_equal(everything[1], tied)
    both = tables[0].keys() & tables[1].keys() & tables[2].keys()
    assert len(both) > 1000
    assert all(tables[2][key] == (tables[0][key] + tables[1][key]) / 2 for key in both if key[1] >= 0)


def test_the_mean_over_all_entities_weighs_seeds_as_the_mean_in_lists_does(cache, tmp_path):
    """The towers of ours give its score divided by the sum of its weights, which no two seeds have the same."""
    run = tmp_path / "run"
    results = fitted(cache, run, "ours", protocol="whole-kb", seeds=(0, 1, 2), epochs=3, learning_rate=0.05)
    reader = melcache.open(cache)
    rows = torch.from_numpy(np.flatnonzero(reader.column("mention.ids.splits") == 4))
    config = from_json(TrainConfig, {name: value for name, value in results["config"].items() if name != "ours"})
    heads = scoring.Heads(run, results, config, reader, [0, 1, 2], "cpu")
    reaches = [float(head.inside.reach().detach()) for head in heads.trained]
    assert max(reaches) > 1.01 * min(reaches)
    found, split = heads.scored(rows), ranking.split_among(heads.table, rows)
    logits = np.mean([ranking.scores(head.model, split).numpy() for head in heads.trained], 0)
    lists = heads.table.candidates[rows].tolist()
    told = [dict(zip(*own, strict=True)) for own in zip(found.entities.tolist(), found.scores.tolist(), strict=True)]
    pairs = [
        (told[i][entity], logits[i, j])
        for i, listed in enumerate(lists)
        for j, entity in enumerate(listed)
        if entity in told[i]
    ]
    assert len(pairs) > 100
    assert [own * np.mean(reaches) for own, _ in pairs] == pytest.approx(
        [logit for _, logit in pairs], rel=1e-5, abs=1e-5
    )


def test_sums_of_many_heads_over_all_entities_are_exact():
    """Sums beyond 8 need more bits than float64 has; the oracle adds fractions."""
    draw = torch.Generator().manual_seed(0)
    for count in (2, 8, 9, 17):
        sides = [torch.nn.functional.normalize(torch.randn(40, 16, generator=draw), dim=1) for _ in range(count)]
        heads = [
            Towers(
                side.__getitem__,
                side.__getitem__,
                lambda rows, those, n=n: torch.full((len(rows), len(those)), float(n)),
            )
            for n, side in enumerate(sides)
        ]
        towers, scale = scoring.side_by_side(heads, [1.0] * count)
        rows = torch.arange(40)
        left, right = (rounded(vectors(rows), normal=False) for vectors in (towers.mentions, towers.entities))
        found = exact_scores.all_exact(left, right, None).diagonal()
        for n, score in enumerate(found.tolist()):
            pairs = zip(left[n].tolist(), right[n].tolist(), strict=True)
            assert Fraction(score) == sum(Fraction(a) * Fraction(b) for a, b in pairs)
            assert score * scale == pytest.approx(count, abs=1e-5)  # each head's cosine is 1
        assert torch.equal(towers.pairs(rows, rows) * scale, torch.full((40, 40), count * (count - 1) / 2))


def test_the_mean_of_seeds_does_not_depend_on_what_stands_beside_a_mention():
    scores = list(np.random.default_rng(0).normal(size=(9, 500, 11)).astype(np.float32))
    every = stored_scores.mean(scores)
    assert every.dtype == np.float32 and np.allclose(every, np.mean(scores, 0), atol=1e-6)
    for row in range(500):
        assert np.array_equal(stored_scores.mean([own[row : row + 1, :1] for own in scores]), every[row : row + 1, :1])


def test_kept_scores_and_those_given_again_have_one_mean(run, cache, monkeypatch):
    monkeypatch.setattr(stored_scores, "mean", lambda every: every[-1])
    reader, results = melcache.open(cache), finished_run.results_of(run)
    rows = np.flatnonzero(reader.column("mention.ids.splits") == 4)
    wanted = scoring.Scorer(run, results, reader, [1], "cpu").scored(rows).scores
    scorer = scoring.Scorer(run, results, reader, [0, 1], "cpu")
    for found in (scorer.scored(rows), scorer.heads.scored(torch.from_numpy(rows))):
        assert np.array_equal(found.scores, wanted)


@pytest.mark.parametrize("options", [{}, {"seed": "1"}, {"split": "valid"}, {"format": "trec"}])
def test_predictions_are_the_same_whether_scores_were_kept_or_not(run, tmp_path, monkeypatch, options):
    with monkeypatch.context() as patched:
        patched.setattr(scoring, "Heads", no_head)
        kept = predicted(run, tmp_path / "kept", top=0, **options)
    for path in run.glob("scores-*"):
        path.unlink()
    anew = predicted(run, tmp_path / "anew", top=0, **options)
    assert (tmp_path / "kept").read_bytes() == (tmp_path / "anew").read_bytes()
    assert {**kept, "out": ""} == {**anew, "out": ""}


def test_mentions_without_kept_scores_are_scored_beside_those_with(run, tmp_path):
    predicted(run, tmp_path / "all", split="all", top=0)
    lines = list(map(json.loads, (tmp_path / "all").read_text().splitlines()[1:]))
    assert len(lines) == 90
    for split in ("test", "train"):
        predicted(run, tmp_path / split, split=split, top=0)
        some = list(map(json.loads, (tmp_path / split).read_text().splitlines()[1:]))
        scores = {(line["mention"], c["id"]): c["score"] for line in lines for c in line["candidates"]}
        for line in some:
            for candidate in line["candidates"]:
                assert scores[line["mention"], candidate["id"]] == pytest.approx(candidate["score"], abs=1e-6)


def test_of_another_cache_no_scores_were_kept(run, edges):
    assert stored_scores.read(run, finished_run.results_of(run), melcache.open(edges), 0) == {}


def test_kept_scores_map_the_file_and_take_four_bytes_a_candidate(run, cache):
    reader, results = melcache.open(cache), finished_run.results_of(run)
    found = stored_scores.read(run, results, reader, 0)
    assert not found["test"].scores.flags.owndata and not found["test"].scores.flags.writeable
    cells = sum(own.scores.size for own in found.values())
    rows = sum(len(own.rows) for own in found.values())
    header = 8 + int.from_bytes((run / "scores-0.safetensors").read_bytes()[:8], "little")
    assert (run / "scores-0.safetensors").stat().st_size == header + 4 * cells + 8 * rows


DAMAGES = {
    "cut": (lambda data: data[:-8], "copied only in part"),
    "a bit": (lambda data: data[:-9] + bytes([data[-9] ^ 16]) + data[-8:], "their checksum differs"),
    "noise": (lambda data: b"noise", "no header of safetensors"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damaged_scores_are_a_line_that_says_what_mends_it(run, cache, tmp_path, case):
    change, message = DAMAGES[case]
    path = run / "scores-0.safetensors"
    path.write_bytes(change(path.read_bytes()))
    for attempt in (
        lambda: predicted(run, tmp_path / "said"),
        lambda: fitted(cache, run, "drin", seeds=(0, 1)),
    ):
        with pytest.raises(ConfigError, match=message) as error:
            attempt()
        assert "scores-0.safetensors" in str(error.value) and "Remove it" in str(error.value)
        assert "\n" not in str(error.value)
    path.unlink()
    predicted(run, tmp_path / "said")


def rewritten(path, change):
    """Replace the tensors of a file by what `change` makes of them, with checksums that fit."""
    with run_files.open_tensors(path) as file:
        about, what = file.about, file.what
        tensors = {name: torch.from_numpy(file.mapped(name).copy()) for name in file.stored}
    change(tensors, what)
    checkpoint.save(path, tensors, about, what)


FOREIGN = {
    "NaN": lambda t, _: t["test.scores"].fill_(np.nan),
    "infinity": lambda t, _: t["test.scores"].fill_(np.inf),
    "other numbers": lambda t, _: t["test.scores"].neg_(),
    "a wider list": lambda t, _: t.update({"test.scores": torch.cat([t["test.scores"]] * 2, 1)}),
    "other rows": lambda t, _: t["test.rows"].sub_(1),
    "rows beyond": lambda t, _: t["test.rows"].add_(1000),
    "rows twice": lambda t, _: t["test.rows"].fill_(3),
    "fewer": lambda t, _: t.update({name: tensor[:2] for name, tensor in t.items()}),
    "no test": lambda t, _: [t.pop(name) for name in ("test.rows", "test.scores")],
    "whole numbers": lambda t, _: t.update({"test.scores": t["test.scores"].long()}),
    "a type that is none": lambda t, _: t.update({"test.scores": t["test.scores"].half()}),
    "one number": lambda t, _: t.update({"test.scores": t["test.scores"][0, 0]}),
    "no scores": lambda t, _: t.pop("valid.scores"),
    "another seed": lambda _, what: what.update(seed=1),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_scores_that_no_test_of_the_run_has_are_refused_in_a_line(run, tmp_path, case):
    rewritten(run / "scores-0.safetensors", FOREIGN[case])
    with pytest.raises(
        ConfigError, match=r"scores-0\.safetensors is not a checkpoint of melcache .*Remove it"
    ) as error:
        predicted(run, tmp_path / "said")
    assert "\n" not in str(error.value)


def test_scores_of_another_training_are_refused(run, cache, tmp_path):
    fitted(cache, tmp_path / "other", "drin", epochs=1)
    shutil.copy(tmp_path / "other/scores-0.safetensors", run)
    for attempt in (lambda: predicted(run, tmp_path / "said"), lambda: fitted(cache, run, "drin", seeds=(0, 1))):
        with pytest.raises(ConfigError, match="scores of another training"):
            attempt()


def test_a_kill_while_scores_are_kept_leaves_nothing_half(cache, run, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    for step in ("keep_ranks", "finish"):
        with monkeypatch.context() as patched:
            patched.setattr(checkpoint.Checkpoints, step, kill)
            with pytest.raises(Killed):
                fitted(cache, tmp_path / step, "drin", seeds=(0, 1))
        assert not (tmp_path / step / "seed-0.safetensors").exists()
        fitted(cache, tmp_path / step, "drin", seeds=(0, 1))
        for name in ("scores-0.safetensors", "scores-1.safetensors"):  # valid's are those of the best epoch, too
            assert load_file(tmp_path / step / name).keys() == load_file(run / name).keys()
            for tensor, held in load_file(run / name).items():
                assert torch.equal(load_file(tmp_path / step / name)[tensor], held)
    fitted(cache, run, "drin", seeds=(0,), fresh=True)
    assert not (run / "scores-1.safetensors").exists()


def test_kept_scores_of_valid_are_those_of_the_best_epoch(cache, tmp_path):
    results = fitted(cache, tmp_path / "run", "bert", seeds=(0, 1, 2), epochs=4)
    assert any(0 < seed["epoch"] < 4 for seed in results["seeds"])
    reader = melcache.open(cache)
    for seed in (0, 1, 2):
        kept = stored_scores.read(tmp_path / "run", results, reader, seed)["valid"]
        told = json.loads((tmp_path / "run/results.json").read_text())
        config = from_json(TrainConfig, {name: value for name, value in told["config"].items() if name != "bert"})
        anew = scoring.Heads(tmp_path / "run", told, config, reader, [seed], "cpu").scored(torch.tensor(kept.rows))
        assert np.array_equal(anew.scores, kept.scores) and np.array_equal(anew.entities, kept.entities)


def test_the_best_entities_are_those_of_a_sort_and_no_tie_is_cut(monkeypatch):
    """Of 40 entities many tie: the list ends before the first tie that does not fit."""

    class World40:
        device = torch.device("cpu")
        entity_count, mention_count = 40, 25

    vectors = torch.randint(-2, 3, (40, 3), generator=torch.Generator().manual_seed(0)).float()
    mentions = torch.randint(-2, 3, (25, 3), generator=torch.Generator().manual_seed(1)).float()
    monkeypatch.setitem(whole_kb.CHUNK, "cpu", 7)
    monkeypatch.setitem(whole_kb.BLOCK, "cpu", 4)
    towers = Towers(lambda rows: mentions[rows], lambda rows: vectors[rows])
    for k in (1, 5, 12, 39, 40, 60):
        entities, scores = best_entities.best(towers, World40(), torch.arange(25), World(), k)
        for mention in range(25):
            exact = (mentions[mention] @ vectors.T).tolist()
            ranked = sorted(range(40), key=lambda entity: (-exact[entity], entity))
            left_out = [exact[entity] for entity in ranked[k:]]
            expected = [entity for entity in ranked[:k] if not left_out or exact[entity] > left_out[0]]
            assert [entity for entity in entities[mention].tolist() if entity >= 0] == expected
            assert scores[mention][: len(expected)].tolist() == [exact[entity] for entity in expected]
            assert (scores[mention][len(expected) :] == -torch.inf).all()


def test_all_types_of_kept_numbers_can_be_mapped():
    assert {"I32", "F32", "I64", "F64"} == set(NUMBERS)
