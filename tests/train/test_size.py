"""What training holds of each entity: arrays of numbers, no strings or tuples of Python."""

import tracemalloc

import torch

import cache
from tests.worlds import signal_cache
from train.data.table import Table

FEW, MANY = 200, 5_200  # entities


def test_a_table_that_compares_strings_holds_numbers_of_an_entity(tmp_path):
    def peak(count):
        reader = cache.open(signal_cache(tmp_path / str(count), 40, count, 5, 0.5, "ours"))
        tracemalloc.start()
        table = Table(reader, "ours", torch.device("cpu"), "mmap", strings=True)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert table.facts(torch.arange(3), torch.arange(7))[0].shape[:2] == (3, 7)
        return most

    peak(FEW)  # what is imported once
    per_entity = (peak(MANY) - peak(FEW)) / (MANY - FEW)
    assert per_entity < 100, "64 are codes of both ends; a name's words take 250, a copy of its column 24 and more"
