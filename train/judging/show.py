"""What `melcache evaluate` found, for people, for spreadsheets and for LaTeX."""

from collections.abc import Callable
from typing import Any

from common.foreign import printable
from common.output import percent, table
from train.config import KS
from train.config.judging import EvaluateConfig
from train.data import splits

COLUMNS = (*(f"top{k}" for k in KS), "mrr", "recall", "top1_of_ambiguous", "adjusted_top1")
SLICED = ("top1", "mrr", "recall")
TITLES = {"top1_of_ambiguous": "ambiguous top1", "adjusted_top1": "adjusted top1"}


def form(config: EvaluateConfig) -> Callable[[dict[str, Any]], str]:
    """Return the function that shows the result as the config asks for."""
    return _tsv if config.tsv else _latex if config.latex else _tables


def _tables(found: dict[str, Any]) -> str:
    """Return a table for each slicing, then that of all mentions, which so stays in sight, and what it speaks of."""
    measured, apart = found["metrics"], found["candidates"]
    lines: list[str] = []
    for title, slices in found["slices"].items():
        own = [
            (label, f"{int(of['mentions']):,}", *(percent(of[name]) for name in SLICED)) for label, of in slices.items()
        ]
        lines += [table((title, "mentions", *SLICED), own), ""]
    rows = [[found["system"], *(percent(measured[name]) for name in COLUMNS)]]
    lines.append(table(("system", *(TITLES.get(name, name) for name in COLUMNS)), rows))
    ends = ", ".join(f"{name} {percent(low)} to {percent(high)}" for name, (low, high) in found["intervals"].items())
    lines += [
        f"%; {found['dataset']} {found['split']['name']}, {found['mentions']:,} mentions; protocol "
        f"{found['protocol']}, {found['tie_rule']} ties; selected on {found['selected_on']}",
        splits.told(found["split"]),
        *(f"warning: {warning}" for warning in found["warnings"]),
        f"95% intervals: {ends}",
        *_stated_lines(found),
        f"candidates each: {apart['mean']:.1f} ({apart['least']} to {apart['most']}); a constant scorer would have "
        f"top1 {percent(measured['chance_top1'])}: adjusted top1 is 0 there, and 100 where all is right",
    ]
    if found["unknown_candidates"]:
        lines.append(f"{found['unknown_candidates']:,} candidates are no entities of the cache: they count as wrong")
    lines += _confidence_lines(found["confidence"])
    lines += _difference_lines(found)
    return "\n".join(map(str, lines))


def _stated_lines(found: dict[str, Any]) -> list[str]:
    """Return what the lists alone would give, where lines state ranks beyond them."""
    if (alone := found["metrics_of_lists"]) is None:
        return []
    own = ", ".join(f"{name} {percent(alone[name])}" for name in ("top1", "mrr", "recall"))
    return [
        f"rank of gold as stated by the file, beyond its lists: {found['stated_ranks']:,} of {found['mentions']:,} "
        f"mentions; by the lists alone {own} (--lists-only)"
    ]


def _confidence_lines(told: dict[str, Any] | None) -> list[str]:
    lines = []
    if told and "ece" in told:
        ece, area = (percent(told[name]) for name in ("ece", "area_under_risk"))
        lines.append(f"confidence: expected calibration error {ece}, area under risk and coverage {area}")
    if told and "nil" in told and (told["nil"] or told["abstained"]):
        lines.append(
            f"abstains on {percent(told['abstained'])}% of the mentions: right on {percent(told['nil_accuracy'])}% of "
            f"the {told['nil']:,.0f} without gold in the cache, and on {percent(told['accuracy_with_nil'])}% of all"
        )
    return lines


def _difference_lines(found: dict[str, Any]) -> list[str]:
    if not found["differences"]:
        return []
    rows = [
        (
            name,
            f"{100 * of['mean']:+.1f}",
            " to ".join(f"{100 * end:+.1f}" for end in of["interval"]),
            f"{of['holm']:.4f}",
        )
        for name, of in found["differences"].items()
    ]
    what = f"{found['against']}: {found['against_is']}"
    if found["against_is"].startswith("mean"):
        what += "; their mean scores are another system, which melcache predict writes: --against its file"
    return ["", table((f"minus {found['against']}", "mean", "95% interval", "p (Holm)"), rows), what]


def _tsv(found: dict[str, Any]) -> str:
    names = ("system", "dataset", "split", "protocol", "mentions", *COLUMNS, "stated_ranks")
    known = {**found, "split": found["split"]["name"]}
    values = [printable(str(known[name])) for name in names[:5]]
    values += [*(f"{found['metrics'][name]:.6f}" for name in COLUMNS), str(found["stated_ranks"])]
    return "\t".join(names) + "\n" + "\t".join(values)


def _latex(found: dict[str, Any]) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    name = "".join(special.get(c, "\\" + c if c in "&%$#_{}" else c) for c in printable(found["system"]))
    row = " & ".join([name, *(percent(found["metrics"][column]) for column in COLUMNS)]) + r" \\"
    return row + (f" % {found['stated_ranks']} ranks as stated by the file" if found["stated_ranks"] else "")
