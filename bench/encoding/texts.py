"""Texts a second of a named text encoder, and the share of networks in an extraction.  Random weights of real sizes."""

import copy
import functools
import json
import random
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from bench.measuring.turns import in_turns, ratios
from cache import Reader
from cache.kinds import KINDS
from cache.names import PartName
from extract import pipeline
from extract.config import ExtractConfig
from extract.encoders.compute import Compute
from extract.encoders.text import toy_vocabulary
from extract.encoders.text.named import NamedText
from extract.encoders.transfer import Fetched
from extract.weights import sources

# MiniLM-L6-H384: sentence-transformers/all-MiniLM-L6-v2
SHAPE = {
    "model_type": "bert",
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}
TEXTS = 256
LENGTHS = (26, 38, 38, 58, 83)  # tokens of WikiMEL's entity texts at 10, 50, 50, 90 and 99%
OLD_BATCH = 64  # texts
CAPTIONS = 2


class Plain(NamedText):
    """As it was: 64 texts a call, and torch's own product of matrices."""

    def _batches(self, order: list[int], lengths: list[int]) -> Any:
        return (order[begin : begin + OLD_BATCH] for begin in range(0, len(order), OLD_BATCH))

    def _loaded(self) -> torch.nn.Module:
        if self._model is None:
            self._model = self._compute.place(self._described.load(trained=False))
        return self._model


class Timed(NamedText):
    """The encoder, with the seconds that its model takes."""

    seconds = 0.0

    def begun(self, ids: np.ndarray, mask: np.ndarray) -> Fetched:
        """Begin what the model makes of a batch."""
        begin = time.perf_counter()
        found = super().begun(ids, mask)
        self.seconds += time.perf_counter() - begin
        return found


def measure(folder: Path, turns: int, device: str) -> dict[str, float]:
    """Return texts a second, the ratio to how it was, the model's share of the time, and how far the vectors are."""
    path, texts = model_folder(folder), generated()
    config = ExtractConfig(text=str(path), text_weights="random-full")
    compute = Compute.choose(torch.device(device), "fp32")
    weights = sources.parse("random-full")
    was, now, timed = (kind(config, weights, compute) for kind in (Plain, NamedText, Timed))
    ways: dict[str, Callable[[], Any]] = {
        name: _encoding(encoder, texts) for name, encoder in (("was", was), ("now", now))
    }
    apart = float(np.abs(_vectors(was, texts) - _vectors(now, texts)).max())
    found = in_turns(ways, turns)
    _encoding(timed, texts)()
    timed.seconds, begin = 0.0, time.perf_counter()
    _encoding(timed, texts)()
    share = timed.seconds / (time.perf_counter() - begin)
    speed = {f"{name}_texts_a_second": TEXTS / statistics.median(took) for name, took in found.items()}
    return speed | {"ratio": ratios(found, "now")["was_ratio"], "share_of_model": share, "largest_difference": apart}


def packed(turns: int) -> dict[str, float]:
    """Return how many times as long image and joint models take without packed layers, on a few random inputs."""
    import open_clip
    import timm

    pictures, words = torch.randn(8, 3, 224, 224), torch.randint(1, 40_000, (16, 77))
    clip = open_clip.create_model("ViT-B-32")
    models: dict[str, tuple[torch.nn.Module, Callable[[Any], Any]]] = {
        name: (timm.create_model(name, num_classes=0), lambda model: model(pictures))
        for name in ("vit_small_patch16_224", "convnext_tiny")
    }
    models["CLIP B/32, texts"] = clip, lambda model: model.encode_text(words)
    models["CLIP B/32, pictures"] = clip, lambda model: model.encode_image(pictures)
    compute, found = Compute(torch.device("cpu"), "fp32"), {}
    for name, (model, call) in models.items():
        plain, fast = compute.place(copy.deepcopy(model)), compute.place_packed(copy.deepcopy(model))
        with torch.inference_mode():
            ways = {"plain": functools.partial(call, plain), "packed": functools.partial(call, fast)}
            found[name] = ratios(in_turns(ways, turns), "packed")["plain_ratio"]
    return found


class Outermost:
    """The seconds inside networks, of whatever module is called from outside of all others; a context."""

    def __init__(self) -> None:
        self.seconds, self._depth, self._begin = 0.0, 0, 0.0

    def __enter__(self) -> "Outermost":
        self._hooks = [register_module_forward_pre_hook(self._enter), register_module_forward_hook(self._leave)]
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _enter(self, module: torch.nn.Module, given: object) -> None:
        if self._depth == 0:
            self._begin = time.perf_counter()
        self._depth += 1

    def _leave(self, module: torch.nn.Module, given: object, made: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.seconds += time.perf_counter() - self._begin


def extraction(folder: Path, device: str) -> dict[str, float]:
    """Return the seconds of extracting a few captions of the demo, and the share that networks take of its encoding."""
    config = ExtractConfig(weights="random-full", shards=folder, name="demo-full", limit=CAPTIONS, device=device)
    shutil.rmtree(config.folder, ignore_errors=True)
    with Outermost() as networks:
        pipeline.run(config)
    manifest = Reader(config.folder).manifest
    made = [name for name in manifest.parts if KINDS[PartName(name)].role]
    rows = manifest.tables
    encoded = sum(manifest.provenance.seconds_of(name, rows[PartName(name).table]) or 0 for name in made)
    return {"encoding_seconds": encoded, "share_of_networks": networks.seconds / encoded}


def model_folder(folder: Path) -> Path:
    """Make a folder of a model's config and its vocabulary."""
    words = toy_vocabulary.build()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(SHAPE | {"vocab_size": len(words)}))
    (folder / "vocab.txt").write_text("\n".join(words))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return folder


def generated() -> list[str]:
    """Return texts of frequent words; their lengths are spread as WikiMEL's."""
    rng = random.Random(0)
    return [" ".join(rng.choices(toy_vocabulary.FREQUENT, k=rng.choice(LENGTHS) - 2)) for _ in range(TEXTS)]


def _encoding(encoder: NamedText, texts: Sequence[str]) -> Callable[[], Any]:
    return lambda: [batch.index for batch in encoder.encode(texts, 128)]


def _vectors(encoder: NamedText, texts: Sequence[str]) -> np.ndarray:
    rows = {
        row: vector for batch in encoder.encode(texts, 128) for row, vector in zip(batch.index, batch.cls, strict=True)
    }
    return np.stack([rows[row] for row in range(len(texts))])
