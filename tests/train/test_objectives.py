"""--objective: margin, listwise and in-batch of any head, against plain loops in float64; what is refused."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import melcache
from cache.schema import READS
from cache.writing.synth import Synthetic, write
from common.errors import ConfigError
from train import loop, prepare
from train import run as runs
from train.cli import app
from train.config import TrainConfig
from train.config.studies import CompareConfig
from train.data import splits
from train.data.batch import CANDIDATES, Batch
from train.data.table import Table
from train.heads.drin.config import DrinConfig
from train.heads.joint.config import JointConfig
from train.heads.models import build, built
from train.heads.registry import HEADS, TRAINED
from train.layers.losses import contrastive
from train.layers.negatives import hardest_of
from train.optimizing.stacked_seeds import Stack
from train.studies import compare

CPU = torch.device("cpu")
BERT = JointConfig(head="bert", text_width=6, width=5)
# entities of five mentions: the second and fourth mean one entity; the last but one lists another's gold
LISTED = [[7, 3, 9, 2], [5, 1, 8, -1], [4, 6, 0, 2], [1, 7, 5, 3], [2, 8, -1, -1], [6, 1, 4, 9]]
GOLD = [0, 1, 2, 0, 1, -1]


@pytest.fixture(scope="module")
def cache_of_all(tmp_path_factory):
    path = tmp_path_factory.mktemp("objectives") / "toy"
    write(path, Synthetic(80, 30, 5, 0.4, 0, ",".join(READS), text_width=8, image_width=6, joint_width=4))
    return path


def batch_of(listed=LISTED, gold=GOLD, seed=0):
    rng, listed = np.random.default_rng(seed), torch.tensor(listed)
    vectors = torch.from_numpy(rng.normal(size=(10, 6)))
    columns = {
        "mention.text.span": torch.from_numpy(rng.normal(size=(len(listed), 6))),
        "entity.text.sentence": vectors[listed.clamp(min=0)],
        CANDIDATES: listed,
    }
    return Batch(columns, listed >= 0, torch.tensor(gold))


def cosines(model, batch):
    """The cosine of every mention with every entity that stands in some list, {(mention, entity): cosine}."""
    mention = model.head.mention[0](batch["mention.text.span"]).detach().numpy()
    entities = model.head.entity[0](batch["entity.text.sentence"]).detach().numpy()
    vectors = {e: entities[i, j] for i, line in enumerate(batch[CANDIDATES].tolist()) for j, e in enumerate(line)}
    lengths = {e: math.sqrt(sum(v * v for v in vector)) for e, vector in vectors.items()}
    return {
        (i, e): sum(a * b for a, b in zip(x, vector, strict=True)) / lengths[e] / math.sqrt(sum(a * a for a in x))
        for i, x in enumerate(mention)
        for e, vector in vectors.items()
    }


def expected(objective, hardest, score, scale, listed, gold):
    """The loss by plain loops: a dictionary of scores, sets of entities, no tensor."""
    losses = []
    means = {i: line[place] for i, (line, place) in enumerate(zip(listed, gold, strict=True)) if place >= 0}
    for i, own in means.items():
        negatives = sorted((e for e in listed[i] if e not in (own, -1)), key=lambda e: -score[i, e])
        negatives = set(negatives[:hardest] if hardest else negatives)
        if objective == "margin":
            mean = sum(score[i, e] for e in negatives) / len(negatives)
            losses.append(max(0.0, mean - score[i, own] + 0.25))
            continue
        if objective == "in-batch":
            negatives |= set(means.values()) - {own}
        total = sum(math.exp(scale * score[i, e]) for e in (own, *negatives))
        losses.append(math.log(total) - scale * score[i, own])
    return sum(losses) / len(losses)


@pytest.mark.parametrize("hardest", [0, 1, 2, 9])
@pytest.mark.parametrize("objective", ["margin", "listwise", "in-batch"])
def test_an_objective_equals_loops(objective, hardest):
    torch.manual_seed(0)
    model, batch = build("bert", BERT, with_lexical=False, objective=objective, hardest=hardest).double(), batch_of()
    score, scale = cosines(model, batch), 1 / 0.07
    if objective != "margin":
        with torch.no_grad():
            model.log_scale += 0.3
        scale = math.exp(model.log_scale.item())
    loss = model.objective(batch)
    assert float(loss.detach()) == pytest.approx(expected(objective, hardest, score, scale, LISTED, GOLD), abs=1e-6)
    loss.backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in model.parameters())
    if objective != "margin":  # the temperature is learned: against a difference quotient
        ends = [expected(objective, hardest, score, scale * math.exp(d), LISTED, GOLD) for d in (1e-5, -1e-5)]
        assert float(model.log_scale.grad) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4)


def test_a_batch_without_gold_has_no_loss_and_no_nan():
    for objective in ("margin", "listwise", "in-batch"):
        model = build("bert", BERT, with_lexical=False, objective=objective, hardest=1).double()
        batch = batch_of([[7, 3], [5, -1], [-1, -1]], [-1, 0, -1])
        loss = model.objective(batch)
        loss.backward()
        assert float(loss.detach()) == 0
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_padding_is_no_hard_negative():
    present = torch.tensor([[1, 1, 0, 0]]).bool()
    scores = torch.tensor([[0.1, -0.9, -torch.inf, -torch.inf]])
    assert hardest_of(scores, torch.tensor([0]), present, 3).tolist() == [[True, True, False, False]]


def test_eq_17_under_its_own_name_is_the_same_number(cache_of_all):
    table = Table(melcache.open(cache_of_all), "drin", CPU)
    batch, config, found = table.batch(torch.arange(20)), DrinConfig(text_width=8, image_width=6, width=4), []
    for objective in ("own", "margin"):
        torch.manual_seed(0)
        found.append(build("drin", config, with_lexical=False, objective=objective).objective(batch))
    assert torch.equal(*found)


def test_the_scores_stay_the_heads(cache_of_all):
    table = Table(melcache.open(cache_of_all), "bert", CPU)
    batch, found = table.batch(torch.arange(9)), []
    for objective in ("own", "listwise", "in-batch"):
        torch.manual_seed(3)
        model = build("bert", dataclasses.replace(BERT, text_width=8), with_lexical=False, objective=objective)
        assert model.two_towers
        found.append(model(batch, model.project(batch.columns)))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_seeds_in_one_pass_have_the_losses_they_have_alone():
    seeds, batch = (0, 1), batch_of()
    single = batch.like([t.float() if t.is_floating_point() else t for t in batch.tensors()])
    both = single.like([torch.stack([tensor, tensor]) for tensor in single.tensors()])

    def new():
        return build("bert", BERT, with_lexical=False, objective="in-batch", hardest=2)

    alone = [float(Stack(new, (seed,), CPU).losses(single)[0].detach()) for seed in seeds]
    assert Stack(new, seeds, CPU).losses(both).tolist() == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("model", TRAINED)
def test_every_head_that_is_trained_takes_an_objective(cache_of_all, model):
    reader, kind = melcache.open(cache_of_all), HEADS[model].config
    small = {"width": 4, "character_width": 4, "attention_heads": 2, "characters": 8}
    head = kind(**{name: value for name, value in small.items() if name in kind.__dataclass_fields__}).named(model)
    config = TrainConfig(model=model, objective="listwise", hardest=2)
    head = prepare.with_widths(head, reader)
    batch = prepare.table_of(config, head, reader, CPU).batch(torch.arange(6))
    torch.manual_seed(0)
    built(config, head).objective(batch).backward()
    torch.manual_seed(0)
    scores = build(model, head, with_lexical=False)(batch).detach()
    present = hardest_of(scores, batch.gold, batch.present, 2)
    torch.manual_seed(0)
    loss = built(config, head).objective(batch).detach()
    assert loss == contrastive(scores, batch.gold, present, 0.07) > 0


def test_a_run_is_named_after_its_objective_and_is_not_trained_again(cache_of_all, tmp_path):
    config = TrainConfig(dataset=str(cache_of_all), run=tmp_path, device="cpu", model="bert", epochs=1)
    config = dataclasses.replace(config, objective="listwise")
    found = loop.fit(config, JointConfig(width=4))
    assert found["name"] == "bert (listwise)"
    assert loop.fit(config, JointConfig(width=4))["seeds"] == found["seeds"]
    with pytest.raises(ConfigError, match="objective listwise, now own"):
        loop.fit(dataclasses.replace(config, objective="own"), JointConfig(width=4))


def test_a_batch_says_which_entities_stand_there_where_it_is_asked(cache_of_all, tmp_path):
    reader = melcache.open(cache_of_all)
    rows = torch.tensor([4, -1])
    assert CANDIDATES not in Table(reader, "bert", CPU).batch(rows).columns
    batch = Table(reader, "bert", CPU, more=(CANDIDATES,)).batch(rows)
    assert batch[CANDIDATES][0].tolist() == reader.column(CANDIDATES)[4].tolist()
    config = TrainConfig(dataset=str(cache_of_all), run=tmp_path, device="cpu", model="bert", epochs=2, batch=16)
    config = dataclasses.replace(config, objective="in-batch", protocol="whole-kb")
    assert loop.fit(config, JointConfig(width=4))["ranked"] == "all"


def test_the_objective_is_part_of_a_runs_identity(monkeypatch):
    monkeypatch.setattr(splits, "digest_of", lambda reader: "5" * 64)
    reader = SimpleNamespace(id="c" * 64)
    given = ({}, {"objective": "margin"}, {"objective": "listwise"}, {"objective": "listwise", "hardest": 3})
    found = [runs.identity(TrainConfig(model="bert", **knobs), JointConfig(), reader) for knobs in given]
    assert [(about["objective"], about["hardest"]) for about in found] == [
        ("own", 0),
        ("margin", 0),
        ("listwise", 0),
        ("listwise", 3),
    ]


def test_heads_without_weights_stand_beside_an_objective(cache_of_all, tmp_path):
    config = CompareConfig(
        dataset=str(cache_of_all), run=tmp_path, device="cpu", seeds=(0,), epochs=1, objective="in-batch", hardest=1
    )
    heads = {"lexical": None, "bert": JointConfig(width=4), "drin": DrinConfig(width=4)}
    found = compare.compare(config, heads)
    assert [entry["name"] for entry in found["entries"]] == ["lexical", "bert"]
    assert "drin scores lists alone: choose listwise" in found["not_run"][0]["reason"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--model lexical --objective listwise", "--objective is what is minimized, and lexical is not trained"),
        ("--model bert --objective softmax", "listwise"),
        ("--model bert --hardest 3", "--hardest is of the objectives margin, listwise and in-batch: add --objective"),
        ("--model bert --objective listwise --hardest=-1", "--hardest is -1; it must be 0 or more"),
        ("--model drin --objective in-batch", "drin scores lists alone: choose listwise"),
    ],
)
def test_an_objective_that_cannot_be_is_refused_in_a_line(cache_of_all, tmp_path, words, told):
    run = CliRunner().invoke(app, ["--dataset", str(cache_of_all), "--run", str(tmp_path / "r"), *words.split()])
    assert run.exit_code == 2
    assert told in run.stderr


def test_the_contrastive_loss_takes_a_number_or_a_tensor():
    scores, gold, present = torch.tensor([[0.5, 0.1]]), torch.tensor([0]), torch.ones(1, 2, dtype=torch.bool)
    assert contrastive(scores, gold, present, 0.5) == contrastive(scores, gold, present, torch.tensor(0.5))
