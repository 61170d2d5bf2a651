"""What crosses between host and device in a batch, counted on a stand-in for the device."""

import json
import sys

import numpy as np
import pytest
import torch

from bench.document import tables as markdown
from bench.encoding import bounded
from bench.measuring import crossings
from bench.measuring.busy import busy_share
from bench.measuring.crossings import Crossings
from torture.processes import until


def test_the_stand_in_computes_and_counts_what_crosses():
    with torch.inference_mode(), Crossings() as counted:
        there = torch.arange(6.0).to(crossings.device())
        assert (there.device.type, counted.counts()) == ("standin", {"sent": 1, "fetched": 0, "waits": 1})
        there += torch.tensor([1.0], device=there.device)
        assert (counted.sent, counted.sent_bytes) == (2, 28)
        assert there.view(2, 3).sum(1).cpu().tolist() == [6, 15]
        assert (counted.fetched, counted.fetched_bytes) == (1, 8)
        counted.clear()
        assert there.max().item() == 6 and len(there.nonzero()) == 6 and len(there[there > 3]) == 3
        assert counted.counts() == {"sent": 0, "fetched": 0, "waits": 3}
        counted.clear()
        pinned, plain = (torch.empty(6, pin_memory=pin) for pin in (True, False))
        pinned.copy_(there, non_blocking=True)
        assert counted.counts() == {"sent": 0, "fetched": 1, "waits": 0}
        plain.copy_(there, non_blocking=True)
        assert counted.counts() == {"sent": 0, "fetched": 2, "waits": 1}
        with pytest.raises(RuntimeError):
            there.numpy()


def test_a_number_of_the_host_does_not_cross():
    with torch.inference_mode(), Crossings() as counted:
        there = torch.zeros(3, device=crossings.device()) + 2
        assert (there * torch.tensor(0.5)).device == there.device
        torch.ones(2).to(torch.float64)
    assert counted.counts() == {"sent": 0, "fetched": 0, "waits": 0}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What `python -m bench --only extract` measures on a CPU, and what it says."""
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounded, "say", lines.append)
        return bounded.measure(tmp_path_factory.mktemp("bench"), "cpu"), lines


@pytest.fixture(scope="module")
def counts(measured):
    [crossed] = [rows for name, rows in measured[0].items() if name.startswith("copies")]
    return {row["batch"]: (row["sent"], row["fetched"], row["waits"]) for row in crossed}


def test_the_bench_runs_on_a_cpu_and_says_what_it_leaves_out(measured):
    tables, lines = measured
    assert lines[0].startswith("extract: no GPU: toys and few pictures; fraction of peak and busy share")
    assert len(lines) == 1 + 4 + 1 + 1 + 4 + 3 + 8  # a line a row
    speeds, whole = tables["extract"], tables["extraction"]
    assert [(row["encoder"], row["pixels"]) for row in speeds] == [
        (name, pixels) for pixels in ("host", "device") for name in ("image", "joint", "objects", "image and joint")
    ]
    assert all(row["pictures_a_second"] > 0 and "of_fp16_peak" not in row for row in speeds)
    assert [row["pixels"] for row in whole] == ["host", "device"]
    assert all(row["pictures_a_second"] > 0 and 0 <= row["decoding_hidden"] <= 1 for row in whole)
    compiled = {row["encoder"]: row["blocks"] for row in tables["compiled"]}
    assert compiled == {"image": 4, "joint": 2, "objects": 0}  # those of toys
    assert all(row["compiled"] > 0 for row in tables["compiled"])
    assert "| joint | device |" in markdown({"machine": "", "commit": "", "extract": tables})


def test_a_batch_is_sent_once_fetched_once_and_waited_for_once(counts):
    found = dict(counts)
    forced = found.pop("torchvision alone")
    assert forced[1] == 0 and forced[2] > 4  # it waits for each picture itself
    detector = np.subtract(found.pop("objects and their crops"), forced)
    assert tuple(detector) == (1 + 3, 1 + 3, 1 + 3)  # its batch of pictures, and three batches of crops
    assert found.pop("text") == (1, 1, 2)  # transformers asks whether any token is padding
    assert set(found.values()) == {(1, 1, 1)} and len(found) == 5


def part_that(says, folder, seconds=20.0):
    code = f"import sys, time; print('coverage 1'); print('{{\"a\": 1}}', flush=True); {says}"
    return bounded.apart("copies", folder, "cuda", seconds, (sys.executable, "-S", "-c", code))


def test_a_part_that_fails_or_hangs_costs_itself_alone(tmp_path, monkeypatch):
    assert part_that("print('{')", tmp_path) == [{"a": 1}]
    assert part_that("sys.exit('CUDA error: x')", tmp_path) == [{"a": 1}, {"failed": "copies: status 1: CUDA error: x"}]
    monkeypatch.setattr(bounded, "LEAST", 0.5)
    assert part_that("time.sleep(60)", tmp_path, 1.0) == [{"a": 1}, {"failed": "copies: not finished in 1 s"}]
    assert part_that("print(1)", tmp_path, 0.4) == [{"failed": "copies: no time was left"}]


def test_on_a_gpu_parts_take_turns_in_processes_and_what_they_measure_is_written_at_once(tmp_path, monkeypatch):
    asked, clock = [], [0.0]

    def apart(name, folder, device, seconds):
        there = tmp_path / "extract-cuda.json"
        asked.append((name, seconds, len(json.loads(there.read_text())) if there.exists() else 0))
        clock[0] += 100
        return [{"encoder": "image and joint", "pictures_a_second": 6000.0, "gpu_busy": 0.5}, {"failed": name}]

    monkeypatch.setattr(bounded, "apart", apart)
    monkeypatch.setattr(bounded, "say", lambda line: None)
    monkeypatch.setattr(bounded.time, "monotonic", lambda: clock[0])
    tables = bounded.measure(tmp_path, "cuda")
    assert [name for name, _, _ in asked] == list(bounded.PARTS)
    assert [seconds for _, seconds, _ in asked] == [80, 110, 80, 60, 60, -40], "460 s in all"
    assert [tables for _, _, tables in asked] == [0, 1, 2, 2, 2, 3]
    assert [row[""] for row in tables["goals"]] == ["met", "met", "missed"]
    assert set(tables["extract"][1]) == {"encoder", "pictures_a_second", "gpu_busy", "failed"}
    assert [row[""] for row in bounded.goals({})] == ["not measured"] * 3


def test_the_busy_share_is_the_mean_of_what_nvidia_smi_says(tmp_path):
    def share(device, *command):
        with busy_share(device, command) as found:
            if "sleep" in " ".join(command):
                until((tmp_path / "said").exists, "it says something")
        return found

    says = f"echo 80; echo '[N/A]'; echo 40; touch {tmp_path}/said; exec sleep 60"
    assert share("cuda", "sh", "-c", says) == [pytest.approx(0.6)]
    assert share("cuda", "sh", "-c", "echo '[N/A]'") == share("cuda", "no such command") == share("cpu", "false") == []
