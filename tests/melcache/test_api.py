"""The public names of melcache: light, documented, and at work in examples that run."""

import importlib.machinery
import importlib.util
import os
import pickle
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import melcache
from common.errors import CacheError, ConfigError
from tests.worlds import synthetic_cache

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LINKING = ROOT / "examples/link_mentions.py"  # of a run on pictures: tests/link/test_command.py


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return synthetic_cache(tmp_path_factory.mktemp("api") / "toy", heads="drin,dzmned", shard_rows=32)


@pytest.fixture
def reader(folder):
    return melcache.open(folder)


@pytest.mark.parametrize("path", sorted({*EXAMPLES} - {LINKING}), ids=lambda path: path.stem)
def test_an_example_runs(path, folder, tmp_path, monkeypatch, capsys):
    if "to_pandas" in path.read_text():
        pytest.importorskip("pandas")
    monkeypatch.setattr(sys, "argv", [str(path), str(folder), str(tmp_path)])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.count("\n") > 1


def test_the_examples_of_the_page_use_every_name_and_the_page_explains_each():
    page = (ROOT / "docs/api.md").read_text()
    shown = set(re.findall(r"^<!-- file: examples/(\w+\.py) -->$", page, re.MULTILINE))
    assert shown == {path.name for path in EXAMPLES}
    used = {name for path in EXAMPLES for name in re.findall(r"\bmelcache\.(\w+)", path.read_text())}
    assert used | {"Reader"} == set(melcache.__all__)  # open returns a Reader
    assert all(f"`{name}`" in page for name in melcache.__all__)
    assert set(melcache.HOMES) | {"DrinConfig"} == set(melcache.__all__)


def test_names_are_there_when_asked_for_and_a_mistyped_one_is_answered():
    assert {"GhmfcConfig", "DrinConfig", *melcache.__all__} <= set(dir(melcache))
    for name in (*melcache.__all__, "GhmfcConfig"):
        assert getattr(melcache, name) is not None
    with pytest.raises(AttributeError, match=r"no attribute 'to_panda' \(did you mean to_pandas\?\)"):
        melcache.to_panda  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'NoConfig'"):
        melcache.NoConfig  # noqa: B018


def test_reading_needs_neither_torch_nor_pandas(folder):
    code = (
        "import sys\n"
        "for name in ('torch', 'pandas', 'transformers'): sys.modules[name] = None\n"
        f"import melcache\nreader = melcache.open({str(folder)!r})\n"
        "assert len(reader.column('mention.ids.gold')) == 60\n"
        "assert not [found for found in melcache.verify(reader.path) if found.problem]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("split", ["train", "valid", "test", None])
def test_an_item_holds_the_rows_that_the_lists_name(reader, split):
    columns = ["mention.text.span", "entity.text.sentence", "pair.alignment.text_to_text"]
    lists, masks = reader.column("pair.candidates.candidates"), reader.column("mention.ids.splits")
    bit = {"train": 1, "valid": 2, "test": 4, None: 7}[split]
    rows = [row for row in range(60) if masks[row] & bit]
    data = melcache.Mentions(reader, split, columns)
    assert len(data) == len(rows) > 5
    for number, row in enumerate(rows):
        item = data[number]
        assert item["candidates"].tolist() == lists[row].tolist()
        assert int(item["gold"]) == reader.column("pair.candidates.gold")[row]
        np.testing.assert_array_equal(item[columns[0]].numpy(), reader.column(columns[0])[row])
        np.testing.assert_array_equal(item[columns[2]].numpy(), reader.column(columns[2])[row])
        for place, entity in enumerate(lists[row]):
            wanted = reader.column(columns[1])[entity] if entity >= 0 else 0
            np.testing.assert_array_equal(item[columns[1]][place].numpy(), wanted)
    batch = next(iter(DataLoader(data, batch_size=4)))
    assert batch[columns[1]].shape == (4, 5, 8) and batch["present"].dtype == torch.bool


def test_padding_of_a_list_reads_as_nothing(reader, monkeypatch):
    whole = reader.read

    def padded(name, **more):
        found = whole(name, **more)
        if name == "pair.candidates.candidates":
            found[:, 3:] = -1
        return found

    monkeypatch.setattr(reader, "read", padded)
    item = melcache.Mentions(reader, None, ["entity.text.sentence"])[0]
    assert item["present"].tolist() == [True] * 3 + [False] * 2
    assert item["entity.text.sentence"][3:].abs().sum() == 0 < item["entity.text.sentence"][:3].abs().sum()


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (("trian", []), ConfigError, r"'trian' is no split, .*did you mean train\?"),
        (("train", ["token.text.vector"]), ConfigError, "is of the table 'token'"),
        (("train", ["mention.ids.surface"]), ConfigError, "is text, not numbers"),
        (("train", ["mention.text.spam"]), CacheError, r"no column .*did you mean mention\.text\.span\?"),
    ],
)
def test_what_is_no_item_is_refused(reader, given, error, said):
    with pytest.raises(error, match=said):
        melcache.Mentions(reader, *given)


class Pandas:
    """What to_pandas hands to pandas, which not every machine has."""

    class MultiIndex:
        from_product = staticmethod(lambda levels, names: [(row, place) for row in levels[0] for place in levels[1]])

    DataFrame = staticmethod(lambda columns, index: (columns, index))


@pytest.fixture
def pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", Pandas)


def test_a_frame_holds_the_columns_of_one_value_or_those_that_are_named(reader, pandas):
    columns, index = melcache.to_pandas(reader)
    assert index == range(60) and "mention.text.span" not in columns
    assert columns["mention.ids.surface"].tolist() == reader.strings("mention.ids.surface")
    np.testing.assert_array_equal(columns["mention.ids.gold"], reader.column("mention.ids.gold"))
    columns, _ = melcache.to_pandas(reader, "entity", ["entity.text.sentence"])
    assert list(columns) == ["entity.text.sentence"] and len(columns["entity.text.sentence"]) == 40
    np.testing.assert_array_equal(columns["entity.text.sentence"][7], reader.column("entity.text.sentence")[7])


def test_a_row_of_pairs_is_a_candidate(reader, pandas):
    columns, index = melcache.to_pandas(reader, "pair", ["pair.candidates.candidates", "pair.candidates.gold"])
    lists, gold = reader.column("pair.candidates.candidates"), reader.column("pair.candidates.gold")
    assert len(index) == 300 and index[7] == (1, 2)
    assert columns["pair.candidates.candidates"][7] == lists[1, 2] and columns["pair.candidates.gold"][7] == gold[1]


def test_what_is_no_table_is_refused(reader, pandas):
    with pytest.raises(ConfigError, match=r"'mentions' is no table, .*did you mean mention\?"):
        melcache.to_pandas(reader, "mentions")
    with pytest.raises(ConfigError, match=r"'entity.ids.id' is no column of the table 'mention'"):
        melcache.to_pandas(reader, "mention", ["entity.ids.id"])


def test_a_frame_of_pandas_itself(reader):
    pandas = pytest.importorskip("pandas")
    frame = melcache.to_pandas(reader, "pair")
    assert isinstance(frame, pandas.DataFrame) and len(frame) == 300 and frame.index.names == ["mention", "place"]


def test_the_citation_names_the_version_and_licence_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = dict(re.findall(r"^([\w-]+): (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE))
    assert (lines["version"], lines["license"], lines["title"]) == (
        project["version"],
        project["license"],
        project["name"],
    )
    assert lines["cff-version"] == "1.2.0" and lines["message"] and lines["type"] == "software"


def test_a_script_beside_files_with_names_of_ours_gets_ours(folder, tmp_path):
    """Its folder comes first on the path: train.py is what people call their script."""
    script = f"import sys, melcache\nprint(melcache.open({str(folder)!r}).id, 'drin' in melcache.HEADS)\nimport common"
    for name, text in (("train.py", script), ("common.py", "print('theirs')"), ("cache.py", "print('theirs')")):
        (tmp_path / name).write_text(text)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(tmp_path / "train.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == (f"{melcache.open(folder).id} True\n", "")


def test_a_file_of_the_users_that_is_imported_in_place_of_ours_is_named(monkeypatch):
    theirs = importlib.machinery.ModuleSpec("common", None, origin="/home/me/common.py")
    monkeypatch.setitem(sys.modules, "common", importlib.util.module_from_spec(theirs))
    monkeypatch.delitem(vars(melcache), "open", raising=False)
    with pytest.raises(ImportError, match=r"^/home/me/common.py has the name of melcache's folder common: give it"):
        _ = melcache.open


def test_a_worker_finds_the_dataset_by_its_public_name():
    assert pickle.dumps(melcache.Mentions).count(b"melcache") == 1
    assert pickle.loads(pickle.dumps(melcache.Mentions)) is melcache.Mentions


def test_a_column_of_one_value_a_row_is_an_item_of_the_dataset(reader):
    name = "mention.image.present"
    items = melcache.Mentions(reader, None, [name, "mention.ids.gold"])
    assert [bool(item[name]) for item in items] == reader.column(name).astype(bool).tolist()
    assert [int(item["mention.ids.gold"]) for item in items] == reader.column("mention.ids.gold").tolist()
    assert items[-1][name].shape == () and pickle.loads(pickle.dumps(items))[0].keys() == items[0].keys()


def test_a_frame_without_columns_has_the_rows_of_its_table(reader, pandas):
    assert [len(melcache.to_pandas(reader, table, [])[1]) for table in ("mention", "entity", "pair")] == [60, 40, 300]
