"""How much of what encoders read is padding: `python -m bench.encoding.padding PICTURES TOKENIZER TEXTS.json.gz`."""

import gzip
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from PIL import Image
from tokenizers import Tokenizer

from extract.encoders import detector

SCALE = SimpleNamespace(min_size=(800,), max_size=1333)  # of the papers' detector
ROWS, TURNS = 2048, 20


def pictures(sizes: Sequence[tuple[int, int]], batch: int) -> dict[str, float]:
    """Return the share of pixels that pad batches of pictures of random order, together or with those padded alike."""
    rng, real, together, alike = random.Random(0), 0.0, 0.0, 0.0
    for _ in range(TURNS):
        drawn = rng.choices(sizes, k=batch)
        made = [_resized(width, height) for width, height in drawn]
        wide, high = (-(-max(side) // 32) * 32 for side in zip(*made, strict=True))
        real += sum(width * height for width, height in made)
        together += batch * wide * high
        alike += sum(width * height for width, height in (detector._padded(*size, SCALE) for size in drawn))
    return {"together": 1 - real / together, "padded alike": 1 - real / alike}


def texts(lengths: Sequence[int], batch: int) -> dict[str, float]:
    """Return the share of tokens that pad batches of texts of ranges, in their order and in order of length."""
    found = {}
    for name, order in (("in order", lambda of: of), ("by length", sorted)):
        padded = 0
        for begin in range(0, len(lengths), ROWS):
            rows = order(lengths[begin : begin + ROWS])
            groups = [rows[i : i + batch] for i in range(0, len(rows), batch)]
            padded += sum(len(group) * max(group) for group in groups)
        found[name] = 1 - sum(lengths) / padded
    return found


def _resized(width: int, height: int) -> tuple[int, int]:
    scale = min(SCALE.min_size[0] / min(width, height), SCALE.max_size / max(width, height))
    return int(width * scale), int(height * scale)


if __name__ == "__main__":
    sizes = [Image.open(path).size for path in sorted(Path(sys.argv[1]).glob("*.jpg"))]
    print(len(sizes), "pictures", {name: f"{share:.1%}" for name, share in pictures(sizes, 16).items()})
    tokenizer = Tokenizer.from_file(sys.argv[2])
    tokenizer.no_padding()
    tokenizer.enable_truncation(128)
    given = list(map(str, json.loads(gzip.decompress(Path(sys.argv[3]).read_bytes())).values()))
    lengths = [len(found.ids) for found in tokenizer.encode_batch(given)]
    print(len(lengths), "texts", {name: f"{share:.1%}" for name, share in texts(lengths, 64).items()})
