"""What crosses between host and device in a batch, counted on a stand-in for the device."""

import numpy as np
import pytest
import torch

from bench.document import tables as markdown
from bench.encoding import pictures
from bench.measuring import crossings
from bench.measuring.crossings import Crossings


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
        patch.setattr(pictures, "say", lines.append)
        return pictures.measure(tmp_path_factory.mktemp("bench"), "cpu"), lines


@pytest.fixture(scope="module")
def counts(measured):
    [crossed] = [rows for name, rows in measured[0].items() if name.startswith("copies")]
    return {row["batch"]: (row["sent"], row["fetched"], row["waits"]) for row in crossed}


def test_the_bench_runs_on_a_cpu_and_says_what_it_leaves_out(measured):
    tables, lines = measured
    assert lines == ["extract: no GPU: toys and few pictures; fraction of peak and busy share of the GPU are left out"]
    speeds, whole = tables["extract"], tables["extraction"]
    assert [(row["encoder"], row["pixels"]) for row in speeds] == [
        (name, pixels) for pixels in ("host", "device") for name in ("image", "joint", "objects", "image and joint")
    ]
    assert all(row["pictures_a_second"] > 0 and "of_peak" not in row for row in speeds)
    assert [row["pixels"] for row in whole] == ["host", "device"]
    assert all(row["pictures_a_second"] > 0 and 0 <= row["decoding_hidden"] <= 1 for row in whole)
    assert "| joint | device |" in markdown({"machine": "", "commit": "", "extract": tables})


def test_a_batch_is_sent_once_fetched_once_and_waited_for_once(counts):
    found = dict(counts)
    forced = found.pop("torchvision alone")
    assert forced[1] == 0 and forced[2] > 4  # it waits for each picture itself
    detector = np.subtract(found.pop("objects and their crops"), forced)
    assert tuple(detector) == (1 + 3, 1 + 3, 1 + 3)  # its batch of pictures, and three batches of crops
    assert found.pop("text") == (1, 1, 2)  # transformers asks whether any token is padding
    assert set(found.values()) == {(1, 1, 1)} and len(found) == 5
