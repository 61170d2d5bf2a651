"""A picture of a comparison: Top-1 of each head with its interval, and the published number."""

import functools
import io
from pathlib import Path
from typing import Any

from cache import store
from common.foreign import printable
from common.output import say


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw `<path>.png` and `<path>.svg`, if matplotlib is installed; else say how to get it."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        _lacks()
        return
    with rc_context({"text.parse_math": False, "text.usetex": False}):  # names may hold $
        _draw(found, path, Figure(figsize=(7, 1.4 + 0.32 * len(found["entries"])), layout="constrained"))


@functools.cache
def _lacks() -> None:
    """Say once that nothing is drawn: a study of three caches would say it of each, and of all."""
    say("no pictures of Top-1 are drawn: they need matplotlib (make setup EXTRAS=plot)")


def _draw(found: dict[str, Any], path: Path, figure: Any) -> None:
    entries = found["entries"][::-1]  # the first one on top
    axes = figure.subplots()
    for place, entry in enumerate(entries):
        low, high = (100 * end for end in entry["interval"]["top1"])
        axes.plot([low, high], [place, place], color="C0", linewidth=2, solid_capstyle="butt")
    tops = [100 * entry["mean"]["test"]["top1"] for entry in entries]
    axes.plot(tops, range(len(entries)), "o", color="C0", label="here, 95% interval over mentions")
    cited = [(entry["published"]["top1"], place) for place, entry in enumerate(entries) if entry["published"]]
    if cited:
        axes.plot(*zip(*cited, strict=True), "D", color="C1", fillstyle="none", label="published, other conditions")
    axes.set_yticks(range(len(entries)), [printable(entry["head"]) for entry in entries])
    axes.set_xlabel(f"Top-1, %, {printable(found['dataset'])} test, protocol {found['protocol']}")
    warnings = printable("; ".join(warning.partition(":")[0] for warning in found["warnings"]))
    axes.set_title(warnings, fontsize="small", color="C3")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    for kind in ("png", "svg"):
        drawn = io.BytesIO()
        figure.savefig(drawn, format=kind, dpi=150)
        store.publish(path.with_name(f"{path.name}.{kind}"), drawn.getvalue(), replace=True)
