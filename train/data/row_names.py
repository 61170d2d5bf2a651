"""What rows are called: the strings of a column, or their numbers where the cache came without it."""

from cache import Reader
from cache.names import ColumnName


def row_names(reader: Reader, column: str) -> list[str]:
    """Return the strings of a column by row; row numbers where the cache lacks it, as synthetic ones lack ids."""
    rows = reader.manifest.tables[ColumnName(column).table]
    return reader.strings(column) if column in reader.columns else list(map(str, range(rows)))
