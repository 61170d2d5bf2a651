"""`--report`: commands that train make a report when they are done, of what they left."""

from typer.testing import CliRunner

from melcache import cli
from report.cli import AfterConfig, followed
from tests.reports import read_card_runs
from train.cli import COMMANDS

HEAD = """
from dataclasses import dataclass

from torch import nn
from torch.nn.functional import cosine_similarity

from train.heads.base import Head
from train.layers.losses import margin_ranking

READS = ("mention.text.span", "entity.text.sentence")


@dataclass(frozen=True)
class Config:
    text_width: int = 6
    width: int = 4


class Model(Head):
    def __init__(self, config):
        super().__init__()
        self.mention, self.entity = (nn.Linear(config.text_width, config.width) for _ in range(2))

    def forward(self, batch, projected=None):
        entities = self.entity(batch["entity.text.sentence"])
        return cosine_similarity(self.mention(batch["mention.text.span"])[:, None], entities, dim=-1)

    def loss(self, scores, batch):
        return margin_ranking(scores, batch.gold, batch.present, 0.1)
"""


def melcache(*words):
    return CliRunner().invoke(cli.PROGRAM, list(map(str, words)), prog_name="melcache")


def test_train_makes_a_report_of_its_run(world, tmp_path):
    known = ("--dataset", world / "cache", "--device", "cpu", "--epochs", 1, "--width", 4)
    done = melcache("train", "--model", "bert", *known, "--run", tmp_path / "run", "--report")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1].startswith(f"open {tmp_path}/run/report/index.html: 12 mentions")
    assert "--report" not in (tmp_path / "run/results.json").read_text()  # it decides nothing
    assert melcache("train", "--model", "bert", *known, "--run", tmp_path / "other").exit_code == 0
    assert not (tmp_path / "other/report").exists()


def test_a_head_of_ones_own_is_reported_too(world, tmp_path, monkeypatch, heads_forgotten):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(HEAD)
    known = ("--dataset", world / "cache", "--device", "cpu", "--epochs", 1)
    done = melcache("train", "--model", "mine.py", "--option", "width=3", *known, "--report")
    assert done.exit_code == 0, done.output
    assert "open runs/cache-mine/report/index.html: 12 mentions" in done.output


def test_compare_shows_its_best_runs_side_by_side(world, tmp_path):
    known = ("--dataset", world / "cache", "--device", "cpu", "--epochs", 1, "--seeds", 0)
    done = melcache("compare", "--models", "bert,drin,prior", *known, "--run", tmp_path / "c", "--report")
    assert done.exit_code == 0, done.output
    assert read_card_runs(tmp_path / "c/report") == {"bert", "drin", "prior", "lexical"}
    one = melcache("compare", "--models", "bert", *known, "--run", tmp_path / "d", "--report", "--workers-on", "others")
    assert one.exit_code == 0 and not (tmp_path / "d/report").exists(), "others end the comparison"
    done = melcache("compare", "--datasets", "a,b", "--report")
    assert done.exit_code == 2 and "leave it out with --datasets" in done.output


def test_a_place_that_is_taken_is_refused_before_anything_is_trained(world, tmp_path):
    (tmp_path / "run/report").mkdir(parents=True)
    (tmp_path / "run/report/mine").touch()
    done = melcache("train", "--dataset", world / "cache", "--model", "bert", "--run", tmp_path / "run", "--report")
    assert done.exit_code == 2 and "holds something else than a report" in done.output
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["report"]


def test_commands_that_leave_no_runs_have_no_such_option():
    changed = [followed(command) for command in COMMANDS if followed(command) is not command]
    assert [command.name for command in changed if AfterConfig in command.more(())] == ["train", "compare"]
