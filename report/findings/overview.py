"""What the summary page of a report says of its runs, in the numbers of results.json, compare, slices and doctor."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any

import numpy as np

from cache import Reader, coverage
from common.by_make import suggested
from common.errors import CacheError
from common.foreign import shell
from common.options import from_json
from report.config import ReportConfig
from report.findings import verdicts
from report.findings.answers import MEAN, Answers, FinishedRun
from report.findings.verdicts import Verdict
from report.writing import charts
from report.writing.charts import Chart, Line
from train.config import DECISIVE, TrainConfig
from train.config.inspecting import SlicesConfig
from train.config.studies import SeriesConfig
from train.heads import presets
from train.heads.head_config import HeadConfig
from train.heads.registry import HEADS
from train.inspecting import doctor, slices
from train.judging import calibration
from train.run_folder import run_files
from train.studies import summary, tables
from train.studies.runs import Outcome, Variant
from train.studies.tables import Section

LETTERS = "ABCD"  # of runs, in the order they are named


@dataclass(frozen=True)
class Confidence:
    """How far a run's probabilities are to be believed, on test: the temperature that fits valid, ECE, mean risk."""

    temperature: float
    ece: float
    area_under_risk: float


def labels(runs: Sequence[FinishedRun]) -> list[str]:
    """Return what runs are called in a report: their heads, and their folders where these do not tell them apart."""
    names = [run.results["name"] for run in runs]
    return [
        name if names.count(name) == 1 else f"{name}, {run.folder.name}" for run, name in zip(runs, names, strict=True)
    ]


def standing(runs: Sequence[FinishedRun]) -> tuple[list[Section], list[str]]:
    """Return the tables of `melcache compare` and their notes, of several runs with differences from the first."""
    outcomes = [
        Outcome(Variant(label, _config(run), _head(run)), run.results)
        for run, label in zip(runs, labels(runs), strict=True)
    ]
    seeds = tuple(seed["seed"] for seed in runs[0].results["seeds"])
    found = summary.summarize(SeriesConfig(seeds=seeds), outcomes, outcomes[0].run.name, runs[0].reader)
    for entry in found["entries"]:
        entry |= {"published": None, "head": entry["name"]}
    found["systems"] = []
    shown = [tables.standing(found, "run"), *tables.on_ambiguous(found, "run")]
    shown, notes = [_with_interval(shown[0], found), *shown[1:]], tables.notes(found)
    if len(runs) == 1:
        difference = f"top1 - {found['base']}"
        shown = [_without_difference(section, difference) for section in shown]
        notes = [note for note in notes if not note.startswith(difference)]
    return shown, [note for note in notes if not _warns(note)]


def _warns(note: str) -> bool:
    return note.startswith("warning: ")  # these stand at the top of the page


def _with_interval(section: Section, found: Mapping[str, Any]) -> Section:
    """Return the table of runs with the interval of each Top-1 behind it, and without the published column."""
    top, gone = section.header.index("top1"), section.header.index("published")
    kept = [place for place in range(len(section.header)) if place != gone]
    ends = ["95% interval of top1", *(_interval(entry["interval"]["top1"]) for entry in found["entries"])]
    lines = []
    for row, end in zip((section.header, *section.rows), ends, strict=True):
        cells = [row[place] for place in kept]
        lines.append((*cells[: top + 1], end, *cells[top + 1 :]))
    return Section(lines[0], tuple(lines[1:]))


def _without_difference(section: Section, difference: str) -> Section:
    """Return a table without the three columns of a difference: itself, its interval and p."""
    at = section.header.index(difference)
    header, *rows = ((*row[:at], *row[at + 3 :]) for row in (section.header, *section.rows))
    return Section(header, tuple(rows))


def _interval(ends: Sequence[float]) -> str:
    return f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"


def _config(run: FinishedRun) -> TrainConfig:
    told = {name: value for name, value in run.results["config"].items() if name != run.results["model"]}
    config: TrainConfig = from_json(TrainConfig, told | {"run": str(run.folder)})
    return config


def _head(run: FinishedRun) -> HeadConfig | None:
    """Return some options of a head that was trained; None, as of a head without weights, of another."""
    return HeadConfig() if run.results["seeds"][0]["history"] else None


def curves(runs: Sequence[FinishedRun]) -> list[Chart]:
    """Return the learning curves: what picked the epoch on valid, and the loss, by epoch, a line for each seed."""
    found = []
    for name, title in ((None, "on valid"), ("loss", "training loss")):
        lines = [
            Line(
                f"{label}, seed {seed['seed']}",
                label,
                style,
                _history(seed["history"], name or _watched(run)),
            )
            for style, (run, label) in enumerate(zip(runs, labels(runs), strict=True))
            for seed in run.results["seeds"]
            if seed["history"]
        ]
        if lines:
            metrics = dict.fromkeys(map(_watched, runs))
            what = "loss" if name else f"{', '.join(metrics)} {title}, %"
            about = f"{what} after each epoch; what picks the epoch is measured on valid, never on test"
            form = "{:.4f}" if name else "{:.1f}"
            found.append(charts.drawn(f"{what} by epoch", about, "epoch", what, lines, form))
    return found


def _watched(run: FinishedRun) -> str:
    """Return the metric on valid that picked the epoch."""
    return str(run.results["config"].get("select", "top1"))


def _history(history: Sequence[Mapping[str, Any]], metric: str) -> list[tuple[float, float]]:
    """Return a metric by epoch: of shares percent, the mean rank and the loss as they are."""
    if metric == "loss":
        return [(epoch["epoch"], epoch["loss"]) for epoch in history]
    factor = 1 if metric == "mean_rank" else 100
    return [(epoch["epoch"], factor * epoch["valid"][metric]) for epoch in history]


def risk(answers: Mapping[int, Answers], names: Sequence[str]) -> Chart | None:
    """Return risk by coverage on test: the share of errors among the surest answers."""
    lines = []
    for run, own in answers.items():
        coverage, risk = calibration.risk_coverage(sureness(own), own.right)
        lines.append(
            Line(names[run], names[run], run, list(zip((100 * coverage).tolist(), (100 * risk).tolist(), strict=True)))
        )
    about = "Share of errors among the surest answers, by how many of test are answered; lower is better"
    return charts.drawn("Risk by coverage, %", about, "answered, % of test", "errors, %", lines) if lines else None


def sureness(answers: Answers) -> np.ndarray:
    """Return the probability of each mention's best candidate, (n,)."""
    return answers.probabilities[:, 0]


def confidence(answers: Answers) -> Confidence:
    """Return how well a run's probabilities fit."""
    sure = sureness(answers)
    ece = calibration.expected_calibration_error(sure, answers.right)
    return Confidence(answers.temperature, ece, calibration.area_under_risk(sure, answers.right))


def abstention(runs: Sequence[FinishedRun]) -> dict[int, dict[str, float]]:
    """Return what results.json says of abstaining on test, means over seeds, by run; nothing of silent ones."""
    told = {n: run.results.get("confidence") for n, run in enumerate(runs)}
    return {n: found["mean"] for n, found in told.items() if found}


def sliced(runs: Sequence[FinishedRun], config: ReportConfig) -> tuple[list[Section], list[str]]:
    """Return a table for each slicing, Top-1 of each run and of the string matcher; and which are left out, and why.

    A slicing with one slice alone is left out: its row would be that of all mentions.
    """
    found = [slices.examine(SlicesConfig(run=run.folder, dataset=config.dataset, shards=config.shards)) for run in runs]
    names = labels(runs)
    sections, left_out = [], [f"{title}: {why}" for title, why in found[0]["left_out"].items()]
    for title, first in found[0]["slices"].items():
        if len(first) == 1:
            ((label, of),) = first.items()
            left_out.append(f"{title}: {label}, of all {of['mentions']:,} mentions")
            continue
        several = [own["slices"][title] for own in found]
        rows = [
            (label, f"{of['mentions']:,}", f"{100 * of['mean']['lexical']:.1f}", f"{100 * of['mean']['recall']:.1f}",
             *(f"{100 * own[label]['mean']['top1']:.1f}" for own in several))
            for label, of in first.items()
        ]  # fmt: skip
        sections.append(Section((title, "mentions", "string matcher", "ceiling", *names), tuple(rows)))
    return sections, left_out


def judged(reader: Reader) -> list[Verdict]:
    """Return the doctor's verdicts on test."""
    try:
        return verdicts.of_split(doctor.examine(reader)["splits"]["test"])
    except CacheError as error:
        return [Verdict("note", f"what the splits give away was not looked at: {error.text}")]


def warnings(runs: Sequence[FinishedRun]) -> list[str]:
    """Return what every number needs beside it, each once."""
    return list(dict.fromkeys(warning for run in runs for warning in run.results["warnings"]))


def covered(reader: Reader) -> list[tuple[str, str]]:
    """Return what extraction counted."""
    return coverage.rows(reader.manifest.coverage)


def ids(runs: Sequence[FinishedRun]) -> list[tuple[str, str]]:
    """Return what identifies the cache and each run."""
    reader = runs[0].reader
    made = reader.manifest.provenance.made
    known = [("cache", str(reader.path)), ("cache id", reader.id), ("cache made", made)]
    known += [("licence", reader.manifest.dataset.licence), ("source", reader.manifest.dataset.source)]
    known += [("split", runs[0].results["split"]["digest"])]
    for run, label in zip(runs, labels(runs), strict=True):
        known += [
            (f"{label}: folder", str(run.folder)),
            (f"{label}: digest of {run_files.RESULTS}", run.results["digest"]),
        ]
    return known


def commands(runs: Sequence[FinishedRun], config: ReportConfig) -> list[str]:
    """Return the commands that make the same again: each run, and the report."""
    report = [suggested("report", _given(config)), *(f"--run {shell(run.folder)}" for run in runs)]
    return [*map(trained, runs), " ".join(report)]


def _given(config: ReportConfig) -> dict[str, object]:
    given = {name: getattr(config, name) for name in ("out", "release", "adapter", "dataset", "shards")}
    chosen = {name: value for name, value in given.items() if value is not None}
    return chosen if config.seed == MEAN else chosen | {"seed": config.seed}


def trained(run: FinishedRun) -> str:
    """Return the command that trains a run: what differs from the defaults of training and of its head."""
    told, model = run.results["config"], run.results["model"]
    options: dict[str, object] = {"dataset": told["dataset"], "shards": told["shards"], "model": model}
    options["seeds"] = ",".join(str(seed["seed"]) for seed in run.results["seeds"])
    defaults = {field.name: field.default for field in fields(TrainConfig)} | presets.of(model, told["dataset"])
    options |= _changed({name: told[name] for name in DECISIVE}, defaults)
    if model in HEADS and (kind := HEADS[model].config) is not None:
        own = {field.name: field.default for field in fields(kind) if "help" in field.metadata}
        options |= _changed({name: value for name, value in told[model].items() if name in own}, own)
    return suggested("train", options | {"run": run.folder})


def _changed(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in values.items():
        default = defaults.get(name, MISSING)
        if value == (list(default) if isinstance(default, tuple) else default):
            continue
        option = name.replace("_", "-")
        if isinstance(value, bool):
            found[option if value else f"no-{option}"] = ""
        elif value is not None:
            found[option] = ",".join(map(str, value)) if isinstance(value, list) else value
    return found
