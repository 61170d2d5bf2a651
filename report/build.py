"""`melcache report`: pages of finished runs, from their results and the cache to a folder that opens from disk."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from common.errors import ConfigError
from common.output import Progress, say, size
from report.config import ReportConfig
from report.findings import answers, classes, mentions, overview, release
from report.findings.answers import Answers, FinishedRun
from report.findings.mentions import Looked
from report.writing import folder, pages, thumbnails
from report.writing.folder import Folder

PER_PAGE = 100  # mentions of a page
PER_SCRIPT = 2_000  # mentions of a script of the list


def report(config: ReportConfig) -> dict[str, Any]:
    """Write the report; return where it is, how many mentions it shows, and how large it is.

    Raises ConfigError for runs that are damaged or not to be shown side by side, for a folder that holds something
    else, DatasetError for a release that is named and cannot be read.
    """
    folder.check(config.folder)
    runs = answers.finished(config)
    reader = runs[0].reader
    with folder.replaced(config.folder) as written:
        for name in pages.STATIC:
            written.write(f"static/{name}", pages.static(name))
        silent = [why for run in runs if (why := answers.unanswered(run, config))]
        own = {} if silent else _answers(runs, config)
        look = _look(runs, config, own) if own else None
        told = [*(f"{why}: mentions are not shown." for why in silent)]
        if look is not None:
            told += _browser(written, runs, config, look)
        written.write("index.html", _summary(runs, config, look, told))
    count = 0 if look is None else len(look.rows)
    return {"out": str(config.folder), "runs": [str(run.folder) for run in runs], "mentions": count,
            "bytes": written.bytes, "cache_id": reader.id}  # fmt: skip


def show(found: dict[str, Any]) -> str:
    """Return what was written, in a line."""
    return f"open {found['out']}/index.html: {found['mentions']:,} mentions, {size(found['bytes'])}"


def _answers(runs: list[FinishedRun], config: ReportConfig) -> dict[int, Answers]:
    """Return what each run answers.  Raises ConfigError where runs answered other mentions."""
    found = {}
    for place, run in enumerate(runs):
        say(f"report: scores of {run.results['name']}")
        found[place] = answers.of_run(run, config)
        if not np.array_equal(found[place].rows, found[0].rows):
            raise ConfigError(f"{run.folder} was tested on other mentions than {runs[0].folder}: make a report of each")
    return found


def _look(runs: list[FinishedRun], config: ReportConfig, own: dict[int, Answers]) -> Looked:
    edges = {place: answers.edges_of(run, config, own[place]) for place, run in enumerate(runs)}
    return mentions.looked(runs[0].reader, own, {place: found for place, found in edges.items() if found is not None})


def _browser(written: Folder, runs: list[FinishedRun], config: ReportConfig, look: Looked) -> list[str]:
    """Write the pages of mentions and the scripts of their list; return what there is to say of them."""
    reader = runs[0].reader
    records = release.of_cache(config, reader)
    texts = mentions.texts_of(reader, records, {})
    if config.thumbnails and records.mentions:
        paths = release.paths(mentions.pictured(look, texts, config.top))
        texts = mentions.texts_of(reader, records, thumbnails.make(paths, written.write))
    count = -(-len(look.rows) // PER_PAGE)
    scripts = [f"data/list-{n + 1:03}.js" for n in range(-(-len(look.rows) // PER_SCRIPT))]
    shared = {**_shared(runs), "scripts": scripts, "pages": count, "kinds": _kinds(look), "outcomes": classes.OUTCOMES}
    page: list[dict[str, Any]] = []
    lines: list[Any] = []
    with Progress(len(look.rows), "report", "mentions") as progress:
        for place, card in enumerate(mentions.cards(look, texts, config.top)):
            number = place // PER_PAGE + 1
            page.append(card)
            lines.append(mentions.listed(card, number))
            if len(page) == PER_PAGE or place + 1 == len(look.rows):
                values = {"cards": page, "number": number, "first": place + 2 - len(page), "total": len(look.rows)}
                written.write(page_name(number), pages.page("mentions.html", **shared, **values))
                progress.advance(len(page))
                page = []
    for n, name in enumerate(scripts):
        written.write(name, pages.script("melcacheList", lines[n * PER_SCRIPT : (n + 1) * PER_SCRIPT]))
    return [records.told] if records.told else []


def page_name(number: int) -> str:
    """Return the file of a page of mentions."""
    return f"mentions-{number:03}.html"


def _kinds(look: Looked) -> dict[str, classes.Kind]:
    there = {name for marks in look.marks.values() for name in marks}
    return {name: kind for name, kind in classes.KINDS.items() if name in there}


def _shared(runs: list[FinishedRun]) -> dict[str, Any]:
    """Return what all pages have in common."""
    names = overview.labels(runs)
    return {
        "dataset": runs[0].results["dataset"],
        "runs": [{"letter": overview.LETTERS[n], "name": name} for n, name in enumerate(names)],
        "warnings": overview.warnings(runs),
    }


def _summary(runs: list[FinishedRun], config: ReportConfig, look: Looked | None, told: list[str]) -> str:
    reader, names = runs[0].reader, overview.labels(runs)
    tables, notes = overview.standing(runs)
    slices, left_out = overview.sliced(runs, config)
    own: Mapping[int, Answers] = look.answers if look else {}
    charts = [*overview.curves(runs), overview.risk(own, names)]
    return pages.page(
        "index.html",
        **_shared(runs),
        tables=tables,
        notes=notes,
        charts=[chart for chart in charts if chart is not None],
        confidence={n: overview.confidence(answer) for n, answer in own.items()},
        abstention=overview.abstention(runs),
        slices=slices,
        left_out=left_out,
        verdicts=overview.judged(reader),
        coverage=overview.covered(reader),
        ids=overview.ids(runs),
        commands=overview.commands(runs, config),
        told=told,
        counts=mentions.counted(look) if look else {},
        kinds=_kinds(look) if look else {},
        outcomes=classes.OUTCOMES,
        rival=classes.RIVAL,
        seeds=config.seed,
    )
