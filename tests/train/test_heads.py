"""Every head but DRIN: scores against loops, learning and chance, masks, and the heads without weights."""

import functools
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import melcache
from cache.schema import READS
from cache.writing.synth import Synthetic, write
from train import loop
from train.cli import app
from train.config import TrainConfig
from train.data.batch import Batch
from train.data.table import Table
from train.evaluating.ranking import split_of
from train.evaluating.untrained_heads import BASELINES, clip, prior
from train.heads.joint.config import JointConfig
from train.heads.joint.model import SIDES
from train.heads.models import MODELS, build
from train.heads.registry import HEADS, TRAINED
from train.heads.with_lexical import PACE, START
from train.layers.losses import contrastive

CPU = torch.device("cpu")
JOINT = tuple(SIDES)
ELSEWHERE = ("drin", "drin_authors", "dwe", "dwe_authors", "dzmned", "mel_hi", "ghmfc", "ours")  # in files of their own
WIDTHS = {"text_width": 20, "image_width": 12, "joint_width": 16}


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """Return a function from signal and candidates to a cache with the columns of all heads."""

    @functools.cache
    def cache_of(signal, candidates=10):
        path = tmp_path_factory.mktemp("heads") / f"signal-{signal}-{candidates}"
        widths = {"text_width": 48, "image_width": 32, "joint_width": 64}
        write(path, Synthetic(3000, 500, candidates, signal, 0, ",".join(READS), **widths))
        return path

    return cache_of


def fit(path, run, model, **given):
    config = TrainConfig(**{"dataset": str(path), "run": run, "device": "cpu", "model": model, "epochs": 3} | given)
    head = None
    if model in TRAINED:
        kind = HEADS[model].config
        small = {"width": 32, "head": model}
        head = kind(**{name: value for name, value in small.items() if name in kind.__dataclass_fields__})
    return loop.fit(config, head)


def random_batch(head, count=5, candidates=4, seed=0):
    rng = np.random.default_rng(seed)
    config = JointConfig(head=head, width=6, **WIDTHS)
    columns = {}
    for mention, entity in zip(*SIDES[head], strict=True):
        width = config.width_of(entity)
        columns[mention] = torch.from_numpy(rng.normal(size=(count, width)))
        columns[entity] = torch.from_numpy(rng.normal(size=(count, candidates, width)))
    present = torch.ones(count, candidates, dtype=torch.bool)
    present[0, 2:] = False
    return config, Batch(columns, present, torch.tensor([0, 1, 3, 2, -1]))


def test_every_head_has_columns_and_a_way_to_score():
    assert set(HEADS) == set(READS) == set(MODELS) | set(BASELINES)
    assert set(TRAINED) == set(MODELS)


@pytest.mark.parametrize("head", JOINT)
def test_joint_scores_equal_loops(head):
    config, batch = random_batch(head)
    model = MODELS[head](config).double()
    found = model(batch).detach().numpy()
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    for row in range(5):
        for candidate in range(4):
            if not batch.present[row, candidate]:
                assert found[row, candidate] == -np.inf
                continue
            mention, entity = [], []
            for i, (m, e) in enumerate(zip(*SIDES[head], strict=True)):
                x, y = batch[m][row].numpy(), batch[e][row, candidate].numpy()
                mention += [
                    sum(w * v for w, v in zip(line, x, strict=True)) + bias
                    for line, bias in zip(weights[f"mention.{i}.weight"], weights[f"mention.{i}.bias"], strict=True)
                ]
                entity += [
                    sum(w * v for w, v in zip(line, y, strict=True)) + bias
                    for line, bias in zip(weights[f"entity.{i}.weight"], weights[f"entity.{i}.bias"], strict=True)
                ]
            dot = sum(a * b for a, b in zip(mention, entity, strict=True))
            norms = sum(a * a for a in mention) ** 0.5 * sum(b * b for b in entity) ** 0.5
            assert found[row, candidate] == pytest.approx(dot / norms, abs=1e-12)


def test_contrastive_loss_equals_loops():
    scores = torch.tensor([[0.5, 0.1, -0.3], [0.2, 0.9, 0.4], [0.1, 0.2, 0.3], [0.7, 0.1, 0.1]], dtype=torch.float64)
    present = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]]).bool()
    gold = torch.tensor([1, 0, 0, -1])  # the third has no other candidate, the fourth no gold
    scores = scores.masked_fill(~present, -torch.inf).requires_grad_()
    losses = []
    for row in (0, 1):
        kept = [np.exp(float(scores[row, j].detach()) / 0.1) for j in range(3) if present[row, j]]
        losses.append(-np.log(np.exp(float(scores[row, gold[row]].detach()) / 0.1) / sum(kept)))
    loss = contrastive(scores, gold, present, 0.1)
    assert float(loss.detach()) == pytest.approx(np.mean(losses))
    loss.backward()
    assert torch.isfinite(scores.grad).all()
    assert not scores.grad[2:].any()


@pytest.mark.parametrize("head", JOINT)
def test_gradient_reaches_every_parameter_and_one_batch_is_learned(head):
    config, batch = random_batch(head)
    torch.manual_seed(0)
    model = MODELS[head](config).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model.loss(model(batch), batch).backward()
    assert all(parameter.grad.any() for parameter in model.parameters())
    for _ in range(300):
        optimizer.zero_grad()
        loss = model.loss(model(batch), batch)
        loss.backward()
        optimizer.step()
    assert (model(batch).argmax(1)[:4] == batch.gold[:4]).all()
    assert float(loss.detach()) < 0.05


@pytest.mark.parametrize("head", JOINT)
def test_padding_and_other_mentions_change_no_score(head):
    config, batch = random_batch(head)
    model = MODELS[head](config).double()
    before = model(batch)
    for name, column in batch.columns.items():
        column[0, 2:] = 7 if name.startswith("entity.") else column[0, 2:]
    after = model(batch)
    assert torch.equal(before, after)


@pytest.mark.parametrize("head", [head for head in HEADS if head not in ELSEWHERE])
@pytest.mark.parametrize("candidates", [10, 100])
def test_noise_stays_at_chance(caches, tmp_path, head, candidates):
    found = fit(caches(0.0, candidates), tmp_path, head, seeds=(0, 1, 2), epochs=2)
    deviation = np.sqrt(1 / candidates * (1 - 1 / candidates) / 300)
    for seed in found["seeds"]:
        assert abs(seed["test"]["top1"] - 1 / candidates) < 5 * deviation


@pytest.mark.parametrize("head", ["clip", *JOINT])
def test_signal_is_learned(caches, tmp_path, head):
    assert fit(caches(0.6), tmp_path, head, epochs=8)["mean"]["test"]["top1"] > 0.8


def test_prior_counts_what_a_string_meant_in_train(caches):
    reader = melcache.open(caches(0.6))
    table = Table(reader, "prior", CPU)
    rows = table.rows("test")[:40]
    found = prior(table, rows).numpy()
    strings, gold = reader.strings("mention.ids.surface"), reader.column("mention.ids.gold")
    train = np.flatnonzero(reader.column("mention.ids.splits") & 1)
    candidates = reader.column("pair.candidates.candidates")
    seen = 0
    for i, row in enumerate(rows.tolist()):
        for j, entity in enumerate(candidates[row]):
            expected = sum(strings[t] == strings[row] and gold[t] == entity for t in train)
            assert found[i, j] == expected
            seen += expected
    assert seen > 0


def test_clip_adds_the_cosines_of_texts_and_images(caches):
    reader = melcache.open(caches(0.6))
    table = Table(reader, "clip", CPU)
    found = clip(table, torch.arange(3)).numpy()
    for row in range(3):
        for j, entity in enumerate(reader.column("pair.candidates.candidates")[row]):
            expected = 0.0
            for mention, column in (("mention_sentence", "text"), ("image", "image")):
                x = reader.column(f"mention.joint.{mention}")[row].astype(float)
                y = reader.column(f"entity.joint.{column}")[entity].astype(float)
                expected += x @ y / np.sqrt((x @ x) * (y @ y))
            assert found[row, j] == pytest.approx(expected, abs=1e-5)


def test_heads_without_weights_have_a_result_of_the_same_form(caches, tmp_path):
    found = fit(caches(0.6), tmp_path, "prior")
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(found))
    assert (found["seeds"][0]["epoch"], found["seeds"][0]["history"]) == (0, [])
    lexical = fit(caches(0.6), tmp_path / "b", "lexical")
    assert lexical["mean"]["test"] == lexical["lexical"]["test"]


def test_protocol_given_counts_only_mentions_whose_gold_is_in_their_list(caches):
    table = Table(melcache.open(caches(0.6)), "lexical", CPU)
    lost = table.rows("test")[::3]
    table.gold[lost] = -1
    kept = [row for row in table.rows("test").tolist() if row not in set(lost.tolist())]
    assert split_of(table, "test", "given").rows.tolist() == kept
    assert len(split_of(table, "test", "retrieved").rows) == len(kept) + len(lost)


def test_the_protocol_stands_in_results(caches, tmp_path):
    found = fit(caches(0.6), tmp_path, "lexical", protocol="given")
    assert (found["protocol"], found["recall_ceiling"]["test"]) == ("D given", 1.0)


@pytest.mark.parametrize("model", ["drin", "bert"])
def test_the_lexical_score_helps_where_it_tells_something(caches, tmp_path, monkeypatch, model):
    path = caches(0.0, 10)
    honest = fit(path, tmp_path / "noise", model, epochs=3, with_lexical=True)
    assert abs(honest["mean"]["test"]["top1"] - 0.1) < 3.5 * np.sqrt(0.09 / 300)
    real = Table.__init__

    def telling(self, *args, **named):
        real(self, *args, **named)
        for column in (self.lexical, self._rows["pair.candidates.lexical"]):
            column.zero_().scatter_(1, self.gold.clamp(min=0)[:, None], 0.5)

    monkeypatch.setattr(Table, "__init__", telling)
    without = fit(path, tmp_path / "without", model, epochs=3)
    with_it = fit(path, tmp_path / "with", model, epochs=10, with_lexical=True)
    assert without["mean"]["test"]["top1"] < 0.2
    assert with_it["mean"]["test"]["top1"] > without["mean"]["test"]["top1"] + 0.05


def test_without_training_the_matcher_decides_alone(caches):
    table = Table(melcache.open(caches(0.6)), "bert", CPU)
    head = JointConfig(head="bert", text_width=48, width=8)
    torch.manual_seed(0)
    plain = build("bert", head, with_lexical=False)
    torch.manual_seed(0)
    both = build("bert", head, with_lexical=True)
    batch = table.batch(torch.arange(7))
    assert torch.equal(both(batch), (START * table.lexical[:7]).masked_fill(~batch.present, -torch.inf))
    with torch.no_grad():
        both.weight.copy_(torch.tensor([3.0, 2.0 - START]) / PACE)
    expected = 3 * plain(batch) + 2 * table.lexical[:7]
    torch.testing.assert_close(both(batch), expected)


@pytest.mark.parametrize(("model", "objective"), [("drin", "own"), ("bert", "own"), ("bert", "in-batch")])
def test_beside_the_string_score_a_head_learns_what_it_learns_alone(caches, tmp_path, model, objective):
    given = {"epochs": 1, "objective": objective}
    fit(caches(0.6), tmp_path / "alone", model, **given)
    both = fit(caches(0.6), tmp_path / "both", model, with_lexical=True, **given)["seeds"][0]
    assert both["epoch"] == 1
    alone, beside = (load_file(tmp_path / name / "seed-0.safetensors") for name in ("alone", "both"))
    assert all(torch.equal(beside[f"head.{name}"], tensor) for name, tensor in alone.items())
    assert beside["weight"].all()


def test_the_weights_of_a_combination_follow_the_softmax_over_its_list(caches):
    batch = Table(melcache.open(caches(0.6)), "bert", CPU).batch(torch.arange(30))
    torch.manual_seed(0)
    both = build("bert", JointConfig(head="bert", text_width=48, width=8), with_lexical=True)
    with torch.no_grad():
        both.weight.copy_(torch.tensor([0.5, -0.1]))
    both.objective(batch).backward()
    own = both.head(batch).detach()
    found, scores = both.weight.grad, both(batch).detach()
    expected, count = [0.0, 0.0], 0
    for i in range(30):
        if batch.gold[i] < 0:
            continue
        count += 1
        for j in range(scores.shape[1]):
            share = float(scores[i].softmax(0)[j]) - float(j == batch.gold[i])
            expected[0] += PACE * share * float(own[i, j])
            expected[1] += PACE * share * float(batch["pair.candidates.lexical"][i, j])
    assert found.tolist() == pytest.approx([value / count for value in expected], rel=1e-4)


@pytest.fixture(params=[2])
def half_told(monkeypatch, request):
    """String scores that are right for the mentions in every such row, and a draw of two for the others."""
    real = Table.__init__

    def told(self, *args, **named):
        real(self, *args, **named)
        even = torch.arange(len(self.gold)) % request.param == 0
        for column in (self.lexical, self._rows["pair.candidates.lexical"]):
            column.zero_().scatter_(1, self.gold.clamp(min=0)[:, None], 0.5)
            column[~even] = column[~even].roll(1, 1).maximum(column[~even])

    monkeypatch.setattr(Table, "__init__", told)


@pytest.mark.parametrize("objective", ["own", "listwise"])
@pytest.mark.parametrize("model", ["drin", "bert"])
def test_a_combination_never_ends_below_the_string_matcher(caches, tmp_path, half_told, model, objective):
    given = {"epochs": 1, "with_lexical": True, "objective": objective, "learning_rate": 0.1}  # ruins any start
    found = fit(caches(0.0), tmp_path, model, **given)
    assert found["seeds"][0]["valid"]["top1"] >= found["lexical"]["valid"]["top1"] > 0.5
    seed = found["seeds"][0]
    if not seed["epoch"]:
        assert seed["valid"] == found["lexical"]["valid"] and seed["test"] == found["lexical"]["test"]
        assert seed["history"][0]["valid"]["top1"] <= seed["valid"]["top1"]


@pytest.mark.parametrize("half_told", [1], indirect=True)  # nothing is better than the matcher
def test_what_may_be_selected_before_the_first_epoch_survives_a_kill(caches, tmp_path, half_told):
    given = {"epochs": 2, "with_lexical": True, "learning_rate": 0.1}
    whole = fit(caches(0.0), tmp_path / "whole", "bert", **given)
    assert whole["seeds"][0]["epoch"] == 0
    kind = HEADS["bert"].config(width=32)

    def cut(seeds, left=[1]):  # noqa: B006
        if not left:
            raise KeyboardInterrupt
        left.pop()

    config = TrainConfig(dataset=str(caches(0.0)), run=tmp_path / "cut", device="cpu", model="bert", **given)
    with pytest.raises(KeyboardInterrupt):
        loop.fit(config, kind, passed=cut)
    resumed = loop.fit(config, kind)["seeds"][0]
    assert [resumed[name] for name in ("epoch", "valid", "test", "history")] == [
        whole["seeds"][0][name] for name in ("epoch", "valid", "test", "history")
    ]


def test_an_option_of_another_head_is_refused(caches):
    run = CliRunner().invoke(app, ["--dataset", str(caches(0.6)), "--model", "bert", "--layers", "3"])
    assert (run.exit_code, run.stderr) == (
        2,
        "error: --layers is no option of bert; leave it out, or choose from drin, drin_authors\n",
    )


@pytest.mark.parametrize("model", BASELINES)
def test_heads_without_weights_learn_no_weight_of_the_string_score(caches, model):
    run = CliRunner().invoke(app, ["--dataset", str(caches(0.6)), "--model", model, "--with-lexical"])
    assert run.exit_code == 2
    assert f"--with-lexical learns a weight, and {model} is not trained: leave it out" in run.stderr
