"""The order of entities by name and id, against Python's own of pairs."""

import random
import tracemalloc

import numpy as np

from extract.retrieval.name_order import BLOCK, KEY, NameOrder, sorted_rows
from extract.retrieval.nearest import best_first

LETTERS = ("a", "b", "\0", "é", "\ud800", "\uffff", "𐍈", "z" * (KEY - 1))


def strings(rng, count, longest):
    return ["".join(rng.choices(LETTERS, k=rng.randint(0, longest))) for _ in range(count)]


def test_names_then_ids_then_rows_decide_as_python_orders_pairs():
    rng = random.Random(0)
    for _ in range(200):
        count = rng.randint(0, 40)
        names, ids = strings(rng, count, 3), strings(rng, count, 2)
        wanted = [row for *_, row in sorted(zip(names, ids, range(count), strict=True))]
        assert sorted_rows(names, ids).tolist() == wanted
        some = np.array(rng.sample(range(count), count // 2), np.int64)
        places = NameOrder(names, ids)[some]
        assert some[np.argsort(places)].tolist() == [row for row in wanted if row in set(some.tolist())]


def test_more_rows_than_a_block_are_ordered():
    rng = random.Random(1)
    names = [f"{'x' * KEY} {rng.randint(0, 50)}" for _ in range(2 * BLOCK + 7)]
    ids = [f"Q{row}" for row in range(len(names))]
    wanted = [row for *_, row in sorted(zip(names, ids, range(len(names)), strict=True))]
    assert sorted_rows(names, ids).tolist() == wanted


def test_only_rows_that_tie_are_asked_for_their_names():
    asked = []

    class Order:
        def __getitem__(self, rows):
            asked.extend(rows.tolist())
            return -rows

    rows, scores = np.array([5, 3, 8, 1, 9, 2]), np.array([0.5, 0.9, 0.5, 0.1, 0.1, 0.5])
    best, values = best_first(rows, scores, Order(), 3)
    assert (best.tolist(), values.tolist(), sorted(asked)) == ([3, 8, 5], [0.9, 0.5, 0.5], [2, 5, 8])
    assert best_first(rows, scores, Order(), 9)[0].tolist() == [3, 8, 5, 2, 9, 1]
    assert best_first(rows[:0], scores[:0], Order(), 3)[0].tolist() == []


def test_to_order_some_entities_takes_nothing_of_the_others():
    def taken(count):
        names, ids = [f"name {row % 7}" for row in range(count)], [f"Q{row}" for row in range(count)]
        tracemalloc.start()
        order = NameOrder(names, ids)
        assert order[np.array([8, 1, 2])].tolist() == [1, 0, 2]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert taken(20_000) < taken(200) + 1_000
