"""The demo world: what it promises to a head, that it is always the same, and that a damaged copy is never used."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from rapidfuzz import fuzz

from common.errors import DatasetError
from common.records import SPLITS, split_mask
from extract.datasets import demo

ROOT = Path(__file__).parents[2]
# sha256 of the records and of all pixels. When it changes, raise demo.EDITION: folders of the old world exist
EDITION, DIGEST = 1, "88ebaa1632f214d6641da5144049a0d5c4afa91a78c939b6c9f16cba95104b7f"


@pytest.fixture(scope="module")
def demo_release(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "demo"
    demo.load(path)
    return path


@pytest.fixture(scope="module")
def dataset(demo_release):
    return demo.load(demo_release)


@pytest.fixture
def copy(demo_release, tmp_path):
    return Path(shutil.copytree(demo_release, tmp_path / "demo"))


@pytest.fixture
def quick(demo_release, monkeypatch):
    """Let the world be copied instead of drawn."""
    monkeypatch.setattr(demo, "write", lambda path: shutil.copytree(demo_release, path, dirs_exist_ok=True))


def namesakes(dataset):
    groups = {}
    for entity in dataset.entities:
        groups.setdefault(entity.name, []).append(entity)
    return groups


def pixels(path):
    """Return uint8 (64, 64, 3), None for a file that is missing or cut short."""
    try:
        with PIL.Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except OSError:
        return None


def tree(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shows(picture, color):
    """Return how many pixels lie near the color; its hue varies by 15, its grain by 10."""
    return int((abs(picture.astype(int) - demo.COLORS[color]).max(axis=2) <= 26).sum())


def run(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, env=os.environ | environment, check=False
    ).returncode


# --- what a head can learn


def test_every_name_is_shared_by_five_entities_that_differ_in_every_fact(dataset):
    groups = namesakes(dataset)
    assert Counter(map(len, groups.values())) == {5: 50}
    for group in groups.values():
        facts = [entity.text.replace("of the ", "").split() for entity in group]  # color, kind, place, trade
        assert [len(set(values)) for values in zip(*facts, strict=True)] == [5, 5, 5, 5]


def test_a_string_matcher_ties_all_namesakes_and_puts_every_other_name_below(dataset):
    names = {entity.name for entity in dataset.entities}
    assert {mention.surface for mention in dataset.mentions} == names
    for surface in names:
        assert {name for name in names if fuzz.token_set_ratio(surface, name) == 100} == {surface}


def test_only_mentions_of_type_text_tell_namesakes_apart_by_their_words(dataset):
    groups = namesakes(dataset)
    for mention in (mention for mention in dataset.mentions if mention.gold and mention.start >= 0):
        words = set(mention.sentence.split())
        shared = {entity.id: len(words & set(entity.text.split())) for entity in groups[mention.surface]}
        told = {mention.gold: 2} if mention.type == "text" else {}
        assert {id: count for id, count in shared.items() if count} == told, mention


def test_only_mentions_of_type_picture_show_the_color_of_gold(dataset):
    colors = {entity.id: entity.text.split()[0] for entity in dataset.entities}
    readable = [(mention, pixels(mention.image.path)) for mention in dataset.mentions if mention.image and mention.gold]
    for mention, picture in ((mention, picture) for mention, picture in readable if picture is not None):
        seen = {color for color in demo.COLORS if shows(picture, color) > 200}
        assert seen == ({colors[mention.gold]} if mention.type == "picture" else set()), mention


def test_the_picture_of_an_entity_shows_its_color_in_the_shape_of_its_kind(dataset):
    filled = {"ball": 0.79, "ring": 0.59, "box": 1.0, "kite": 0.5, "tent": 0.5, "cross": 0.56}  # of the bounding box
    for entity in dataset.entities:
        color, kind = entity.text.split()[:2]
        inside = abs(pixels(entity.image.path).astype(int) - demo.COLORS[color]).max(axis=2) <= 26
        rows, columns = inside.any(axis=1), inside.any(axis=0)
        box = inside[rows.argmax() : 64 - rows[::-1].argmax(), columns.argmax() : 64 - columns[::-1].argmax()]
        assert min(box.shape) >= 32, entity
        if kind in filled:
            assert box.mean() == pytest.approx(filled[kind], abs=0.05), entity
        else:  # bars, upright or lying
            bars = box[0] if kind == "fence" else box[:, :1]
            assert (box == bars).all() and 0.4 < box.mean() < 0.65, entity


def test_no_two_photographs_are_alike(demo_release):
    pictures = [pixels(path) for path in (demo_release / "images").iterdir()]
    distinct = {picture.tobytes() for picture in pictures if picture is not None}
    assert len(pictures) == 250 + 1600 - 2
    assert len(distinct) == len(pictures) - 1  # all but the one that is cut short


def test_splits_are_70_10_20_and_each_is_half_text_half_picture(dataset):
    sizes = Counter(mention.splits for mention in dataset.mentions)
    assert [sizes[split_mask(name)] for name in SPLITS] == [1120, 160, 320]
    for name in SPLITS:
        types = Counter(mention.type for mention in dataset.mentions if mention.splits == split_mask(name))
        assert 0.4 < types["text"] / types.total() < 0.6


def test_the_most_frequent_train_entity_of_a_name_is_no_better_than_chance(dataset):
    seen = Counter((m.surface, m.gold) for m in dataset.mentions if m.splits == split_mask("train") and m.gold)
    test = [mention for mention in dataset.mentions if mention.splits == split_mask("test") and mention.gold]
    best = {name: max(group, key=lambda e: seen[name, e.id]).id for name, group in namesakes(dataset).items()}
    assert sum(best[mention.surface] == mention.gold for mention in test) / len(test) < 0.3


def test_words_are_the_whole_vocabulary(dataset):
    texts = [record.text for record in dataset.entities] + [mention.sentence for mention in dataset.mentions]
    used = {word for text in texts for word in text.split()} | {entity.name for entity in dataset.entities}
    assert used == set(demo.WORDS)
    assert len(demo.WORDS) == len(used)
    assert all(word.isascii() and word.isalpha() and word.islower() for word in demo.WORDS)


def test_mentions_have_no_candidates_and_stand_where_their_offsets_say(dataset):
    absent = [mention for mention in dataset.mentions if mention.start < 0]
    assert [(mention.end, mention.surface in mention.sentence) for mention in absent] == [(-1, False)]
    for mention in dataset.mentions:
        assert mention.candidates is None
        assert mention in absent or mention.sentence[mention.start : mention.end] == mention.surface


def test_blemishes_are_one_of_each_and_below_one_percent_of_the_pictures(dataset):
    named = [mention.image.path for mention in dataset.mentions if mention.image]
    named += [entity.image.path for entity in dataset.entities]
    missing = [path for path in named if not path.exists()]
    damaged = [path for path in named if path.exists() and pixels(path) is None]
    assert (len(missing), len(damaged)) == (1, 1)
    assert len(missing + damaged) < 0.01 * len(named)
    assert dataset.counts["mentions that name no picture"] == 1
    assert dataset.counts["gold is nil"] == 1
    assert dataset.counts["spans not found"] == 1


def test_the_dataset_says_what_it_is(dataset):
    assert (dataset.name, dataset.licence) == ("demo", "CC0-1.0 (generated)")
    assert (ROOT / dataset.source.removeprefix("generated by ")).is_file()


# --- always the same world


def test_a_world_of_this_edition_is_always_the_same(demo_release):
    digest = hashlib.sha256()
    for name in ("mentions.jsonl", "entities.jsonl"):
        digest.update((demo_release / name).read_bytes())
    for path in sorted((demo_release / "images").iterdir()):
        picture = pixels(path)
        digest.update(path.name.encode() + (b"" if picture is None else picture.tobytes()))
    assert (demo.EDITION, digest.hexdigest()) == (EDITION, DIGEST)


def test_another_process_with_other_hashes_writes_the_same_bytes(demo_release, tmp_path):
    code = "import sys, pathlib; from extract.datasets import demo; demo.write(pathlib.Path(sys.argv[1]))"
    assert run(code, tmp_path / "other", PYTHONHASHSEED="12345", TZ="Asia/Tokyo") == 0
    assert tree(tmp_path / "other") == tree(demo_release)


def test_a_second_load_writes_nothing(demo_release, monkeypatch):
    monkeypatch.setattr(demo, "write", lambda folder: pytest.fail("written again"))
    assert len(demo.load(demo_release).mentions) == 1600


def test_an_empty_folder_is_filled(demo_release, tmp_path, quick):
    (tmp_path / "demo").mkdir()
    demo.load(tmp_path / "demo")
    assert tree(tmp_path / "demo") == tree(demo_release)
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_sha256sum_agrees(demo_release):
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum here")
    assert subprocess.run(["sha256sum", "--check", "--quiet", "--strict", demo.SUMS], cwd=demo_release).returncode == 0


# --- a damaged copy is never used


def flip(path):
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)


def age(path):
    path.write_text(path.read_text().replace(f"edition {EDITION}", "edition 0"))


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (lambda world: flip(world / "images/m0007.png"), "images/m0007.png"),
        (lambda world: flip(world / "images/m0042.png"), "images/m0042.png"),
        (lambda world: flip(world / "mentions.jsonl"), "mentions.jsonl"),
        (lambda world: (world / "images/m0009.png").unlink(), "images/m0009.png"),
        (lambda world: shutil.copy(world / "images/m0001.png", world / "images/m0041.png"), "images/m0041.png"),
        (lambda world: (world / "entities.jsonl.gz").write_bytes(b""), "entities.jsonl.gz"),
        (lambda world: age(world / demo.SUMS), "# demo world, edition 0"),
    ],
    ids=["pixel", "cut file", "record", "removed", "healed blemish", "added", "edition"],
)
def test_a_folder_that_differs_is_refused_by_the_name_of_the_file(copy, damage, name):
    damage(copy)
    before = tree(copy)
    with pytest.raises(
        DatasetError, match=f"differs from edition .*{name}'.*Remove the folder to have it written again"
    ):
        demo.load(copy)
    assert tree(copy) == before  # whoever edited it keeps the work


@pytest.mark.parametrize("name", ["mentions.jsonl", "holiday.png"])
def test_a_folder_of_something_else_is_left_alone(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(DatasetError, match=r"not a demo world: cannot read .*SHA256SUMS: No such file.*Name an empty"):
        demo.load(tmp_path)
    assert tree(tmp_path) == {Path(name): b"mine"}


def test_a_kill_while_writing_leaves_no_world_and_the_next_load_succeeds(demo_release, tmp_path):
    code = """if True:
        import os, pathlib, sys
        from extract.datasets import demo
        draw, left = demo.draw, iter(range(100))
        demo.draw = lambda *arguments: draw(*arguments) if next(left, None) is not None else os._exit(9)
        demo.load(pathlib.Path(sys.argv[1]))
    """
    assert run(code, tmp_path / "demo") == 9
    assert [path.name.startswith(".partial-demo-") for path in tmp_path.iterdir()] == [True]
    demo.load(tmp_path / "demo")
    assert tree(tmp_path / "demo") == tree(demo_release)


def test_an_interrupt_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "draw", interrupt)
    with pytest.raises(KeyboardInterrupt):
        demo.load(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


def test_leftovers_are_swept_after_a_day_and_not_before(tmp_path, quick):
    old, live = tmp_path / ".partial-demo-old", tmp_path / ".partial-demo-live"
    for path in (old, live):
        (path / "demo").mkdir(parents=True)
    os.utime(old, (time.time() - 2 * 24 * 3600,) * 2)
    demo.load(tmp_path / "demo")
    assert sorted(path.name for path in tmp_path.iterdir()) == [live.name, "demo"]


def test_the_world_of_a_faster_process_is_used(demo_release, tmp_path, monkeypatch, quick):
    write = demo.write

    def lose(path):
        write(path)
        shutil.copytree(demo_release, tmp_path / "demo")

    monkeypatch.setattr(demo, "write", lose)
    assert len(demo.load(tmp_path / "demo").mentions) == 1600
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def fill(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(demo, "write", fill)
    with pytest.raises(DatasetError, match=r"cannot write the demo world .*: No space left on device\. Make room"):
        demo.load(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []
