"""What goes on beside encoders: decoding ahead, storing and writing behind; the same bytes whatever the threads."""

import hashlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cache.writing.draft import Draft
from extract import images, pipeline
from extract.computing import picture_parts
from extract.computing.missing_shards import Work
from extract.computing.overlap import DECODING, ENCODING, MOST, WRITING, Ahead, Held, Spans, Writing
from extract.encoders.joint.clip import Clip
from extract.encoders.resnet import ResNet
from tests.worlds import entity_record, extract_config, mention_record, write_pictures, write_release

NAMES = [f"thing{i}" for i in range(9)]
BATCH = 2


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    write_pictures(folder, {f"{name}.png": (40 + 7 * i, 61 - 4 * i) for i, name in enumerate(NAMES)})
    mentions = [mention_record(i, f"We saw {name}", name, f"{name}.png") for i, name in enumerate(NAMES[:5])]
    entities = [entity_record(i, name, "a thing", f"{name}.png") for i, name in enumerate(NAMES)]
    return write_release(folder, mentions, entities)


def config(release, shards, **more):
    return extract_config(release, shards, **{"candidates": 3, "shard_rows": 3, "image_batch": BATCH} | more)


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.h5")}


def test_shards_are_the_same_bytes_whatever_the_number_of_threads(release, tmp_path):
    found = [
        digests(pipeline.run(config(release, tmp_path / str(workers), workers=workers, heads=("ghmfc",))))
        for workers in (1, 2, 5)
    ]
    assert len(found[0]) > 20 and found[0] == found[1] == found[2]


def test_pictures_are_decoded_and_shards_written_while_an_encoder_works(release, tmp_path, monkeypatch):
    """Encoder and writer each wait until the other side has gone on: one after the other they would wait forever.

    With the last pictures of a range the encoder waits for the first ones of the next, with texts for those beside.
    """
    decoded, ahead, encoded = [], threading.Condition(), []
    decode, begun, save, do, read = images.decode, ResNet._begun, Draft.save, Work.do, Clip.encode_texts
    late, ranges, held, more = [], set(), [], Ahead.begin

    def wait_for(true):
        with ahead:
            if not ahead.wait_for(true, timeout=20):
                late.append(true)

    def note(what, item):
        with ahead:
            what.append(item)
            ahead.notify_all()

    def decoding(data):
        note(decoded, len(data))
        return decode(data)

    def encoding(self, pictures, counted, **options):
        if counted == "pictures":
            note(encoded, len(pictures))
            done = sum(encoded)
            wait_for(lambda: len(decoded) > done - (done == len(NAMES)))
        return begun(self, pictures, counted, **options)

    def beginning(self, most):
        more(self, most)
        ranges.add(self)
        held.append(sum(map(len, ranges)))

    def reading(self, *given):
        wait_for(lambda: len(decoded) > 0)
        return read(self, *given)

    def saving(self, shard):
        if shard.plan.part.name == "entity.image" and shard.plan.index == 0:
            now = len(encoded)
            wait_for(lambda: len(encoded) > now)
        save(self, shard)

    works = []
    monkeypatch.setattr(images, "decode", decoding)
    monkeypatch.setattr(ResNet, "_begun", encoding)
    monkeypatch.setattr(Clip, "encode_texts", reading)
    monkeypatch.setattr(Ahead, "begin", beginning)
    monkeypatch.setattr(Draft, "save", saving)
    monkeypatch.setattr(Work, "do", lambda self, todo: works.append(self) or do(self, todo))
    pipeline.run(config(release, tmp_path, image_batch=1))
    assert not late and encoded == [1] * 9 and max(held) == 2
    spans = works[0].spans
    assert all(spans.seconds(what) > 0 for what in (DECODING, ENCODING, WRITING))


def test_threads_make_so_many_ahead_in_order_and_no_more_of_what_is_dropped():
    made, at, on = [], threading.Event(), threading.Event()

    def make(item):
        made.append(item)
        if item == 2:
            at.set()
            on.wait(20)
        return -item

    held = Held(1)
    with ThreadPoolExecutor(1) as threads:
        ahead = Ahead(threads, make, range(9), held, lambda made: 1 if made == -2 else 0)
        assert not ahead
        ahead.begin(3)
        ahead.begin(2)
        assert len(ahead) == 3
        assert [ahead.take() for _ in range(2)] == [(0, 0), (1, -1)] and len(ahead) == 1
        ahead.begin(4)
        assert len(ahead) == 4 and at.wait(20)
        ahead.drop()
        on.set()
    assert made == [0, 1, 2] and not ahead and not held.full


def test_what_is_too_much_to_hold_is_made_when_it_is_taken():
    made, held = [], Held(3)
    with ThreadPoolExecutor(2) as threads:
        ahead = Ahead(threads, lambda item: made.append(item) or item + 10, range(6), held, lambda made: 3)
        ahead.begin(1)
        first = ahead.take()
        ahead.begin(6)
    assert len(made) in (2, 3) and held.full  # each thread had looked before the other made something
    assert [first, *(ahead.take() for _ in range(5))] == [(item, item + 10) for item in range(6)]
    assert sorted(made) == list(range(6)) and not held.full


def test_large_pictures_change_no_shard(release, tmp_path, monkeypatch):
    expected = digests(pipeline.run(config(release, tmp_path / "whole")))
    monkeypatch.setattr(picture_parts, "MOST_PIXELS", 1)
    assert digests(pipeline.run(config(release, tmp_path / "parted"))) == expected


def test_what_is_hidden_is_the_share_in_which_an_encoder_works():
    rng, spans, seconds = random.Random(0), Spans(), {DECODING: set(), ENCODING: set()}
    assert spans.hidden(DECODING) == 1 and spans.told() == ""
    for _ in range(40):
        what, begin = rng.choice((DECODING, ENCODING)), rng.randrange(400)
        end = begin + rng.randrange(12)
        spans.add(what, begin, end)
        seconds[what] |= set(range(begin, end))
    for what, found in seconds.items():
        assert spans.seconds(what) == len(found)
    assert spans.hidden(DECODING) == pytest.approx(len(seconds[DECODING] & seconds[ENCODING]) / len(seconds[DECODING]))
    spans.add(WRITING, 1000, 1003)
    assert "0.0% of 3.0 s writing" in spans.told()


def test_the_thread_that_writes_does_what_it_is_told_in_order_and_stops_at_what_fails():
    done, held, spans = [], threading.Event(), Spans()
    with Writing(spans) as writing:
        writing.do(lambda: held.wait(20) and None)
        for i in range(MOST - 1):
            writing.do(lambda i=i: done.append(i))
        full = threading.Thread(target=lambda: writing.do(lambda: done.append("last")))
        full.start()
        full.join(0.05)
        assert full.is_alive() and not done  # it waits while so much is before it
        held.set()
        full.join()
        writing.drain()
        assert done == [*range(MOST - 1), "last"] and spans.seconds(WRITING) > 0

        def fail():
            raise ValueError("disk full")

        writing.do(fail)
        writing.do(lambda: done.append("after"))
        with pytest.raises(ValueError, match="disk full"):
            writing.drain()
    assert "after" not in done
    with pytest.raises(ValueError, match="disk full"), Writing(spans) as writing:
        writing.do(fail)
