"""What a person sees: progress with an ETA, and tables of plain text."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Self

from tqdm import tqdm

from common import console
from common.by_make import spelled
from common.foreign import printable

LINE_SECONDS, VERBOSE_SECONDS = 30.0, 2.0
BEST, SIGNIFICANT = "*", "†"  # signs in tables on a terminal; lines below explain both
SMALL = 0.05  # p of what is significant
TOLD_SECONDS, TOLD_SHARE = 1.0, 0.02  # of work, before which an ETA would be a guess of hours
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}, {rate_fmt}{postfix}]"
_quiet, _verbose, _within = False, False, False
_spent_loading = 0.0  # seconds


class Progress:
    """Count work done: a tqdm bar on a terminal, elsewhere a plain line every 30 seconds; its ETA comes late.

    `total` and `advance` count in `unit`s; the unit B is shown as kB, MB or GB. Behind both stands what `note` says;
    with --verbose plain lines come every 2 seconds.
    """

    def __init__(self, total: int, label: str, unit: str, done: int = 0) -> None:
        self._total, self._label, self._unit = total, label, unit
        self._done = done
        self._first: tuple[float, int] | None = None  # when the first work was done, and how much
        self._said = time.monotonic()
        self._note = ""
        terminal = console.err().isatty() and not (_quiet or _within)
        self._bar = (
            tqdm(
                file=console.err(),
                total=total,
                initial=done,
                desc=printable(label),
                unit=unit,
                unit_scale=unit == "B",
                leave=False,
                bar_format=BAR,
            )
            if terminal
            else None
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, count: int = 1) -> None:
        """Report `count` more units done."""
        self._done += count
        self._first = self._first or (_working(), self._done)  # weights were loaded before
        if self._bar is not None:
            self._bar.set_postfix_str(self._behind(), refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._said >= (VERBOSE_SECONDS if _verbose else LINE_SECONDS):
            self._said = time.monotonic()
            say(", ".join(filter(None, (f"{self._label}: {self._so_far()}", self._behind()))))

    def note(self, text: str) -> None:
        """Say how the work goes, behind how far it is; with --verbose in a line of its own, too."""
        self._note = printable(text)
        if _verbose:
            say(f"{self._label}: {text}")
        if self._bar is not None:
            self._bar.set_postfix_str(self._behind())

    def _behind(self) -> str:
        return "; ".join(filter(None, (self._remaining(), self._note)))

    def _so_far(self) -> str:
        if self._unit == "B":
            return f"{size(self._done)} of {size(self._total)}"
        return f"{self._done:,} of {self._total:,} {self._unit}"

    def _remaining(self) -> str:
        """Return the time left, "" while the work since the first tells too little of the rest."""
        began, before = self._first or (0.0, self._done)
        seconds, done = _working() - began, self._done - before
        if seconds < TOLD_SECONDS or done < max(1, TOLD_SHARE * self._total):
            return ""
        return f"{duration((self._total - self._done) / done * seconds)} left"


def _working() -> float:
    """Return a time that stands still while libraries are loaded."""
    return time.monotonic() - _spent_loading


def say(text: str) -> None:
    """Print a line of progress on stderr, so that stdout holds results only."""
    if not _quiet:
        tqdm.write(printable(spelled(text)), file=console.err())


@contextlib.contextmanager
def loading(*libraries: str) -> Iterator[None]:
    """Say which libraries the block imports, which takes seconds; nothing of those that have been.

    What passes in it is no work: no progress under way counts it.
    """
    global _spent_loading
    if new := [name for name in libraries if name not in sys.modules]:
        say(f"loading {', '.join(new)} ...")
    begin = time.monotonic()
    try:
        yield
    finally:
        _spent_loading += time.monotonic() - begin


@contextlib.contextmanager
def no_bars() -> Iterator[None]:
    """Draw no bar for what is done inside: it is a step of what another bar counts, or of an answer."""
    global _within
    before, _within = _within, True
    try:
        yield
    finally:
        _within = before


def be_quiet() -> None:
    """Say nothing from now on: of several processes one speaks."""
    global _quiet
    _quiet = True


def speak(*, quiet: bool = False, verbose: bool = False) -> None:
    """Say what a command was asked to say: no progress, as much as there is, or what is usual."""
    global _quiet, _verbose
    _quiet, _verbose = quiet, verbose


def starred(cells: Sequence[str], values: Sequence[float | None]) -> list[str]:
    """Return the cells of a column, a star behind those with the highest value, a blank behind others and "-"."""
    known = [None if cell == "-" else value for cell, value in zip(cells, values, strict=True)]
    highest = max((value for value in known if value is not None), default=None)
    return [
        cell + (BEST if value is not None and value == highest else " ")
        for cell, value in zip(cells, known, strict=True)
    ]


def duration(seconds: float) -> str:
    """Return seconds as people say them: 0.4 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float) -> str:
    """Return a number of bytes with a decimal unit: 1.2 MB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def percent(fraction: float, spread: float | None = None) -> str:
    """Return a fraction, and its standard deviation if there is one, in percent: 65.5 ± 0.8."""
    return f"{100 * fraction:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return an aligned text table; cells that are numbers, or look like some, stand to the right."""
    header, *cells = [[printable(str(cell)) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in [header, *cells]) for i in range(len(header))]
    right = [all(_numeric(row[i]) for row in cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        parts = (cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True))
        return "  ".join(parts).rstrip()

    return "\n".join([line(header), "  ".join("-" * width for width in widths), *map(line, cells)])


def _numeric(text: str) -> bool:
    return text in ("", "-") or text[0] in "0123456789.+-" or text.endswith("%")
