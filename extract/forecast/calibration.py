"""How fast the encoders are here: each that has work runs a few batches of what it would be given."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from cache.names import PartName
from extract import images
from extract.config import ExtractConfig
from extract.encoders import Encoders
from extract.forecast.workload import Workload

BATCHES = 4  # of texts that are timed, so that short and long ones are among them
ENOUGH, LEAST, MOST = 2.0, 2, 16  # seconds of pictures, and how many batches of them
PICTURES = 4  # at a time where there is no GPU: 16 would take the detector half a minute there
DECODING = "decoding"
TEXT_ENCODERS = {"entity.bert": "BERT, entities", "mention.bert": "BERT, sentences", "token.bert": "BERT, sentences"}
PICTURE_ENCODERS = {"resnet": "ResNet", "regions": "ResNet", "clip": "CLIP, pictures", "crops": "CLIP, pictures"}
Item = TypeVar("Item")


class Calibration:
    """Seconds per item of each encoder that has something to do; `measured` by name, with the number of items timed."""

    def __init__(self, config: ExtractConfig, encoders: Encoders, items: Workload) -> None:
        self.measured: dict[str, dict[str, Any]] = {}
        self._config, self._encoders, self._items = config, encoders, items
        self._batch = config.image_batch if encoders.compute.device.type == "cuda" else PICTURES
        for name, texts in _by(_texts_of, items.text_items).items():
            self._measure(name, [_spread(texts, BATCHES * config.text_batch)], self._text_run(name))
        batches = self._decoded() if items.decoded else []
        for name in _by(_pictures_of, items.picture_items):
            self._measure(name, batches, self._picture_run(name))

    def seconds(self, part: str) -> float | None:
        """Return how long the encoders take for a part, None where it needs none."""
        texts, pictures = len(self._items.text_items[part]), len(self._items.picture_items[part])
        crops = self._config.objects if PartName(part).kind == "crops" else 1
        spent = self._rate(_texts_of(part)) * texts + self._rate(_pictures_of(part)) * pictures * crops
        return spent if texts or pictures else None

    def decoding(self) -> float:
        """Return how long decoding takes by itself; the encoders work beside it."""
        return self._rate(DECODING) * len(self._items.decoded)

    def total(self) -> float:
        """Return how long everything takes: texts, and pictures or their decoding, whichever is slower."""
        parts = self._items.text_items.keys() | self._items.picture_items.keys()
        texts = sum(self._rate(_texts_of(part)) * len(self._items.text_items[part]) for part in parts)
        return texts + max(self.decoding(), sum(self.seconds(part) or 0.0 for part in parts) - texts)

    def _text_run(self, name: str) -> Callable[[Sequence[str]], Any]:
        bert, clip = self._encoders.bert, self._encoders.clip
        limit = self._config.entity_tokens if name == TEXT_ENCODERS["entity.bert"] else self._config.sentence_tokens
        runs = {"CLIP, texts": clip.encode_texts, "CLIP, tokens": lambda texts: list(clip.encode_tokens(texts))}
        return runs.get(name, lambda texts: list(bert.encode(texts, limit)))

    def _picture_run(self, name: str) -> Callable[[Sequence[Image.Image]], Any]:
        kinds = {"ResNet": "resnet", "CLIP, pictures": "clip", "detector": "objects"}
        return lambda pictures: self._encoders.pictures(pictures, [kinds[name]])

    def _measure(self, name: str, batches: Sequence[list[Item]], run: Callable[[Sequence[Item]], Any]) -> None:
        """Note how long a few batches take, behind some items that load the weights and warm up."""
        run(batches[0] if self._encoders.compute.device.type == "cuda" else batches[0][:1])
        begin, done, spent = time.monotonic(), 0, 0.0
        for count, batch in enumerate(batches):
            if count >= LEAST and spent > ENOUGH:
                break
            run(batch)
            done, spent = done + len(batch), time.monotonic() - begin
        self._note(name, done, spent)

    def _note(self, name: str, items: int, seconds: float) -> None:
        self.measured[name] = {"items": items, "seconds_per_item": seconds / items}

    def _rate(self, name: str) -> float:
        return self.measured[name]["seconds_per_item"] if name in self.measured else 0.0

    def _decoded(self) -> list[list[Image.Image]]:
        """Return a sample of the pictures, decoded as an extraction does it; the neutral one where none can be."""
        paths = sorted(set(self._items.decoded.values()))
        sample, begin = _spread(paths, MOST * self._batch), time.monotonic()
        with ThreadPoolExecutor(self._config.workers) as pool:
            decoded = list(pool.map(_decode, sample))
        self._note(DECODING, len(sample), time.monotonic() - begin)
        there = [image for image in decoded if image is not None] or [images.neutral()]
        return [there[begin : begin + self._batch] for begin in range(0, len(there), self._batch)]


def _texts_of(part: str) -> str:
    """Return the encoder that reads the texts of a part."""
    return TEXT_ENCODERS.get(part, "CLIP, tokens" if part == "clip_token.clip" else "CLIP, texts")


def _pictures_of(part: str) -> str:
    """Return the encoder that sees the pictures of a part."""
    return PICTURE_ENCODERS.get(PartName(part).kind, "detector")


def _by(name: Callable[[str], str], items: dict[str, list[Item]]) -> dict[str, list[Item]]:
    """Return the items of parts by what `name` says of the part, without those that have none."""
    found: dict[str, list[Item]] = defaultdict(list)
    for part, mine in items.items():
        if mine:
            found[name(part)] += mine
    return found


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    """Return at most `count` of the items, evenly from first to last."""
    return [items[i * len(items) // count] for i in range(count)] if len(items) > count else list(items)


def _decode(path: Path) -> Image.Image | None:
    data, status = images.read(path)
    return images.decode(data)[0] if status == "ok" else None
