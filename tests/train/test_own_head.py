"""Heads of one's own: the example of CONTRIBUTING.md, trained from the text that stands there; and clear errors."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Literal

import pytest
from typer.testing import CliRunner

import melcache
from cache.edges import EDGES
from cache.schema import READS
from common.errors import CacheError, ConfigError
from extract.config import ExtractConfig
from tests.worlds import signal_cache
from train import own_head
from train.cli import app
from train.heads.registry import HEADS

pytestmark = pytest.mark.usefixtures("heads_forgotten")
DOCUMENT = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.fixture(scope="module")
def learnable(tmp_path_factory):
    return signal_cache(tmp_path_factory.mktemp("plugin") / "signal", 1500, 200, 5, 0.9, "bert")


def example():
    section = DOCUMENT.read_text(encoding="utf-8").split("## A new head")[1]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)


def train(file, folder, run, *options):
    given = ["--model", str(file), "--dataset", str(folder), "--run", str(run), "--device", "cpu", "--epochs", "10"]
    return CliRunner().invoke(app, [*given, *options])


def head_file(folder, text=None, name="my_head.py"):
    path = folder / name
    path.write_text(example() if text is None else text, encoding="utf-8")
    return path


def test_the_example_has_thirty_lines_and_learns(learnable, tmp_path):
    assert len([line for line in example().splitlines() if line.strip()]) <= 30
    options = ("--seeds", "0,1", "--together", "yes", "--option", "width=16", "--with-lexical")
    run = train(head_file(tmp_path), learnable, tmp_path / "run", *options)
    assert run.exit_code == 0, run.output
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert found["model"] == "my_head"
    assert found["config"]["my_head"] == {"text_width": 24, "width": 16}
    assert found["mean"]["test"]["top1"] > 0.8
    assert "my_head + lexical" in run.stdout


def compare(folder, run, models, *options):
    given = ["--dataset", str(folder), "--run", str(run), "--device", "cpu", "--epochs", "1", "--seeds", "0"]
    return CliRunner().invoke(app, ["compare", "--models", models, *given, *options])


def test_heads_by_file_are_compared(learnable, tmp_path):
    first, second = head_file(tmp_path), head_file(tmp_path, name="other.py")
    run = compare(
        learnable, tmp_path / "run", f"bert,{first},{second}", "--baseline", str(first), "--option", "width=16"
    )
    assert run.exit_code == 0, run.output
    found = json.loads((tmp_path / "run" / "compare.json").read_text())
    assert found["base"] == "my_head"
    assert [entry["name"] for entry in found["entries"]] == ["bert", "my_head", "other"]
    for name in ("my_head", "other"):
        config = json.loads((tmp_path / "run" / name / "results.json").read_text())["config"]
        assert config[name] == {"text_width": 24, "width": 16}


def test_what_does_not_go_with_heads_by_file_is_one_line(learnable, tmp_path):
    (tmp_path / "twin").mkdir()
    file, twin = head_file(tmp_path), head_file(tmp_path / "twin")
    for models, options, message in (
        (f"{file},{twin}", (), "--models names two files my_head.py: give one of them another name"),
        (
            f"bert,{file}",
            ("--option", "depth=3"),
            "--option depth=3: expected KNOB=VALUE, KNOB one of text_width, width",
        ),
        (f"bert,{tmp_path / 'no.py'}", (), "there is no such file"),
        ("bert", ("--option", "width=3"), "--option is for heads of your own (--models FILE.py)"),
    ):
        run = compare(learnable, tmp_path / "run", models, *options)
        assert (run.exit_code, run.stderr.count("\n")) == (2, 1)
        assert message in run.stderr
    run = CliRunner().invoke(app, ["ablate", "--dataset", str(learnable), "--model", str(file)])
    assert (run.exit_code, run.stderr.count("\n")) == (2, 1)
    assert "ablate knows the parts of dwe, drin, not of a head of your own" in run.stderr


def test_a_changed_file_is_another_run(learnable, tmp_path):
    file = head_file(tmp_path)
    assert train(file, learnable, tmp_path / "run").exit_code == 0
    assert "finished before" in train(file, learnable, tmp_path / "run").stderr
    head_file(tmp_path, example().replace("margin=0.25", "margin=0.5"))
    run = train(file, learnable, tmp_path / "run")
    assert run.exit_code == 2
    assert "belongs to another run: code " in run.stderr


def test_a_changed_head_whose_config_stands_elsewhere_is_another_run(learnable, tmp_path):
    text = example().replace("@dataclass(frozen=True)\nclass Config:", "class Unused:")
    text = text.replace("READS =", "from train.heads.joint.config import JointConfig as Config\n\nREADS =")
    assert train(head_file(tmp_path, text), learnable, tmp_path / "run").exit_code == 0
    run = train(head_file(tmp_path, text.replace("margin=0.25", "margin=0.5")), learnable, tmp_path / "run")
    assert run.exit_code == 2
    assert "belongs to another run: code " in run.stderr


def test_a_head_file_gets_what_its_columns_need_beside_them():
    given = ("token.text.vector", "mention.image.vector", "entity.text.sentence")
    needed = ["mention.tokens.first", "mention.tokens.count", "mention.image.present"]
    assert own_head._companions(given) == needed


def test_options_of_a_head_file_have_its_types():
    @dataclasses.dataclass(frozen=True)
    class Config:
        kind: Literal["a", "b"] = "a"
        rate: float | None = None
        names: tuple[str, ...] = ()
        on: bool = False

    found = own_head.configure(Config, ["kind=b", "rate=0.5", "names=x1+y2", "on=yes"])
    assert found == Config("b", 0.5, ("x1", "y2"), True)
    with pytest.raises(ConfigError, match="--option kind=c: choose from a, b"):
        own_head.configure(Config, ["kind=c"])
    with pytest.raises(ConfigError, match="--option rate=2: rate is given twice"):
        own_head.configure(Config, ["rate=1", "kind=a", "rate=2"])


@pytest.mark.parametrize(("texts", "value"), [("yes YES true True TRUE 1", True), ("no No false False FALSE 0", False)])
def test_a_flag_of_a_head_file_is_written_as_people_write_it(texts, value):
    @dataclasses.dataclass(frozen=True)
    class Config:
        lexical: bool | None = None
        sizes: tuple[int, ...] = ()
        kept: tuple[bool, ...] = ()

    for text in texts.split():
        found = own_head.configure(Config, [f"lexical={text}", "sizes=3+4", f"kept={text}+no"])
        assert found == Config(value, (3, 4), (value, False))
    for option, wanted in (
        ("lexical=maybe", "expected yes or no (true or false, 1 or 0)"),
        ("lexical=", "expected yes or no (true or false, 1 or 0)"),
        ("sizes=3+x", "expected a whole number, joined by +"),
        ("kept=yes+2", "expected yes or no (true or false, 1 or 0), joined by +"),
    ):
        with pytest.raises(ConfigError) as caught:
            own_head.configure(Config, [option])
        assert str(caught.value) == f"--option {option}: {wanted}"


FIELDS = """import dataclasses
from typing import ClassVar, Literal, Optional
READS = ()
Model = int
@dataclasses.dataclass(frozen=True)
class Config:
    {}
    def __post_init__(self):
        if getattr(self, "even", 0) % 2:
            raise ValueError("even is odd")
"""


def configured(folder, field, *options, name="mine.py"):
    path = folder / name
    path.write_text(field if "READS" in field else FIELDS.format(field))
    return own_head.configure(own_head.load(path).config, options)


@pytest.mark.parametrize(
    ("field", "option", "value"),
    [
        ("t: tuple[int, ...] | None = None", "t=1+2", (1, 2)),
        ("t: Optional[Literal[1, 2]] = None", "t=2", 2),
        ("t: Literal['a', 1.5] = 'a'", "t=1.5", 1.5),
        ("t: 'int | None' = None", "t=3", 3),
        ("t: int = dataclasses.field(default=1, kw_only=True)", "t=2", 2),
    ],
)
def test_an_option_has_the_type_that_the_file_says(tmp_path, field, option, value):
    assert configured(tmp_path, field, option).t == value


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("t: int", "Config.t needs a default"),
        ("t: int = dataclasses.field(init=False, default=1)", "Config.t needs a default that an option may replace"),
        (
            "t: Nowhere = 1".replace("Nowhere", "'Nowhere'"),
            "the type of a field of Config is not known: name 'Nowhere'",
        ),
        *(
            (f"t: {kind} = None", "Config.t is none of the types of options: int, float")
            for kind in ("tuple", "dict", "list[int]", "object", "None", "tuple[int, str]", "complex", "Literal[b'x']")
        ),
        ("named: int = 1", "Config.named means something of every head"),
        ("more: int = 1", "Config.more means something of every head"),
        ("tokens: str = ''", "Config.tokens means something of every head"),
        ("READS, Model, Config = (), int, None", "Config must be a dataclass"),
        (f"{FIELDS.format('t: int = 1')}Config = Config()", "Config must be a dataclass"),
    ],
)
def test_a_config_that_options_cannot_give_is_refused_when_its_file_is_loaded(tmp_path, field, message):
    with pytest.raises(ConfigError, match=f"mine.py: {re.escape(message)}"):
        configured(tmp_path, field)


def test_what_a_file_says_of_every_head_in_its_own_type_is_taken(tmp_path):
    assert configured(tmp_path, "label: str = 'mine'\n    tokens: int = 5").label == "mine"


def test_a_config_that_refuses_its_values_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"^--option even=3: Config refuses: even is odd$"):
        configured(tmp_path, "even: int = 2", "even=3")
    with pytest.raises(ConfigError, match=r"^its defaults: Config refuses: even is odd$"):
        configured(tmp_path, "even: int = 1")


@pytest.mark.parametrize("model", ["int", "None", "len", "__import__('torch').nn.Module"])
def test_a_model_that_is_no_head_is_refused(tmp_path, model):
    path = tmp_path / "mine.py"
    path.write_text(FIELDS.format("t: int = 1").replace("Model = int", f"Model = {model}"))
    with pytest.raises(ConfigError, match=r"mine.py: Model must be a class that derives from train\.heads\.base\.Head"):
        own_head.load(path).files()


@pytest.mark.parametrize("text", ["a\nb", "\x1b[31m", "\udcff"])
def test_text_that_results_could_not_hold_is_refused_before_training(tmp_path, text):
    with pytest.raises(ConfigError, match="expected a text"):
        configured(tmp_path, "t: str = ''", f"t={text}")
    with pytest.raises(ConfigError, match="is not printable"):
        configured(tmp_path, "t: str = ''", name=f"{text}.py")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("READS = 'entity.text.sentence'\nConfig = Model = int\n", [], "READS must be a tuple of column names"),
        (None, ["--option", "depth=3"], "--option depth=3: expected KNOB=VALUE, KNOB one of text_width, width"),
        (None, ["--option", "width=wide"], "--option width=wide: expected a whole number"),
        (None, ["--layers", "3"], "--layers is no option of my_head"),
        ("READS = ()\n", [], "my_head.py lacks Config, Model; see 'A new head' in CONTRIBUTING.md"),
        (
            "READS = ('entity.text.soul',)\nConfig = Model = int\n",
            [],
            "READS names entity.text.soul, which is no column",
        ),
    ],
)
def test_what_is_wrong_with_a_head_file_is_one_line(learnable, tmp_path, text, options, message):
    run = train(head_file(tmp_path, text), learnable, tmp_path / "run", *options)
    assert run.exit_code == 2
    assert message in run.stderr
    assert run.stderr.count("\n") == 1


def test_a_file_that_is_not_there_or_takes_a_known_name_is_refused(learnable, tmp_path):
    assert "there is no such file" in train(tmp_path / "nothing.py", learnable, tmp_path / "run").stderr
    run = train(head_file(tmp_path, name="drin.py"), learnable, tmp_path / "run")
    assert "drin is a head of melcache; give the file another name" in run.stderr
    run = CliRunner().invoke(app, ["--model", "bert", "--dataset", str(learnable), "--option", "width=3"])
    assert "--option is for a head of your own" in run.stderr


def test_what_a_head_of_ones_own_lacks_is_had_by_heads_that_extraction_knows(learnable):
    reads = (*READS["bert"], "token.text.vector", "mention.crops.vector", "mention.attributes.faces")
    with pytest.raises(CacheError) as caught:
        melcache.open(learnable).require("my_head", reads=reads)
    compute = re.search(r"melcache extract --dataset RELEASE --name signal --for (\S+), with the", str(caught.value))[1]
    pulled = re.search(r"melcache pull signal URL --for (\S+)$", str(caught.value))[1]
    lacking = {"token.text", "mention.crops", "mention.attributes"}
    assert lacking <= ExtractConfig(heads=tuple(compute.split(","))).demanded and len(compute.split(",")) == 2
    assert set(pulled.split(",")) == lacking
    reads = (*READS["bert"], "entity.objects.summary")  # of a part that is always made
    with pytest.raises(CacheError, match=r"melcache extract .* --name signal, with the .* --for entity\.objects$"):
        melcache.open(learnable).require("my_head", reads=reads)


def test_a_head_file_reads_one_alignment_of_four(toy_cache, tmp_path):
    column = "pair.alignment.image_to_text"
    text = example().replace('"entity.text.sentence")', f'"entity.text.sentence", "{column}")')
    text = text.replace(".masked_fill(", f'.mul(0).add(batch["{column}"]).masked_fill(')
    run = train(head_file(tmp_path, text), toy_cache, tmp_path / "run")
    assert run.exit_code == 0, run.output
    reader = melcache.open(toy_cache)
    edges, gold = reader.column(column), reader.column("pair.candidates.gold")
    test = (reader.column("mention.ids.splits") == 4) & (gold >= 0)
    best = [row[place] == row.max() for row, place in zip(edges[test], gold[test], strict=True)]
    found = json.loads((tmp_path / "run" / "results.json").read_text())["mean"]["test"]
    assert found["top1_of_retrieved"] == pytest.approx(sum(best) / len(best))
    assert own_head._companions((column,)) == [f"pair.alignment.{edge}" for edge in EDGES]


def test_a_run_of_ones_own_head_is_predicted_and_judged(learnable, tmp_path):
    """From its kept scores without its file, and with the file anew; the head itself is then known to nobody."""
    file, run, said = head_file(tmp_path), tmp_path / "run", tmp_path / "said"
    assert train(file, learnable, run, "--option", "width=16").exit_code == 0
    own = json.loads((run / "results.json").read_text())["seeds"][0]["test"]

    def predicted(*options):
        HEADS.pop("my_head", None)
        done = CliRunner().invoke(app, ["predict", "--run", str(run), "--out", str(said), "--top", "0", *options])
        assert "Traceback" not in done.output
        return done

    def judged():
        done = CliRunner().invoke(app, ["evaluate", "--predictions", str(said), "--dataset", str(learnable), "--json"])
        return json.loads(done.stdout)["metrics"]

    assert predicted().exit_code == 0
    assert {name: judged()[name] for name in own} == own
    (run / "scores-0.safetensors").unlink()
    lost = predicted()
    assert lost.exit_code == 2 and "name its file with --model my_head.py" in lost.output
    assert predicted("--model", str(file)).exit_code == 0
    assert {name: judged()[name] for name in own} == own
    other = predicted("--model", str(head_file(tmp_path, name="other.py")))
    assert other.exit_code == 2 and "expected its file, my_head.py" in other.output
    changed = head_file(tmp_path, example() + "\n# changed\nX = 1\n")
    assert "was trained by other code" in predicted("--model", str(changed)).output
