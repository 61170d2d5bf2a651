"""Vectors stored as int8, or as int4 two to a byte, with one scale each: how they are made and read.

A vector x has the scale s = max |x| / L, L being 127 or 7, and the codes q = round(x / s), so that q s is within s / 2
of x; a vector of zeros has scale 0. s is rounded to 17 bits: q s is then exact in float32, whoever multiplies, and the
codes of what was read are the codes that were stored. int4 codes of a vector's first half are the lower four bits of
its bytes, those of its second half the upper four, in two's complement; of an odd width the last upper four are 0.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Kind = Literal["int8", "int4"]
Storage = Literal["float16", "float32", "int8", "int4"]  # what an extraction is asked for
STORAGE = "type of stored features; int8 and int4: of tokens, regions and crops of --for, codes with a scale a vector"
LEVELS: dict[Kind, int] = {"int8": 127, "int4": 7}  # L
TYPES: dict[Kind, str] = {"int8": "|i1", "int4": "|u1"}
SCALE, SCALE_TYPE = "_scale", "<f4"  # what the name of the column of scales ends with
READ_TYPE = "<f4"  # of what is read
SMALLEST = float(np.finfo(np.float32).smallest_normal)  # scale; vectors that need a smaller one are stored as zeros
LARGEST = float(np.finfo(np.float32).max) / 7  # scale: of no vector is there a larger one
DROPPED = np.uint32(7)  # bits of a float32 that a scale does without: 24 of its own less 7 of a code's are left


def kind_of(dtype: str) -> Kind:
    """Return the kind of codes of a stored type."""
    return next(kind for kind, known in TYPES.items() if known == dtype)


def stored(column: str, kind: Kind, shape: tuple[int, ...]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the stored columns, name -> (type, shape after the row axis), of one of vectors of that shape."""
    *outer, width = shape
    held = (*outer, width if kind == "int8" else (width + 1) // 2)
    return {column: (TYPES[kind], held), column + SCALE: (SCALE_TYPE, tuple(outer))}


def encode(vectors: np.ndarray, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """Return codes and scales of finite float32 vectors: (..., D) -> (..., D or its half rounded up), (...)."""
    levels = LEVELS[kind]
    scales = _rounded(np.abs(vectors).max(-1, initial=0) / np.float32(levels))
    steps = np.where(scales > 0, scales, np.float32(1))[..., None]
    codes = np.where(scales[..., None] > 0, np.rint(vectors / steps), 0).astype(np.int8)
    return (codes if kind == "int8" else _packed(codes)), scales


def decode(codes: np.ndarray, scales: np.ndarray, width: int) -> np.ndarray:
    """Return the float32 vectors (..., width) of codes (..., D or its half rounded up) and scales (...)."""
    vectors = np.empty((*codes.shape[:-1], width), np.float32)
    if codes.dtype == np.int8:
        np.multiply(codes, scales[..., None], out=vectors, dtype=np.float32)
        return vectors
    half, signed = codes.shape[-1], codes.view(np.int8)
    np.multiply(signed << 4 >> 4, scales[..., None], out=vectors[..., :half], dtype=np.float32)
    np.multiply((signed >> 4)[..., : width - half], scales[..., None], out=vectors[..., half:], dtype=np.float32)
    return vectors


@dataclass(frozen=True)
class Quantized:
    """Rows (n, ..., width) of vectors as they are stored; indexing its rows gives float32 vectors.

    codes (n, ..., width) int8 or (n, ..., width / 2 rounded up) uint8, scales (n, ...) float32: in memory or mapped.
    """

    codes: np.ndarray
    scales: np.ndarray
    width: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the vectors, rows first."""
        return (*self.codes.shape[:-1], self.width)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type that is read."""
        return np.dtype(READ_TYPE)

    @property
    def nbytes(self) -> int:
        """The bytes that are stored."""
        return self.codes.nbytes + self.scales.nbytes

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return decode(self.codes[rows], self.scales[rows], self.width)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        vectors = self[:]
        return vectors if dtype is None else vectors.astype(dtype, copy=False)


def _rounded(scales: np.ndarray) -> np.ndarray:
    """Return float32 scales to 17 bits, 0 where they are too small for it."""
    half, ones = np.uint32(1) << (DROPPED - np.uint32(1)), ~((np.uint32(1) << DROPPED) - np.uint32(1))
    rounded = ((np.atleast_1d(scales).view(np.uint32) + half) & ones).view(np.float32).reshape(scales.shape)
    return np.where(rounded < SMALLEST, np.float32(0), rounded)


def _packed(codes: np.ndarray) -> np.ndarray:
    """Return int4 codes (..., D) int8 two to a byte, (..., D / 2 rounded up) uint8."""
    half = (codes.shape[-1] + 1) // 2
    packed = codes[..., :half].view(np.uint8) & np.uint8(15)
    packed[..., : codes.shape[-1] - half] |= codes[..., half:].view(np.uint8) << np.uint8(4)
    return packed
