"""The result of a series for people: the same tables as plain text and as Markdown, beside its JSON."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache import store
from common import output
from common.foreign import markdown, printable
from common.output import duration, table
from train.data import splits
from train.data.ambiguity import TOLD
from train.studies import published
from train.studies.summary import AMBIGUOUS

OTHERS = (
    "ranks: all entities, the best by alignment score, or the mention's list; the ceiling is the share of mentions "
    "whose gold is among them. No difference from {base} is given where a head ranks others: that would "
    "compare what is ranked, not heads"
)
SHORT, LONG = ("top1", "top3", "top5", "mrr"), ("top1", "top5", "top10", "top20", "mrr")  # DRIN Table 2


@dataclass(frozen=True)
class Section:
    """A table."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def as_text(sections: Sequence[Section], notes: Sequence[str]) -> str:
    """Return tables and notes for a terminal."""
    tables = [table(section.header, section.rows) for section in sections]
    return "\n\n".join([*tables, "\n".join(map(printable, notes))])


def as_markdown(title: str, sections: Sequence[Section], notes: Sequence[str]) -> str:
    """Return tables and notes as Markdown."""
    lines = [f"# {markdown(title)}", ""]
    for section in sections:
        header, *rows = [tuple(map(markdown, row)) for row in (section.header, *section.rows)]
        rule = ("---", *("---:" for _ in header[1:]))
        lines += [f"| {' | '.join(row)} |" for row in (header, rule, *rows)] + [""]
    return "\n".join([*lines, *(f"- {markdown(note)}" for note in notes)]) + "\n"


def write(folder: Path, name: str, found: dict[str, Any], text: str) -> None:
    """Write `<name>.json` and `<name>.md`, each whole or not at all."""
    store.publish(folder / f"{name}.json", json.dumps(found, indent=1, allow_nan=False).encode() + b"\n", replace=True)
    store.publish(folder / f"{name}.md", text.encode(), replace=True)


def columns(candidates: int) -> tuple[str, ...]:
    """Return the metrics that DRIN's tables show for lists of that length, and the MRR."""
    if candidates > 20:
        return LONG
    return tuple(metric for metric in SHORT if metric in ("top1", "mrr") or int(metric[3:]) < candidates)


def standing(found: dict[str, Any], what: str, *, marked: bool = False) -> Section:
    """Return a row per run: its metrics on test, the published Top-1, the difference from the base, and its p.

    Beside Top-1 stands that on ambiguous mentions. Where runs rank different entities, also which, and the recall
    ceiling. With `marked` signs stand at the best of each metric, where all rank the same, and at each small p.
    """
    top, *more = columns(_most(found))
    shown, mixed = (top, AMBIGUOUS, *more), _mixed(found)
    header = (
        what,
        *(("ranks", "ceiling") if mixed else ()),
        top,
        "ambiguous",
        *more,
        "published",
        f"top1 - {found['base']}",
        "95% interval",
        "p",
        "seeds",
        "time",
    )
    ended = [
        (entry["head"], *(_among(entry, found) if mixed else ()), *_row(entry, shown)) for entry in found["entries"]
    ]
    if marked:
        ended = _marked(ended, found, header, () if mixed else shown)
    others = [
        (
            other["name"],
            *("-" for _ in header[1 : header.index("published")]),
            cited(other["published"]),
            *("-" for _ in range(5)),
        )
        for other in found["not_run"]
    ]
    return Section(header, (*ended, *others))


def _marked(
    rows: list[tuple[str, ...]], found: dict[str, Any], header: tuple[str, ...], shown: Sequence[str]
) -> list[tuple[str, ...]]:
    """Return rows with a star at the best of each metric of `shown`, which stand first, and a sign at each small p."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    for place, metric in enumerate(shown, 1):
        values = [entry["mean"]["test"][metric] for entry in found["entries"]]
        columns[place] = output.starred(columns[place], values)
    place = header.index("p")
    columns[place] = _with_signs(columns[place], found, "top1")
    return list(zip(*columns, strict=True))


def _with_signs(cells: Sequence[str], found: dict[str, Any], metric: str) -> list[str]:
    """Return the p of each entry with a sign behind it where it is small."""
    differs = [entry["difference"] for entry in found["entries"]]
    small = [of is not None and of[metric]["holm"] < output.SMALL for of in differs]
    return [cell + (output.SIGNIFICANT if low else " ") for cell, low in zip(cells, small, strict=True)]


def signs(found: dict[str, Any]) -> str:
    """Return what the signs in `standing` mean."""
    best, small = output.BEST, output.SIGNIFICANT
    return f"{best} the best of its column; {small} top1 differs from that of {found['base']}: p below {output.SMALL}"


def on_ambiguous(found: dict[str, Any], what: str, *, marked: bool = False) -> list[Section]:
    """Return a table of Top-1 on ambiguous mentions: its interval, the ceiling, the difference from the base.

    With `marked` signs stand there as in `standing`.
    """
    if not found["entries"][0]["mean"]["test"]["ambiguous"]:
        return []
    differs = (f"top1 - {found['base']}", "95% interval", "p")
    header = (f"{what}, on ambiguous mentions", "top1", "95% interval", "ceiling", *differs)
    rows = []
    for entry in found["entries"]:
        low, high = entry["interval"][AMBIGUOUS]
        own, difference = entry["mean"]["test"], entry["difference"]
        rows.append(
            (
                entry["head"],
                percent(entry, "test", AMBIGUOUS),
                f"{100 * low:.1f} to {100 * high:.1f}",
                f"{100 * own['recall_of_ambiguous']:.1f}",
                *(("-", "-", "-") if difference is None else _difference(difference[AMBIGUOUS])),
            )
        )
    if marked:
        columns = [list(column) for column in zip(*rows, strict=True)]
        if not _mixed(found):
            columns[1] = output.starred(columns[1], [entry["mean"]["test"][AMBIGUOUS] for entry in found["entries"]])
        columns[-1] = _with_signs(columns[-1], found, AMBIGUOUS)
        rows = list(zip(*columns, strict=True))
    return [Section(header, tuple(rows))]


def systems(found: dict[str, Any]) -> list[Section]:
    """Return a table of published systems that are no head of melcache; what differs from the runs is in the notes."""
    rows = [
        (
            system["system"],
            cited(system),
            *(system[key] for key in ("protocol", "trained", "selected", "ties", "split")),
        )
        for system in found["systems"]
    ]
    header = ("published system", "top1", "protocol", "trained", "selected on", "ties", "split")
    return [Section(header, tuple(rows))] if rows else []


def cited(numbers: dict[str, Any] | None) -> str:
    """Return a published Top-1 as 65.5 ± 0.8 a, `a` being its source."""
    if not numbers:
        return "-"
    spread = f" ± {numbers['deviation']['top1']:.1f}" if numbers["deviation"] else ""
    return f"{numbers['top1']:.1f}{spread} {numbers['source']}"


def notes(found: dict[str, Any]) -> list[str]:
    """Return what the numbers need to be understood, and which runs have none."""
    tested = sum(entry["difference"] is not None for entry in found["entries"])
    listed = [*found["entries"], *found["not_run"]]
    beside = [entry["published"] for entry in listed if entry["published"]]
    seeds = ", ".join(map(str, found["seeds"]))
    first = found["entries"][0]
    ambiguous = first["mean"]["test"]["ambiguous"]
    among, ceiling = ("",) * 2 if _mixed(found) else _among(first, found)
    return [
        f"{found['dataset']} test, %: protocol {found['protocol']}, {among and f'{among}, '}"
        f"{found['tie_rule']} ties, {found['mentions']:,.0f} mentions{splits.uncounted(found['unlabeled'])}, "
        f"{splits.told(found['split'])}, "
        f"{ceiling and f'recall ceiling {ceiling}; '}mean ± std over seeds {seeds}",
        f"{TOLD}: {ambiguous:,.0f} of the {found['mentions']:,.0f} mentions",
        f"top1 - {found['base']}: mention by mention, each the mean over seeds; interval from {found['resamples']:,} "
        f"bootstrap resamples of mentions, two-sided p from as many random exchanges, Holm-corrected for {tested}",
        *([OTHERS.format(base=found["base"])] if _mixed(found) else []),
        *published.notes([*beside, *found.get("systems", [])]),
        *_not_run(found["not_run"]),
        *(f"warning: {warning}" for warning in found["warnings"]),
    ]


def percent(entry: dict[str, Any], split: str, metric: str) -> str:
    """Return a metric of an entry as 65.5 ± 0.8, without ± where there are no several seeds; - of no mention."""
    if metric == AMBIGUOUS and not entry["mean"][split]["ambiguous"]:
        return "-"
    spread = entry["std"][split][metric] if len(entry["seeds"]) > 1 else None
    return output.percent(entry["mean"][split][metric], spread)


def _most(found: dict[str, Any]) -> int:
    return max(entry["candidates"] for entry in found["entries"])


def _mixed(found: dict[str, Any]) -> bool:
    """Whether runs rank different entities."""
    return len({(entry["ranked"], entry["candidates"]) for entry in found["entries"]}) > 1


def _among(entry: dict[str, Any], found: dict[str, Any]) -> tuple[str, str]:
    """Return what gold is ranked among, and the share of mentions whose gold is there."""
    k = f"{entry['candidates']:,}"
    names = {"all": f"all {found['entities']:,}", "best": f"best {k}", "list": f"list of {k}"}
    return names[entry["ranked"]], f"{100 * entry['recall_ceiling']:.1f}"


def _row(entry: dict[str, Any], shown: Sequence[str]) -> tuple[str, ...]:
    difference = entry["difference"]
    return (
        *(percent(entry, "test", metric) for metric in shown),
        cited(entry["published"]),
        *(("-", "-", "-") if difference is None else _difference(difference["top1"])),
        str(len(entry["seeds"]) or "-"),
        "-" if entry["seconds"] is None else duration(entry["seconds"]),
    )


def _difference(tested: dict[str, Any]) -> tuple[str, str, str]:
    low, high = tested["interval"]
    return f"{100 * tested['mean']:+.1f}", f"{100 * low:+.1f} to {100 * high:+.1f}", f"{tested['holm']:.4f}"


def _not_run(others: Sequence[dict[str, Any]]) -> list[str]:
    """Return why runs have no number, a line for each reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for other in others:
        reasons.setdefault((other["state"], other["reason"]), []).append(other["name"])
    return [f"{state}: {', '.join(names)}: {reason}" for (state, reason), names in reasons.items()]
