"""A file of the user's own code: the bytes that are hashed are those that run, whatever Python has cached of them."""

import hashlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from common.errors import ConfigError
from common.paths import is_file


@contextmanager
def not_ended(path: Path) -> Iterator[None]:
    """Keep a file's code from ending the program, with success even.  Raises ConfigError where it would."""
    try:
        yield
    except SystemExit as error:
        raise ConfigError(f"{path} ended the program (sys.exit({error.code!r:.60})): nothing is finished") from error


def read(path: Path, option: str) -> bytes:
    """Return the bytes of a file that an option names.  Raises ConfigError where there is none."""
    if not is_file(path):
        raise ConfigError(f"{option} {path}: there is no such file")
    return path.read_bytes()


def load(path: Path, prefix: str, option: str, needed: Sequence[str], guide: str) -> tuple[ModuleType, str]:
    """Return the module that a file holds, as <prefix>_<stem>, and the sha256 of the file.

    An error in it is its author's, who wants the traceback. Raises ConfigError where there is no file, or names that
    are `needed` are not in it; `guide` says where that is told.
    """
    source = read(path, option)
    spec = importlib.util.spec_from_file_location(f"{prefix}_{path.stem}", path)
    assert spec is not None, "a name that ends with .py has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    with not_ended(path):
        exec(compile(source, path, "exec"), module.__dict__)
    missing = [name for name in needed if not hasattr(module, name)]
    if missing:
        raise ConfigError(f"{path} lacks {', '.join(missing)}; see {guide}")
    return module, hashlib.sha256(source).hexdigest()


def digest_of(path: Path, option: str) -> str:
    """Return the sha256 that `load` would, of a file that is not run.  Raises ConfigError where there is none."""
    return hashlib.sha256(read(path, option)).hexdigest()
