"""Vectors as codes of eight bits, and which of them may be among the nearest: in memory, or in a file that is mapped.

A vector e is kept as codes c of a byte each and a scale s; the length of what they leave, r = e - s c, is known. A
mention's vector q is one or two such rows, the second of what the first leaves, and p what is left. Sums of products of
codes are exact integers. By Cauchy and Schwarz they miss the product of both vectors by at most |r||q| + |s c||p|.
"""

import mmap
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cache import edges
from cache.store import checked_file
from cache.store.temporary_names import SEARCH
from common.errors import CacheError
from common.output import Progress, say, size

FEWEST = 1 << 28  # bytes of codes that are worth a file
CHUNK = 1 << 16  # vectors compared at a time
HELD = 1 << 21  # pairs of a mention and an entity that may be among its nearest, beside those of a chunk: 20 bytes each
GROUP = 64  # vectors of which the best stands for all, where a bound of the k nearest is looked for
STEPS = 127  # of a code
SLACK = 1e-6  # more than float32 rounds off a sum of scales times integers that is about 1
DRIFT = 1e-5  # of a length: more than another processor's last digits change a vector by

ALIGNED, FLOAT = 64, 4  # bytes

Rows = Callable[[np.ndarray], np.ndarray]  # vectors (n, D) on the grid of rows (n,)
Pairs = tuple[Tensor, Tensor, Tensor]  # rows of entities, places of mentions, and bounds of their scores, each (n,)
Compare = Callable[[int, np.ndarray], np.ndarray]  # from a mention's place and rows to the nearest of these
Blocks = Iterator[tuple[int, np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Kept:
    """Where codes are kept from one search to the next: a folder, and the sha256 of all that decides the vectors."""

    folder: Path
    key: str

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / f"{SEARCH}{self.key}"


class Codes:
    """The codes of vectors (E, D), in a file of `kept` where they are large and it can be written."""

    def __init__(self, rows: Rows, shape: tuple[int, ...], kept: Kept | None = None) -> None:
        self._count, self._width = shape[0], shape[1]
        start = -(-self._count * self._width // ALIGNED) * ALIGNED
        self._bytes = start + 3 * FLOAT * self._count
        data = _file(kept.path, self._bytes, self._made(rows)) if kept and start >= FEWEST else None
        if data is not None:
            numbers = torch.frombuffer(data, dtype=torch.float32, count=3 * self._count, offset=start)
            codes = torch.frombuffer(data, dtype=torch.int8, count=self._count * self._width)
            self._codes, self._numbers = codes.view(self._count, self._width), numbers.view(3, self._count)
        else:
            self._codes, self._numbers = _empty(*shape)
            _fill(self._codes, self._numbers, 0, self._made(rows))

    def __len__(self) -> int:
        return self._count

    def possible(self, mentions: np.ndarray, k: int, nearest: Compare) -> list[np.ndarray]:
        """Return for each mention (B, D), none of them 0, rows among which are its k nearest.

        Where so many may be that they take memory, `nearest` returns the k nearest of some rows to the one at a place.
        """
        found = Possible(mentions, k, nearest, room(HELD))
        for begin in range(0, self._count, CHUNK):
            rows = slice(begin, begin + CHUNK)
            found.compare(begin, self._codes[rows], self._numbers[:, rows])
        return found.rows()

    def _made(self, rows: Rows) -> Blocks:
        label = "codes for the search" if self._bytes >= FEWEST else ""
        with Progress(self._count, label, "vectors") if label else nullcontext() as progress:
            for block in _blocks(rows, 0, self._count):
                yield block
                if progress is not None:
                    progress.advance(len(block[1]))


class Possible:
    """Which vectors may be among the k nearest to mentions (B, D), none of them 0, after all were compared by codes.

    Where those have no `room`, `nearest` returns the k nearest of some rows to the mention at a place.
    """

    def __init__(self, mentions: np.ndarray, k: int, nearest: Compare, room: Pairs) -> None:
        self._count, self._k, self._nearest, self._held = len(mentions), k, nearest, len(room[0])
        scales, codes, rest = coded(mentions)
        if self._count > 1:  # of one mention the second row of codes would take longer than what it saves
            finer, second, rest = coded(rest)
            scales, codes = np.concatenate([scales, finer]), np.concatenate([codes, second])
        self._asked, self._steps = torch.from_numpy(codes).T.contiguous(), torch.from_numpy(scales)
        self._lengths, self._left = torch.from_numpy(length(mentions)), torch.from_numpy(length(rest))
        self._floor = torch.full((k, self._count), -torch.inf)  # k vectors have scores of at least so much
        self._room, self._taken = room, 0

    def compare(self, begin: int, codes: Tensor, numbers: Tensor) -> None:
        """Compare vectors from a row on: codes (n, D) and their scales, errors and lengths (3, n)."""
        own, errors, reach = numbers[:, :, None]
        slack = SLACK * max(1.0, float(reach.amax())) * self._lengths.clamp(min=1)
        sums = torch._int_mm(codes, self._asked) * self._steps
        scores = sums.view(len(sums), -1, self._count).sum(1).mul_(own)
        error = errors * self._lengths + reach * self._left + slack
        self._floor[:] = torch.cat([self._floor, _highest(scores - error, self._k)]).topk(self._k, dim=0).values
        most = scores.add_(error)
        row, mention = (most >= self._floor[-1]).nonzero(as_tuple=True)
        self._keep((row + begin, mention, most[row, mention]))

    def rows(self) -> list[np.ndarray]:
        """Return for each mention the rows that may be."""
        row, mention, _ = _reaching([self._kept], self._floor[-1])
        return [row[mention == one].numpy() for one in range(self._count)]

    @property
    def _kept(self) -> Pairs:
        row, mention, most = self._room
        return row[: self._taken], mention[: self._taken], most[: self._taken]

    def _keep(self, more: Pairs) -> None:
        """Write pairs into the room, not beside it: what lay among a comparison's large arrays would pin their heap."""
        if self._taken + len(more[0]) > self._held:
            reaching = _reaching([self._kept, more], self._floor[-1])
            more, self._taken = _fewer(reaching, self._count, self._nearest, self._held), 0
        begin, self._taken = self._taken, self._taken + len(more[0])
        if self._taken > len(self._room[0]):  # k of each mention are more
            self._room = more
        for mine, its in zip(self._kept, more, strict=True):
            mine[begin:] = its


def room(pairs: int) -> Pairs:
    """Return room for so many pairs, which takes memory as it is used."""
    return torch.empty(pairs, dtype=torch.int64), torch.empty(pairs, dtype=torch.int64), torch.empty(pairs)


def in_chunks(rows: Rows, shape: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield what Possible.compare takes of vectors (E, D), in memory that the next ones are written to."""
    count, width = shape
    codes, numbers = _empty(min(CHUNK, count), width)
    for begin in range(0, count, CHUNK):
        end = min(begin + CHUNK, count)
        _fill(codes, numbers, begin, _blocks(rows, begin, end))
        yield begin, codes[: end - begin], numbers[:, : end - begin]


def coded(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scales (n,) float32, codes (n, D) int8, and what is left of the vectors (n, D), float64."""
    values = vectors.astype(np.float64)
    scales = (np.abs(values).max(1, initial=0) / STEPS).astype(np.float32)
    steps = np.where(scales > 0, scales, 1)[:, None].astype(np.float64)
    codes = (values / steps).round().clip(-STEPS, STEPS)
    return scales, codes.astype(np.int8), values - codes * scales[:, None].astype(np.float64)


def length(vectors: np.ndarray) -> np.ndarray:
    """Return the length of each row (n, D), rounded up: (n,) float32."""
    return (np.linalg.norm(vectors, axis=1) * (1 + SLACK)).astype(np.float32)


def _blocks(rows: Rows, first: int, stop: int) -> Blocks:
    """Yield the first of some rows, their codes, and their scales, errors and lengths, (3, n)."""
    for begin in range(first, stop, edges.ROWS):
        vectors = rows(np.arange(begin, min(begin + edges.ROWS, stop)))
        scales, codes, rest = coded(vectors)
        errors = length(rest) + np.float32(DRIFT) * length(vectors)
        yield begin, codes, np.stack([scales, errors, length(scales[:, None] * codes.astype(np.float64))])


def _empty(count: int, width: int) -> tuple[Tensor, Tensor]:
    """Return room for codes (n, D) and for their scales, errors and lengths (3, n), as numpy holds it."""
    return torch.from_numpy(np.empty((count, width), np.int8)), torch.from_numpy(np.empty((3, count), np.float32))


def _fill(codes: Tensor, numbers: Tensor, first: int, blocks: Blocks) -> None:
    """Write blocks to the place of their rows, counted from the first."""
    for begin, some, of in blocks:
        rows = slice(begin - first, begin - first + len(some))
        codes[rows], numbers[:, rows] = torch.from_numpy(some), torch.from_numpy(of)


def _fewer(kept: Pairs, count: int, nearest: Compare, held: int) -> Pairs:
    """Return of each mention the nearest of those kept, by their vectors, where there are many."""
    row, mention, _ = kept
    if len(row) <= held // 2:
        return kept
    found = [nearest(one, row[mention == one].numpy()) for one in range(count)]
    places = torch.repeat_interleave(torch.tensor([len(rows) for rows in found]))
    return torch.from_numpy(np.concatenate(found)), places, torch.full((len(places),), torch.inf)


def _reaching(kept: Sequence[Pairs], floor: Tensor) -> Pairs:
    """Return what was kept and has a bound that still reaches its mention's floor (B,)."""
    row, mention, most = (torch.cat(some) for some in zip(*kept, strict=True))
    there = most >= floor[mention]
    return row[there], mention[there], most[there]


def _highest(scores: Tensor, k: int) -> Tensor:
    """Return k scores of each column (n, B), or as many as there are, none above its k highest: (m, B)."""
    size = max(1, min(GROUP, len(scores) // (4 * k)))
    some = scores[: len(scores) // size * size].view(-1, size, scores.shape[1]).amax(1)
    return some.topk(min(k, len(some)), dim=0).values


def _file(path: Path, count: int, blocks: Blocks) -> mmap.mmap | None:
    """Return a mapped file of so many bytes, made if need be; None where it cannot be made."""
    if (found := checked_file.mapped(path, count)) is None:
        try:
            checked_file.write(path, _parts(count, blocks))
        except CacheError as error:
            if (found := checked_file.mapped(path, count)) is None:  # else another process was faster
                say(f"the codes for the search ({size(count)}) are held in memory and made again each time: {error}")
            return found
        found = checked_file.mapped(path, count)
    return found


def _parts(count: int, blocks: Blocks) -> Iterator[bytes | memoryview]:
    """Yield codes, then at the end of so many bytes their numbers."""
    numbers, written = [], 0
    for _, codes, of in blocks:
        yield codes.reshape(-1).view(np.uint8).data
        numbers.append(of)
        written += codes.nbytes
    rest = np.concatenate(numbers, 1)
    yield bytes(count - written - rest.nbytes)
    yield rest.reshape(-1).view(np.uint8).data
