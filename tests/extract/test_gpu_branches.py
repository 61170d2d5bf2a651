"""What is done on a GPU alone, without one: on the stand-in for a device, and with stand-ins for the events of CUDA."""

import inspect
import itertools
import json
import time
import warnings

import numpy as np
import pytest
import torch

import melcache
from bench.encoding.pictures import drawn
from bench.measuring import crossings
from bench.measuring.crossings import Crossings
from common import devices
from extract import pipeline
from extract.encoders import transfer
from extract.encoders.compute import Compute
from extract.encoders.pixels import DevicePixels, _shared
from tests.worlds import entity_record, extract_config, mention_record, write_pictures, write_release

GPU = torch.device("cuda", 1)  # not the current one
STREAM, EVENT = torch.cuda.Stream, torch.cuda.Event


class Event:
    """A point of a stream; as with CUDA's, its time is refused until somebody has waited for it."""

    def __init__(self, enable_timing=False):
        self.timed, self.at, self.over = enable_timing, None, False

    def synchronize(self):
        assert self.at is not None, "never recorded"
        self.over = True

    def elapsed_time(self, end_event):
        if not (self.timed and end_event.timed and self.over and end_event.over):
            raise RuntimeError("Both events must be completed before calculating elapsed time.")
        return 1e3 * (end_event.at - self.at)


class Stream:
    """The stream of one device, on which a second passes between two events."""

    seconds = itertools.count()

    def record_event(self, event=None):
        event = event or Event()
        event.at = next(self.seconds)
        return event


@pytest.fixture
def cuda(monkeypatch):
    """Stand-ins for what is asked of torch.cuda; the devices it was asked about."""
    asked = []

    def of_device(answer):
        return lambda device: asked.append(device) or answer()

    monkeypatch.setattr(torch.cuda, "Event", Event)
    for name, answer in {
        "current_stream": Stream,
        "synchronize": lambda: None,
        "get_device_name": lambda: "X1",
    }.items():
        assert "device" in inspect.signature(getattr(torch.cuda, name)).parameters
        monkeypatch.setattr(torch.cuda, name, of_device(answer))
    transfer._zero.cache_clear()
    yield asked
    transfer._zero.cache_clear()


def test_stand_ins_take_what_those_of_torch_take():
    for ours, theirs, methods in ((Event, EVENT, ("synchronize", "elapsed_time")), (Stream, STREAM, ("record_event",))):
        for name in methods:
            assert [*inspect.signature(getattr(ours, name)).parameters] == [
                *inspect.signature(getattr(theirs, name)).parameters
            ]
    EVENT(enable_timing=True)


def test_events_are_of_the_device_that_is_asked_whichever_is_the_current_one(cuda):
    transfer.mark(GPU)()
    begun, done = transfer.stamp(GPU), transfer.stamp(GPU)
    assert done() - begun() == pytest.approx(1) and done() < time.monotonic() + 3
    assert set(cuda) == {GPU}


def test_precision_decides_what_computes(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    with Compute(GPU, "fp32").autocast():
        assert not torch.backends.cudnn.allow_tf32 and not torch.is_autocast_enabled("cuda")
    assert torch.backends.cudnn.allow_tf32
    with Compute(torch.device("cpu"), "fp32").autocast():
        assert torch.backends.cudnn.allow_tf32
    for precision, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # there is no GPU
            found = Compute(GPU, precision).autocast()
        assert (found.device, found.fast_dtype) == ("cuda", dtype)
    assert [Compute.choose(torch.device(name), "auto").precision for name in ("cpu", "cuda")] == ["fp32", "fp16"]
    assert [Compute(torch.device(name), "fp16").ahead for name in ("cpu", "cuda")] == [0, 1]


def test_an_extraction_on_a_device_makes_the_cache_of_the_host_with_channels_last(tmp_path, cuda, monkeypatch):
    names = [f"{i}.png" for i in range(4)]
    write_pictures(tmp_path, {name: (40 + i, 61 - 4 * i) for i, name in enumerate(names)})
    mentions = [mention_record(i, f"We saw thing{i}", f"thing{i}", name) for i, name in enumerate(names[:2])]
    entities = [entity_record(i, f"thing{i}", "a thing", name) for i, name in enumerate(names)]
    given = {"heads": ("ghmfc",), "image_batch": 2, "shard_rows": 4, "precision": "fp32", "candidates": 2}
    release, made = write_release(tmp_path, mentions, entities), []
    host = melcache.open(pipeline.run(extract_config(release, tmp_path / "host", **given)))
    place, standin = Compute.place, crossings.device()
    monkeypatch.setattr(devices, "choose", lambda name: standin)
    monkeypatch.setattr(Compute, "place", lambda self, model: made.append(place(self, model)) or made[-1])
    with torch.inference_mode(), Crossings() as counted:
        folder = pipeline.run(extract_config(release, tmp_path / "there", **given))
    there = melcache.open(folder)
    assert counted.sent > 10 and counted.fetched > 10 and there.id == host.id
    for column in ("entity.image.vector", "entity.joint.image", "entity.objects.summary", "mention.text.span"):
        np.testing.assert_allclose(there.read(column), host.read(column), atol=2e-3, err_msg=column)
    kernels = [weight for model in made for weight in model.parameters() if weight.ndim == 4 and weight.shape[1] > 1]
    assert len(made) == 4 and kernels
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels)
    assert "X1" in json.dumps(there.manifest.provenance.noted, default=str) and set(cuda) == {standin}


def test_what_a_kernel_of_the_device_cannot_make_so_small_the_host_makes():
    """Torch refuses: "Too much shared memory required"; 48 KiB are 12,288 floats, for 32 columns and rows of one."""
    for shape in ((480, 640), (5_000, 12_000), (64, 64), (3, 90)):
        assert _shared(shape, (224, 224)), shape
    for shape in ((1_500, 40_000), (40_000, 1_500), (8_000, 8_000 * 2)):
        assert not _shared(shape, (64, 64)), shape
    pixels = DevicePixels(lambda height, width: (8, 8), lambda: 8, (0.0,) * 3, (1.0,) * 3)
    images = [drawn(0, (64, 48)), drawn(1, (2_000, 41))]
    expected = pixels.batch(images, torch.device("cpu"))
    with torch.inference_mode(), Crossings() as counted:
        pixels.batch(images[:1], crossings.device())
        before = counted.counts()
        found = pixels.batch(images, crossings.device()).cpu()
    assert before["fetched"] == 0
    assert counted.fetched == 2
    np.testing.assert_array_equal(found, expected)
