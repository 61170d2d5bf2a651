"""Every head under every protocol: its predictions, judged, are the run's own results; and what a constant scores."""

import json
from fractions import Fraction

import numpy as np
import pytest
from safetensors.torch import load_file

import melcache
from cache.edges import ALIGNMENT_READS
from cache.schema import READS, UNLABELED
from cache.writing import synth
from common.errors import ConfigError
from tests.train.test_predict import CONFIGS
from train import loop, own_head
from train.config import TrainConfig
from train.config.inspecting import SlicesConfig
from train.config.judging import EvaluateConfig, PredictConfig
from train.data.row_names import row_names
from train.inspecting import slices
from train.judging import predict, referee, show
from train.judging.significance import paired_bootstrap

ENTITIES, LISTED, TEST = 130, 6, 4  # more entities than a run keeps of a mention
UNDER = {
    "A": {"protocol": "retrieved"},
    "B": {"protocol": "injected"},
    "C": {"protocol": "whole-kb"},
    "C, 20 re-ranked": {"protocol": "whole-kb", "rerank": 20},
    "D": {"protocol": "given"},
}
CONSTANT = """
from dataclasses import dataclass
import torch
from train.heads.base import Head

READS = ("entity.text.sentence", "mention.text.span")

@dataclass(frozen=True)
class Config:
    label = ""

class Model(Head):
    two_towers = True
    projects = ("entity.text.sentence",)

    def __init__(self, config):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def project(self, columns):
        return columns["entity.text.sentence"][..., :1].float() * 0

    def embed(self, batch):
        return batch["mention.text.span"][:, :1].float() * 0

    def forward(self, batch, projected=None):
        return torch.zeros(batch.present.shape).masked_fill(~batch.present, -torch.inf)

    def objective(self, batch):
        return (self.weight * 0).sum()
"""


def incomplete(made):
    """Change what synth makes: golds are missing in lists or in the cache, lists are padded, mentions unlabeled."""
    for row in range(len(made.gold)):
        if row % 4 == 0:
            outside = next(entity for entity in range(ENTITIES) if entity not in made.candidates[row])
            made.candidates[row, made.gold[row]], made.gold[row] = outside, -1
        if row % 5 == 0:
            made.candidates[row, 3:] = -1
            made.gold[row] = made.gold[row] if made.gold[row] < 3 else -1
        if row % 12 == 0:
            made.gold_row[row] = -1
        if row % 15 == 1:
            made.gold_row[row] = made.gold[row] = UNLABELED


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A cache with what every head reads under every protocol."""
    folder, real = tmp_path_factory.mktemp("every") / "world", synth.Columns.__init__

    def made(lists, *given):
        real(lists, *given)
        incomplete(lists)

    sizes = {"text_width": 8, "image_width": 8, "joint_width": 8}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synth.Columns, "__init__", made)
        patch.setitem(READS, "edges", ALIGNMENT_READS)
        heads = ",".join([*CONFIGS, "edges"])
        synth.write(folder, synth.Synthetic(90, ENTITIES, LISTED, 0.3, 0, heads, shares=(0.5, 0.2, 0.3), **sizes))
    return folder


def fitted(world, run, name, under, head=None):
    given = {"epochs": 1, "batch": 64, "device": "cpu"} | UNDER[under]
    return loop.fit(TrainConfig(dataset=str(world), model=name, run=run, **given), head or CONFIGS[name])


def predicted(run, out, **options):
    predict.predict(PredictConfig(run=run, out=out, device="cpu", top=0, seed="0", **options))
    return out


def judged(world, path, under, **options):
    return referee.judge(EvaluateConfig(predictions=path, dataset=str(world), protocol=under[0], **options))


@pytest.mark.usefixtures("without_fsync")
@pytest.mark.parametrize("under", UNDER)
@pytest.mark.parametrize("name", CONFIGS)
def test_predictions_judged_are_the_runs_own_results(world, tmp_path, name, under):
    """All metrics, slices, intervals and confidence to the last bit, from kept scores and from those given again."""
    run = tmp_path / "run"
    own = fitted(world, run, name, under)
    (tested,), (sure,) = own["seeds"], own["confidence"]["seeds"]
    kept, valid = predicted(run, tmp_path / "kept"), predicted(run, tmp_path / "valid", split="valid")
    found = judged(world, kept, under)
    assert found["metrics"].items() >= tested["test"].items()
    assert judged(world, valid, under, split="valid")["metrics"].items() >= tested.get("valid", {}).items()
    of_run = slices.examine(SlicesConfig(run=run))["slices"]
    assert of_run.keys() == found["slices"].keys() and len(of_run) > 3
    for title, labels in of_run.items():
        for label, of in labels.items():
            told = {metric: value for metric, value in of["mean"].items() if metric not in ("lexical", "either")}
            assert found["slices"][title][label].items() >= told.items()
    ranks = load_file(run / "ranks-0.safetensors")
    low, high, _ = paired_bootstrap(referee.per_mention(ranks["better"], ranks["tied"]))
    assert [*found["intervals"].values()] == [list(ends) for ends in zip(low, high, strict=True)]
    assert {name: found["confidence"][name] for name in ("ece", "risk_coverage")}.items() <= sure.items()
    if under[0] in "BC":  # whose lists are not the cache's own
        (run / "scores-0.safetensors").unlink()
        assert predicted(run, tmp_path / "anew").read_bytes() == kept.read_bytes()


def golds_and_lists(world, under):
    """By mention of test, labeled: its gold, None if that is no entity, and what it is ranked among; in plain loops."""
    reader = melcache.open(world)
    found = {}
    gold, lists, splits = (
        reader.column(name).tolist()
        for name in ("mention.ids.gold", "pair.candidates.candidates", "mention.ids.splits")
    )
    for row, split in enumerate(splits):
        own = [entity for entity in lists[row] if entity >= 0]
        if not split & TEST or gold[row] == UNLABELED or (under == "D" and gold[row] not in own):
            continue
        if under == "B" and gold[row] >= 0 and gold[row] not in own:
            own = [*own[: LISTED - 1], gold[row]]
        if under == "C":
            own = list(range(ENTITIES))
        found[row] = (gold[row] if gold[row] >= 0 else None, own)
    return found


def chance(found):
    """Top-1, Top-5 and MRR of a scorer that ranks by lot, in fractions."""
    totals = [Fraction(0)] * 3
    for gold, own in found.values():
        if gold in own:
            size = len(own)
            own_chance = (
                Fraction(1, size),
                Fraction(min(5, size), size),
                sum(Fraction(1, r + 1) for r in range(size)) / size,
            )
            totals = [total + more for total, more in zip(totals, own_chance, strict=True)]
    return [float(total / len(found)) for total in totals]


@pytest.fixture(scope="module")
def constant(tmp_path_factory):
    """The name of a head of one's own that says 0 of every candidate."""
    path = tmp_path_factory.mktemp("own") / "constant.py"
    path.write_text(CONSTANT)
    return path


@pytest.mark.usefixtures("heads_forgotten")
@pytest.mark.parametrize("under", "ABCD")
def test_a_constant_has_chance_as_a_run_and_as_a_file(world, tmp_path, constant, under):
    config = own_head.resolve(TrainConfig(model=str(constant)))
    own = fitted(world, tmp_path / "run", config.model, under, own_head.load(constant).config())
    by_loops = golds_and_lists(world, under)
    expected = pytest.approx(chance(by_loops), abs=1e-12)
    told = own["seeds"][0]["test"]
    assert [told[name] for name in ("top1", "top5", "mrr")] == expected and 0 < told["recall"] <= 1
    found = judged(world, predicted(tmp_path / "run", tmp_path / "said"), under)
    assert found["metrics"].items() >= told.items()
    assert (found["stated_ranks"] > 0) == (under == "C")
    reader = melcache.open(world)
    mentions, entities = (row_names(reader, f"{table}.ids.id") for table in ("mention", "entity"))
    path = tmp_path / "file.jsonl"
    path.write_text(
        lines({mentions[row]: [{"id": entities[e], "score": 0.5} for e in own] for row, (_, own) in by_loops.items()})
    )
    for measured in (found["metrics"], judged(world, path, under)["metrics"]):
        assert [measured[name] for name in ("top1", "top5", "mrr")] == expected
        assert measured["top1"] == pytest.approx(measured["chance_top1"], abs=1e-12)
        assert measured["adjusted_top1"] == pytest.approx(0, abs=1e-12)


def lines(lists, **more):
    return "".join(
        json.dumps({"mention": name, "candidates": own, **{key: of[name] for key, of in more.items() if name in of}})
        + "\n"
        for name, own in lists.items()
    )


@pytest.fixture(scope="module")
def claimed(world):
    """A function that judges lists of `listed` entities above gold which state something of a gold behind them."""
    reader = melcache.open(world)
    mentions, entities = (row_names(reader, f"{table}.ids.id") for table in ("mention", "entity"))
    rows = golds_and_lists(world, "C")

    def judge(path, under, listed, stated, *, holds=False, beside=False, **options):
        told, known = {}, {}
        for row, (gold, _) in rows.items():
            others = [e for e in range(ENTITIES) if e != gold][:listed]
            own = [{"id": entities[e], "score": 2.0 - n} for n, e in enumerate(others)]
            if holds and gold is not None:
                own.append({"id": entities[gold], "score": 2.0 - listed + beside})
            told[mentions[row]] = own
            known[mentions[row]] = stated if gold is not None else (None, None)
        columns = [{name: pair[i] for name, pair in known.items()} for i in range(2)]
        path.write_text(lines(told, gold_better=columns[0], gold_tied=columns[1]))
        return judged(world, path, under, **options), np.mean([gold is not None for gold, _ in rows.values()])

    return judge


REFUSED = {
    "gold first, said to be 51st": ((0, (50, 0)), {"holds": True}, "in the list 0 candidates have a higher score"),
    "gold 4th, said to be first": ((3, (0, 0)), {"holds": True}, "gold_better is 0 and gold_tied 0, but in the list 3"),
    "fewer above gold": ((3, (2, 1)), {"holds": True}, "in the list 3 candidates have a higher score"),
    "fewer beside gold": ((3, (2, 0)), {"holds": True, "beside": True}, "in the list 2 .*, and 1 the same"),
    "before the end of the list": ((3, (2, 120)), {}, "is not in the list of 3 candidates, which all stand above it"),
    "more than there are": ((3, (9_999, 0)), {}, "are more than the 130 entities"),
    "endless": ((3, (1 << 50, 0)), {}, "expected how many entities"),
    "negative": ((3, (-1, 0)), {}, "expected how many entities"),
    "one of both": ((3, (5, None)), {}, "gold_better is 5 and gold_tied None; expected"),
    "a flag": ((3, (True, False)), {}, "gold_better is True and gold_tied False; expected"),
    "a fraction": ((3, (3.5, 0)), {}, "gold_better is 3.5"),
}


@pytest.mark.parametrize("under", "AC")
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_stated_against_the_list_is_an_error_that_is_named(claimed, tmp_path, case, under):
    given, options, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message) as error:
        claimed(tmp_path / "claims.jsonl", under, *given, **options)
    assert "\n" not in str(error.value) and "mention '" in str(error.value)


@pytest.mark.parametrize(
    ("under", "listed", "stated"),
    [
        ("A", 3, (3, 0)),
        ("A", 3, (100, 0)),
        ("D", 100, (100, 0)),
        ("C", 0, (0, 0)),
        ("C", 3, (3, 0)),
        ("C", 99, (99, 0)),
    ],
)
def test_a_rank_that_the_list_should_show_counts_for_nothing(claimed, tmp_path, under, listed, stated):
    found, _ = claimed(tmp_path / "claims.jsonl", under, listed, stated)
    assert (found["metrics"]["recall"], found["metrics"]["mrr"], found["stated_ranks"]) == (0, 0, 0)
    assert found["ignored_ranks"] and "its lists should hold and do not" in " ".join(found["warnings"])


@pytest.mark.parametrize(("listed", "stated"), [(100, (100, 0)), (0, (0, 129)), (100, (100, 29)), (3, (3, 126))])
def test_a_rank_beyond_the_list_counts_is_bounded_and_told_apart(claimed, tmp_path, listed, stated):
    """Whoever states falsely gains at most the MRR of a list of 101 that all tie, and it is said beside the number."""
    found, share = claimed(tmp_path / "claims.jsonl", "C", listed, stated)
    better, tied = stated
    expected = share * np.mean([1 / rank for rank in range(better + 1, better + tied + 2)])
    assert found["metrics"]["mrr"] == pytest.approx(expected)
    assert expected <= sum(1 / rank for rank in range(1, 102)) / 101
    assert found["metrics_of_lists"]["mrr"] == found["metrics_of_lists"]["recall"] == 0
    assert "by the lists alone top1 0.0, mrr 0.0, recall 0.0" in show.form(EvaluateConfig(predictions=tmp_path))(found)
    tsv = show.form(EvaluateConfig(predictions=tmp_path, tsv=True))(found).splitlines()
    assert dict(zip(*(line.split("\t") for line in tsv), strict=True))["stated_ranks"] == str(found["stated_ranks"])
    assert "ranks as stated by the file" in show.form(EvaluateConfig(predictions=tmp_path, latex=True))(found)
    strict, _ = claimed(tmp_path / "claims.jsonl", "C", listed, stated, lists_only=True)
    assert strict["metrics"]["mrr"] == strict["stated_ranks"] == 0 and strict["metrics_of_lists"] is None


def test_ties_that_reach_beyond_a_list_are_as_stated(claimed, tmp_path):
    found, share = claimed(tmp_path / "claims.jsonl", "C", 1, (1, 9), holds=True)
    assert found["metrics"]["top5"] == pytest.approx(share * 4 / 10) and found["stated_ranks"] > 0
    assert found["metrics_of_lists"]["top5"] == pytest.approx(share)
    same, _ = claimed(tmp_path / "claims.jsonl", "C", 1, (1, 0), holds=True)
    assert same["metrics"]["top5"] == pytest.approx(share) and same["stated_ranks"] == 0
