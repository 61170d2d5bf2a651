"""The extremes that manifests note: numpy's own, bit for bit."""

import itertools
import struct

import numpy as np
import pytest

from cache.writing import extremes

ODD = (0.0, -0.0, 1.5, -1.5, 6e-8, -6e-8, 65504.0, -65504.0, np.inf, -np.inf, np.nan, -np.nan)


def bits(numbers):
    return [struct.pack("<d", number) for number in numbers]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_extremes_of_float16_are_those_that_numpy_finds(count):
    for some in itertools.product(ODD, repeat=count):
        values = np.array(some, np.float16)
        assert bits(extremes.of(values)) == bits((values.min().item(), values.max().item())), some


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<i4", "|i1", "|u1"])
def test_extremes_of_many_numbers_are_those_that_numpy_finds(dtype):
    drawn = np.random.default_rng(0).normal(0, 30, (40, 33))
    for values in (drawn, np.maximum(drawn, 0), np.minimum(drawn, -1), np.abs(drawn)):
        values = values.astype(dtype)
        assert bits(extremes.of(values)) == bits((values.min().item(), values.max().item()))
