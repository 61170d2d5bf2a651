"""Odd remotes: whatever lies there, and however it comes, costs an extraction a warning and never more.

The extraction is a small one, but what asks, fetches and takes is the real thing: extract.remote, cache.writing.draft.
Each case must end with the id of an extraction without a remote, in little time and memory.
"""

import contextlib
import json
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cache import manifests, store
from cache.manifests.entries import ShardEntry
from cache.remotes import patience
from cache.sharing import push
from cache.writing import limits
from cache.writing.draft import FETCHED, Draft
from cache.writing.writer import Todo
from common import output
from common.errors import CacheError
from common.records import Dataset, Entity, Mention
from extract.config import ExtractConfig
from extract.remote import Shared
from torture import tiny_cache
from torture.processes import apart
from torture.strangers.odd_remotes import CARRIED, FORGED, TOLD, Carrier, Clock, Damage
from torture.strangers.strange_files import MEMORY, SECONDS
from torture.strangers.strange_manifests import ATTACKS, BYTES, mutation, sealed
from torture.tiny_cache import Result, fast_disk, no_gate, partial, put, unlike

ENTITIES, MENTIONS = 5, 3  # rows; 2 shards a part, and 1
PARTS = {  # part: columns, rows
    "entity.ids": (("id", "name", "image_status"), ENTITIES),
    "entity.text": (("sentence", "truncated"), ENTITIES),
    "entity.objects": (("boxes", "scores", "labels"), ENTITIES),
    "mention.ids": (("id", "splits", "gold", "image_status"), MENTIONS),
    "mention.text": (("span", "found"), MENTIONS),
    "pair.candidates": (("candidates", "gold", "lexical"), MENTIONS),
}
RELEASE_SAYS = ("id", "name", "splits", "gold", "candidates", "lexical")  # columns that nothing need be computed for
SIZES = tiny_cache.SIZES | {"C": 2, "K": 2}
TABLES = {"entity": ENTITIES, "mention": MENTIONS, "pair": MENTIONS}
ABOUT = tiny_cache.ABOUT | {"tables": TABLES, "generations": [[ENTITIES, MENTIONS]]}
LOOK_SECONDS = 0.01  # of the real clock, between looks at the one that remotes move
WINDOWS = 10  # of patience, on the clock of what drips
Written = Callable[[bytes], bytes]  # what becomes of the manifest's bytes


def run(scratch: Path, count: int, seed: int) -> Result:
    """Extract beside each odd remote, and `count` more whose manifests attack or were changed at random."""
    result, rng = Result("odd remotes"), random.Random(seed)
    with fast_disk(), no_gate():
        alone = extract(scratch / "alone/toy", "", seed)[0]
        known = {alone: tiny_cache.contents(scratch / "alone/toy")}
        push.push(scratch / "alone/toy", str(scratch / "honest"))
        cases = _Cases(scratch, seed, known, result)
        if cases.tried("honest", _nothing) != len(tiny_cache.shards(seed, parts=PARTS, sizes=SIZES)):
            result.fail("an honest remote is not fetched from, so the odd ones prove nothing")
        for name, damage in (FORGED | TOLD).items():
            cases.tried(name, damage)
        for name, damage in FORGED.items():
            cases.adopted(name, damage)
        for name, carrier in CARRIED.items():
            cases.tried(name, _nothing, carrier=carrier)
        attacks = rng.sample(sorted(ATTACKS | BYTES), min(count, len(ATTACKS | BYTES)))
        for name in attacks:
            if name in ATTACKS:
                cases.tried(name, lambda place, told, change=ATTACKS[name]: change(told))
            else:
                cases.tried(name, _nothing, written=BYTES[name])
        for number in range(count - len(attacks)):
            cases.tried(f"at random {number}", lambda place, told: mutation(told, rng))
    return result


def extract(folder: Path, url: str, seed: int) -> tuple[str, int]:
    """Make the world's cache in a folder, taking what a remote has; return its id and how much was taken."""
    made = tiny_cache.shards(seed, parts=PARTS, sizes=SIZES)
    config = ExtractConfig(dataset="jsonl", shards=folder.parent, name=folder.name, remote=url)
    shared, draft = Shared(config), Draft(folder)
    shared.order(_release(made))
    plans = {shard.plan.file: shard for shard in made}
    draft.examine(lambda plan, found, column: _problem(plans[plan.file], found, column))
    with store.together(folder):
        draft.sweep()
        missing = [shard.plan for shard in made if not draft.adopt(shard.plan)]
        (left,) = shared.take([Todo("entity", 0, missing)], draft)
        for plan in left.missing:
            draft.save(plans[plan.file])
        identity = draft.finish(ABOUT, {})
    shared.account(draft)
    return identity, draft.shards(FETCHED).total()


def _nothing(place: Path, told: dict[str, Any]) -> None:
    """Damage nothing."""


def _problem(shard: tiny_cache.Shard, found: ShardEntry, column: limits.Column) -> str:
    """Return what is wrong with a finished shard, as extract.planning.trust does for a real release."""
    for name in set(RELEASE_SAYS) & shard.plan.part.columns.keys():
        if not np.array_equal(column(name), shard.get(name, np.arange(shard.plan.rows))):
            return f"{name} differs from the release"
    return limits.problem(shard.plan, found, column)


def _release(made: list[tiny_cache.Shard]) -> Dataset:
    ids = {
        part: [name.decode() for s in made if s.plan.part.name == part for name in s.get("id", np.arange(s.plan.rows))]
        for part in ("entity.ids", "mention.ids")
    }
    mentions = [Mention(name, name, name, name, -1, -1, None, 1) for name in ids["mention.ids"]]
    return Dataset("toy", mentions, [Entity(name, name) for name in ids["entity.ids"]])


class _Cases:
    """One remote after the other, each a damaged copy of the honest one."""

    def __init__(self, scratch: Path, seed: int, known: dict[str, Any], result: Result) -> None:
        self._scratch, self._seed, self._known, self._result = scratch, seed, known, result

    def tried(
        self,
        name: str,
        damage: Damage,
        written: Written = lambda data: data,
        carrier: Carrier = lambda place, clock: contextlib.nullcontext(),
    ) -> int:
        """Extract beside a damaged remote in a process of its own; return how many shards came from it."""
        place, folder = self._damaged(damage, written), self._scratch / "made/toy"
        shutil.rmtree(folder.parent, ignore_errors=True)

        def work() -> dict[str, Any]:
            output.be_quiet()
            clock, wait = Clock(), patience.wait
            patience.clock, patience.wait = clock, lambda done, left: wait(done, min(left, LOOK_SECONDS))
            time.sleep = lambda seconds: None  # between tries
            with carrier(place, clock):
                identity, taken = extract(folder, str(place), self._seed)
            return {"id": identity, "taken": taken, "waited": clock.now}

        report = apart(work, self._scratch)
        self._result.case()
        self._result.most("ms of the slowest", round(1000 * report.seconds))
        self._result.most("MB of the largest", report.memory >> 20)
        answer = report.answer or {"id": None, "taken": 0, "waited": 0}
        if report.status or answer["id"] not in self._known:
            self._result.fail(f"{name}: status {report.status}, answer {report.answer}")
        elif problem := unlike(folder, self._known) or ", ".join(partial(folder)):
            self._result.fail(f"{name}: {problem}")
        elif report.seconds > SECONDS or report.memory > MEMORY or answer["waited"] > WINDOWS * patience.WINDOW:
            self._result.fail(
                f"{name}: {report.seconds:.1f} s, {report.memory >> 20} MB, waited {answer['waited']:g} s"
            )
        self._result.count("shards taken", answer["taken"])
        return answer["taken"]

    def adopted(self, name: str, damage: Damage) -> None:
        """Extract where an earlier version has taken what was damaged: it is computed anew."""
        folder = self._damaged(damage, lambda data: data)
        self._result.case()
        try:
            identity = extract(folder, "", self._seed)[0]
        except CacheError as error:
            identity = str(error)
        if identity not in self._known or unlike(folder, self._known):
            self._result.fail(f"{name}, adopted before: {identity}")

    def _damaged(self, damage: Damage, written: Written) -> Path:
        place = self._scratch / "odd"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self._scratch / "honest", place)
        good = (place / manifests.NAME).read_bytes()
        told = json.loads(good)
        damage(place, told)
        if (place / manifests.NAME).is_file():
            put(place / manifests.NAME, written(sealed(told)))
        for copy in (place / manifests.COPIES).glob("*.json") if (place / manifests.COPIES).is_dir() else ():
            copy.unlink()  # else they would tell the truth
        return place
