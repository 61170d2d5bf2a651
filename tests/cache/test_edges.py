"""The four edges against triple loops over DRIN's sums in float64."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from cache import edges as alignment
from cache.drin import edges as imported
from cache.edges import ALIGNMENT_READS, EDGES
from cache.kinds import KINDS
from cache.schema import PARTS
from extract.encoders.detector import summary

N, E, C, D, P, V, K = 7, 9, 5, 12, 6, 10, 3


def cosine(a, b):
    """Eq. 6-8 as written: a sum of products over the product of two lengths."""
    dot = norm_a = norm_b = 0.0
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        dot, norm_a, norm_b = dot + x * y, norm_a + x * x, norm_b + y * y
    return dot / math.sqrt(norm_a * norm_b) if norm_a * norm_b else 0.0


def objects_similarity(mention, entity):
    """Eq. 11 as written: the mean of all pairs' cosines, weighted by both scores."""
    total = weight = 0.0
    for u, s in mention:
        for v, t in entity:
            total, weight = total + s * t * cosine(u, v), weight + s * t
    return total / weight if weight else 0.0


def random_columns(seed, dtype=np.float16, scale=1.0):
    """Return stored columns, candidates with padding, and the raw objects behind the summaries."""
    rng = np.random.default_rng(seed)

    def features(rows, width):
        return (rng.normal(size=(rows, width)) * scale).astype(dtype)

    raw = {
        side: [
            [
                (rng.normal(size=V).astype(np.float32), np.float32(rng.uniform(0.05, 1)))
                for _ in range(rng.integers(K + 1))
            ]
            for _ in range(rows)
        ]
        for side, rows in (("mention", N), ("entity", E))
    }
    raw["mention"][0], raw["entity"][0] = [], []
    columns = {
        "mention.text.sentence": features(N, D),
        "entity.text.sentence": features(E, D),
        "mention.joint.sentence": features(N, P),
        "mention.joint.image": features(N, P),
        "entity.joint.text": features(E, P),
        "entity.joint.image": features(E, P),
        "mention.joint.present": rng.random(N) < 0.6,
        "entity.joint.present": rng.random(E) < 0.6,
    }
    for side, items in raw.items():
        vectors = [summary(np.array([v for v, _ in i] or np.zeros((0, V))), np.array([s for _, s in i])) for i in items]
        columns[f"{side}.objects.summary"] = np.array(vectors, np.float32)
    candidates = np.stack([rng.permutation(E)[:C] for _ in range(N)]).astype(np.int32)
    candidates[rng.random((N, C)) < 0.25] = -1
    candidates[1] = -1
    return columns, candidates, raw


@pytest.mark.parametrize("seed", range(4))
def test_edges_are_the_triple_loops_of_equations_6_to_8_and_11(seed):
    columns, candidates, raw = random_columns(seed)
    edges = alignment.align(columns, candidates)
    assert set(edges) == set(EDGES)
    wide = {name: array.astype(np.float64) for name, array in columns.items()}
    for m in range(N):
        for c in range(C):
            e = candidates[m, c]
            expected = dict.fromkeys(EDGES, 0.0)
            if e >= 0:
                expected["text_to_text"] = cosine(wide["mention.text.sentence"][m], wide["entity.text.sentence"][e])
                if columns["entity.joint.present"][e]:
                    expected["text_to_image"] = cosine(wide["mention.joint.sentence"][m], wide["entity.joint.image"][e])
                if columns["mention.joint.present"][m]:
                    expected["image_to_text"] = cosine(wide["mention.joint.image"][m], wide["entity.joint.text"][e])
                expected["image_to_image"] = objects_similarity(raw["mention"][m], raw["entity"][e])
            for edge in EDGES:
                assert edges[edge][m, c] == pytest.approx(expected[edge], abs=2e-6), (edge, m, c)


def test_padding_is_zero_although_it_gathers_the_last_entity():
    columns, candidates, _ = random_columns(11)
    columns["entity.text.sentence"][-1] = columns["mention.text.sentence"][1]
    edges = alignment.align(columns, candidates)
    for edge in EDGES:
        assert (edges[edge][candidates < 0] == 0).all()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_edges_are_finite_and_within_one_for_tiny_huge_and_equal_vectors(scale):
    columns, candidates, _ = random_columns(5, scale=scale)
    columns["entity.text.sentence"][:] = columns["mention.text.sentence"][0]
    columns["mention.text.sentence"][:] = columns["mention.text.sentence"][0]
    for edge, values in alignment.align(columns, candidates).items():
        assert values.dtype == np.float32, edge
        assert np.isfinite(values).all() and (np.abs(values) <= 1).all(), edge
    same = alignment.align(columns, candidates)["text_to_text"][candidates >= 0]
    assert (np.abs(same - (1 if np.any(columns["mention.text.sentence"][0]) else 0)) < 1e-5).all()


def test_a_zero_vector_has_cosine_zero_with_all():
    columns, candidates, _ = random_columns(6)
    columns["mention.text.sentence"][2] = 0
    assert (alignment.align(columns, candidates)["text_to_text"][2] == 0).all()


def test_chunks_do_not_change_the_edges(monkeypatch):
    columns, candidates, _ = random_columns(7)
    whole = alignment.align(columns, candidates)
    monkeypatch.setattr(alignment, "CHUNK_BYTES", 1)
    for edge, values in alignment.align(columns, candidates).items():
        np.testing.assert_array_equal(values, whole[edge])


def unit_rows(vectors):
    """Vectors on the grid, of a column whose vectors are compared at length 1."""
    return alignment.on_grid("mention.text.sentence", vectors)


@pytest.mark.parametrize("width", [5, 768])
def test_the_value_of_a_pair_depends_on_nothing_but_the_pair(width):
    """Neither on its place in the list, nor on the length of the list, nor on what other mentions there are."""
    rng = np.random.default_rng(3)
    mentions, entities = (unit_rows(rng.normal(size=(n, width)).astype(np.float16)) for n in (6, 300))
    entities[250:] = entities[:50]  # equal vectors
    lists = np.stack([rng.permutation(300) for _ in mentions])
    whole = alignment.similarities(mentions, entities, lists)
    every = np.zeros((6, 300), np.float32)
    np.put_along_axis(every, lists, whole, 1)
    assert (every[:, 250:] == every[:, :50]).all()
    for size in (1, 3, 8, 100):
        some = lists[:, rng.permutation(300)[:size]]
        for row in range(6):
            alone = alignment.similarities(mentions[row:][:1], entities, some[row:][:1])
            assert (alone[0] == every[row, some[row]]).all()


def test_a_vector_on_the_grid_depends_on_nothing_but_the_vector():
    vectors = np.random.default_rng(5).normal(size=(2 * alignment.ROWS + 3, 33)).astype(np.float16)
    whole = unit_rows(vectors)
    for begin, stop in ((0, 1), (7, 9), (alignment.ROWS - 1, alignment.ROWS + 2), (len(vectors) - 1, len(vectors))):
        np.testing.assert_array_equal(unit_rows(vectors[begin:stop]), whole[begin:stop])


def test_tensors_are_rounded_as_arrays_are():
    rng = np.random.default_rng(6)
    vectors = rng.normal(size=(400, 700)).astype(np.float16).astype(np.float64)
    vectors[3] = 0
    for normal in (True, False):
        array, tensor = (alignment.rounded(x, normal=normal) for x in (vectors, torch.from_numpy(vectors)))
        assert (array[3] == 0).all() and (array * alignment.GRID == np.rint(array * alignment.GRID)).all()
        # the sum of squares may differ in its last bit, and then one number in 1e8 by a step
        np.testing.assert_allclose(tensor.numpy(), array, rtol=0, atol=1 / alignment.GRID)


class Shards:
    """What cache.drin.edges asks of a draft: rows of columns."""

    def __init__(self, columns):
        self.columns = columns

    def rows(self, name, rows):
        return self.columns[name][rows]


def test_imported_edges_are_those_of_extraction_and_equal_entities_tie():
    rng, mentions, entities, listed, width = np.random.default_rng(9), 70, 30, 10, 768
    columns = {
        f"{side}.{name}": np.tile(rng.normal(size=width), (rows, 1)).astype(np.float16)
        for side, rows in (("mention", mentions), ("entity", entities))
        for name in ("text.sentence", "text.sentence", "joint.sentence", "joint.image", "joint.text")
    }
    columns["mention.text.sentence"] = rng.normal(size=(mentions, width)).astype(np.float16)
    for side, rows in (("mention", mentions), ("entity", entities)):
        summary = rng.normal(size=(rows if side == "mention" else 1, width))
        summary *= 0.7 / np.linalg.norm(summary, axis=1, keepdims=True)
        columns[f"{side}.objects.summary"] = np.broadcast_to(summary, (rows, width)).astype(np.float16)
        columns[f"{side}.image.present"] = columns[f"{side}.joint.present"] = np.ones(rows, bool)
    candidates = np.stack([rng.permutation(entities)[:listed] for _ in range(mentions)]).astype(np.int32)
    candidates[4, 6:] = -1
    clip = {edge: np.zeros(candidates.shape, np.float32) for edge in ("text_to_image", "image_to_text")}
    lists = type("L", (), {"candidates": candidates})()
    found = imported.edges(Shards(columns), lists, np.arange(mentions), clip, imported.CLS)
    expected = alignment.align(columns, candidates)
    for edge in ("text_to_text", "image_to_image"):
        np.testing.assert_array_equal(found[edge], expected[edge])
        assert (np.ptp(found[edge], axis=1)[np.arange(mentions) != 4] == 0).all()  # all entities are one vector
        assert len(np.unique(found[edge])) > mentions / 2


def test_products_on_the_grid_are_those_of_fractions():
    rng = np.random.default_rng(4)
    mention, entities = (unit_rows(rng.normal(size=(n, 768))) for n in (1, 5))
    found = alignment.similarities(mention, entities, np.arange(5)[None])[0]
    for value, entity in zip(found, entities, strict=True):
        terms = (Fraction(float(a)) * Fraction(float(b)) for a, b in zip(mention[0], entity, strict=True))
        assert value == np.float32(float(sum(terms)))  # in float64 it is exact: one rounding


def test_an_edge_names_its_two_columns_its_own_and_is_short():
    assert EDGES == ("text_to_text", "text_to_image", "image_to_text", "image_to_image")
    assert alignment.Edge("image_to_text").columns == ("mention.joint.image", "entity.joint.text")
    assert [edge.column for edge in EDGES] == [f"pair.alignment.{column}" for column in PARTS["pair.alignment"]]
    assert [edge.short for edge in EDGES] == ["t>t", "t>i", "i>t", "i>i"]
    assert [edge.of_entity_picture for edge in EDGES] == [False, True, False, True]
    assert json.dumps(EDGES) == json.dumps([str(edge) for edge in EDGES])


def test_align_reads_no_column_that_it_does_not_declare():
    columns, candidates, _ = random_columns(8)
    assert set(columns) == set(ALIGNMENT_READS)
    assert {name.rpartition(".")[0] for name in ALIGNMENT_READS} == set(KINDS["pair.alignment"].inputs)
    alignment.align(columns, candidates)


def test_summary_of_objects_without_confidence_is_zero():
    vectors = np.ones((2, V), np.float32)
    assert (summary(vectors, np.zeros(2)) == 0).all()
    assert summary(np.zeros((0, V), np.float32), np.zeros(0)).shape == (V,)
