"""The simulation of workers, against what can be reckoned by hand."""

from pathlib import Path

import pytest

from bench.simulation import measured, protocol, reality
from bench.simulation.protocol import Cost, Group
from cache.store.claims import BEAT, QUIET
from extract.computing.missing_shards import MORE, POLL

NOTHING = Cost(look=0.0)


def of(count, seconds=10.0, *, table="mention", settle=0.0, adopt=0.0, copying=False):
    return Group(table, [seconds] * count, settle, adopt, [range(i) for i in range(count)] if copying else ())


@pytest.mark.parametrize(("workers", "rounds"), [(1, 12), (3, 4), (5, 3), (12, 1), (40, 1)])
def test_equal_ranges_are_done_in_rounds(workers, rounds):
    found = protocol.run([of(12)], workers, NOTHING)
    assert found.now == pytest.approx(10.0 * rounds, abs=POLL) and found.computed == 12


def test_workers_go_ahead_with_the_next_table_but_pairs_wait_for_what_they_derive_from():
    entities, mentions = of(3, table="entity"), of(3, 4.0)
    assert protocol.run([entities, mentions], 2, NOTHING).now == pytest.approx(22, abs=2)  # 42 s of work
    pairs = of(3, 1.0, table="pair")
    found = protocol.run([entities, mentions, pairs], 2, NOTHING)
    assert found.now == pytest.approx(24, abs=2) and found.computed == 9
    assert protocol.run([of(1, table="entity"), of(1, table="pair")], 9, NOTHING).now == pytest.approx(20, abs=1)


def test_ranges_that_copy_are_encoded_side_by_side_and_saved_one_after_the_other():
    found = protocol.run([of(8, settle=1.0, copying=True)], 8, NOTHING)
    assert 10 + 8 <= found.now <= 10 + 8 * MORE + POLL
    assert protocol.run([of(8, settle=1.0)], 8, NOTHING).now == pytest.approx(11, abs=POLL)


def test_planning_starting_looking_and_adopting_take_their_time():
    found = protocol.run([of(1, adopt=2.0)], 1, Cost(plan=5.0, start=3.0, look=0.0, finish=1.0))
    assert found.now == 5 + 3 + 10 + 1
    assert protocol.run([of(2, adopt=2.0)], 2, NOTHING).now == pytest.approx(12, abs=POLL)


@pytest.mark.parametrize(("same_machine", "expires"), [(True, 0.0), (False, QUIET)])
def test_the_range_of_a_dead_worker_is_taken_over_when_its_claim_is_void(same_machine, expires):
    """The first dies in its first range; the other has 1 more, waits if need be, and does that of the dead."""
    for seed in range(20):
        found = protocol.run([of(2, 100.0)], 2, NOTHING, lifetime=30.0, same_machine=same_machine, seed=seed)
        if found.now > 150:  # it has died before 100 s
            least = max(100.0, expires)
            assert least + 100 - 1 <= found.now <= least + 100 + BEAT + QUIET * (not same_machine) + 1
            assert found.computed == 2
            return
    pytest.fail("none died")


def test_the_real_protocol_can_be_slept_through(tmp_path, monkeypatch):
    """What `--really` compares with: extraction's own Sharing, of one process here."""
    groups = (of(2, 0.0, table="entity"), of(3, 0.0, copying=True))
    monkeypatch.setattr(reality, "GROUPS", groups)
    reality.work(tmp_path)
    assert len(list(tmp_path.iterdir())) == 5, "a file a task, and no claim"


def test_what_is_around_the_tasks_comes_before_and_behind_them():
    plan = measured.PLANS["WikiMEL, MiniLM, no pictures"]
    found = measured.efficiency(plan, 2048, 4)
    whole, alone = (protocol.run(plan.groups(2048), count, plan.around(count)).now for count in (4, 1))
    assert found["seconds"] == pytest.approx(whole) and found["whole"] == pytest.approx(alone / (4 * whole))
    around, weights = measured.costs()["around"], measured.costs()[plan.encoders]["weights"]
    start = around["imports"] + around["wikimel"]["read"] + weights
    assert plan.around(4).start == pytest.approx(start) and plan.around(1).start == weights


@pytest.mark.parametrize("size", [2048, 512])
def test_the_documents_tell_what_the_simulation_says(size):
    name = "WikiMEL, MiniLM, no pictures"
    lines = (Path(__file__).parents[1] / "docs" / "benchmarks.md").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(f"| {name} | {size:,} |")]
    cells = [float(cell.replace(",", "")) for cell in line.split("|")[2:-1]]
    assert cells == list(measured.row(name, size).values())[1:]
