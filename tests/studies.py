"""Run a study of the trainer in this process, and read what it leaves: its entries, and the table that it prints."""

import re

from typer.testing import CliRunner

from train.cli import app


def run_study(command, folder, run, *options):
    """The result of `melcache <command>` on a cache, in the folder `run`."""
    arguments = [command, "--dataset", str(folder), "--run", str(run), "--device", "cpu", "--threads", "1", *options]
    return CliRunner().invoke(app, arguments)


def entries(study):
    """The entries of a parsed compare.json or ablate.json by name."""
    return {entry["name"]: entry for entry in study["entries"]}


def cells(text):
    """The rows of the first table by their first cell, each cell by its column's name."""
    lines = text.split("\n\n")[0].splitlines()
    starts = [match.start() for match in re.finditer(r"-+", lines[1])]
    ends = [*starts[1:], None]
    rows = [[line[a:b].strip() for a, b in zip(starts, ends, strict=True)] for line in lines]
    return {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}
