"""How much memory this process may still take."""

from pathlib import Path

_GROUP = Path("/sys/fs/cgroup")


def free() -> int:
    """Return the bytes that the system calls available, or that the container's limit leaves."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    found = int(fields["MemAvailable"].split()[0]) * 1024
    limit, used = _number(_GROUP / "memory.max"), _number(_GROUP / "memory.current")
    if limit is not None and used is not None:
        found = min(found, max(0, limit - used + _file_cache(_GROUP / "memory.stat")))
    return found


def _file_cache(path: Path) -> int:
    """Return the bytes of files that a cgroup keeps in memory only as long as nobody needs it."""
    return sum(int(line.split()[1]) for line in _text(path).splitlines() if line.startswith("inactive_file "))


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None  # "max"


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # no cgroup v2
        return ""
