"""Models of transformers in folders: their family, config and weights, read strictly; no code of theirs is run."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError

from cache.kinds import LABELS, Role
from common.errors import WeightsError
from extract.weights import hub_files, states

# of config.json: who wrote the file and for what, which changes no number
REMARKS = {
    "_name_or_path", "architectures", "auto_map", "dtype", "finetuning_task", "gradient_checkpointing", "id2label",
    "label2id", "problem_type", "task_specific_params", "torch_dtype", "transformers_version", "use_cache",
}  # fmt: skip
# of config.json, too: what a model returns beside its last layer, and how
ASKED = {"return_dict": True, "output_hidden_states": False, "output_attentions": False}
BROKEN = (*states.UNREADABLE, ImportError, StrictDataclassError)
DEEPEST = 1 << 10  # layers of a model with random weights
COUNTER = "num_batches_tracked"  # of batch norms: no number depends on it


def family(folder: Path, raw: dict[str, Any], known: str) -> str:
    """Return the family that a config.json says.  Raises WeightsError, naming the `known` ones, if there is none."""
    from transformers import CONFIG_MAPPING, __version__

    kind = raw.get("model_type")
    if isinstance(kind, str) and kind in CONFIG_MAPPING:
        return kind
    if raw.get("auto_map"):
        raise WeightsError(
            f"{folder} needs code of its own (auto_map in config.json), which melcache does not run. Take a model of a "
            f"family that transformers has, such as {known}"
        )
    raise WeightsError(
        f"{folder} is of family {kind!r:.40}, which transformers {__version__} does not have. Expected one that it "
        f"has, such as {known}"
    )


def config(folder: Path, kind: str, raw: dict[str, Any]) -> Any:
    """Return the config of a family that a config.json describes.  Raises WeightsError."""
    from transformers import CONFIG_MAPPING

    made: Any = CONFIG_MAPPING[kind]
    if isinstance(labels := raw.get("num_labels"), int) and labels > LABELS:  # transformers names each
        raise WeightsError(
            f"{folder}/config.json: num_labels is {labels!s:.40}, which no {kind} has. Download it again"
        )
    try:
        with quiet():
            return made.from_dict(raw | ASKED)
    except BROKEN as error:
        raise unfit(folder, f"a config.json of {kind}", error) from error


def decisive(raw: dict[str, Any]) -> dict[str, Any]:
    """Return what of a config.json decides the numbers."""
    return {name: value for name, value in raw.items() if name not in REMARKS}


def random(made: Any, described: Any, attention: str | None, folder: Path) -> torch.nn.Module:
    """Return a model of class `made` with random weights; `attention` None leaves the kind to transformers.

    Raises WeightsError for a config of which no model comes.
    """
    if (count := layers(described.to_dict())) > DEEPEST:
        raise unfit(folder, "a model of its config.json", f"{count:,} layers")
    with torch.device("meta"):
        states.refuse_unaffordable(_made(made, described, attention, folder), str(folder))
    return _made(made, described, attention, folder)


def _made(made: Any, described: Any, attention: str | None, folder: Path) -> torch.nn.Module:
    try:
        with quiet():
            model: torch.nn.Module = made._from_config(
                deepcopy(described), attn_implementation=attention, dtype=torch.float32
            )
    except BROKEN as error:
        raise unfit(folder, "a model of its config.json", error) from error
    return model


def layers(told: Any, name: str = "") -> int:
    """Return the most layers that a config says of one stack of a model or of its backbone."""
    if isinstance(told, dict):
        return max((layers(value, key) for key, value in told.items() if isinstance(key, str)), default=0)
    if name == "depths" and isinstance(told, list | tuple):
        return sum(count for count in told if type(count) is int)
    counts = name.endswith("layers") and not name.startswith(
        "max_"
    )  # Qwen's max_window_layers counts none that is there
    return told if type(told) is int and counts else 0


def filled(
    made: Any, described: Any, attention: str | None, folder: Path, role: Role, spare: str | None = None
) -> torch.nn.Module:
    """Return a model of class `made` with the weights of a folder.  Its module `spare` is left out if they lack it.

    Raises WeightsError where weights are missing, of another shape, or of a layer that config.json does not have.
    """
    state = hub_files.read_state(folder, made.__name__, role)
    if (count := layers(described.to_dict())) > len(state):
        raise unfit(folder, "the weights of its config.json", f"{len(state)} weights for {count:,} layers")
    with torch.device("meta"):
        states.refuse_larger(_made(made, described, attention, folder), state, folder, made.__name__)
    try:
        with quiet():
            model, told = made.from_pretrained(
                None, config=described, state_dict=state, dtype=torch.float32, output_loading_info=True,
                attn_implementation=attention,
            )  # fmt: skip
    except BROKEN as error:
        raise unfit(folder, "the weights of its config.json", error) from error
    missing = {name for name in told["missing_keys"] if name.split(".")[0] != spare}
    inside = {name.split(".")[0] for name, _ in model.named_children()}
    prefix = f"{model.base_model_prefix}."
    unknown = {name: {n.split(".")[0] for n in (name, name.removeprefix(prefix))} for name in told["unexpected_keys"]}
    foreign = {name for name, begins in unknown.items() if begins & inside}
    for names, what in ((missing, "lack"), (foreign, "have beyond its config.json")):
        if wrong := sorted(name for name in names if not name.endswith(COUNTER)):
            raise WeightsError(
                f"the weights in {folder} {what} {len(wrong)} of {made.__name__} ({', '.join(wrong[:3])}...). Download "
                "the model again"
            )
    if spare is not None and told["missing_keys"]:
        setattr(model, spare, None)  # random numbers otherwise
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from printing and warning: what does not fit is raised."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def unfit(folder: Path, what: str, reason: object) -> WeightsError:
    """Return the error of a folder that does not hold what it should."""
    said = " ".join(str(reason).split()) or type(reason).__name__
    return WeightsError(f"{folder} does not hold {what}: {said[:200]}. Download the model again")
