"""The commands of `melcache` that train heads and look at runs, and `python -m train`."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cache
from common import console
from common.commands import Command, program
from common.errors import ConfigError
from common.options import Given
from common.paths import find_cache
from common.words import nearest
from train import own_head
from train.config import TrainConfig
from train.config.inspecting import DoctorConfig, ExplainConfig, SlicesConfig
from train.config.judging import EvaluateConfig, PredictConfig
from train.config.studies import AblateConfig, CompareConfig, CostsConfig, SweepConfig
from train.dividing.config import WorkersConfig
from train.heads.head_config import HeadConfig
from train.heads.registry import CONFIG_CLASSES, HEADS, OURS, TRAINED


def train(config: TrainConfig, *heads: Given) -> None:
    """Train a head on a cache and report it beside the lexical baseline."""
    config = own_head.resolve(config)
    head = _head(config, heads)
    from train import loop, processes, results  # torch: not for --help
    from train.studies import summary

    found = loop.fit(config, head)
    if processes.speaks():
        marked = console.is_terminal()
        tested = summary.beside_lexical(found, config) if marked else None
        console.show_marked(results.show(found, config.folder, marked=marked, tested=tested))


def sweep(config: SweepConfig, *given: Given) -> bool:
    """Search over named knobs; each trial is a run of its own, and the best one on valid is named."""
    from train.dividing import division
    from train.searching import sweep

    config, heads, divided = division.of("sweep", config, given)
    config = own_head.resolve(config)
    if (found := sweep.search(config, _head(config, heads), divided)) is not None:
        console.show(sweep.show(found, config))
    return found is not None


def compare(config: CompareConfig, *given: Given) -> bool:
    """Train every head that the cache can feed; one table, with published numbers, intervals and corrected p values.

    Each head runs with its own defaults, dwe_authors with its 300 epochs or more; an option given holds for all heads.
    With --datasets caches of one release by different encoders: encoder by head, beside what extraction took.
    """
    from train.dividing import division
    from train.studies import across, compare

    config, heads, divided = division.of("compare", config, given)
    config = own_head.resolve_all(config)
    models = config.models or OURS
    models = models if config.baseline in (None, *models) else (config.baseline, *models)
    study = across if config.datasets else compare
    if (found := study.compare(config, _heads(models, heads, config.option), divided)) is not None:
        console.show_marked(study.show(found, config, marked=console.is_terminal()))
    return found is not None


def ablate(config: AblateConfig, *given: Given) -> bool:
    """Train a head without each of its parts, as its paper does (DRIN Tables 3 and 4), and count what heads cost."""
    from train.dividing import division
    from train.studies import ablate

    config, heads, divided = division.of("ablate", config, given)
    if config.option or config.model.endswith(".py"):
        raise ConfigError(f"ablate knows the parts of {', '.join(ablate.known())}, not of a head of your own")
    _head(config, heads)  # refuses what is no option of the head
    if (found := ablate.ablate(config, _heads(TRAINED, heads), divided)) is not None:
        console.show_marked(ablate.show(found, config, marked=console.is_terminal()))
    return found is not None


def costs(config: CostsConfig, *heads: Given) -> None:
    """Count parameters and floating-point operations per mention of every head that the cache can feed (DRIN 5.5)."""
    from train.studies import costs

    reader = cache.open(find_cache(config.dataset, config.shards))
    found = costs.count_all(reader, _heads(TRAINED, heads))
    console.present(found, costs.show, as_json=config.json)


def explain(config: ExplainConfig) -> None:
    """Print the edge weights that enter each layer of a trained DRIN, per candidate of a mention (DRIN Figure 5)."""
    from train.inspecting import explain

    console.present(explain.explain(config), explain.show, as_json=config.json)


def slices(config: SlicesConfig) -> None:
    """Split a finished run's accuracy: gold seen in train, ambiguity of the string, mention type, pictures there."""
    from train.inspecting import slices

    found = slices.examine(config)
    console.present(found, slices.show, as_json=config.json)


def evaluate(config: EvaluateConfig) -> None:
    """Judge anyone's predictions by our rules: ties in expectation, hits by id, intervals, slices, differences."""
    from train.judging import qrels, referee, show

    if config.qrels is not None:
        qrels.write(config)
    if config.predictions is not None:
        found = referee.judge(config)
        console.present(found, show.form(config), as_json=config.json)


def predict(config: PredictConfig, sentences: Callable[..., Any] | None = None) -> None:
    """Write what a finished run says of each mention: ranked candidates with scores and calibrated probabilities."""
    from train.judging import predict

    console.present(predict.predict(config, sentences), predict.show, as_json=config.json)


def doctor(config: DoctorConfig) -> None:
    """Count what the splits of a dataset give away: repeated rows, shared pictures, golds seen in train, the prior."""
    from train.inspecting import doctor

    found = doctor.examine(cache.open(find_cache(config.dataset, config.shards)))
    console.present(found, doctor.show, as_json=config.json)


def _head(config: TrainConfig, heads: Sequence[Given]) -> HeadConfig | None:
    """Return the config of the head that was asked for; options that only others have are refused."""
    _check_known(config.model, "--model")
    entry = HEADS[config.model]
    _refuse_others(heads, set(entry.options), config.model)
    if (kind := entry.config) is None:
        if config.with_lexical:
            raise ConfigError(f"--with-lexical learns a weight, and {config.model} is not trained: leave it out")
        if config.objective != "own":
            raise ConfigError(f"--objective is what is minimized, and {config.model} is not trained: leave it out")
        return None
    if entry.file is not None:
        return own_head.configure(kind, config.option)
    if config.option:
        raise ConfigError(f"--option {config.option[0]}: {config.model} has the options of {kind.__name__}, as --width")
    chosen: HeadConfig = next(head for head in heads if head.kind is kind).config()
    return chosen.named(config.model)


def _heads(models: Sequence[str], heads: Sequence[Given], options: Sequence[str] = ()) -> dict[str, HeadConfig | None]:
    """Return the configs of several heads by name; options that none of them has are refused.

    `options` (KNOB=VALUE) are those of heads by file, each for all of these that have it.
    """
    for model in models:
        _check_known(model, "--models")
    entries = [HEADS[model] for model in models]
    _refuse_others(heads, {option for entry in entries for option in entry.options}, ", ".join(models))
    shared = own_head.shared([entry for entry in entries if entry.file is not None], options)
    return {
        entry.name: _head(
            TrainConfig(model=entry.name, option=shared.get(entry.name, [])),
            [head for head in heads if head.kind is entry.config],
        )
        for entry in entries
    }


def _check_known(model: str, flag: str) -> None:
    if model not in HEADS:
        raise ConfigError(f"{flag} {model}: choose from {', '.join(OURS)}, or FILE.py{nearest(model, OURS)}")


def _refuse_others(heads: Sequence[Given], own: set[str], whose: str) -> None:
    """Raise ConfigError for an option that was given and is not among `own`."""
    for name in (name for head in heads for name in head.values):
        if name not in own:
            having = ", ".join(model for model, entry in HEADS.items() if name in entry.options)
            raise ConfigError(
                f"--{name.replace('_', '-')} is no option of {whose}; leave it out, or choose from {having}"
            )


def knobs_of(words: Sequence[str]) -> Sequence[type]:
    """Return the classes of heads' knobs that a command has: all; where help is asked for, of the heads named alone."""
    if "--help" not in words:
        return CONFIG_CLASSES
    named = list(_named(words))
    for name in (name for name in named if not name.endswith(".py")):
        _check_known(name, "--model")
    kinds = (HEADS[name].config for name in named if name in HEADS)
    return tuple(dict.fromkeys(kind for kind in kinds if kind is not None))


def _named(words: Sequence[str]) -> Iterator[str]:
    """Yield the heads that --model and --models name among the words of a command line."""
    for word, behind in zip(words, [*words[1:], ""], strict=True):
        flag, equals, given = word.partition("=")
        if flag in ("--model", "--models"):
            yield from filter(None, (given if equals else behind).split(","))


def _with_workers(words: Sequence[str]) -> Sequence[type]:
    return (*knobs_of(words), WorkersConfig)


TRAIN, RUN = "Train heads", "Look at a run"  # as `melcache --help` groups commands
OWN = {"more": knobs_of, "epilog": "Each head has options of its own: melcache train --model drin --help"}
SHARED = OWN | {"more": _with_workers}
COMMANDS = (
    Command("train", TRAIN, TrainConfig, train, **OWN),
    Command("compare", TRAIN, CompareConfig, compare, **SHARED),
    Command("ablate", TRAIN, AblateConfig, ablate, **SHARED),
    Command("sweep", TRAIN, SweepConfig, sweep, **SHARED),
    Command("costs", TRAIN, CostsConfig, costs, **OWN),
    Command("doctor", "Look at a cache", DoctorConfig, doctor),
    Command("explain", RUN, ExplainConfig, explain),
    Command("slices", RUN, SlicesConfig, slices),
    Command("predict", RUN, PredictConfig, predict),
    Command("evaluate", RUN, EvaluateConfig, evaluate),
)
app = program(COMMANDS, default="train")


def main() -> None:
    """Run `python -m train`: `melcache train`, or another command of this stage that is named."""
    console.run(app, "melcache")
