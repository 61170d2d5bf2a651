"""The terminal, or what stands in its place: nothing that is printed ends the work, and no result is lost in silence.

What took hours is on disk before it is printed, and by then stdout may be a full disk, a pipe that nobody reads any
more, closed, or ASCII. A failure of a stream is noted where it happens, and told when the command is over.
"""

import codecs
import contextlib
import errno
import io
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from common.by_make import spelled
from common.errors import MelcacheError
from common.foreign import printable, printable_lines

NO_MEMORY = "this needs more memory than the process may use: raise the limit (ulimit -v)"
LACKS = ("DefaultCPUAllocator: can't allocate memory", "can't start new thread")  # in RuntimeErrors
MARKED = re.compile(r"(?<!\S)[-+]?[0-9][0-9.]*( ± [0-9.]+)?[*†]+")  # a number with a sign behind it
LOST = 4  # exit code where all went well but the printing
PLAIN = {"±": "+-", "†": "+", "\ufffd": "?"}  # what stands for a character of ours that the terminal does not have
# what the system says of a file or of itself: no fault of the program, so no traceback
REFUSALS = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ENOTCONN,
    errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
)  # fmt: skip


def is_lack_of_memory(error: Exception) -> bool:
    """Return whether an error is Python's MemoryError, or what torch or a new thread raises in its place."""
    return isinstance(error, MemoryError) or any(text in str(error) for text in LACKS)


class Patient:
    """A text stream that shows what it can, and notes a failure instead of raising it; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | ValueError | None = None

    def write(self, text: str) -> int:
        """Write text; characters that the stream does not have are replaced."""
        with self._noted():
            self._stream.write(_fitting(text, getattr(self._stream, "encoding", None) or "utf-8"))
        return len(text)

    def flush(self) -> None:
        """Send on what has been written."""
        with self._noted():
            self._stream.flush()

    def let_go(self) -> None:
        """Let what a failed stream could not send on go nowhere: Python would try it again when it ends."""
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: it was closed
            self.failure = self.failure or error

    def __eq__(self, other: object) -> bool:
        """Tell tqdm that two views of one stream are one: it clears its bars for what is written there."""
        return self._stream is getattr(other, "_stream", other)

    def __hash__(self) -> int:
        return hash(self._stream)

    def __getattr__(self, name: str) -> Any:
        if name == "_stream":  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self._stream, name)


def out() -> Patient:
    """Return stdout, where results go."""
    return _patient(sys.stdout)


def err() -> Patient:
    """Return stderr, where progress and errors go."""
    return _patient(sys.stderr)


def show(text: str) -> None:
    """Print lines of a result; of foreign text in them nothing acts upon the terminal."""
    stream = out()
    stream.write(f"{printable_lines(text)}\n")
    stream.flush()


def is_terminal() -> bool:
    """Whether results go to a terminal, and not to a pipe or file."""
    return bool(out().isatty())


def show_marked(text: str) -> None:
    """Print lines of a result, numbers with a sign behind them (output.BEST) in bold; NO_COLOR and pipes have none."""
    lines = printable_lines(text)
    if is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        lines = MARKED.sub("\x1b[1m\\g<0>\x1b[0m", lines)
    out().write(f"{lines}\n")
    out().flush()


def show_json(value: Any) -> None:
    """Print a result as JSON, in ASCII."""
    show(json.dumps(value, indent=1).replace("\x7f", "\\u007f"))


def present(found: Any, as_text: Callable[[Any], str], *, as_json: bool) -> None:
    """Print a result: as JSON, or as the text that `as_text` makes of it."""
    if as_json:
        show_json(found)
    else:
        show(as_text(found))


def tell(text: str) -> None:
    """Print lines on stderr."""
    err().write(f"{printable_lines(text)}\n")
    err().flush()


def complain(error: MelcacheError | str) -> None:
    """Print an error as one line, and below it the lines of ours that it may have."""
    rank = os.environ.get("RANK", "0")  # under torchrun one process alone may have failed
    who = "error" if rank == "0" else f"error in process {printable(rank)}"
    text, details = (error.text, error.details) if isinstance(error, MelcacheError) else (error, "")
    tell("\n".join([f"{who}: {printable(spelled(text))}", *([details] if details else [])]))


@contextlib.contextmanager
def lines() -> Iterator[None]:
    """Print an error of ours, of the system or of memory as one line.  Raises SystemExit with its exit code."""
    try:
        yield
    except MelcacheError as error:
        complain(error)
        raise SystemExit(error.exit_code) from None
    except (MemoryError, RuntimeError) as error:
        if not is_lack_of_memory(error):
            raise
        complain(NO_MEMORY)
        raise SystemExit(1) from None
    except OSError as error:
        if error.errno == errno.ENOENT and _astray():
            complain("the folder that this was started in has been removed. Change to one that is there (cd)")
            raise SystemExit(MelcacheError.exit_code) from None
        if error.errno not in REFUSALS:
            raise
        complain(f"{f'{error.filename}: ' if error.filename else ''}{error.strerror}")
        raise SystemExit(MelcacheError.exit_code) from None


def _astray() -> bool:
    """Whether the working directory is gone: then no relative path is anything."""
    try:
        os.getcwd()
    except OSError:
        return True
    return False


@contextlib.contextmanager
def _in_order() -> Iterator[None]:
    """Let a SIGTERM in the block end it as an error does: claims and temporary files go, workers are told to end."""

    def end(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # once is enough
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def run(command: Callable[..., object], name: str) -> None:
    """Run a command line to its end.  Raises SystemExit: with the command's code, or LOST if its result was lost."""
    _fill_gaps()
    before = sys.stdout, sys.stderr
    code: str | int | None = 0
    sys.stdout, sys.stderr = out(), err()
    try:
        with _in_order(), lines():
            command(prog_name=name)
    except SystemExit as ended:
        code = ended.code
    finally:
        final = _ended(code)
        sys.stdout, sys.stderr = before
    raise SystemExit(final)


def _fill_gaps() -> None:
    """Open what is closed of stdin, stdout and stderr: a shard that is written must not become one of them."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for descriptor in (1, 2):  # another program may have left a terminal that does not wait
        with contextlib.suppress(OSError):
            os.set_blocking(descriptor, True)


def _ended(code: Any) -> Any:
    """Send on what was printed, or give it up; return the exit code of a command that would end with `code`."""
    lost = out()
    lost.flush()
    if lost.failure is not None:
        lost.let_go()
        if getattr(lost.failure, "errno", None) != errno.EPIPE:  # else its reader has seen enough
            reason = getattr(lost.failure, "strerror", None) or lost.failure
            complain(f"cannot print all of the result: {reason}. The files that the command writes are complete")
            code = code or LOST
    err().flush()
    if err().failure is not None:
        err().let_go()
    return code


def _patient(stream: TextIO | Patient | None) -> Patient:
    """Return a stream, if there is one, as one that is patient."""
    return stream if isinstance(stream, Patient) else Patient(io.StringIO() if stream is None else stream)


def _fitting(text: str, encoding: str) -> str:
    """Return text without characters that an encoding does not have."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.encode(encoding, _plain.__name__).decode(encoding)
    return text


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(char, "?") for char in error.object[error.start : error.end]), error.end


codecs.register_error(_plain.__name__, _plain)
