"""Synthetic caches: the numbers of a column do not depend on how many rows are made at once, nor does the memory."""

import tracemalloc

import numpy as np
import pytest

import cache
from cache import kinds
from cache.schema import READS
from cache.writing import synth, synth_columns
from cache.writing.synth import Synthetic

EVERY = ",".join([*READS, *kinds.on_demand()])


@pytest.mark.usefixtures("without_fsync")
def test_columns_are_the_same_however_many_rows_are_made_at_once(tmp_path, monkeypatch):
    wanted = Synthetic(14, 30, 4, 0.4, 1, EVERY, text_width=4, image_width=8, joint_width=4, regions=2)
    found = []
    for rows, resembling in ((8192, 1 << 15), (19, 5)):
        monkeypatch.setattr(synth, "SHARD_ROWS", rows)
        monkeypatch.setattr(synth_columns, "RESEMBLING", resembling)
        synth.write(tmp_path / str(rows) / "x", wanted)
        found.append(cache.open(tmp_path / str(rows) / "x"))
    assert len(found[0].columns) > 50 and found[0].manifest.tables == found[1].manifest.tables
    for name in found[0].columns:
        assert np.array_equal(found[0].column(name), found[1].column(name)), name


@pytest.mark.usefixtures("without_fsync")
def test_spans_lie_inside_of_their_sentences(tmp_path):
    synth.write(tmp_path / "x", Synthetic(40, 30, 4, 0.4, 1, "mel_hi", text_width=4, image_width=8))
    names = ("first", "count", "start", "end")
    first, count, start, end = (cache.open(tmp_path / "x").column(f"mention.tokens.{name}") for name in names)
    assert first[0] == 0 and (np.diff(first) == count[:-1]).all()
    assert (start >= 1).all() and (end == start + 2).all() and (end < count).all()


@pytest.mark.usefixtures("without_fsync")
def test_an_entity_more_takes_no_vector_more_of_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(synth, "SHARD_ROWS", 512)

    def peak(entities):
        tracemalloc.start()
        synth.write(tmp_path / str(entities), Synthetic(50, entities, 4, 0.4, 1, "bert", text_width=64))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(512)
    assert (peak(8 * 512) - peak(2 * 512)) / (6 * 512) < 40, "a vector has 128 bytes, and is made of 256"
