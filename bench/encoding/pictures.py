"""How fast pictures become vectors: each encoder by itself, as it is and compiled, and a whole extraction.

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
from torch.utils.flop_counter import FlopCounterMode

from bench.measuring.busy import busy_share
from cache.kinds import KINDS
from cache.names import PartName
from extract import pipeline
from extract.computing.missing_shards import Work
from extract.computing.overlap import DECODING, ENCODING, WRITING
from extract.config import ExtractConfig
from extract.encoders import Encoders
from extract.encoders.pixels import Picture, plain

# of pictures that are measured, as (width, height): most of a release's are of a few shapes
SHAPES = ((640, 480), (480, 640), (640, 427), (500, 500), (800, 533), (1024, 683))
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}  # FLOP/s of fp16, dense
BLOCKS = {"Bottleneck", "BasicBlock", "ResidualAttentionBlock"}  # of ResNets and of CLIP: regions that repeat
COMPILED = ("objects", "joint", "image")  # one after the other: objects are encoded by the image encoder, too
ROLES = {"image": ("image",), "joint": ("joint",), "objects": ("objects",), "image and joint": ("image", "joint")}


def speeds(config: ExtractConfig, seconds: float, *, compile_by: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield pictures a second of each encoder, what threads make being made; on a GPU the share of its fp16 peak.

    Each is measured for some seconds. With `compile_by`, a backend of torch.compile, as it is and compiled.
    """
    encoders = Encoders(config)
    shown = [_picture(compressed(i), encoders) for i in range(min(config.image_batch, 64))]
    for name in COMPILED if compile_by else ROLES:
        parts = [PartName(f"entity.{role}") for role in ROLES[name]]
        group = [shown[i % len(shown)] for i in range(config.image_batch)]
        warm(encoders, group, parts)
        with FlopCounterMode(display=False) as operations:
            encoders.pictures(group, parts)
        row: dict[str, Any] = {"encoder": name, "pixels": config.pixels, "precision": encoders.compute.precision}
        row["pictures_a_second"] = _rate(encoders, group, parts, seconds)
        if compile_by:
            begin = time.perf_counter()
            row["blocks"] = compiled(encoders, name, compile_by)
            encoders.pictures(group, parts)
            row["compiling_s"] = round(time.perf_counter() - begin, 1)
            row["compiled"] = _rate(encoders, group, parts, seconds)
        if config.device != "cpu":
            row["of_fp16_peak"] = _of_peak(operations.get_total_flops() / len(group) * row["pictures_a_second"])
        yield row


def extraction(config: ExtractConfig, folder: Path, pictures: int, shard_rows: int = 512) -> dict[str, Any]:
    """Return pictures a second of an extraction with all encoders, and how much was hidden behind them.

    `encoding` is the share of the time in which a device had a batch, `gpu_busy` that in which its kernels ran, by
    nvidia-smi. Weights are loaded before.
    """
    release = written(folder / f"release-{pictures}", pictures)
    given = {name: getattr(config, name) for name in ("weights", "device", "pixels", "workers", "image_batch")}
    asked = ExtractConfig(
        dataset="jsonl", data=release, shards=folder / "extracted", candidates=2, shard_rows=shard_rows, **given
    )
    shutil.rmtree(asked.folder, ignore_errors=True)
    with works(config.device) as found:
        pipeline.run(asked)
    [(work, wall, busy)] = found
    row = {
        "pixels": config.pixels,
        "pictures_a_second": float(f"{work.pictures.decoded / wall:.3g}"),
        "decoding_hidden": round(work.spans.hidden(DECODING), 3),
        "writing_hidden": round(work.spans.hidden(WRITING), 3),
        "encoding": round(work.spans.seconds(ENCODING) / wall, 3),
    }
    return row | ({} if busy is None else {"gpu_busy": round(busy, 3)})


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


def warm(encoders: Encoders, group: Sequence[Picture], parts: Sequence[PartName]) -> None:
    """Load what encodes parts of pictures, and let the detector find as many objects as a trained one.

    With random weights every box passes its threshold; from here on those do that were kept of one picture.
    """
    if any(KINDS[part].role == "objects" for part in parts):
        detector: Any = encoders.objects
        found = detector._detect([plain(picture) for picture in group[:1]])
        detector._model.roi_heads.score_thresh = float(min(found[0]["scores"], default=0))
    encoders.pictures(group, parts)


def compiled(encoders: Encoders, role: str, backend: str) -> int:
    """Compile the repeated blocks of an encoder's network, once for all that are alike; return how many there are."""
    of: dict[str, Callable[[], Any]] = {
        "image": lambda: encoders.image._loaded(),  # type: ignore[attr-defined]
        "joint": lambda: encoders.joint.model.visual,
        "objects": lambda: encoders.objects._model.backbone,  # type: ignore[attr-defined]
    }
    torch._dynamo.config.recompile_limit = 64  # strides and widths differ; more runs uncompiled
    found = [module for module in of[role]().modules() if type(module).__name__ in BLOCKS]
    for block in found:
        block.compile(backend=backend)
    return len(found)


def _rate(encoders: Encoders, group: Sequence[Picture], parts: Sequence[PartName], seconds: float) -> float:
    """Return pictures a second, encoded as an extraction does: a batch is begun before the one before it is read."""
    waiting: list[Callable[[], Any]] = []
    count, begin = 0, time.perf_counter()
    while not count or time.perf_counter() - begin < seconds:
        fresh = [again(picture) for picture in group]
        waiting += [encoders.launched(fresh, [part]) for part in parts]
        while len(waiting) > encoders.compute.ahead * len(parts):
            waiting.pop(0)()
        count += len(group)
    for finish in waiting:
        finish()
    return float(f"{count / (time.perf_counter() - begin):.3g}")


def again(picture: Picture) -> Picture:
    """Return a picture with what is read of it, as if no encoder had sent it."""
    found = Picture(picture.image)
    found._made = picture._made
    return found


def _picture(data: bytes, encoders: Encoders) -> Picture:
    parts = [PartName(f"entity.{role}") for role in ROLES["image and joint"]]
    return Picture(Image.open(io.BytesIO(data)).convert("RGB")).prepared([*encoders.reads(parts), np.asarray])


def _of_peak(flops: float) -> str:
    name = torch.cuda.get_device_name()
    peak = next((value for part, value in PEAKS.items() if part in name.split()), None)
    return f"{flops / peak:.1%}" if peak else f"peak of {name} not known, {flops / 1e12:.0f} TFLOP/s"


@contextmanager
def works(device: str) -> Iterator[list[tuple[Work, float, float | None]]]:
    """Collect the extractions of the block, how many seconds each computed, and the share in which a GPU was busy."""
    found: list[tuple[Work, float, float | None]] = []
    do = Work.do

    def noted(self: Work, todo: Any) -> None:
        pictures = [_picture(compressed(i), self.encoders) for i in range(4)]
        warm(self.encoders, pictures, [PartName(f"entity.{role}") for role in ("image", "joint", "objects")])
        list(self.encoders.text.encode(["a"], 16))
        self.encoders.joint.encode_texts(["a"])
        with busy_share(device) as busy:
            begin = time.perf_counter()
            do(self, todo)
            wall = time.perf_counter() - begin
        found.append((self, wall, busy[0] if busy else None))

    Work.do = noted  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Work.do = do  # type: ignore[method-assign]
