"""The trainer on synthetic caches: results.json, chance on noise, separable signal, and clear errors."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

import melcache
from cache.writing.synth import Synthetic, write
from common.errors import CacheError, ConfigError, NotFiniteError
from train import loop
from train.cli import app
from train.config import TrainConfig
from train.data.table import Table
from train.evaluating import metrics
from train.evaluating.untrained_heads import lexical
from train.heads.drin.config import DrinConfig
from train.heads.drin.model import Drin
from train.heads.registry import OURS

SMALL = DrinConfig(width=64)


def synthetic(folder, signal, seed=0, mentions=2500):
    write(folder, Synthetic(mentions, 400, 10, signal, seed, text_width=96, image_width=48))
    return folder


@pytest.fixture(scope="module")
def separable(tmp_path_factory):
    return synthetic(tmp_path_factory.mktemp("synth") / "separable", 1.0)


def config(folder, run, **given):
    return TrainConfig(dataset=folder.name, shards=folder.parent, run=run, device="cpu", **given)


def test_signal_is_learned_and_results_are_written(separable, tmp_path):
    found = loop.fit(config(separable, tmp_path, epochs=12, seeds=(0, 1)), SMALL)
    written = json.loads((tmp_path / "results.json").read_text())
    assert written == json.loads(json.dumps(found))
    tops = [seed["test"]["top1"] for seed in written["seeds"]]
    assert min(tops) >= 0.95
    assert written["mean"]["test"]["top1"] == pytest.approx(np.mean(tops))
    assert written["std"]["test"]["top1"] == pytest.approx(np.std(tops, ddof=1))
    assert written["cache_id"] == melcache.open(separable).id
    assert (written["model"], written["tie_rule"], written["protocol"]) == ("drin", "expected", "A retrieved")
    assert written["recall_ceiling"]["test"] == 1.0
    assert written["config"]["drin"]["image_width"] == 48
    with safe_open(tmp_path / "seed-1.safetensors", "pt") as file:
        about, what = (json.loads(file.metadata()[name]) for name in ("about", "what"))
        assert (about["cache_id"], about["epochs"], about["drin.width"]) == (written["cache_id"], 12, 64)
        assert what == written["seeds"][1]
        assert set(file.keys()) == set(Drin(DrinConfig(96, 48, 64)).state_dict())


def test_the_best_valid_epoch_is_tested_and_the_earliest_wins(separable, tmp_path):
    seed = loop.fit(config(separable, tmp_path, epochs=12), SMALL)["seeds"][0]
    tops = [epoch["valid"]["top1"] for epoch in seed["history"]]
    assert seed["epoch"] == 1 + int(np.argmax(tops))
    assert seed["valid"]["top1"] == max(tops)


def test_noise_stays_at_chance_for_three_seeds(tmp_path):
    folder = synthetic(tmp_path / "noise", 0.0, mentions=4000)
    found = loop.fit(config(folder, tmp_path / "run", epochs=3, seeds=(0, 1, 2)), SMALL)
    deviation = np.sqrt(0.1 * 0.9 / 400)  # 400 test mentions, chance 1/10
    for seed in found["seeds"]:
        assert abs(seed["test"]["top1"] - 0.1) < 5 * deviation


def test_a_run_repeats_bitwise(separable, tmp_path):
    first, second = (loop.fit(config(separable, tmp_path / n, epochs=2), SMALL) for n in "ab")
    assert first["seeds"][0]["history"] == second["seeds"][0]["history"]
    assert (tmp_path / "a/seed-0.safetensors").read_bytes()[-4096:] == (tmp_path / "b/seed-0.safetensors").read_bytes()[
        -4096:
    ]


def test_batch_gathers_the_rows_of_the_cache(separable):
    reader = melcache.open(separable)
    table = Table(reader, "drin", torch.device("cpu"))
    rows = torch.tensor([5, 3, 700])
    batch = table.batch(rows)
    candidates = reader.column("pair.candidates.candidates")[rows.numpy()]
    texts = reader.column("entity.text.sentence").astype(np.float32)
    np.testing.assert_array_equal(batch["entity.text.sentence"].numpy(), texts[candidates])
    for m, e, name in (
        (0, 0, "text_to_text"),
        (0, 1, "text_to_image"),
        (1, 0, "image_to_text"),
        (1, 1, "image_to_image"),
    ):
        np.testing.assert_array_equal(
            batch["pair.alignment"][:, :, m, e], reader.column(f"pair.alignment.{name}")[rows.numpy()]
        )
    np.testing.assert_array_equal(batch.gold, reader.column("pair.candidates.gold")[rows.numpy()])
    splits = reader.column("mention.ids.splits")
    for bit, name in enumerate(("train", "valid", "test")):
        np.testing.assert_array_equal(table.rows(name), np.flatnonzero(splits & 1 << bit))


def test_lexical_baseline_equals_a_loop_over_ties(separable):
    table = Table(melcache.open(separable), "drin", torch.device("cpu"))
    table.lexical = (table.lexical * 50).round()  # makes ties
    rows = table.rows("test")
    hits = []
    for row in rows.tolist():
        own = table.lexical[row, table.gold[row]]
        better = int((table.lexical[row] > own).sum())
        tied = int((table.lexical[row] == own).sum())
        hits.append(0 if better else 1 / tied)
    found = metrics.summarize(*metrics.ranks(lexical(table, rows), table.gold[rows], table.present[rows]))
    assert found["top1"] == pytest.approx(np.mean(hits))


def test_only_mentions_with_gold_and_another_candidate_are_trained_on(separable):
    table = Table(melcache.open(separable), "drin", torch.device("cpu"))
    table.gold[3], table.present[4, 1:] = -1, False
    assert table.trainable(torch.arange(6)).tolist() == [0, 1, 2, 5]


def test_a_loss_that_is_not_finite_stops_the_run(separable, tmp_path):
    with pytest.raises(NotFiniteError, match=r"loss of seed 0 became nan in epoch 1, batch 2 of 32.*--fresh"):
        loop.fit(config(separable, tmp_path, epochs=30, learning_rate=1e30), SMALL)
    assert not (tmp_path / "results.json").exists()


def test_errors_are_one_line_with_a_way_out(tmp_path, separable):
    run = CliRunner().invoke(app, ["--dataset", "nothing", "--shards", str(tmp_path)])
    assert run.exit_code == 2
    made = "Make it with: melcache extract --dataset jsonl --data FOLDER --name nothing"
    assert run.stderr == f"error: No cache for 'nothing' in {tmp_path}/. {made}\n"
    run = CliRunner().invoke(app, ["--dataset", str(separable), "--model", "gpt"])
    assert (run.exit_code, run.stderr) == (
        2,
        f"error: --model gpt: choose from {', '.join(OURS)}, or FILE.py\n",
    )
    with pytest.raises(ConfigError, match="--epochs is 0"):
        TrainConfig(epochs=0)


def test_a_cache_without_a_needed_column_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "cache.writing.synth.READS",
        {"drin": tuple(melcache.open(synthetic(tmp_path / "a", 0.0, mentions=50)).columns[:3])},
    )
    folder = synthetic(tmp_path / "b", 0.0, mentions=50)
    with pytest.raises(
        CacheError, match=r"lacks the parts mention\.image, mention\.text, pair\.alignment, which drin .*--for drin"
    ):
        loop.fit(config(folder, tmp_path / "run"), SMALL)


def test_a_flipped_bit_never_reaches_training(tmp_path):
    folder = synthetic(tmp_path / "flip", 0.0, mentions=50)
    shard = next(folder.glob("entity.image-*"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CacheError, match=r"entity\.image.*xxh3 differs.*melcache verify"):
        loop.fit(config(folder, tmp_path / "run"), SMALL)


def test_dense_model_of_the_benchmark_has_the_same_scores(separable):
    from bench.training.dense import dense_scores

    table = Table(melcache.open(separable), "drin", torch.device("cpu"))
    batch = table.batch(torch.arange(20))
    model = Drin(DrinConfig(96, 48, 32, layers=3))
    torch.testing.assert_close(dense_scores(model, batch), model(batch), rtol=0, atol=1e-5)


def test_metrics_of_every_split_stand_in_results(separable, tmp_path):
    found = loop.fit(config(separable, tmp_path, epochs=1), SMALL)
    expected = {f"top{k}" for k in metrics.KS} | {"mrr", "mean_rank", "recall", "top1_of_retrieved", "mentions"}
    expected |= {"ambiguous", "top1_of_ambiguous", "recall_of_ambiguous"}
    assert set(found["mean"]["test"]) == set(found["seeds"][0]["valid"]) == expected
    assert found["mean"]["test"]["mentions"] == 250
