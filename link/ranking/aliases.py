"""The aliases that the lists of a cache were made with, which a cache does not hold."""

from pathlib import Path

from cache.names import PartName
from cache.reader import Reader
from cache.reader.row_index import RowIndex
from common.errors import ConfigError
from extract.reading import aliases


def by_row(reader: Reader, path: Path | None) -> dict[int, tuple[str, ...]]:
    """Return the aliases of a file by row of the entity.

    Raises ConfigError for other aliases than those of the cache's lists, and DatasetError for a file that holds none.
    """
    wanted = reader.manifest.parts[PartName("pair.candidates")].recipe.get("aliases")
    if wanted is None and path is None:
        return {}
    if path is None:
        raise ConfigError(f"the lists of {reader.path} were made with aliases: give their file with --aliases")
    if wanted is None:
        raise ConfigError(f"--aliases {path}: the lists of {reader.path} were made without. Leave it out")
    rows, names = RowIndex(reader.strings("entity.ids.id")), reader.strings("entity.ids.name")
    found, _ = aliases.read(path, lambda id: None if (row := rows.find(id)) is None else names[row])
    if (digest := aliases.digest(found)) != wanted:
        raise ConfigError(
            f"--aliases {path} holds others ({digest[:12]}) than those that the lists of {reader.path} were made with "
            f"({str(wanted)[:12]}). Give the file of its extraction"
        )
    return {row: of for id, of in found.items() if (row := rows.find(id)) is not None}
