"""`python -m train`: the command line of stage two."""

from collections.abc import Sequence

from common import console
from common.errors import ConfigError
from common.options import App, Given, command
from common.paths import find_cache
from train import own_head
from train.config import (
    AblateConfig,
    CompareConfig,
    CostsConfig,
    DoctorConfig,
    ExplainConfig,
    SlicesConfig,
    SweepConfig,
    TrainConfig,
)
from train.heads.head_config import HeadConfig
from train.heads.registry import CONFIG_CLASSES, HEADS, OURS, TRAINED

app = App(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


def train(config: TrainConfig, *heads: Given) -> None:
    """Train a head on a cache and report it beside the lexical baseline."""
    config = own_head.resolve(config)
    head = _head(config, heads)
    from train import loop, processes, results  # torch: not for --help

    found = loop.fit(config, head)
    if processes.speaks():
        console.show(results.show(found, config.folder))


def sweep(config: SweepConfig, *heads: Given) -> None:
    """Search over named knobs; each trial is a run of its own, and the best one on valid is named."""
    config = own_head.resolve(config)
    head = _head(config, heads)
    from train.searching import sweep

    console.show(sweep.show(sweep.search(config, head), config))


def compare(config: CompareConfig, *heads: Given) -> None:
    """Train every head that the cache can feed; one table, with published numbers, intervals and corrected p values.

    Each head runs with its own defaults, dwe_authors with its 300 epochs or more; an option given holds for all heads.
    """
    from train.studies import compare

    config = own_head.resolve_all(config)
    models = config.models or OURS
    models = models if config.baseline in (None, *models) else (config.baseline, *models)
    console.show(compare.show(compare.compare(config, _heads(models, heads, config.option)), config))


def ablate(config: AblateConfig, *heads: Given) -> None:
    """Train a head without each of its parts, as its paper does (DRIN Tables 3 and 4), and count what heads cost."""
    from train.studies import ablate

    if config.option or config.model.endswith(".py"):
        raise ConfigError(f"ablate knows the parts of {', '.join(ablate.known())}, not of a head of your own")
    _head(config, heads)  # refuses what is no option of the head
    console.show(ablate.show(ablate.ablate(config, _heads(TRAINED, heads)), config))


def costs(config: CostsConfig, *heads: Given) -> None:
    """Count parameters and floating-point operations per mention of every head that the cache can feed (DRIN 5.5)."""
    from cache import open as open_cache
    from train.studies import costs

    reader = open_cache(find_cache(config.dataset, config.shards))
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


def doctor(config: DoctorConfig) -> None:
    """Count what the splits of a dataset give away: repeated rows, shared pictures, golds seen in train, the prior."""
    from cache import open as open_cache
    from train.inspecting import doctor

    found = doctor.examine(open_cache(find_cache(config.dataset, config.shards)))
    console.present(found, doctor.show, as_json=config.json)


def _head(config: TrainConfig, heads: Sequence[Given]) -> HeadConfig | None:
    """Return the config of the head that was asked for; options that only others have are refused."""
    if config.model not in HEADS:
        raise ConfigError(f"--model {config.model}: choose from {', '.join(OURS)}")
    entry = HEADS[config.model]
    _refuse_others(heads, set(entry.options), config.model)
    if (kind := entry.config) is None:
        if config.with_lexical:
            raise ConfigError(f"--with-lexical learns a weight, and {config.model} is not trained: leave it out")
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
    if unknown := [model for model in models if model not in HEADS]:
        raise ConfigError(f"--models {unknown[0]}: choose from {', '.join(OURS)}, or FILE.py")
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


def _refuse_others(heads: Sequence[Given], own: set[str], whose: str) -> None:
    """Raise ConfigError for an option that was given and is not among `own`."""
    for name in (name for head in heads for name in head.values):
        if name not in own:
            having = ", ".join(model for model, entry in HEADS.items() if name in entry.options)
            raise ConfigError(
                f"--{name.replace('_', '-')} is no option of {whose}; leave it out, or choose from {having}"
            )


command(app, TrainConfig, *CONFIG_CLASSES, default=True)(train)
command(app, SweepConfig, *CONFIG_CLASSES, name="sweep")(sweep)
command(app, CompareConfig, *CONFIG_CLASSES, name="compare")(compare)
command(app, AblateConfig, *CONFIG_CLASSES, name="ablate")(ablate)
command(app, CostsConfig, *CONFIG_CLASSES, name="costs")(costs)
command(app, ExplainConfig, name="explain")(explain)
command(app, SlicesConfig, name="slices")(slices)
command(app, DoctorConfig, name="doctor")(doctor)
