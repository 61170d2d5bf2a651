"""How fast pictures become vectors: each encoder by itself, a whole extraction, and what crosses in one batch.

Random weights of real sizes; on a CPU toys and a few pictures, which show only that all of it runs.
"""

import io
import json
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from bench.measuring import crossings
from bench.measuring.crossings import Crossings
from cache.names import PartName
from common.output import say
from extract import pipeline
from extract.computing.missing_shards import Work
from extract.computing.overlap import DECODING, WRITING
from extract.config import ExtractConfig
from extract.encoders import Encoders
from extract.encoders.pixels import Picture

SIDES = ((80, 60), (80, 70), (60, 80), (90, 90))
TEXTS = ("Paris at night", "the harbor", "x", "one two three four")
# of pictures that are measured, as (width, height): most of a release's are of a few shapes
SHAPES = ((640, 480), (480, 640), (640, 427), (500, 500), (800, 533), (1024, 683))
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}  # FLOP/s of fp16, dense
ROLES = {"image": ("image",), "joint": ("joint",), "objects": ("objects",), "image and joint": ("image", "joint")}


def measure(folder: Path, device: str) -> dict[str, list[dict[str, Any]]]:
    """Return the tables: what crosses in a batch, pictures a second of encoders, and of whole extractions."""
    gpu = device != "cpu"
    if not gpu:
        say("extract: no GPU: toys and few pictures; fraction of peak and busy share of the GPU are left out")
    tables: dict[str, list[dict[str, Any]]] = {"extract": [], "extraction": []}
    for pixels in ("host", "device"):
        config = ExtractConfig(
            weights="random-full" if gpu else "random-tiny",
            device=device,
            pixels=pixels,
            workers=16 if gpu else 2,
            image_batch=64 if gpu else 4,
        )
        tables["extract"] += speeds(config, 8 if gpu else 1)
        tables["extraction"].append(extraction(config, folder, 3072 if gpu else 8))
    toys = Encoders(ExtractConfig(weights="random-tiny", device="cpu", text_batch=len(TEXTS), image_batch=len(SIDES)))
    return tables | {"copies and waits of a batch of four": crossing(toys)}


def speeds(config: ExtractConfig, batches: int) -> list[dict[str, Any]]:
    """Return pictures a second of each encoder, what threads make being made; on a GPU the share of its peak."""
    encoders, found = Encoders(config), []
    count = batches * config.image_batch
    files = [compressed(i) for i in range(min(count, 64))]
    for name, roles in ROLES.items():
        parts = [PartName(f"entity.{role}") for role in roles]
        groups = [
            [_picture(files[i % len(files)], encoders, parts) for i in range(begin, begin + config.image_batch)]
            for begin in range(0, count, config.image_batch)
        ]
        with FlopCounterMode(display=False) as operations:
            _run(encoders, groups[:1], parts)  # loads the weights
        _forget(groups)
        _run(encoders, groups[:1], parts)
        _forget(groups)
        begin = time.perf_counter()
        _run(encoders, groups, parts)
        rate = count / (time.perf_counter() - begin)
        row = {"encoder": name, "pixels": config.pixels, "pictures_a_second": float(f"{rate:.3g}")}
        if config.device != "cpu":
            row["of_peak"] = _of_peak(operations.get_total_flops() / config.image_batch * rate)
        found.append(row)
    return found


def extraction(config: ExtractConfig, folder: Path, pictures: int) -> dict[str, Any]:
    """Return pictures a second of an extraction with all encoders, and how much was hidden behind them."""
    release = written(folder / f"release-{pictures}", pictures)
    given = {name: getattr(config, name) for name in ("weights", "device", "pixels", "workers", "image_batch")}
    asked = ExtractConfig(
        dataset="jsonl", data=release, shards=folder / "extracted", candidates=2, shard_rows=512, **given
    )
    shutil.rmtree(asked.folder, ignore_errors=True)
    with _works() as works, _kernels(config.device) as seconds:
        pipeline.run(asked)
    [(work, wall)] = works
    row = {
        "pixels": config.pixels,
        "pictures_a_second": float(f"{work.pictures.decoded / wall:.3g}"),
        "decoding_hidden": round(work.spans.hidden(DECODING), 3),
        "writing_hidden": round(work.spans.hidden(WRITING), 3),
    }
    return row | ({"gpu_busy": round(seconds[0] / wall, 3)} if seconds else {})


def crossing(encoders: Encoders) -> list[dict[str, Any]]:
    """Return what one batch of each encoder sends and fetches, and how often the host waits for the device.

    The encoders are on the stand-in for a device from then on.  `torchvision alone` is the detector's own model, whose
    pictures are on the device already.
    """
    object.__setattr__(encoders.compute, "device", crossings.device())
    images = [drawn(i, size) for i, size in enumerate(SIDES)]
    found = []
    with torch.inference_mode(), Crossings() as counted:
        for name, run in _ways(encoders, images).items():
            run()  # loads the weights
            counted.clear()
            run()
            found.append({"batch": name} | counted.counts())
    return found


def drawn(seed: int, size: tuple[int, int]) -> Image.Image:
    """Return a picture of noise of a size (width, height)."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8))


def compressed(seed: int) -> bytes:
    """Return a JPEG of one of SHAPES, as detailed as a photograph: noise of several sizes."""
    size, file = SHAPES[seed % len(SHAPES)], io.BytesIO()
    coarse = drawn(seed, (size[0] // 16, size[1] // 16)).resize(size, Image.Resampling.BICUBIC)
    Image.blend(coarse, drawn(seed, (size[0] // 3, size[1] // 3)).resize(size), 0.3).save(file, "JPEG", quality=85)
    return file.getvalue()


def written(folder: Path, pictures: int) -> Path:
    """Write a release whose entities have a picture each, all of them different; it is made once."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng, files = random.Random(0), [compressed(i) for i in range(min(pictures, 64))]
    for i in range(pictures):
        (folder / f"images/{i}.jpg").write_bytes(files[i % len(files)] + str(i).encode())  # what follows is not read
    entities = [
        {"id": f"e{i}", "name": f"thing {i}", "text": f"seen {rng.randrange(10**6)} times", "image": f"images/{i}.jpg"}
        for i in range(pictures)
    ]
    mention = {"id": "m0", "text": "thing 0 again", "mention": "thing 0", "start": 0, "end": 7, "gold": "e0"}
    for name, records in (("entities", entities), ("mentions", [mention])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def _ways(encoders: Encoders, images: Sequence[Image.Image]) -> dict[str, Callable[[], Any]]:
    detector: Any = encoders.objects
    pixels = [torch.from_numpy(np.array(image)).to(encoders.compute.device) for image in images]
    return {
        "text": lambda: list(encoders.text.encode(TEXTS, 128)),
        "joint, texts": lambda: encoders.joint.encode_texts(TEXTS),
        "joint, pictures": lambda: encoders.joint.columns(images, ["joint"]),
        "joint, pictures and patches": lambda: encoders.joint.columns(images, ["joint", "patches"]),
        "image": lambda: encoders.image.columns(images, ["image"]),
        "image and regions": lambda: encoders.image.columns(images, ["image", "regions"]),
        "objects and their crops": lambda: encoders.objects.columns(images, ["objects"]),
        "torchvision alone": lambda: detector._model([image.permute(2, 0, 1).float() / 255 for image in pixels]),
    }


def _run(encoders: Encoders, groups: Sequence[Sequence[Picture]], parts: Sequence[PartName]) -> None:
    """Encode batches as an extraction does: each is begun before the numbers of the one before it are read."""
    waiting: list[Callable[[], Any]] = []
    for pictures in groups:
        waiting += [encoders.launched(pictures, [part]) for part in parts]
        while len(waiting) > encoders.compute.ahead * len(parts):
            waiting.pop(0)()
    for finish in waiting:
        finish()


def _forget(groups: Sequence[Sequence[Picture]]) -> None:
    """Take pictures from the device, so that they are sent anew."""
    for pictures in groups:
        for picture in pictures:
            picture.there = None


def _picture(data: bytes, encoders: Encoders, parts: Sequence[PartName]) -> Picture:
    return Picture(Image.open(io.BytesIO(data)).convert("RGB")).prepared(encoders.reads(parts))


def _of_peak(flops: float) -> str:
    name = torch.cuda.get_device_name()
    peak = next((value for part, value in PEAKS.items() if part in name.split()), None)
    return f"{flops / peak:.1%}" if peak else f"peak of {name} not known, {flops / 1e12:.0f} TFLOP/s"


@contextmanager
def _works() -> Iterator[list[tuple[Work, float]]]:
    """Collect the extractions of the block, and how many seconds each computed."""
    found: list[tuple[Work, float]] = []
    do = Work.do

    def noted(self: Work, todo: Any) -> None:
        begin = time.perf_counter()
        do(self, todo)
        found.append((self, time.perf_counter() - begin))

    Work.do = noted  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Work.do = do  # type: ignore[method-assign]


@contextmanager
def _kernels(device: str) -> Iterator[list[float]]:
    """Put into the list how long kernels of the block ran on a GPU, in seconds; nothing where there is none."""
    found: list[float] = []
    if device == "cpu":
        yield found
        return
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        yield found
    found.append(sum(event.self_device_time_total for event in seen.key_averages()) / 1e6)
