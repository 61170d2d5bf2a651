"""Reports: the numbers of results.json, every mention, text of strangers as text, a folder whole or not at all."""

import dataclasses
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from common.errors import ConfigError, DatasetError
from melcache import cli
from report import build
from report.config import ReportConfig
from report.findings import answers, mentions, overview
from report.writing import folder, pages, thumbnails
from tests import reports
from tests.reports import config
from train.inspecting import slices
from train.run_folder import run_files

ADDRESS = re.compile(r"#[\w~.-]+|(static|data|pictures)/[\w.-]+|[\w-]+\.html(\?[\w=&-]+)?|data:,")
VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """A page as a strict reader has it: elements that nest, their attributes, and the texts between."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self._open = [], [], []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def read(path):
    return Page(path.read_text())


def cards(out):
    """The pages of mentions, one after the other."""
    return [read(path) for path in sorted(out.glob("mentions-*.html"))]


def texts(out):
    """All texts of the pages of mentions."""
    return "".join(text for page in cards(out) for text in page.texts)


def listed(out):
    """The rows that the scripts of the list hold."""
    rows = []
    for path in sorted((out / "data").iterdir()):
        text = path.read_text()
        assert text.isascii() and "<" not in text and text.startswith("melcacheList(") and text.endswith(");\n")
        rows += json.loads(text[len("melcacheList(") : -3])
    return rows


def test_answers_of_one_seed_are_its_results_and_classes_add_up(world, made):
    for name, seed in (("bert", "0"), ("drin", "0"), ("drin", "1")):
        (run,) = answers.finished(config(world, None, name))
        own = answers.of_run(run, config(world, None, name, seed=seed))
        tested = next(one for one in run.results["seeds"] if str(one["seed"]) == seed)["test"]
        assert own.right.mean() == pytest.approx(tested["top1"], abs=1e-12)
        assert (own.gold >= 0).mean() == pytest.approx(tested["recall"])
        assert (np.diff(own.scores, axis=1) <= 0).all() and own.probabilities.sum(1) == pytest.approx(1)
        assert (own.entities[own.gold >= 0, own.gold[own.gold >= 0]] >= 0).all()
    rows = listed(made)
    assert len(rows) == 12 and [row[2][:3] for row in rows] == [f"m{n}" for n in range(24, 36)]
    assert rows[-1][7][0][0] == rows[-1][7][1][0] == "not-listed"


def test_the_summary_shows_the_numbers_of_results_and_of_compare(world, made):
    page = read(made / "index.html")
    text = " ".join(page.texts)
    for name in ("bert", "drin"):
        results = json.loads((world / name / run_files.RESULTS).read_text())
        assert f"{100 * results['mean']['test']['top1']:.1f}" in text and results["cache_id"] in text
        assert results["digest"] in text and results["split"]["digest"] in text
        sure = results["confidence"]["mean"]
        measured = [sure["abstained"], sure["accuracy_with_nil"]]
        assert all(f"{100 * value:.1f}" in text for value in measured) and f"{sure['nil_below']:.3f}" in text
        assert "Abstaining on test" in text and sure["nil"] == 0
    assert "12 test mentions: " not in text  # this cache lacks what the doctor reads, and the page says so
    assert "what the splits give away was not looked at" in text
    titles = [i for i, (tag, _) in enumerate(page.elements) if tag == "svg"]
    assert len(titles) >= 3 and all(
        page.elements[i][1].get("aria-labelledby") or "aria-hidden" in page.elements[i][1] for i in titles
    )


def test_one_run_has_no_differences_and_counts_stand_before_what_they_count(world, tmp_path, made):
    build.report(config(world, tmp_path / "out", "bert"))
    alone, both = (" ".join(read(folder / "index.html").texts) for folder in (tmp_path / "out", made))
    for said in ("Holm-corrected", "top1 - bert"):
        assert said in both and said not in alone
    for text in (alone, both):  # a narrow screen shows the first columns
        row = text[text.index("right") :]
        assert re.match(r"right\s+\d+\s+[\d.]+%.*?gold alone has the highest score", row, re.DOTALL)


def test_texts_of_strangers_are_texts_in_every_page(made):
    files = sorted(made.rglob("*.html"))
    assert [path.name for path in files] == ["index.html", *(f"mentions-00{n}.html" for n in (1, 2, 3))]
    for path in files:
        page, text = read(path), path.read_text()
        assert not any(turn in text for turn in "\u202e\u2066\u2028")
        scripts = [given for tag, given in page.elements if tag == "script"]
        assert all(
            set(given) <= {"src", "defer"} and re.fullmatch(r"(static|data)/[\w-]+\.js", given["src"])
            for given in scripts
        )
        for tag, given in page.elements:
            assert not any(name.startswith("on") or name == "style" for name in given), (tag, given)
            for name in ("href", "src"):
                if name in given:
                    assert re.fullmatch(
                        r"#[\w~.-]+|(static|data|pictures)/[\w.-]+|[\w-]+\.html(\?[\w=&-]+)?|data:,", given[name]
                    ), given
        shown = "".join(page.texts)
        assert ("<script>boom()</script>" in shown and "<b>none</b>" in shown) or path.name != "index.html"
    shown = texts(made)
    for string in reports.HOSTILE:
        assert pages.clean(string) in shown


def test_every_mention_has_a_place_of_its_own_that_the_list_leads_to(made):
    articles = [[given["id"] for tag, given in page.elements if tag == "article"] for page in cards(made)]
    ids = [name for page in articles for name in page]
    assert [len(page) for page in articles] == [5, 5, 2] and [row[1] for row in listed(made)] == [1] * 5 + [2] * 5 + [
        3
    ] * 2
    assert len(set(ids)) == 12 and [row[0] for row in listed(made)] == ids
    assert all(re.fullmatch(r"[\w~.-]+", name) for name in ids)
    assert len({pages.anchor(name) for name in ("a~20b", "a b", "a%20b", "a+b", "\udce9", "?")}) == 5


def test_small_pictures_are_small_bare_and_made_by_the_guard_alone(made, world):
    files = sorted((made / "pictures").iterdir())
    shown = [given for page in cards(made) for tag, given in page.elements if tag == "img"]
    used = {given["src"] for given in shown}
    assert {f"pictures/{path.name}" for path in files} == used and len(
        files
    ) <= 8  # not the bomb, the text, the cut one
    for path in files:
        with Image.open(path) as picture:
            assert picture.format == "JPEG" and max(picture.size) <= thumbnails.SIDE
            assert not picture.getexif() and "comment" not in picture.info and "icc_profile" not in picture.info
        assert path.stat().st_size < 5_000
    assert all(given["alt"] and given["loading"] == "lazy" for given in shown)


def test_metadata_of_a_picture_does_not_travel(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "secret"
    Image.new("RGB", (400, 300)).save(tmp_path / "a.jpg", exif=exif, comment=b"secret", icc_profile=b"secret")
    written = {}
    found = thumbnails.make([tmp_path / "a.jpg", tmp_path / "b.jpg"], written.__setitem__)
    assert list(found) == [tmp_path / "a.jpg"] and b"secret" not in written[found[tmp_path / "a.jpg"]]


def test_edges_of_a_drin_are_those_of_explain(world):
    from train.config.inspecting import ExplainConfig
    from train.inspecting import explain

    (run,) = answers.finished(config(world, None, "drin"))
    asked = config(world, None, "drin", seed="0")
    own = answers.of_run(run, asked)
    edges = answers.edges_of(run, asked, own)
    told = explain.explain(ExplainConfig(run=world / "drin", mention=reports.named("m", 24)))
    for place, candidate in enumerate(told["candidates"]):
        known = [[np.nan if layer[edge] is None else layer[edge] for edge in layer] for layer in candidate["layers"]]
        assert edges[0, place].tolist() == [pytest.approx(layer, abs=1e-5, nan_ok=True) for layer in known]


def test_without_a_release_or_pictures_pages_say_so_and_show_strings(world, tmp_path):
    build.report(config(world, tmp_path / "bare", "bert", release=None, adapter=None))
    text = "".join(read(tmp_path / "bare/index.html").texts)
    assert "The release is not there (--release FOLDER)" in text and not (tmp_path / "bare/pictures").exists()
    assert "s24" in texts(tmp_path / "bare")
    build.report(config(world, tmp_path / "plain", "bert", thumbnails=False))
    assert not (tmp_path / "plain/pictures").exists()
    with pytest.raises(DatasetError, match=r"mentions\.jsonl"):
        build.report(config(world, tmp_path / "none", release=world / "bert"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare", "plain"]


@pytest.mark.parametrize("protocol", ["whole-kb", "injected"])
def test_runs_that_rank_other_lists_than_the_caches_are_shown_without_its_edges(world, tmp_path, protocol):
    from train import loop
    from train.config import TrainConfig
    from train.heads.joint.config import JointConfig

    known = {"dataset": str(world / "cache"), "epochs": 1, "device": "cpu", "protocol": protocol}
    model, head = ("bert", JointConfig(width=4)) if protocol == "whole-kb" else ("lexical", None)
    results = loop.fit(TrainConfig(model=model, run=tmp_path / "run", **known), head)
    build.report(config(world, tmp_path / "out", tmp_path / "run"))
    rows = listed(tmp_path / "out")
    outcomes = [row[7][0][0] for row in rows]
    assert outcomes.count("right") == round(results["mean"]["test"]["top1"] * 12) and "not-listed" not in outcomes
    assert not {"text", "picture"} & {mark for row in rows for mark in row[7][0][2]}
    with pytest.raises(ConfigError, match="another protocol"):
        build.report(config(world, tmp_path / "two", "bert", tmp_path / "run"))


def test_a_head_by_file_is_shown_as_any_other_from_the_scores_that_it_kept(
    world, tmp_path, monkeypatch, heads_forgotten
):
    build.report(config(world, tmp_path / "known", "bert"))
    del answers.HEADS["bert"]
    monkeypatch.setattr(overview, "trained", lambda run: "melcache train")
    build.report(config(world, tmp_path / "kept", "bert"))
    pages = {out: {path.name for path in (tmp_path / out).rglob("*.*")} for out in ("known", "kept")}
    assert pages["known"] == pages["kept"] and "mentions-001.html" in pages["kept"]
    one, other = ((tmp_path / out / "mentions-001.html").read_bytes() for out in pages)
    assert one == other


def test_a_head_by_file_that_kept_no_scores_has_a_summary_that_asks_for_its_file(
    world, tmp_path, monkeypatch, heads_forgotten
):
    bare = shutil.copytree(world / "bert", tmp_path / "bert", ignore=shutil.ignore_patterns("scores-*"))
    del answers.HEADS["bert"]
    monkeypatch.setattr(overview, "trained", lambda run: "melcache train")
    asked = dataclasses.replace(config(world, tmp_path / "out", "bert"), run=[bare])
    build.report(asked)
    assert "kept no scores that answer: name its file with --model bert.py: mentions are not shown" in "".join(
        read(tmp_path / "out/index.html").texts
    )
    assert [path.name for path in (tmp_path / "out").glob("*.html")] == ["index.html"]
    loaded = []
    monkeypatch.setattr(answers.own_head, "load_for", lambda *given: loaded.append(given))
    build.report(dataclasses.replace(asked, model="my/bert.py", out=tmp_path / "again"))
    assert loaded == [("my/bert.py", bare, "bert")]


def test_the_list_cuts_sentences_between_words_and_says_so():
    words = " ".join(f"w{n}" for n in range(60))
    begun, ended = mentions._beginning(words, 40), mentions._end(words)
    assert words.startswith(begun.removesuffix(" …") + " ") and begun.endswith(" …") and len(begun) <= 42
    assert words.endswith(" " + ended.removeprefix("… ")) and ended.startswith("… ")
    for text in ("short", " a b ", ""):
        assert mentions._beginning(text, 40) == mentions._end(text) == text
    assert mentions._beginning("x" * 50, 40) == "x" * 40 + " …"


def test_a_slicing_of_one_slice_is_a_line_and_no_table(world, tmp_path, monkeypatch):
    real = slices.examine

    def alone(config):
        found = real(config)
        of = next(iter(found["slices"]["gold entity in train"].values()))
        return found | {"slices": found["slices"] | {"mention type": {"none": of}}}

    monkeypatch.setattr(overview.slices, "examine", alone)
    runs = answers.finished(config(world, tmp_path, "bert"))
    sections, left_out = overview.sliced(runs, config(world, tmp_path, "bert"))
    assert sections and all(len(section.rows) > 1 for section in sections)
    assert any(line.startswith("mention type: none, of all ") for line in left_out)


KILLED = """
import os, pathlib, signal, sys
from report.writing import folder
with folder.replaced(pathlib.Path(sys.argv[1])) as written:
    written.write("index.html", "new")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_leaves_the_old_report_and_what_it_left_goes_with_the_next(tmp_path):
    target = tmp_path / "out"
    for text in ("first", "old"):
        with folder.replaced(target) as written:
            written.write("index.html", text)
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", KILLED, str(target)], cwd=root, timeout=600)
    assert done.returncode == -signal.SIGKILL and (target / "index.html").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    with folder.replaced(target) as written:
        written.write("index.html", "new")
        with folder.replaced(tmp_path / "beside") as another:  # the work of the living stays
            another.write("index.html", "too")
    assert (target / "index.html").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beside", "out"]


def test_a_place_that_cannot_be_made_is_one_line(world, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot write the report .*: Not a directory|File exists"):
        build.report(config(world, tmp_path / "file/out", "bert"))


def test_only_a_report_or_an_empty_folder_is_replaced(world, tmp_path):
    (tmp_path / "empty").mkdir()
    build.report(config(world, tmp_path / "empty", "bert"))
    before = (tmp_path / "empty/index.html").read_bytes()
    (tmp_path / "empty/index.html").write_text("old")
    build.report(config(world, tmp_path / "empty", "bert"))
    assert (tmp_path / "empty/index.html").read_bytes() == before
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/thesis.tex").touch()
    (tmp_path / "others").mkdir()
    (tmp_path / "others/report.json").write_text("{}")  # of another program
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for name in ("theirs", "others", "file", "link"):
        with pytest.raises(ConfigError, match=f"--out .*{name}"):
            build.report(config(world, tmp_path / name, "bert"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "link", "others", "theirs"]
    assert (tmp_path / "others/report.json").read_text() == "{}"


def test_a_report_that_fails_midway_leaves_the_old_one(world, tmp_path, monkeypatch):
    target = tmp_path / "out"
    build.report(config(world, target, "bert"))
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    for error in (KeyboardInterrupt, OSError(28, "No space left on device")):
        monkeypatch.setattr(build, "_summary", lambda *_, error=error: (_ for _ in ()).throw(error))
        with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else ConfigError, match=r"No space|^$"):
            build.report(config(world, target, "bert"))
        assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_damaged_and_unfinished_runs_are_refused_in_a_line(world, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/results.json").write_text("{}")
    for name, told in (("empty", "holds no finished run"), ("broken", "results.json"), ("nowhere", "no finished run")):
        words = ["report", "--run", str(tmp_path / name), "--out", str(tmp_path / "out")]
        done = CliRunner().invoke(cli.PROGRAM, words)
        assert done.exit_code == 2 and told in done.output and len(done.output.splitlines()) == 1, done.output
    assert not (tmp_path / "out").exists()
    for given, told in (({"run": []}, "0 times"), ({"seed": "9"}, "has 0")):
        with pytest.raises(ConfigError, match=told):
            build.report(
                config(world, tmp_path / "out", "bert", **given) if "run" not in given else ReportConfig(run=[])
            )


def test_the_commands_of_a_page_make_the_same_run_again(world, tmp_path):
    for name in ("bert", "drin"):
        (run,) = answers.finished(config(world, None, name))
        program, *words = shlex.split(overview.trained(run))
        assert (program, words[-1]) == ("melcache", str(world / name))
        done = CliRunner().invoke(cli.PROGRAM, [*words[:-1], str(tmp_path / name)])
        assert done.exit_code == 0, done.output
        again = json.loads((tmp_path / name / run_files.RESULTS).read_text())
        assert again["mean"] == run.results["mean"] and again["config"][name] == run.results["config"][name]


def test_the_command_is_listed_and_says_where_to_look(world, tmp_path):
    words = [
        "report",
        "--run",
        str(world / "bert"),
        "--out",
        str(tmp_path / "out"),
        "--no-thumbnails",
        "--device",
        "cpu",
    ]
    done = CliRunner().invoke(cli.PROGRAM, words)
    assert done.exit_code == 0 and f"open {tmp_path}/out/index.html: 12 mentions" in done.output
    assert folder.MARK in {path.name for path in (tmp_path / "out").iterdir()}
