"""Several extractors on one cache divide its ranges: each computed once, taken over from the dead, waited for else."""

import os
import threading
import time
from functools import partial
from itertools import product
from types import SimpleNamespace

import pytest

import melcache
from cache.meeting.meeting import Alone
from cache.names import PartName
from cache.store import claims
from cache.store.claims import PREFIX, Claims
from cache.store.temporary_names import TemporaryName
from cache.writing import checksums
from cache.writing.writer import PartPlan, ShardPlan
from extract import pipeline
from extract.computing import missing_shards, tasks
from extract.computing.tasks import REST, TEXTS
from extract.planning.shards import RANGED, missing
from extract.preparation import prepare
from tests.worlds import entity_record, extract_config, mention_record, write_pictures, write_release
from torture.processes import child, doomed, in_a_namespace, until

pytestmark = pytest.mark.usefixtures("toys_built_once", "without_fsync")
PICTURES = ("red.png", "green.png", "blue.png")
COUNT = 18
config = partial(extract_config, candidates=2, shard_rows=3)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Rows that repeat texts and pictures of rows far before them, so that ranges copy from each other."""
    folder = tmp_path_factory.mktemp("release")
    write_pictures(folder, dict(zip(PICTURES, [(40, 30), (33, 50), (64, 48)], strict=True)))
    entities = [(f"Place {i % 7}", f"text {i % 5}", PICTURES[i % 3]) for i in range(COUNT)]
    mentions = [(f"We saw Place {i % 7} on day {i}", f"Place {i % 7}", PICTURES[i * 5 % 3]) for i in range(COUNT)]
    return write_release(
        folder,
        [mention_record(i, *mention, gold=f"e{i % 7}", caption=f"c{i}") for i, mention in enumerate(mentions)],
        [entity_record(i, *entity) for i, entity in enumerate(entities)],
    )


@pytest.fixture(scope="module")
def alone(release, tmp_path_factory):
    """The id of the cache that one process makes, and how many ranges it computes."""
    made = []
    with pytest.MonkeyPatch.context() as patch:
        note(patch.setattr, made.append)
        found = melcache.open(pipeline.run(config(release, tmp_path_factory.mktemp("alone"))))
    return found.id, len(made)


def note(setattr, told, delay=0.0):
    """Let `told` hear of each task that is computed, and not only looked at."""
    for name in ("_finish", "_finish_texts"):
        setattr(missing_shards.Work, name, noting(name, told, delay))


def noting(name, told, delay):
    real = getattr(missing_shards.Work, name)

    def finish(work, rows):
        if any(part in rows for part in work.plan.parts):
            told(f"{rows.table} {rows.start}" + " texts" * (name == "_finish_texts"))
        real(work, rows)
        if delay:
            time.sleep(delay)

    return finish


def work(release, folder, log, delay=0.0, name="one"):
    """Extract in this process; a line of `log`, after the worker's name, for each range that is computed."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    note(setattr, lambda line: os.write(descriptor, f"{name} {line}\n".encode()), delay)
    pipeline.run(config(release, folder))


def lines(log):
    return [line.split(" ", 1)[1] for line in log.read_text().splitlines()]


def left(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("contained", [False, True], ids=["processes", "containers"])
def test_workers_divide_the_ranges_and_make_the_cache_of_one(release, alone, tmp_path, contained):
    identity, ranges = alone
    begin = [partial(work, release, tmp_path, tmp_path / "log", 0.02, name) for name in "abcd"]
    pids = [child(partial(in_a_namespace, one) if contained else one) for one in begin]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
    computed = lines(tmp_path / "log")
    assert melcache.open(tmp_path / "world").id == identity
    assert len(set(computed)) == ranges and len(computed) <= ranges + 4
    assert left(tmp_path / "world") == []


def test_what_a_killed_worker_was_at_is_taken_over_at_once(release, alone, tmp_path, monkeypatch):
    identity, ranges = alone
    monkeypatch.setattr(claims, "QUIET", 3600.0)
    folder, log = tmp_path / "world", tmp_path / "log"
    with doomed(partial(work, release, tmp_path, log, 3600.0)):
        until(lambda: log.exists() and lines(log), "a range is begun")
        until(lambda: any(name.startswith(PREFIX) for name in os.listdir(folder)), "it is claimed")
    assert left(folder)
    survivor = child(partial(work, release, tmp_path, tmp_path / "log"))
    assert os.waitpid(survivor, 0)[1] == 0
    assert melcache.open(folder).id == identity and left(folder) == []
    assert len(lines(tmp_path / "log")) <= ranges + 1


def test_what_a_range_owns_is_encoded_before_another_that_it_copies_from_is_waited_for(
    release, alone, tmp_path, monkeypatch, capsys
):
    """The other finishes the first range of entities, of which later ones copy, after we have looked twice."""
    identity, ranges = alone
    made, sleeps, folder, encoded = [], [], tmp_path / "world", []
    folder.mkdir()
    note(monkeypatch.setattr, made.append)
    real = missing_shards.Texts.fill
    monkeypatch.setattr(
        missing_shards.Texts, "fill", lambda texts, rows: (real(texts, rows), encoded.append(rows.start))
    )
    theirs = Claims(folder)
    claimed = theirs.held("entity.rest", 0)
    assert claimed.__enter__()

    def sleep(seconds):
        sleeps.append((seconds, list(made), list(encoded)))
        if len(sleeps) == 2:
            pipeline_of_another(release, tmp_path, folder)
            claimed.__exit__(None, None, None)

    monkeypatch.setattr(missing_shards.time, "sleep", sleep)
    monkeypatch.setattr(missing_shards, "LONG", 0.02)
    pipeline.run(config(release, tmp_path))
    assert capsys.readouterr().err.count("waits for entity.rest-00000, which another is at. Those of the dead") == 1
    assert melcache.open(folder).id == identity
    assert "entity 0" not in made and len(made) == ranges - 1
    assert sleeps == [(0.01, ["entity 3"], [3]), (0.0125, ["entity 3"], [3])], "it is begun, and copies from the first"


def test_ranges_that_others_are_at_are_waited_for_and_not_computed(release, alone, tmp_path, monkeypatch, capsys):
    identity, ranges = alone
    made, sleeps, folder = [], [], tmp_path / "world"
    folder.mkdir()
    note(monkeypatch.setattr, made.append)
    theirs = Claims(folder)
    claimed = theirs.held("pair", 1)
    assert claimed.__enter__()

    def sleep(seconds):
        sleeps.append((seconds, len(made)))
        if len(sleeps) == 20:
            claimed.__exit__(None, None, None)

    monkeypatch.setattr(missing_shards.time, "sleep", sleep)
    pipeline.run(config(release, tmp_path))
    assert melcache.open(folder).id == identity and len(made) == ranges
    seconds = [pause for pause, count in sleeps if count == ranges - 1]
    assert len(seconds) == 20 and seconds[0] == 0.01 and seconds[-2:] == [0.5, 0.5], "soon, then less often"
    assert seconds == sorted(seconds) and sum(seconds) < 4
    assert "pair: waiting for 1 range that others are at. Those of the dead" in capsys.readouterr().err


def test_a_range_that_is_copied_from_and_that_nobody_is_at_is_computed_in_between(
    release, alone, tmp_path, monkeypatch
):
    """Its worker dies while another, which has encoded a later range, waits for it."""
    identity, ranges = alone
    made, folder = [], tmp_path / "world"
    folder.mkdir()
    note(monkeypatch.setattr, made.append)
    theirs = Claims(folder)
    claimed = theirs.held("entity.rest", 0)
    assert claimed.__enter__()
    monkeypatch.setattr(missing_shards.time, "sleep", lambda seconds: claimed.__exit__(None, None, None))
    pipeline.run(config(release, tmp_path))
    assert melcache.open(folder).id == identity and made[:2] == ["entity 3", "entity 0"]
    assert len(made) == ranges == len(set(made))


def test_what_others_have_finished_is_taken_without_a_claim(release, alone, tmp_path, monkeypatch):
    """Of many that wait for a task none waits for another that has just taken it."""
    folder, held, made = tmp_path / "world", [], []
    finished = melcache.open(pipeline.run(config(release, tmp_path / "there")))

    def do(work, todo):
        put(finished, folder, lambda shard: True)
        held.extend(theirs.held(task.claim, task.index) for task in tasks.split(todo))
        assert all(one.__enter__() for one in held)
        real(work, todo)

    real, theirs = missing_shards.Work.do, Claims(folder)
    monkeypatch.setattr(missing_shards.Work, "do", do)
    note(monkeypatch.setattr, made.append)
    monkeypatch.setattr(missing_shards.time, "sleep", lambda seconds: pytest.fail("it waits"))
    pipeline.run(config(release, tmp_path))
    assert melcache.open(folder).id == alone[0] and made == [] and len(held) > 20


def pipeline_of_another(release, tmp_path, folder):
    """Put the rest of the first range of entities there, as another process would."""
    there = tmp_path / "there"
    pid = child(lambda: pipeline.run(config(release, there)))
    assert os.waitpid(pid, 0)[1] == 0
    put(melcache.open(there / "world"), folder, rest_of_the_first_entities)


def rest_of_the_first_entities(shard):
    return shard.part.table == "entity" and shard.start == 0 and shard.part != "entity.text"


def put(finished, folder, of):
    """Put some shards of a finished cache into a folder."""
    folder.mkdir(exist_ok=True)
    for shard in finished.manifest.shards:
        if of(shard):
            os.link(finished.path / shard.file, folder / shard.file)
            checksums.note(folder, shard.file, shard.sha256)


class Machine:
    """A claim as a worker on another machine holds it."""

    def __init__(self, folder):
        self.path = folder / f"{PREFIX}entity-00000"
        name = str(TemporaryName.new()).replace(os.uname().nodename.replace("-", "_")[:40], "elsewhere")
        self.path.write_text(".partial-elsewhere.0123456789ab.1-" + name.split("-", 2)[2])

    def beat(self, at=None):
        """Touch it, by a clock that may be an hour off."""
        os.utime(self.path, ns=(at or time.time_ns(),) * 2)


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_a_claim_of_another_machine_holds_while_it_beats_by_whatever_clock(tmp_path, monkeypatch, hours):
    now = [1000.0]
    monkeypatch.setattr(claims.time, "monotonic", lambda: now[0])
    other, ours = Machine(tmp_path), Claims(tmp_path)
    clock = time.time_ns() + hours * 3600 * 10**9
    for beat in range(20):
        other.beat(clock + beat * 10**10)
        now[0] += claims.BEAT
        with ours.held("entity", 0) as mine:
            assert not mine
    now[0] += claims.QUIET - 1
    with ours.held("entity", 0) as mine:
        assert not mine
    now[0] += 2
    with ours.held("entity", 0) as mine:
        assert mine
    assert not other.path.exists()


def test_claims_are_touched_while_they_are_held_and_gone_behind_them(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.01)
    with Claims(tmp_path) as ours, ours.held("mention", 3) as mine:
        assert mine
        path, stamps = tmp_path / f"{PREFIX}mention-00003", set()
        until = time.monotonic() + 30
        while len(stamps) < 3 and time.monotonic() < until:
            stamps.add(path.stat().st_mtime_ns)
        assert len(stamps) == 3
        with Claims(tmp_path).held("mention", 3) as theirs:
            assert not theirs
    assert left(tmp_path) == []


def test_one_thread_claims_what_others_ask_for(tmp_path):
    """Of many that ask at once exactly one has it."""
    barrier, won = threading.Barrier(8), []

    def ask():
        with Claims(tmp_path) as ours:
            barrier.wait()
            with ours.held("pair", 0) as mine:
                won.append(mine)
                barrier.wait()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(won) == 1


@pytest.mark.parametrize("what", ["folder", "link", "fifo", "garbage", "huge", "empty"])
def test_what_is_no_claim_stops_nobody(tmp_path, monkeypatch, what):
    path, now = tmp_path / f"{PREFIX}entity-00000", [0.0]
    monkeypatch.setattr(claims.time, "monotonic", lambda: now[0])
    {
        "folder": path.mkdir,
        "link": lambda: path.symlink_to("/nowhere"),
        "fifo": lambda: os.mkfifo(path),
        "garbage": lambda: path.write_bytes(b"\xff\0garbage"),
        "huge": lambda: path.write_bytes(bytes(1 << 20)),
        "empty": path.touch,
    }[what]()
    ours, asked = Claims(tmp_path), []
    for now[0] in (0.0, claims.QUIET + 1):
        with ours.held("entity", 0) as mine:
            asked.append(mine)
    assert asked == [what in ("folder", "link", "fifo", "huge"), True]
    assert left(tmp_path) == ([path.name] if what == "folder" else [])


def test_a_folder_that_takes_no_claim_is_worked_in_all_the_same(release, alone, tmp_path, monkeypatch):
    real = os.open

    def opened(path, *rest, **more):
        if PREFIX in str(path):
            raise OSError(28, "No space left on device")
        return real(path, *rest, **more)

    monkeypatch.setattr(claims.os, "open", opened)
    assert melcache.open(pipeline.run(config(release, tmp_path))).id == alone[0]


def test_tasks_copy_from_those_that_own_what_they_have_and_from_no_other(release, tmp_path):
    """By an oracle of sets: what of a range an earlier one has first, entities before mentions."""
    job = prepare(config(release, tmp_path))
    rows, found = job.plan.rows, []

    def things(table, index):
        at = slice(*job.plan.borders[table][index])
        texts = {text for row in range(COUNT)[at] for text in rows.texts(table, row).values()}
        return texts | {record.image.path.read_bytes() for record in rows.records(table)[at]}

    def read(table, index):
        return {rows.read[table][row] for row in range(*job.plan.borders[table][index])}

    ahead, read_ahead, first = set(), set(), {}
    for table, index in product(RANGED[:2], range(COUNT // 3)):
        first[table, index, REST] = things(table, index) - ahead
        ahead |= things(table, index)
        if table == "entity":  # sentences of mentions are encoded in every range anew
            first[table, index, TEXTS] = read(table, index) - read_ahead
            read_ahead |= read(table, index)
    for task in tasks.split(missing(job.plan, lambda shard: False, RANGED[:2])):
        mine = (things if task.group == REST else read)(task.table, task.index)
        wanted = {key for key, own in first.items() if key[2] == task.group and mine & own} - {task.key}
        assert set(tasks.copied_from(job.plan, task)) == wanted, task.key
        found.append(len(wanted))
    assert 0 in found and max(found) > 2


@pytest.mark.parametrize("heads", [(), ("ghmfc", "dwe", "mel_hi")])
def test_tasks_hold_every_missing_shard_once_behind_what_it_takes(release, tmp_path, heads):
    job = prepare(config(release, tmp_path, heads=heads))
    todo = missing(job.plan, lambda shard: False)
    split = tasks.split(todo)
    held = [shard.file for task in split for shard in task.missing]
    assert sorted(held) == sorted(shard.file for item in todo for shard in item.missing)
    assert len({(task.claim, task.index) for task in split}) == len(split)
    for place, task in enumerate(split):
        assert tasks.ready(task, dict.fromkeys(other.key for other in split[place:]))
        assert {other.key for other in split[:place]} >= set(tasks.copied_from(job.plan, task))


def test_pairs_are_ready_behind_all_entities_and_their_own_mentions(release, tmp_path):
    split = tasks.split(missing(prepare(config(release, tmp_path)).plan, lambda shard: False))
    keys = [task.key for task in split]
    pair = next(task for task in split if task.key == ("pair", 2, REST))
    needed = {key for key in keys if not tasks.ready(pair, [other for other in keys if other in (key, pair.key)])}
    entities = {("entity", index, group) for index in range(6) for group in (REST, TEXTS)}
    assert needed == entities | {("mention", 2, REST), ("mention", 2, TEXTS)}


def test_while_others_are_at_a_table_later_ones_go_on(release, alone, tmp_path, monkeypatch):
    """Texts and mentions are encoded while another is at the rest of the last entities."""
    identity, count = alone
    made, sleeps, folder = [], [], tmp_path / "world"
    folder.mkdir()
    note(monkeypatch.setattr, made.append)
    claimed = Claims(folder).held("entity.rest", 5)
    assert claimed.__enter__()

    def sleep(seconds):
        sleeps.append(list(made))
        claimed.__exit__(None, None, None)

    monkeypatch.setattr(missing_shards.time, "sleep", sleep)
    pipeline.run(config(release, tmp_path))
    assert melcache.open(folder).id == identity and len(made) == count == len(set(made))
    assert {"mention 0", "mention 0 texts", "mention 15 texts"} <= set(sleeps[0])
    assert not any(name.startswith("pair") for name in sleeps[0])


def test_what_is_copied_from_is_taken_behind_what_it_derives_from(monkeypatch):
    """A part of the rest that derives from texts: another process has finished both meanwhile, this one saw neither."""
    split = [tasks.Task("mention", *of, ()) for of in ((0, TEXTS), (0, REST), (1, REST))]
    texts, owner, mine = split
    sharing, asked = missing_shards.Sharing(SimpleNamespace(plan=None), split, None), []

    def take(task):
        asked.append(task)
        assert len(asked) < 9, "no end"
        if task == owner and texts.key in sharing._open:
            return False
        del sharing._open[task.key]
        return True

    monkeypatch.setattr(sharing, "_take", take)
    monkeypatch.setattr(tasks, "copied_from", lambda plan, task: [owner.key])
    monkeypatch.setattr(tasks, "derived_from", lambda task: {texts.key})
    sharing._await(mine)
    assert asked == [texts, owner]


class Finished(missing_shards.Sharing):
    """Sharing of five ranges, of which nothing is computed; `finished` says of which all is there."""

    def __init__(self, folder, finished=lambda index: False, last=REST):
        self.computed = []
        part = PartPlan(PartName("entity.ids"), {}, {})
        shards = [ShardPlan(part, i, i, 1, f"{i:064x}") for i in range(5)]
        split = [tasks.Task("entity", i, last if i == 4 else REST, (shard,)) for i, shard in enumerate(shards)]
        draft = SimpleNamespace(adopt=lambda shard, origin: finished(shard.index))
        work = SimpleNamespace(draft=draft, count=lambda task: 1, when_saved=lambda drop: drop(), meeting=Alone())
        super().__init__(work, split, Claims(folder))

    def _finish(self, task, missing):
        self.computed.append((task.index, len(missing)))

    def next(self, *at):
        """Return which range is claimed behind the last of those that are being finished."""
        of = {key[1]: task for key, task in self._open.items()}
        self._at = [of[index].key for index in at]
        found = self._following(of[at[-1]])
        self._at = []
        return found and found.index


def test_the_next_range_that_is_free_is_claimed_before_one_is_finished(tmp_path):
    one, other = Finished(tmp_path), Finished(tmp_path)
    assert (one.next(0), other.next(0), one.next(1), other.next(2)) == (1, 2, 3, 4)
    assert len(left(tmp_path)) == 4
    assert one.next(3) is None and not other._take(other._open["entity", 1, REST])
    assert [one._take(one._open["entity", index, REST]) for index in (1, 3)] == [True, True]
    assert one.computed == [(1, 1), (3, 1)]
    assert sorted(left(tmp_path)) == [f"{PREFIX}entity.rest-0000{index}" for index in (2, 4)]


def test_nothing_is_claimed_by_who_waits_nor_before_texts(tmp_path):
    """Of two that wait for each other with a claim that the other waits for none would end."""
    assert Finished(tmp_path).next(3, 0) is None
    assert Finished(tmp_path, last=TEXTS).next(3) is None
    assert left(tmp_path) == []


def test_what_is_finished_before_it_is_claimed_or_taken_is_not_claimed_nor_computed(tmp_path):
    looks = []
    sharing = Finished(tmp_path, lambda index: index == 1 or (index == 2 and looks.append(index)) or len(looks) > 1)
    assert sharing.next(0) is None and looks == [2, 2] and left(tmp_path) == []
    there = set()
    sharing = Finished(tmp_path, there.__contains__)
    assert sharing.next(0) == 1
    there.add(1)
    assert sharing._take(sharing._open["entity", 1, REST])
    assert sharing.computed == [(1, 0)] and left(tmp_path) == []


def test_pictures_that_are_decoded_ahead_for_what_another_finishes_are_let_be(tmp_path, monkeypatch):
    """The second range is finished by another, which holds its claim for void, while the first is encoded."""
    names = [f"{i}.png" for i in range(6)]
    write_pictures(tmp_path, {name: (40 + i, 30) for i, name in enumerate(names)})
    entities = [entity_record(i, f"Place {i}", "text", name) for i, name in enumerate(names)]
    data = write_release(tmp_path, [mention_record(0, "Place 0", "Place 0", names[0])], entities)
    finished, made = melcache.open(pipeline.run(config(data, tmp_path / "there"))), []
    following, works = missing_shards.Sharing._following, []

    def claimed(sharing, task):
        found = following(sharing, task)
        works.append(sharing._work)
        if found is not None and found.index == 1:
            put(finished, tmp_path / "world", lambda shard: shard.start == 3 and shard.part.table == "entity")
        return found

    monkeypatch.setattr(missing_shards.Sharing, "_following", claimed)
    note(monkeypatch.setattr, made.append)
    pipeline.run(config(data, tmp_path))
    assert melcache.open(tmp_path / "world").id == finished.id
    assert "entity 3" not in made and works[0].pictures.decoded == 3 and works[0].pictures._begun == {}
