"""A run folder is a stranger's: whatever lies in it, a command ends with a line or with the same numbers, and soon."""

import copy
import json
import os
import pickle
import random
import shutil
import signal
import stat

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import melcache
from cache import store
from cache.writing.synth import Synthetic, write
from common.errors import ConfigError, MelcacheError
from train import loop
from train.config import TrainConfig
from train.config.inspecting import ExplainConfig, SlicesConfig
from train.config.studies import CompareConfig, SweepConfig
from train.heads.drin.config import DrinConfig
from train.inspecting import explain, finished_run, slices
from train.optimizing import checkpoint
from train.optimizing.head_weights import weights_of
from train.run_folder import run_files, run_schema
from train.searching import sweep, trials
from train.studies import compare

SEED, RANKS, HALF = "seed-0.safetensors", "ranks-0.safetensors", run_files.UNFINISHED
OPTIONS = {"epochs": 2, "seeds": (0, 1), "device": "cpu"}
SMALL = DrinConfig(width=4)
ABOUT = {
    "model": "drin",
    "cache_id": "a" * 64,
    "split": "c" * 64,
    "valid_from": None,
    "code": "b" * 16,
    "with_lexical": False,
}


@pytest.fixture(autouse=True)
def no_hang():
    """End a test that waits for a FIFO that nobody writes to."""

    def ring(*_):
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def toy_and_runs(tmp_path_factory):
    """Return a folder with a cache, a run of two seeds, and the same run cut off in its second epoch."""
    folder = tmp_path_factory.mktemp("runs")
    write(folder / "toy", Synthetic(60, 20, 4, 0.5, 0, "drin,bert", text_width=6, image_width=5))
    loop.fit(config(folder, "run"), SMALL)

    def cut(seeds):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.fit(config(folder, "half"), SMALL, passed=lambda seeds, left=[1]: left.pop() if left else cut(seeds))
    return folder


def config(folder, run, **given):
    return TrainConfig(dataset="toy", shards=folder, run=folder / run, **OPTIONS | given)


@pytest.fixture
def run(toy_and_runs, tmp_path):
    """Return a copy of the finished run, and of the seeds half done beside it as another."""
    shutil.copytree(toy_and_runs / "run", tmp_path / "run")
    shutil.copytree(toy_and_runs / "half", tmp_path / "half")
    return tmp_path / "run"


def attempt(folder, command, run, **given):
    """Do what a command does with a folder; return the line of its error, or "" if it ended well."""
    there = {"dataset": "toy", "shards": folder, "run": run}
    trained = there | OPTIONS
    commands = {
        "train": lambda: loop.fit(TrainConfig(**trained | given), SMALL),
        "slices": lambda: slices.examine(SlicesConfig(**there | {"by": ("gold",)} | given)),
        "explain": lambda: explain.explain(ExplainConfig(**there | {"mention": "3", "seed": 0} | given)),
        "sweep": lambda: sweep.search(SweepConfig(**trained | {"vary": ["layers=1,2"]} | given), SMALL),
        "compare": lambda: compare.compare(CompareConfig(**trained | given), {"drin": SMALL}),
    }
    try:
        commands[command]()
    except MelcacheError as error:  # which the command line prints as one line
        assert "\n" not in str(error) and len(str(error)) < 3000
        return str(error)
    return ""


# files that are none


def fifo(path):
    os.mkfifo(path)


def directory(path):
    path.mkdir()


def loop_of_links(path):
    path.symlink_to(path.name)


def link(path):
    path.symlink_to("/dev/zero")


def socket_file(path):
    os.mknod(path, stat.S_IFSOCK | 0o600)


def huge(path):
    path.touch()
    os.truncate(path, 1 << 30)


def empty(path):
    path.touch()


def deep(path):
    path.write_bytes(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def noise(path):
    path.write_bytes(random.Random(0).randbytes(5000))


def deep_header(path):
    inner = b'{"a":' * 100_000
    path.write_bytes(len(inner).to_bytes(8, "little") + inner)


def claims_a_terabyte(path):
    header = json.dumps({"x": {"dtype": "F32", "shape": [1 << 38], "data_offsets": [0, 1 << 40]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, 1 << 33)


def many_tensors(path):
    header = json.dumps({f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(30_000)})
    texts = json.dumps({"__metadata__": dict.fromkeys(("about", "what", "sums", "digest"), "{}")})
    inner = f"{header[:-1]}, {texts[1:]}".encode()
    path.write_bytes(len(inner).to_bytes(8, "little") + inner)


def claims_a_long_header(path):
    path.write_bytes((1 << 62).to_bytes(8, "little") + bytes(100))


STRANGE = (fifo, directory, loop_of_links, link, socket_file, huge, empty, deep, noise)
STRANGE_TENSORS = (*STRANGE, deep_header, claims_a_terabyte, claims_a_long_header)


def replaced(path, kind):
    run_files.remove(path)
    kind(path)


@pytest.mark.parametrize("kind", STRANGE_TENSORS, ids=lambda kind: kind.__name__)
def test_what_is_no_tensor_file_is_refused_before_it_is_read(tmp_path, kind, monkeypatch):
    read, real = [], os.preadv
    monkeypatch.setattr(os, "preadv", lambda *given: read.append(real(*given)) or read[-1])
    replaced(tmp_path / SEED, kind)
    with pytest.raises(ConfigError, match=SEED), run_files.open_tensors(tmp_path / SEED):
        pass
    assert sum(read) < 1 << 20


def test_a_file_of_more_tensors_than_a_checkpoint_has_is_refused_by_their_number(tmp_path):
    many_tensors(tmp_path / SEED)
    with (
        pytest.raises(ConfigError, match="names 30,000 tensors, which no checkpoint has"),
        run_files.open_tensors(tmp_path / SEED),
    ):
        pass


@pytest.mark.parametrize("kind", STRANGE, ids=lambda kind: kind.__name__)
def test_what_is_no_json_file_is_refused_before_it_is_read(tmp_path, kind):
    replaced(tmp_path / "results.json", kind)
    with pytest.raises(ConfigError, match=r"results\.json"):
        run_files.read_json(tmp_path / "results.json")


READ = {
    "train": (SEED, RANKS, HALF),
    "slices": ("results.json", RANKS),
    "explain": (SEED, "results.json"),
}
LEFT = {"train": ("results.json", "metrics.jsonl")}  # written anew, whatever it was


@pytest.mark.parametrize("kind", [fifo, directory, loop_of_links, huge, deep], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("command", READ)
def test_a_command_refuses_strange_files_in_a_line(toy_and_runs, run, command, kind):
    for name in READ[command]:
        shutil.copytree(run, copied := run.with_name(f"{name}-{kind.__name__}"))
        replaced(copied / name, kind)
        where = {"dataset": None} if (command, name) == ("explain", "results.json") else {}  # then it is asked
        error = attempt(toy_and_runs, command, copied, **where)
        assert name in error and ("train again with the same options" in error or "is a link" in error), error


@pytest.mark.parametrize("kind", [fifo, loop_of_links, huge], ids=lambda kind: kind.__name__)
def test_what_is_only_written_is_replaced(toy_and_runs, run, kind):
    before = json.loads((run / "results.json").read_text())["seeds"]
    for name in LEFT["train"]:
        replaced(run / name, kind)
    assert attempt(toy_and_runs, "train", run) == ""
    assert json.loads((run / "results.json").read_text())["seeds"] == before
    assert attempt(toy_and_runs, "train", run, seeds=(2,)) == ""  # which begins the curves anew
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 6


@pytest.mark.parametrize("name", [SEED, HALF, "results.json", "metrics.jsonl"])
def test_a_directory_in_the_way_is_a_line_with_fresh_too(toy_and_runs, run, name):
    replaced(run / name, directory)
    assert name in attempt(toy_and_runs, "train", run, fresh=True)


@pytest.mark.parametrize("command", ["train", "slices", "explain", "sweep", "compare"])
@pytest.mark.parametrize("kind", [fifo, loop_of_links, empty, socket_file], ids=lambda kind: kind.__name__)
def test_a_run_folder_that_is_none_is_a_line(toy_and_runs, tmp_path, command, kind):
    kind(tmp_path / "run")
    assert attempt(toy_and_runs, command, tmp_path / "run") != ""


def test_strange_results_of_a_series_are_a_line(toy_and_runs, tmp_path):
    assert attempt(toy_and_runs, "compare", tmp_path / "all") == ""
    for name, fresh in (("compare.json", False), ("compare.md", True)):
        shutil.copytree(tmp_path / "all", copied := tmp_path / name)
        replaced(copied / name, directory)
        assert name in attempt(toy_and_runs, "compare", copied, fresh=fresh)
    replaced(tmp_path / "all/drin" / SEED, noise)
    assert SEED in attempt(toy_and_runs, "compare", tmp_path / "all")


def test_rights_that_lack_are_called_that(toy_and_runs, run, monkeypatch):
    real = os.open

    def denied(path, *given, **more):
        if (
            str(path).endswith((".safetensors", ".json"))
            and "run" in str(path)
            and not str(path).endswith("manifest.json")
        ):
            raise PermissionError(13, "Permission denied")
        return real(path, *given, **more)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", denied)
        for command in ("train", "slices", "explain"):
            error = attempt(toy_and_runs, command, run)
            assert "Permission denied" in error and "Remove it" not in error
    real_list = os.listdir

    def hidden(path):
        if str(path) == str(run):
            raise PermissionError(13, "Permission denied")
        return real_list(path)

    monkeypatch.setattr(os, "listdir", hidden)
    for command in ("train", "explain"):
        assert "Permission denied" in attempt(toy_and_runs, command, run)


# damage


def test_bytes_of_a_tensor_file_are_covered(tmp_path):
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 2]), "c": torch.zeros(())}
    about = ABOUT | {"größe": 0.1}
    checkpoint.save(tmp_path / SEED, tensors, about, {"seed": 3})
    found = checkpoint.load(tmp_path / SEED, lambda file: file.layout)
    assert found[1:] == (about, {"seed": 3}) and all(
        map(torch.equal, found[0].values(), load_file(tmp_path / SEED).values())
    )
    data, rng = (tmp_path / SEED).read_bytes(), random.Random(1)
    for place in range(0, len(data), 3):
        changed = bytearray(data)
        changed[place] ^= 1 << rng.randrange(8)
        (tmp_path / SEED).write_bytes(changed)
        with pytest.raises(ConfigError, match=SEED), run_files.open_tensors(tmp_path / SEED) as file:
            file.verify()
    for other in (data[:-1], data + b"\0", data[:9], data[8:]):
        (tmp_path / SEED).write_bytes(other)
        with pytest.raises(ConfigError, match=SEED), run_files.open_tensors(tmp_path / SEED) as file:
            file.verify()


def test_every_byte_of_results_is_covered(run):
    path, rng = run / "results.json", random.Random(2)
    data = path.read_bytes()
    assert finished_run.results_of(run)["seeds"][1]["seed"] == 1
    places = [place for place, byte in enumerate(data) if chr(byte).isdigit()]
    for place in [*rng.sample(range(len(data)), 60), *rng.sample(places, 60)]:
        changed = bytearray(data)
        changed[place] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(ConfigError, match=r"results\.json is not what melcache wrote"):
            finished_run.results_of(run)
    path.write_bytes(data.replace(b'"top1"', b'"top1" '))
    with pytest.raises(ConfigError, match="changed after it was written"):
        finished_run.results_of(run)


@pytest.mark.parametrize("name", [SEED, RANKS, "unfinished"])
def test_a_flipped_bit_of_weights_ranks_or_moments_is_found_when_a_run_goes_on(toy_and_runs, run, name):
    folder, name = (run.with_name("half"), HALF) if name == "unfinished" else (run, name)
    data = bytearray((folder / name).read_bytes())
    data[-9] ^= 16
    (folder / name).write_bytes(data)
    error = attempt(toy_and_runs, "train", folder)
    assert "their checksum differs" in error and name in error
    if name == SEED:
        assert "their checksum differs" in attempt(toy_and_runs, "explain", folder)
    if name == RANKS:
        assert "their checksum differs" in attempt(toy_and_runs, "slices", folder)


def test_the_advice_for_a_damaged_folder_mends_it_and_trains_only_the_seed_that_is_damaged(toy_and_runs, run):
    kept = (run / "seed-1.safetensors").stat().st_mtime_ns
    (run / RANKS).unlink()
    both = f"Remove {SEED} and {RANKS}, and train again with the same options, which trains seed 0 alone"
    error = attempt(toy_and_runs, "slices", run)
    assert f"{RANKS} is missing. {both}" in error and "not a checkpoint" not in error
    (run / SEED).unlink()
    assert attempt(toy_and_runs, "train", run) == attempt(toy_and_runs, "slices", run) == ""
    (run / run_files.RESULTS).write_bytes(b"x")
    error = attempt(toy_and_runs, "slices", run)
    assert error.count("results.json") == 1
    assert error.endswith(
        "Remove it, and train again with the same options, which writes it anew from the finished seeds"
    )
    assert attempt(toy_and_runs, "train", run) == attempt(toy_and_runs, "slices", run) == ""
    assert (run / "seed-1.safetensors").stat().st_mtime_ns == kept


def test_a_changed_digit_of_a_result_is_found(toy_and_runs, run):
    data = (run / SEED).read_bytes()
    place = data.index(b'test\\": {\\"top1\\": 0.') + len(b'test\\": {\\"top1\\": 0.')
    (run / SEED).write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    assert "its header was changed after it was written" in attempt(toy_and_runs, "train", run)


# what strangers may write with digests that fit


def rewritten(path, change):
    """Write a tensor file anew with other content: `change(tensors, about, what)`."""
    tensors, about, what = checkpoint.load(path, lambda file: file.layout)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    change(tensors, about, what)
    checkpoint.save(path, tensors, about, what)


def weights(change):
    return lambda tensors, about, what: change(tensors)


def told(change):
    return lambda tensors, about, what: change(what)


HOSTILE_SEEDS = {
    "other shape": (weights(lambda t: t.update(mention_text=t.popitem()[1][:1])), "it lacks|expected"),
    "other type": (weights(lambda t: t.update({n: v.double() for n, v in t.items()})), "of F64"),
    "one less": (weights(lambda t: t.popitem()), "it lacks"),
    "one more": (weights(lambda t: t.update(more=torch.zeros(3))), "expected none of that name"),
    "a string for a number": (told(lambda w: w["test"].update(top1="0.5")), "holds a test that no run has"),
    "no test": (told(lambda w: w.pop("test")), "its result lacks test"),
    "another seed": (told(lambda w: w.update(seed=7)), "it is of seed 7"),
    "a list for a seed": (told(lambda w: w.update(seed=[0])), "holds a seed that no run has"),
    "an epoch that was not": (told(lambda w: w.update(epoch=9)), "not that of a training"),
    "history of strings": (told(lambda w: w.update(history=["x"])), "holds a history that no run has"),
    "a ratio of two": (told(lambda w: w["valid"].update(mrr=2)), "holds a valid that no run has"),
}


@pytest.mark.parametrize("case", HOSTILE_SEEDS)
def test_a_seed_that_no_run_has_is_refused(toy_and_runs, run, case):
    change, message = HOSTILE_SEEDS[case]
    rewritten(run / SEED, change)
    error = attempt(toy_and_runs, "train", run)
    assert SEED in error and any(part in error for part in message.split("|")), error


def test_weights_that_are_not_finite_are_not_explained(toy_and_runs, run):
    rewritten(run / SEED, weights(lambda t: t["mention_text.weight"].fill_(torch.nan)))
    assert "holds numbers of mention_text.weight that are not finite" in attempt(toy_and_runs, "explain", run)
    rewritten(run / SEED, weights(lambda t: [values.fill_(3e38) for values in t.values()]))
    assert "scores of mention row 3 are not finite" in attempt(toy_and_runs, "explain", run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "drine"}, "is a run of drine, which has no edges to show"),
        ({"model": 3}, "its identity holds a model that no run has"),
        ({"cache_id": "b" * 64}, "but the run was trained on bbbb"),
        ({"cache_id": "x"}, "its identity holds a cache_id that no run has"),
        ({"with_lexical": 1}, "its identity holds a with_lexical that no run has"),
        ({"with_lexical": True}, "it lacks head."),
        ({"drin.width": 10**9}, "it is not of a head that this cache can feed"),
        ({"drin.width": 5}, "expected"),
        ({"drin.width": "4"}, "width is not one that DrinConfig has"),
        ({"drin.layers": 10**9}, "it is not of a head that this cache can feed"),
        ({"drin.text_width": 7}, "it is not of a head that this cache can feed"),
        ({"drin.edges": ["x"]}, "choose from text_to_text"),
        ({"drin.edges": "text_to_text"}, "edges is not one that DrinConfig has"),
        ({"drin.vertex_activation": "eval"}, "vertex_activation is not one that DrinConfig has"),
        ({"drin.margin": None}, "margin is not one that DrinConfig has"),
        ({"more": {"deep": 1}}, "its identity holds what no run's has"),
        ({"\x1b[2J": 1}, "its identity holds what no run's has"),
    ],
)
def test_an_identity_that_no_run_has_explains_nothing(toy_and_runs, run, change, message):
    rewritten(run / SEED, lambda tensors, about, what: about.update(change))
    assert message in attempt(toy_and_runs, "explain", run)
    assert attempt(toy_and_runs, "train", run) != ""


HOSTILE_HALVES = {
    "another shape": (weights(lambda t: t.update({n: v[:1] for n, v in t.items() if v.dim() > 1})), "expected"),
    "no moments": (weights(lambda t: t.pop("adam.mean.0")), "it lacks adam.mean.0"),
    "best not finite": (weights(lambda t: t["best.0.mention_text.weight"].fill_(torch.inf)), "that are not finite"),
    "no generator": (weights(lambda t: t["order.0"].fill_(7)), "holds no state of a random generator"),
    "strings for seeds": (told(lambda w: w.update(seeds=["0"])), "holds a seeds that no run has"),
    "no seeds": (told(lambda w: w.update(seeds=[], history=[], best_epoch=[], untrained=[])), "once how far it is"),
    "a seed twice": (
        told(lambda w: w.update({n: w[n] * 2 for n in ("seeds", "history", "best_epoch", "untrained")})),
        "once how far",
    ),
    "more epochs than asked": (told(lambda w: w.update(epoch=99)), "it is after epoch 99 of 2"),
    "no best epoch": (told(lambda w: w.update(best_epoch=[0])), "not that of a training"),
    "nothing for untrained": (told(lambda w: w.update(untrained=[{}])), "holds a untrained that no run has"),
    "seconds before": (told(lambda w: w.update(seconds=-1)), "holds a seconds that no run has"),
    "a history of others": (told(lambda w: w["history"][0][0].update(epoch=5)), "not that of a training"),
}


@pytest.mark.parametrize("case", HOSTILE_HALVES)
def test_half_a_training_that_none_can_have_left_is_refused(toy_and_runs, run, case):
    change, message = HOSTILE_HALVES[case]
    rewritten(run.with_name("half") / HALF, change)
    error = attempt(toy_and_runs, "train", run.with_name("half"))
    assert HALF in error and message in error, error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["better"].fill_(1 << 39), "holds ranks that no test can have"),
        (lambda t: t["better"].fill_(-1), "holds ranks that no test can have"),
        (lambda t: t["tied"].fill_(1 << 62), "holds ranks that no test can have"),
        (lambda t: t["rows"].fill_(3), "holds ranks that no test can have"),
        (lambda t: t["rows"].neg_(), "holds ranks that no test can have"),
        (lambda t: t["rows"].add_(1 << 40), "ranks of other mentions than its test has"),
        (lambda t: t["better"].fill_(3), "of another training than the results beside it"),
        (lambda t: t["better"].add_((t["better"] > 0) & (t["better"] < 4)), "of another training"),  # same Top-1
        (lambda t: t.update(better=t["better"].double()), "of F64"),
        (lambda t: t.update({name: tensor[:2] for name, tensor in t.items()}), "expected"),
    ],
)
def test_ranks_that_no_test_has_are_not_sliced(toy_and_runs, run, change, message):
    rewritten(run / RANKS, weights(change))
    assert message in attempt(toy_and_runs, "slices", run)


def leaves(value, path=()):
    """Every place in a JSON value."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield from leaves(inner, (*path, name))


def test_results_of_any_shape_are_a_line_or_the_same_table(toy_and_runs, run):
    rng, path = random.Random(3), run / "results.json"
    good = json.loads(path.read_text())
    places = sorted(leaves(good), key=str)
    refused = 0
    for place in rng.sample(places, 80):
        found = copy.deepcopy(good)
        holder = found
        for name in place[:-1]:
            holder = holder[name]
        holder[place[-1]] = rng.choice(["x", "\x1b[31m", None, -1, [], {}, True, 1e300, 10**30, [[0]], {"valid": 1}])
        found.pop("digest", None)
        path.write_bytes(run_files.written(run_files.sealed(found)))
        refused += attempt(toy_and_runs, "slices", run) != ""
    assert refused > 40


@pytest.mark.parametrize("shards", ["\0", "x" * 5000, "x" * 300, "/proc/self/fd"], ids=range(4))
def test_wherever_a_stranger_says_that_the_cache_is_there_is_a_line(toy_and_runs, run, shards):
    results = json.loads((run / "results.json").read_text())
    results.pop("digest")
    results["config"]["shards"] = shards
    (run / "results.json").write_bytes(run_files.written(run_files.sealed(results)))
    assert attempt(toy_and_runs, "slices", run, dataset=None, shards=None) != ""


# searches


def test_a_search_reads_its_trials_as_a_strangers(toy_and_runs, tmp_path):
    assert attempt(toy_and_runs, "sweep", tmp_path / "good") == ""
    good = json.loads((tmp_path / "good/trials.json").read_text())
    assert [trial["params"] for trial in good["trials"]] == [{"layers": "1"}, {"layers": "2"}]
    assert attempt(toy_and_runs, "sweep", tmp_path / "good") == ""  # nothing is left to do

    def changed(change):
        found = copy.deepcopy(good)
        change(found)
        found.pop("digest")
        return lambda path: path.write_bytes(run_files.written(run_files.sealed(found)))

    kinds = [
        fifo, directory, huge, deep,
        changed(lambda found: found["trials"][0].update(params={"layers": "9"})),
        changed(lambda found: found["trials"][0].update(params={"width": "1"})),
        changed(lambda found: found["trials"][0].update(params=["layers"])),
        changed(lambda found: found["trials"][0].update(value="high")),
        changed(lambda found: found["trials"][0].update(test=None)),
        changed(lambda found: found.update(trials=3)),
        changed(lambda found: found.update(about=[])),
    ]  # fmt: skip
    for kind in kinds:
        replaced(tmp_path / "good" / trials.NAME, kind)
        assert trials.NAME in attempt(toy_and_runs, "sweep", tmp_path / "good")
        (tmp_path / "good" / trials.NAME).rmdir() if kind is directory else None
    replaced(tmp_path / "good" / trials.NAME, changed(lambda found: found["trials"].pop()))
    assert attempt(toy_and_runs, "sweep", tmp_path / "good") == ""
    assert json.loads((tmp_path / "good/trials.json").read_text())["trials"] == good["trials"]


# nothing is run


class Bomb:
    """What runs code when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def pickled(path, bomb):
    path.write_bytes(pickle.dumps(bomb))


def torch_saved(path, bomb):
    torch.save({"weight": bomb}, path)


def numpy_saved(path, bomb):
    with path.open("wb") as file:
        np.save(file, np.array([bomb], object), allow_pickle=True)


@pytest.mark.parametrize("kind", [pickled, torch_saved, numpy_saved], ids=lambda kind: kind.__name__)
def test_no_file_of_a_run_folder_runs_code(toy_and_runs, run, tmp_path, kind):
    bomb = Bomb(tmp_path / "ran")
    kind(tmp_path / "proof", bomb)
    with pytest.raises(FileExistsError):  # it would
        for _ in range(2):
            loaded = np.load if kind is numpy_saved else torch.load if kind is torch_saved else None
            allowed = {np.load: {"allow_pickle": True}, torch.load: {"weights_only": False}}.get(loaded, {})
            loaded(tmp_path / "proof", **allowed) if loaded else pickle.loads((tmp_path / "proof").read_bytes())
    bomb.marker.rmdir()
    for command, names in {**READ, "sweep": (trials.NAME,)}.items():
        for name in names:
            shutil.copytree(run, copied := tmp_path / f"{command}-{name}")
            run_files.remove(copied / name)
            kind(copied / name, bomb)
            if (command, name) != ("explain", "results.json"):
                assert attempt(toy_and_runs, command, copied) != ""
    for name in ("sweep.sqlite3", "seed-0.pt", "seed-00.safetensors"):
        kind(run / name, bomb)
    assert attempt(toy_and_runs, "train", run) == ""
    assert not bomb.marker.exists()


# what writes is what reads


def test_what_a_run_writes_passes_its_own_checks(toy_and_runs):
    assert run_schema.results(json.loads((toy_and_runs / "run/results.json").read_text()))
    reader = melcache.open(toy_and_runs / "toy")
    layout = weights_of("drin", DrinConfig(6, 5, 4), with_lexical=False)
    with run_files.open_tensors(toy_and_runs / "run" / SEED) as file:
        assert file.layout == layout and file.about["cache_id"] == reader.id
        file.verify()
    with run_files.open_tensors(toy_and_runs / "half" / HALF) as file:
        assert run_schema.half_done(file.what)["epoch"] == 1
        file.verify()


def test_a_file_cut_while_it_is_read_is_a_line(tmp_path, monkeypatch):
    checkpoint.save(tmp_path / SEED, {"a": torch.zeros(100)}, ABOUT, {})
    with (
        pytest.raises(ConfigError, match="cut short while it was read"),
        run_files.open_tensors(tmp_path / SEED) as file,
    ):
        os.truncate(tmp_path / SEED, 200)
        file.verify()


def test_memory_is_asked_for_before_tensors_are_read(tmp_path, monkeypatch):
    checkpoint.save(tmp_path / SEED, {"a": torch.zeros(1000)}, ABOUT, {})
    monkeypatch.setattr(checkpoint.devices, "free_memory", lambda device: 3999)
    with pytest.raises(ConfigError, match=r"it holds 4\.0 kB, but only 4\.0 kB of memory are free"):
        checkpoint.load(tmp_path / SEED, lambda file: file.layout)


def test_a_folder_with_many_strange_names_is_read_by_its_own_names_alone(tmp_path):
    for name in (
        "seed-.safetensors",
        "seed-01.safetensors",
        "seed-١.safetensors",
        "seed--1.safetensors",
        "seed-1.SAFETENSORS",
    ):
        (tmp_path / name).touch()
    store.publish(tmp_path / "seed-7.safetensors", b"", replace=True)
    assert list(run_files.names(tmp_path, run_files.SEED)) == [7]
