"""Features that are stored as codes: batches hold the vectors that numpy makes of them, wherever the codes lie."""

import numpy as np
import pytest
import torch

import cache
from cache.quantized import Quantized, decode, encode
from cache.writing import synth, synth_columns
from train.data.features.feature_column import Feature
from train.data.table import Table

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Caches of tokens and regions by storage, several shards a part; regions of odd width."""
    place = tmp_path_factory.mktemp("stored")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synth, "SHARD_ROWS", 32)
        patch.setattr(synth_columns, "TOKENS", (4, 6))
        for storage in ("int8", "int4"):
            synth.write(place / storage, synth.Synthetic(40, 20, 5, 0.5, 0, "ghmfc", 8, 9, regions=3, storage=storage))
    return place


def one_feature(kind, resident, absent=None):
    vectors = np.random.default_rng(0).standard_normal((6, 3, 5)).astype(np.float32)
    codes, scales = encode(vectors, kind)
    pieces = [(0, Quantized(codes, scales, 5))]
    if resident == "mmap":
        pieces = [(0, Quantized(codes[:4], scales[:4], 5)), (4, Quantized(codes[4:], scales[4:], 5))]
    return Feature(pieces, absent, resident, CPU), decode(codes, scales, 5)


@pytest.mark.parametrize("resident", ["device", "host", "mmap"])
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_gathered_codes_are_decoded_as_numpy_decodes_them_to_the_last_bit(kind, resident):
    absent = np.array([False, True, False, False, False, True])
    feature, vectors = one_feature(kind, resident, absent)
    vectors[absent] = 0
    rows = torch.tensor([[4, 0, 1], [3, 3, 5]])
    found = feature.take(rows).to(CPU).values()
    assert found.dtype == torch.float32 and found.shape == (2, 3, 3, 5)
    assert found.numpy().tobytes() == vectors[rows.numpy()].tobytes()
    assert (feature.count, feature.numbers) == (6, 15)


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_batches_hold_what_the_reader_reads_wherever_the_codes_lie(stored, kind):
    reader = cache.open(stored / kind)
    tokens, regions = (reader.column(f"{name}.vector") for name in ("token.text", "mention.regions"))
    first = reader.column("mention.tokens.first")
    rows = torch.tensor([7, 0, 39])
    for resident in ("device", "host", "mmap"):
        table = Table(reader, "ghmfc", CPU, resident)
        for batch in (table.batch(rows), *table.batches([rows])):
            assert np.array_equal(batch["mention.regions.vector"].numpy(), regions[rows.numpy()])
            assert np.array_equal(batch["token.text.vector"][:, 1].numpy(), tokens[first[rows.numpy()] + 1])
        found = table.features(("mention.regions.vector",), rows)["mention.regions.vector"]
        assert np.array_equal(found.numpy(), regions[rows.numpy()])


@pytest.mark.parametrize(("kind", "token", "region"), [("int8", 8, 9), ("int4", 4, 5)])
def test_memory_is_asked_for_codes_and_not_for_vectors(stored, monkeypatch, kind, token, region):
    asked = []
    monkeypatch.setattr("train.data.features.choose", lambda _, needed, __: asked.append(needed) or "host")
    reader = cache.open(stored / kind)
    Table(reader, "ghmfc", CPU)
    assert asked == [reader.shape("token.text.vector")[0] * (token + 4) + 40 * 3 * (region + 4)]
