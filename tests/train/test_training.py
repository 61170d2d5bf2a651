"""What the trainer promises: stacked seeds, resume, residents, processes, precision, kernels, and its two studies."""

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typer.testing import CliRunner

import melcache
from bench.measuring.kernels import Count
from cache import store
from cache.writing.synth import Synthetic, write
from common import devices
from common.errors import CacheError, ConfigError, NotFiniteError
from tests.studies import run_study
from train import loop, prepare
from train.cli import app
from train.config import TrainConfig, resolved
from train.data.features import feature_column
from train.data.table import Table
from train.heads import models
from train.heads.drin.config import DrinConfig
from train.heads.drin.model import Drin
from train.heads.ghmfc.config import GhmfcConfig
from train.heads.registry import HEADS
from train.heads.with_lexical import PACE, START
from train.optimizing.adam import Adam, Schedule
from train.optimizing.checkpoint import Checkpoints
from train.optimizing.stacked_seeds import Stack
from train.optimizing.step import CapturedStep, Step
from train.processes import World
from train.run_folder.run_files import UNFINISHED

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
SMALL = DrinConfig(width=32)
LITTLE = GhmfcConfig(width=8, tokens=6, attention_layers=1, attention_heads=2, dropout=0.3)
WIDTHS = DrinConfig(text_width=40, image_width=24, width=16)


@pytest.fixture(scope="module")
def learnable(tmp_path_factory):
    path = tmp_path_factory.mktemp("synth") / "signal"
    write(path, Synthetic(900, 300, 6, 0.6, 0, text_width=40, image_width=24))
    return path


@pytest.fixture(scope="module")
def table(learnable):
    return Table(melcache.open(learnable), "drin", CPU)


def config(folder, run, **given):
    return resolved(TrainConfig(**{"dataset": str(folder), "run": run, "device": "cpu", "epochs": 3} | given))


def new_step(seeds=(0,), precision="float32", head=WIDTHS):
    stack = Stack(lambda: Drin(head), seeds, CPU)
    return stack, Step(stack, Adam(list(stack.parameters.values()), Schedule(1e-3)), World(), precision)


def histories(found):
    return [seed["history"] for seed in found["seeds"]]


class Killed(BaseException):
    """A kill between two epochs, without a second process."""


def killed_after(monkeypatch, epochs):
    """Let the process die right after that many epochs were kept."""
    real, kept = Checkpoints.keep, []

    def keep(self, tensors, what):
        real(self, tensors, what)
        kept.append(what["epoch"])
        if len(kept) == epochs:
            raise Killed

    monkeypatch.setattr("train.optimizing.training_state.CHECKPOINT_SHARE", 1e9)  # keep every epoch
    monkeypatch.setattr(Checkpoints, "keep", keep)


# seeds together


def test_stacked_seeds_equal_each_seed_alone_after_an_epoch(learnable, tmp_path):
    together = loop.fit(config(learnable, tmp_path / "a", epochs=1, seeds=(0, 3, 7), together="yes"), SMALL)
    alone = loop.fit(config(learnable, tmp_path / "b", epochs=1, seeds=(0, 3, 7), together="no"), SMALL)
    for seed in (0, 3, 7):
        one, other = (load_file(tmp_path / run / f"seed-{seed}.safetensors") for run in "ab")
        assert one.keys() == other.keys()
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-5)
    for one, other in zip(together["seeds"], alone["seeds"], strict=True):
        assert one["history"][0]["loss"] == pytest.approx(other["history"][0]["loss"], abs=1e-5)
    assert len({seed["history"][0]["loss"] for seed in together["seeds"]}) == 3  # each has its own order and weights


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_stacked_gradients_equal_those_alone(table, layers):
    head = dataclasses.replace(WIDTHS, layers=layers)
    stack, _ = new_step((1, 2), head=head)
    rows = torch.arange(24).view(2, 12)
    stack.losses(table.batch(rows)).sum().backward()
    for i, seed in enumerate((1, 2)):
        alone, _ = new_step((seed,), head=head)
        alone.losses(table.batch(rows[i])).sum().backward()
        for name, parameter in alone.parameters.items():
            torch.testing.assert_close(stack.parameters[name].grad[i], parameter.grad, rtol=1e-5, atol=1e-6)


class Peak(TorchDispatchMode):
    """The most bytes that the tensors made under it held at one time."""

    def __init__(self):
        super().__init__()
        self.live, self.now, self.most = {}, 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and (key := tensor.untyped_storage()._cdata) not in self.live:
                storage = tensor.untyped_storage()
                self.live[key] = storage.nbytes()
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._gone, key)
        return made

    def _gone(self, key):
        self.now -= self.live.pop(key, 0)


@pytest.mark.parametrize("name", ["ghmfc", "drin", "dwe"])
def test_memory_of_a_seed_is_foreseen(tmp_path, name):
    write(tmp_path / "c", Synthetic(400, 200, 6, 0.4, 0, name, text_width=96, image_width=128, joint_width=64))
    given, reader = config(tmp_path / "c", tmp_path / "run", model=name, batch=64), melcache.open(tmp_path / "c")
    head = prepare.with_widths(GhmfcConfig(width=64) if name == "ghmfc" else HEADS[name].config(), reader)
    table = prepare.table_of(given, head, reader, CPU)
    before = torch.get_rng_state()
    foreseen = prepare._bytes_per_seed(given, head, table)
    assert torch.equal(before, torch.get_rng_state())
    model = models.build(name, head, with_lexical=False)
    with Peak() as peak:
        model.objective(table.batch(table.trainable(table.rows("train"))[:64])).backward()
    held = 4 * sum(parameter.numel() for parameter in model.parameters())
    assert foreseen == pytest.approx(peak.most + 4 * held, rel=0.35)  # the weights, two moments, the best


def test_seeds_go_one_by_one_when_memory_is_short(learnable, table, tmp_path, monkeypatch, capsys):
    fake = torch.device("cuda")  # only its type is asked
    there = type("T", (), {"device": fake, "batch": table.batch})()
    arguments = (config(learnable, tmp_path, seeds=(0, 1)), WIDTHS, there, (0, 1), None)
    monkeypatch.setattr(devices, "free_memory", lambda device: 1 << 40)
    assert prepare.groups(*arguments) == [((0, 1), None)]
    monkeypatch.setattr(devices, "free_memory", lambda device: 1 << 10)
    assert prepare.groups(*arguments) == [((0,), None), ((1,), None)]
    assert "one by one" in capsys.readouterr().err


# resume


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    path = tmp_path_factory.mktemp("synth") / "sequences"
    write(path, Synthetic(300, 80, 5, 0.6, 0, "ghmfc", text_width=16, image_width=12, regions=3))
    return path


RESUMED = {
    "drin": ({}, SMALL),
    "drin, moments forgotten before and behind the kill": ({"restart": 1}, SMALL),
    "drin, moments forgotten behind the kill": ({"restart": 3}, SMALL),
    "drin, with a schedule": ({"warm_up": 20, "decay": True, "weight_decay": 0.1, "clip_norm": 0.1}, SMALL),
    "ghmfc": ({"model": "ghmfc"}, LITTLE),  # draws numbers in training
}


@pytest.mark.parametrize("together", ["yes", "no"])
@pytest.mark.parametrize("case", RESUMED)
def test_a_killed_run_ends_bit_by_bit_like_an_uninterrupted_one(request, tmp_path, monkeypatch, together, case):
    given, head = RESUMED[case]
    folder = request.getfixturevalue("sequences" if given.get("model") else "learnable")
    options = {"seeds": (0, 1), "together": together, "epochs": 4, **given}
    whole = loop.fit(config(folder, tmp_path / "whole", **options), head)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        killed_after(patched, 2)
        loop.fit(config(folder, tmp_path / "cut", **options), head)
    assert (tmp_path / "cut" / UNFINISHED).exists()
    resumed = loop.fit(config(folder, tmp_path / "cut", **options), head)
    assert histories(resumed) == histories(whole)
    assert [s["test"] for s in resumed["seeds"]] == [s["test"] for s in whole["seeds"]]
    for seed in (0, 1):
        one, other = (load_file(tmp_path / run / f"seed-{seed}.safetensors") for run in ("whole", "cut"))
        assert all(torch.equal(one[name], other[name]) for name in one)
    lines = [(tmp_path / run / "metrics.jsonl").read_text().splitlines() for run in ("whole", "cut")]
    assert sorted(lines[0]) == sorted(lines[1])
    assert len(lines[1]) == 2 * 4
    assert not (tmp_path / "cut" / UNFINISHED).exists()


def test_a_run_killed_by_the_system_continues(learnable, tmp_path):
    run = tmp_path / "run"
    options = ["--dataset", learnable, "--run", run, "--device", "cpu", "--width", 32, "--epochs", 6, "--threads", 1]
    code = "from torture.machines.kills import Calls; from train.cli import app; Calls(2, ('replace',)); app()"
    command = [sys.executable, "-c", code, *map(str, options)]
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == -signal.SIGKILL
    assert (run / UNFINISHED).exists() and not (run / "results.json").exists()
    given = config(learnable, run, epochs=6, threads=1)
    resumed = loop.fit(given, SMALL)
    whole = loop.fit(dataclasses.replace(given, run=tmp_path / "whole"), SMALL)
    assert histories(resumed) == histories(whole)


def test_finished_seeds_are_not_trained_again(learnable, tmp_path, monkeypatch, capsys):
    first = loop.fit(config(learnable, tmp_path, seeds=(0, 1)), SMALL)
    trained = []
    real = loop.fit_seeds

    def recorded(*args):
        trained.append(args[1])
        return real(*args)

    monkeypatch.setattr(loop, "fit_seeds", recorded)
    second = loop.fit(config(learnable, tmp_path, seeds=(0, 1, 2)), SMALL)
    assert trained == [(2,)]
    assert second["seeds"][:2] == first["seeds"]
    assert "not trained again (--fresh would): seed 0, 1 in" in capsys.readouterr().err
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 9
    assert [s["seed"] for s in loop.fit(config(learnable, tmp_path, seeds=(1,)), SMALL)["seeds"]] == [0, 1, 2]


def test_a_run_of_another_config_is_not_replaced_unasked(learnable, tmp_path):
    loop.fit(config(learnable, tmp_path, seeds=(0, 1), epochs=1), SMALL)
    before = (tmp_path / "results.json").read_bytes()
    with pytest.raises(ConfigError, match=r"belongs to another run: epochs 1, now 2\. Use.*--fresh"):
        loop.fit(config(learnable, tmp_path, seeds=(7,), epochs=2), SMALL)
    with pytest.raises(ConfigError, match=r"belongs to another run: drin\.static False, now True"):
        loop.fit(config(learnable, tmp_path, epochs=1), dataclasses.replace(SMALL, static=True))
    assert (tmp_path / "results.json").read_bytes() == before
    loop.fit(config(learnable, tmp_path, seeds=(7,), epochs=2, fresh=True), SMALL)
    assert [path.name for path in tmp_path.glob("seed-*")] == ["seed-7.safetensors"]


def test_half_a_training_of_another_config_is_refused(learnable, tmp_path, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(Killed):
        killed_after(patched, 1)
        loop.fit(config(learnable, tmp_path), SMALL)
    with pytest.raises(ConfigError, match=r"unfinished.safetensors belongs to another run: epochs 3, now 9\. Use"):
        loop.fit(config(learnable, tmp_path, epochs=9), SMALL)
    with pytest.raises(ConfigError, match=r"belongs to another run: seeds 0, now 4"):
        loop.fit(config(learnable, tmp_path, seeds=(4,)), SMALL)
    assert loop.fit(config(learnable, tmp_path, epochs=1, fresh=True), SMALL)["seeds"][0]["epoch"] == 1


def test_what_is_no_checkpoint_is_refused(learnable, tmp_path):
    (tmp_path / "seed-0.safetensors").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"seed-0.safetensors is not a checkpoint of melcache.*--fresh"):
        loop.fit(config(learnable, tmp_path), SMALL)


def test_a_diverged_run_keeps_the_checkpoint_before(learnable, tmp_path, monkeypatch):
    given = config(learnable, tmp_path, epochs=5)
    real = loop.run_epoch

    def diverge(step, *rest):
        losses = real(step, *rest)
        if (tmp_path / UNFINISHED).exists():
            losses[3] = torch.nan
        return losses

    monkeypatch.setattr(loop, "run_epoch", diverge)
    with pytest.raises(NotFiniteError, match=r"seed 0 became nan in epoch 2, batch 4 of 12.*checkpoint before is in"):
        loop.fit(given, SMALL)
    monkeypatch.setattr(loop, "run_epoch", real)
    continued = loop.fit(given, SMALL)
    assert [epoch["epoch"] for epoch in continued["seeds"][0]["history"]] == [1, 2, 3, 4, 5]


def test_a_stopped_seed_that_diverges_takes_no_other_with_it(learnable, tmp_path, monkeypatch):
    given = config(learnable, tmp_path / "a", epochs=30, patience=1, seeds=(0, 1, 2), together="yes")
    whole = loop.fit(given, SMALL)
    lengths = [len(history) for history in histories(whole)]
    assert min(lengths) < max(lengths), "the seeds must stop at different epochs"
    real, epoch = loop.run_epoch, []

    def diverge(*args):
        epoch.append(1)
        losses = real(*args)
        losses[:, [i for i, length in enumerate(lengths) if length < len(epoch)]] = torch.nan
        return losses

    monkeypatch.setattr(loop, "run_epoch", diverge)
    assert histories(loop.fit(dataclasses.replace(given, run=tmp_path / "b"), SMALL)) == histories(whole)


def test_stacked_seeds_stop_where_they_stop_alone(learnable, tmp_path):
    given = config(learnable, tmp_path / "a", epochs=30, patience=2, seeds=(0, 1, 2), together="yes")
    stacked = loop.fit(given, SMALL)["seeds"]
    alone = loop.fit(dataclasses.replace(given, run=tmp_path / "b", together="no"), SMALL)["seeds"]
    assert [s["epoch"] for s in stacked] == [s["epoch"] for s in alone]
    assert [len(s["history"]) for s in stacked] == [len(s["history"]) for s in alone]
    assert min(len(s["history"]) for s in stacked) < 30


def test_a_kill_between_two_finished_seeds_doubles_nothing(learnable, tmp_path, monkeypatch):
    given = config(learnable, tmp_path, seeds=(0, 1), together="yes")
    real, done = Checkpoints.finish, []

    def finish(self, result, state):
        if done:
            raise Killed
        done.append(real(self, result, state))

    with monkeypatch.context() as patched, pytest.raises(Killed):
        killed_after(patched, 99)
        patched.setattr(Checkpoints, "finish", finish)
        loop.fit(given, SMALL)
    assert (tmp_path / UNFINISHED).exists()
    assert (tmp_path / "seed-0.safetensors").exists()
    loop.fit(given, SMALL)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["seed"], line["epoch"]) for line in lines] == [(s, e) for s in (0, 1) for e in (1, 2, 3)]
    assert not (tmp_path / UNFINISHED).exists()


def test_weights_that_diverge_in_the_last_step_are_told_like_a_loss(learnable, tmp_path):
    given = config(learnable, tmp_path, batch=2000, learning_rate=1e30, seeds=(5,))
    with pytest.raises(NotFiniteError, match=r"scores of seed 5 on valid are not finite after epoch 1.*--fresh"):
        loop.fit(given, SMALL)


@pytest.mark.parametrize("together", ["yes", "no"])
def test_dropout_is_on_in_every_epoch_and_off_in_every_test(sequences, tmp_path, monkeypatch, together):
    modes, real = [], torch.nn.Dropout.forward

    def forward(self, x):
        modes.append(self.training)
        return real(self, x)

    monkeypatch.setattr(torch.nn.Dropout, "forward", forward)
    options = {"model": "ghmfc", "epochs": 3, "seeds": (0, 1), "together": together}
    loop.fit(config(sequences, tmp_path, **options), LITTLE)
    epochs = [mode for mode, _ in itertools.groupby(modes)]
    assert epochs == [True, False] * (3 if together == "yes" else 6)


def test_two_processes_never_share_a_run_folder(learnable, tmp_path):
    with store.alone(tmp_path), pytest.raises(CacheError, match="another process is writing to"):
        loop.fit(config(learnable, tmp_path), SMALL)


def test_patience_stops_and_select_decides(learnable, tmp_path):
    found = loop.fit(config(learnable, tmp_path / "a", epochs=30, patience=2), SMALL)["seeds"][0]
    assert len(found["history"]) == found["epoch"] + 2 < 30
    seed = loop.fit(config(learnable, tmp_path / "b", epochs=4, select="mean_rank"), SMALL)["seeds"][0]
    ranks = [epoch["valid"]["mean_rank"] for epoch in seed["history"]]
    assert seed["epoch"] == 1 + int(np.argmin(ranks))


# tables


@pytest.fixture(scope="module")
def in_pieces(tmp_path_factory):
    path = tmp_path_factory.mktemp("pieces") / "sharded"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("cache.writing.synth.SHARD_ROWS", 70)
        write(path, Synthetic(300, 400, 6, 0.5, 1, text_width=40, image_width=24))
    return path


@pytest.mark.parametrize("resident", ["host", "mmap"])
def test_batches_are_the_same_wherever_the_features_lie(in_pieces, resident):
    reader = melcache.open(in_pieces)
    assert len(reader.pieces("entity.text.sentence")) > 1
    there, here = Table(reader, "drin", CPU, "device"), Table(reader, "drin", CPU, resident)
    assert (there.resident, here.resident) == ("device", resident)
    groups = [*torch.arange(300).split(64), torch.tensor([5, -1]), torch.arange(8).view(2, 4)]
    for one, other in zip(there.batches(groups), here.batches(groups), strict=True):
        assert one.columns.keys() == other.columns.keys()
        assert all(torch.equal(a, b) for a, b in zip(one.tensors(), other.tensors(), strict=True))


def test_training_does_not_depend_on_where_the_features_lie(in_pieces, tmp_path):
    runs = [loop.fit(config(in_pieces, tmp_path / r, epochs=2, resident=r), SMALL) for r in ("device", "host", "mmap")]
    assert histories(runs[0]) == histories(runs[1]) == histories(runs[2])


def test_the_first_place_that_fits_is_taken_and_an_impossible_one_refused(monkeypatch):
    free = {"cuda": 100, "cpu": 1000}
    monkeypatch.setattr(devices, "free_memory", lambda device: free[device.type])
    cuda = torch.device("cuda")
    assert [feature_column.choose("auto", needed, cuda) for needed in (60, 61, 600, 601)] == [
        "device",
        "host",
        "host",
        "mmap",
    ]
    with pytest.raises(
        ConfigError, match=r"--resident device needs 150 B, but only 100 B are free\. Use --resident mmap"
    ):
        feature_column.choose("device", 150, cuda)


@pytest.mark.parametrize("resident", ["device", "host", "mmap"])
def test_a_missing_picture_reads_zero_wherever_it_lies(in_pieces, resident):
    name, reader, absent = "entity.image.vector", melcache.open(in_pieces), np.zeros(400, bool)
    absent[[3, 150]] = True
    pieces = reader.pieces(name) if resident == "mmap" else [(0, reader.read(name))]
    found = feature_column.Feature(pieces, absent, resident, CPU).take(torch.tensor([[3, 4], [150, 3]])).values()
    assert found.any(-1).tolist() == [[False, True], [False, False]]
    np.testing.assert_array_equal(found[0, 1], reader.column("entity.image.vector")[4])


# the machine


def test_adam_takes_the_steps_of_torch():
    torch.manual_seed(0)
    ours = [torch.randn(5, 3, requires_grad=True), torch.randn(4, requires_grad=True)]
    theirs = [tensor.detach().clone().requires_grad_() for tensor in ours]
    adam, reference = Adam(ours, Schedule(1e-2)), torch.optim.Adam(theirs, lr=1e-2, fused=True)
    for step in range(5):
        for mine, other in zip(ours, theirs, strict=True):
            gradient = None if step == 2 and mine.ndim == 1 else torch.randn_like(mine)
            mine.grad = gradient
            other.grad = None if gradient is None else gradient.clone()
        adam.step()
        reference.step()
        assert all(torch.equal(mine, other) for mine, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2, 3, 4)])
def test_a_step_dispatches_few_kernels_and_waits_for_nothing(table, seeds):
    _, step = new_step(seeds)
    rows = torch.arange(64).expand(len(seeds), 64).squeeze(0)
    step(table.batch(rows), 1.0)
    with Count() as counted:
        step(table.batch(rows), 1.0)
    assert counted.kernels.total() <= 210
    assert not counted.waits


def test_the_count_sees_waits():
    with Count() as counted:
        torch.ones(3).sum().item()
        torch.ones(3).nonzero()
        torch.ones(3).to("meta")  # from one device to another
    assert counted.waits == {"_local_scalar_dense": 1, "nonzero": 1, "_to_copy": 1}


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_bfloat16_is_close_to_float32_and_weights_stay_float32(table, seeds):
    batch = table.batch(torch.arange(64).expand(len(seeds), 64).squeeze(0))
    gradients = {}
    for precision in ("float32", "bfloat16"):
        stack, step = new_step(seeds, precision=precision)
        loss = step(batch, 1.0).mean()
        assert all(p.dtype == p.grad.dtype == torch.float32 for p in stack.parameters.values())
        gradients[precision] = (float(loss), torch.cat([p.grad.flatten() for p in stack.parameters.values()]))
    (exact, expected), (loss, found) = gradients.values()
    assert loss == pytest.approx(exact, rel=0.02)
    assert torch.nn.functional.cosine_similarity(expected, found, dim=0) > 0.999
    assert loss != exact


def test_tf32_is_for_training_only(table, monkeypatch):
    seen = []
    _, step = new_step(precision="tf32")
    monkeypatch.setattr(step._adam, "step", lambda: seen.append(torch.get_float32_matmul_precision()))
    step(table.batch(torch.arange(8)), 1.0)
    assert (seen, torch.get_float32_matmul_precision()) == (["highest"], "highest")
    monkeypatch.setattr(step._stack, "losses", lambda batch: seen.append(torch.get_float32_matmul_precision()) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        step(table.batch(torch.arange(8)), 1.0)
    assert (seen[1], torch.get_float32_matmul_precision()) == ("high", "highest")


def test_a_device_that_is_not_there_is_one_line(learnable):
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    run = CliRunner().invoke(app, ["--dataset", str(learnable), "--device", "cuda"])
    assert (run.exit_code, run.stderr) == (
        2,
        "error: --device cuda: this torch sees no CUDA device. Use --device cpu\n",
    )


def test_a_cuda_device_beyond_the_last_is_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="--device cuda:7: this torch sees 2 CUDA devices, cuda:0 to cuda:1"):
        devices.choose("cuda:7")


def test_threads_follow_omp_num_threads_up_to_the_cores(monkeypatch):
    used = []
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(3)))
    monkeypatch.setattr(devices, "_quota", lambda: 5)
    for given, wanted in (("1,2", 1), ("640", 3), ("3", 3), ("0", 3), ("", 3), ("many", 3)):
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        assert devices.use_threads(0) == wanted == used[-1]
    assert devices.use_threads(24) == 24
    with pytest.raises(ConfigError, match="--threads 25: this machine has 6 cores"):
        devices.use_threads(25)
    for given, wanted in ((640, [3]), (2, [])):  # of an extraction
        used.clear()
        monkeypatch.setattr(torch, "get_num_threads", lambda given=given: given)
        devices.cap_threads()
        assert used == wanted


@pytest.mark.gpu
def test_a_captured_step_equals_a_plain_one(learnable):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    cuda = torch.device("cuda")
    table = Table(melcache.open(learnable), "drin", cuda)
    found = []
    for captured in (False, True):
        stack = Stack(lambda: Drin(WIDTHS), (0, 1), cuda)
        adam = Adam(list(stack.parameters.values()), Schedule(1e-3))
        step = Step(stack, adam, World(), "float32")
        if captured:
            step = CapturedStep(step, table, [*stack.parameters.values(), *adam.state().values()])
        for rows in torch.arange(256).view(4, 2, 32).to(cuda):
            loss = step(rows if captured else table.batch(rows), 1.0)
        found.append((loss, stack.state(1)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("resident", ["device", "host", "mmap"])
@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_run_on_a_gpu_follows_that_on_a_cpu(learnable, tmp_path, resident, seeds):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    options = {"seeds": seeds, "resident": resident, "precision": "float32"}  # 720 mentions: the last batch is padded
    here = loop.fit(config(learnable, tmp_path / "cpu", **options), SMALL)
    there = loop.fit(config(learnable, tmp_path / "cuda", device="cuda", **options), SMALL)
    for one, other in zip(histories(here), histories(there), strict=True):
        assert [e["loss"] for e in one] == pytest.approx([e["loss"] for e in other], abs=1e-3)


def test_two_processes_give_the_result_of_one(learnable, tmp_path):
    options = ["--dataset", str(learnable), "--device", "cpu", "--epochs", "2", "--width", "32", "--seeds", "0,1"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "train"]
    done = subprocess.run(
        [*command, *options, "--run-folder", str(tmp_path / "two")],
        capture_output=True,
        text=True,
        timeout=900,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("protocol A") == 1  # one process speaks
    two = json.loads((tmp_path / "two/results.json").read_text())
    one = loop.fit(config(learnable, tmp_path / "one", epochs=2, seeds=(0, 1)), SMALL)
    for a, b in zip(two["seeds"], one["seeds"], strict=True):
        for x, y in zip(a["history"], b["history"], strict=True):
            assert x["loss"] == pytest.approx(y["loss"], abs=1e-4)
            assert x["valid"]["mentions"] == y["valid"]["mentions"]
            assert x["valid"]["mrr"] == pytest.approx(y["valid"]["mrr"], abs=0.01)
        assert a["test"]["top1"] == pytest.approx(b["test"]["top1"], abs=0.02)


def test_a_batch_that_cannot_be_split_is_refused(learnable, tmp_path, monkeypatch):
    loop.fit(config(learnable, tmp_path), SMALL)
    monkeypatch.setattr("train.processes.join", lambda device: (World(0, 2), device))
    with pytest.raises(ConfigError, match="--batch 63 cannot be split over 2 processes"):
        loop.fit(config(learnable, tmp_path, batch=63, fresh=True), SMALL)
    assert (tmp_path / "seed-0.safetensors").exists()  # refused before anything is removed


@pytest.mark.parametrize("real", [1, 13, 16])
def test_gradients_of_the_shares_of_a_batch_add_up_to_its_own(table, real):
    rows = table.trainable(table.rows("train"))[:real]
    stack, _ = new_step()
    stack.losses(table.batch(rows)).sum().backward()
    whole = {name: parameter.grad.clone() for name, parameter in stack.parameters.items()}
    for parameter in stack.parameters.values():
        parameter.grad = None
    padded = torch.nn.functional.pad(rows, (0, 16 - real), value=-1)
    for rank in range(2):  # as run_epoch and Step do it: the sum over processes is the sum of these
        world = World(rank, 2)
        (stack.losses(table.batch(world.share(padded))).sum() * world.count(real) / real).backward()
    for name, parameter in stack.parameters.items():
        torch.testing.assert_close(parameter.grad, whole[name], rtol=1e-4, atol=1e-7)


def test_shares_of_a_batch_are_counted_without_looking():
    for rows in (1, 5, 8):
        padded = torch.nn.functional.pad(torch.arange(rows), (0, 8 - rows), value=-1)
        for rank in range(4):
            world = World(rank, 4)
            assert world.count(rows) == int((world.share(padded) >= 0).sum())


# studies


def test_ablations_are_options(learnable, tmp_path):
    for options in (["--static"], ["--edges", "text_to_text"], ["--layers", "5"]):
        common = ["--dataset", str(learnable), "--run", str(tmp_path), "--epochs", "1", "--width", "16", "--fresh"]
        run = CliRunner().invoke(app, [*common, *options])
        assert run.exit_code == 0, run.stderr
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["config"]["drin"]["layers"] == 5


def test_explain_shows_the_edges_that_enter_each_layer(learnable, tmp_path):
    loop.fit(config(learnable, tmp_path, seeds=(3,)), dataclasses.replace(SMALL, layers=3))
    run = CliRunner().invoke(app, ["explain", "--run", str(tmp_path), "--mention", "5", "--json"])
    assert run.exit_code == 0, run.stderr
    found = json.loads(run.stdout)
    assert (found["mention"], found["seed"], len(found["candidates"])) == ("5", 3, 6)
    scores = [candidate["score"] for candidate in found["candidates"]]
    assert scores == sorted(scores, reverse=True)
    reader = melcache.open(learnable)
    rows = reader.column("pair.candidates.candidates")[5].tolist()
    for candidate in found["candidates"]:
        position = rows.index(int(candidate["id"]))
        assert candidate["gold"] == (position == reader.column("pair.candidates.gold")[5])
        assert len(candidate["layers"]) == 3
        for edge, value in candidate["layers"][0].items():  # what enters the first layer was extracted
            assert value == pytest.approx(float(reader.column(f"pair.alignment.{edge}")[5, position]))
        assert candidate["layers"][1]["image_to_image"] is not None
        assert candidate["layers"][2]["image_to_image"] is None
        assert candidate["layers"][2]["text_to_text"] != candidate["layers"][1]["text_to_text"]
    shown = CliRunner().invoke(app, ["explain", "--run", str(tmp_path), "--mention", "5"]).stdout.splitlines()
    assert "of train, seed 3 of" in shown[0]
    assert shown[1].split()[:6] == ["candidate", "name", "gold", "score", "t>t", "1"]
    assert len(shown) == 3 + 6 + 2


def test_explain_adds_the_lexical_score_where_the_run_did(learnable, tmp_path):
    loop.fit(config(learnable, tmp_path, epochs=1, with_lexical=True), SMALL)
    run = CliRunner().invoke(app, ["explain", "--run", str(tmp_path), "--mention", "5", "--json"])
    assert run.exit_code == 0, run.stderr
    own, string = PACE * load_file(tmp_path / "seed-0.safetensors")["weight"] + torch.tensor([0, START])
    reader = melcache.open(learnable)
    row = reader.column("pair.candidates.candidates")[5].tolist()
    table = Table(reader, "drin", CPU)
    model = Drin(dataclasses.replace(SMALL, text_width=40, image_width=24))
    tensors = load_file(tmp_path / "seed-0.safetensors")
    model.load_state_dict({name[5:]: tensor for name, tensor in tensors.items() if name.startswith("head.")})
    expected = own * model(table.batch(torch.tensor([5])))[0] + string * table.lexical[5]
    for candidate in json.loads(run.stdout)["candidates"]:
        assert candidate["score"] == pytest.approx(float(expected[row.index(int(candidate["id"]))].detach()), abs=1e-6)


def test_explain_says_what_is_missing(learnable, tmp_path):
    for options, message in (
        (["--run", str(tmp_path / "none"), "--mention", "5"], "holds no finished seed; a run of"),
        (["--run", str(tmp_path), "--mention", "x"], "has no mention 'x'; the first of its 900 is '0'"),
        (["--run", str(tmp_path), "--mention", "5", "--seed", "9"], "holds no finished seed 9"),
    ):
        if options[1] == str(tmp_path):
            loop.fit(config(learnable, tmp_path, epochs=1), SMALL)
        run = CliRunner().invoke(app, ["explain", *options])
        assert run.exit_code == 2
        assert run.stderr.startswith("error: ")
        assert message in run.stderr
        assert run.stderr.count("\n") == 1


SWEEP = ["--epochs", "1", "--width", "16", "--vary", "layers=1,2", "--vary", "learning-rate=log:1e-4..1e-2"]


def test_a_sweep_finds_the_best_trial_and_continues(learnable, tmp_path, monkeypatch):
    ran = []
    real = loop.fit

    def recorded(trained, head):
        ran.append((trained.learning_rate, head.layers))
        if len(ran) == 2:
            raise KeyboardInterrupt
        return real(trained, head)

    monkeypatch.setattr(loop, "fit", recorded)
    assert run_study("sweep", learnable, tmp_path, *SWEEP, "--trials", "3").exit_code == 130
    done = run_study("sweep", learnable, tmp_path, *SWEEP, "--trials", "3")
    assert done.exit_code == 0, done.stderr
    assert ran[1] == ran[2]  # the trial that was cut off is asked again
    assert len(ran) == 4
    assert len(set(ran)) == 3
    written = json.loads((tmp_path / "sweep.json").read_text())
    tops = [trial["valid"] for trial in written["trials"]]
    assert tops == sorted(tops, reverse=True)
    assert "drin " in done.stdout
    assert "recall ceiling" in done.stdout
    best = json.loads((tmp_path / written["best"]["run"].rpartition("/")[2] / "results.json").read_text())
    assert best["mean"]["valid"]["top1"] == written["best"]["valid"]
    assert best["config"]["drin"]["layers"] == written["best"]["knobs"]["layers"]
    assert run_study("sweep", learnable, tmp_path, *SWEEP, "--trials", "3").exit_code == 0
    assert len(ran) == 4  # nothing left to do
    other = run_study("sweep", learnable, tmp_path, *SWEEP, "--trials", "3", "--batch", "32")
    assert "holds a search with another batch" in other.stderr


def test_a_grid_is_every_combination_and_a_diverged_trial_is_a_result(learnable, tmp_path):
    options = ["--sampler", "grid", "--epochs", "2", "--width", "16"]
    done = run_study(
        "sweep", learnable, tmp_path, *options, "--vary", "static=yes,no", "--vary", "learning-rate=1e-3,1e30"
    )
    assert done.exit_code == 0, done.stderr
    trials = json.loads((tmp_path / "sweep.json").read_text())["trials"]
    assert {(t["knobs"]["static"], t["knobs"]["learning_rate"]) for t in trials} == {
        (static, rate) for static in (True, False) for rate in (1e-3, 1e30)
    }
    assert [t["valid"] is None for t in trials] == [False, False, True, True]
    assert "became nan" in trials[-1]["error"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "sweep needs something to search"),
        (["--vary", "colour=1,2"], "KNOB one of batch"),
        (["--vary", "layers"], "KNOB=VALUES"),
        (["--vary", "layers=a,b"], "expected layers=A,B,C of different ints"),
        (["--vary", "layers=2,2"], "different ints"),
        (["--vary", "layers=0,1"], "--layers is 0; it must be at least 1"),
        (["--vary", "learning-rate=log:0..1"], "a range LOW..HIGH"),
        (["--vary", "edge-from=next,last"], "last is none of next, current"),
        (["--vary", "learning-rate=1e-4..1e-2", "--sampler", "grid"], "--sampler grid needs choices"),
        (["--vary", "learning-rate=-1..1e-3"], "--learning-rate is -1; it must be positive"),
        (["--vary", "margin=1..inf"], "a range LOW..HIGH"),
        (["--vary", "static=maybe"], "different bools"),
        (["--vary", "layers=1,2", "--vary", "layers=3,4"], "names a knob twice"),
    ],
)
def test_what_a_sweep_cannot_search_is_one_line(learnable, tmp_path, options, message):
    run = run_study("sweep", learnable, tmp_path, *options)
    assert run.exit_code == 2
    assert message in run.stderr
    assert run.stderr.count("\n") == 1


def test_a_head_without_weights_and_torchrun_are_refused(learnable, tmp_path, monkeypatch):
    run = run_study("sweep", learnable, tmp_path, "--model", "lexical", "--vary", "epochs=1,2")
    assert run.stderr == "error: lexical has no weights: there is nothing to search\n"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "start it without torchrun" in run_study("sweep", learnable, tmp_path, "--vary", "layers=1,2").stderr


def test_a_head_without_weights_replaces_no_trained_run(learnable, tmp_path):
    loop.fit(config(learnable, tmp_path, epochs=1), SMALL)
    with pytest.raises(ConfigError, match="belongs to another run"):
        loop.fit(config(learnable, tmp_path, epochs=1, model="lexical"), None)


def test_an_option_before_a_subcommand_is_refused(learnable):
    run = CliRunner().invoke(app, ["--epochs", "3", "explain", "--run", "x", "--mention", "1"])
    assert run.exit_code == 2
    assert "--epochs belongs behind `explain`" in " ".join(run.stderr.split())
