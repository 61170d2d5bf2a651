"""A table of a cache as a pandas DataFrame, of those columns alone that are asked for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cache import Reader
from cache.names import ColumnName
from cache.schema import TABLES
from common.errors import ConfigError
from common.words import one_of

if TYPE_CHECKING:
    import pandas


def to_pandas(reader: Reader, table: str = "mention", columns: Sequence[str] | None = None) -> "pandas.DataFrame":
    """Return a table (entity, mention or pair) with its columns by their full names, such as "mention.ids.surface".

    Without `columns` it has those of one value a row; of one that is asked for and has more, such as a vector, each
    cell is an array. Texts are decoded. A row of pair is one candidate of a mention, by its place in the list. Nothing
    else is read. Raises ConfigError for what is no table, or a column of another, and CacheError as `Reader.column`.
    """
    import pandas

    if table not in TABLES:
        raise ConfigError(f"to_pandas: {table!r} is no table, expected one of: {one_of(table, TABLES)}")
    names = _single(reader, table) if columns is None else list(columns)
    if foreign := [name for name in names if ColumnName(name).table != table]:
        raise ConfigError(f"to_pandas: {foreign[0]!r} is no column of the table {table!r}")
    places = reader.manifest.candidates if table == "pair" else 0
    rows = range(reader.manifest.tables.get(table, 0))
    index: Any = rows
    if places:
        index = pandas.MultiIndex.from_product([rows, range(places)], names=["mention", "place"])
    return pandas.DataFrame({name: _cells(reader, name, places) for name in names}, index=index)


def _single(reader: Reader, table: str) -> list[str]:
    """Return the columns of a table that hold one value a row; of pair one a candidate, or one a mention."""
    of_table = [name for name in reader.columns if ColumnName(name).table == table]
    return [name for name in of_table if len(reader.shape(name)) <= 1 + (table == "pair")]


def _cells(reader: Reader, name: str, places: int) -> Any:
    """Return the values of a column, one a row; with `places` candidates a mention, one a candidate."""
    text = reader.dtype(name).kind == "S"
    values = np.array(reader.strings(name), object) if text else np.array(reader.column(name))
    if places:
        values = values.repeat(places) if values.ndim == 1 else values.reshape(-1, *values.shape[2:])
    return list(values) if values.ndim > 1 else values
