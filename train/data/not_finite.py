"""Which column is to blame for a score, vector or loss that is not finite.

It is asked only when one has turned up: to read all columns before would cost every run what few need.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from common.errors import NotFiniteError
from train.data.table import Table

NUMBERS = 1 << 24  # searched at once


@contextlib.contextmanager
def naming_columns(table: Table) -> Iterator[None]:
    """Say of a NotFiniteError which column of the table holds the number that caused it, if one does."""
    try:
        yield
    except NotFiniteError as error:
        check(table)
        raise error from None


def check(table: Table) -> None:
    """Raise NotFiniteError, naming column and row, if a number that batches may hold is not finite.  Reads them all."""
    for name, column in table.pairs().items():
        present = table.present.reshape(table.present.shape + (1,) * (column.ndim - 2))
        _refuse(table, name, 0, column.masked_fill(~present, 0))
    for name, (count, numbers) in table.sizes().items():
        for rows in torch.arange(count).split(max(1, NUMBERS // numbers)):
            _refuse(table, name, int(rows[0]), table.features((name,), rows)[name])


def _refuse(table: Table, name: str, first: int, values: Tensor) -> None:
    bad = ~torch.isfinite(values).flatten(1)
    if bad.any():
        row, place = bad.nonzero()[0].tolist()
        raise NotFiniteError(
            f"column {name} of {table.path} holds {values.flatten(1)[row, place].item()} in row {first + row}, where "
            "numbers must be finite: the program that wrote it was wrong. Extract the cache again, or pull it again"
        )
