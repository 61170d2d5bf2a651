"""How fast the encoders are here: each that has work runs a few batches of what it would be given."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from cache import kinds
from cache.kinds import KINDS, Source
from cache.names import PartName
from extract import images
from extract.config import ExtractConfig
from extract.encoders import Encoders
from extract.forecast.workload import Texts, Workload

BATCHES = 4  # of texts that are timed, so that short and long ones are among them
ENOUGH, LEAST, MOST = 2.0, 2, 16  # seconds of pictures, and how many batches of them
PICTURES = 4  # at a time where there is no GPU: 16 would take the detector half a minute there
DECODING = "decoding"
# what is timed of an encoder, by what parts read
TEXTS: dict[Source, str] = {"name": "entities", "sentence": "sentences", "texts": "texts", "sentences": "tokens"}
SEEN: dict[Source, str] = {"picture": "pictures"}
Item = TypeVar("Item")
Items = TypeVar("Items", Texts, list[Path])


class Calibration:
    """Seconds per item of each encoder that has something to do; `measured` by name, with the number of items timed."""

    def __init__(self, config: ExtractConfig, encoders: Encoders, items: Workload) -> None:
        self.measured: dict[str, dict[str, Any]] = {}
        self._config, self._encoders, self._items = config, encoders, items
        self._batch = PICTURES if encoders.compute.device.type == "cpu" else config.image_batch
        for (name, role, source), texts in self._by_speed(items.text_items, TEXTS, Texts).items():
            run = encoders.by_role[role].texts_of(source, config.most_tokens(source))
            self._measure(name, [_spread(texts, BATCHES * config.text_batch)], run)
        batches = self._decoded() if items.decoded else []
        for name, role, source in self._by_speed(items.picture_items, SEEN, list):
            usual = [part for part in kinds.reading(source) if KINDS[part].role == role and not KINDS[part].inputs]
            self._measure(name, batches, partial(encoders.pictures, parts=usual[:1]))

    def seconds(self, part: PartName) -> float | None:
        """Return how long the encoders take for a part, None where it needs none."""
        pictures = len(self._items.picture_items[part]) * (self._config.objects if KINDS[part].per_object else 1)
        spent = self._reading(part) + self._rate(self._speed(part, SEEN)[0]) * pictures
        return spent if self._items.text_items[part] or pictures else None

    def decoding(self) -> float:
        """Return how long decoding takes by itself; the encoders work beside it."""
        return self._rate(DECODING) * len(self._items.decoded)

    def total(self) -> float:
        """Return how long everything takes: texts, and pictures or their decoding, whichever is slower."""
        parts = self._items.text_items.keys() | self._items.picture_items.keys()
        texts = sum(self._reading(part) for part in parts)
        return texts + max(self.decoding(), sum(self.seconds(part) or 0.0 for part in parts) - texts)

    def _reading(self, part: PartName) -> float:
        return self._rate(self._speed(part, TEXTS)[0]) * len(self._items.text_items[part])

    def _speed(self, part: PartName, words: Mapping[Source, str]) -> tuple[str, str, Source]:
        """Return by what name a part's speed is told, which parts of one pass share, its role and what is read."""
        made = KINDS[KINDS[part].beside or part]
        source = next((source for source in made.reads if source in words), "release")
        if source == "release" or not made.role:
            return "", "", source
        encoder = self._encoders.of(part)
        alone = all(set(other.reads) == {source} for other in KINDS.values() if other.role == made.role)
        return encoder.name if alone else f"{encoder.name}, {words[source]}", made.role, source

    def _by_speed(
        self, items: Mapping[str, Items], words: Mapping[Source, str], empty: Callable[[], Items]
    ) -> dict[tuple[str, str, Source], Items]:
        """Return the items of parts by name of their speed, role and what is read, without those that have none."""
        found: dict[tuple[str, str, Source], Items] = {}
        for part, mine in items.items():
            if mine:
                found.setdefault(self._speed(part, words), empty()).extend(mine)
        return found

    def _measure(self, name: str, batches: Sequence[list[Item]], run: Callable[[Sequence[Item]], Any]) -> None:
        """Note how long a few batches take, behind some items that load the weights and warm up."""
        run(batches[0][:1] if self._encoders.compute.device.type == "cpu" else batches[0])
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


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    """Return at most `count` of the items, evenly from first to last."""
    return [items[i * len(items) // count] for i in range(count)] if len(items) > count else list(items)


def _decode(path: Path) -> Image.Image | None:
    data, status = images.read(path)
    return images.decode(data)[0] if status == "ok" else None
