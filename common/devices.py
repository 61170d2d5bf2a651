"""Choose the device, the number of threads, and see how much memory is free."""

import ctypes
import os
import re
from pathlib import Path

import torch

from common import memory
from common.errors import ConfigError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc


def choose(name: str) -> torch.device:
    """Return the device for "auto", "cpu" or "cuda".  Raises ConfigError if it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ConfigError(f"--device {name}: choose cpu, cuda, cuda:1 (the second one) or auto")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise ConfigError(f"--device {name}: this torch sees no CUDA device. Use --device cpu")
        if (device.index or 0) >= count:
            raise ConfigError(f"--device {name}: this torch sees {count} CUDA devices, cuda:0 to cuda:{count - 1}")
        torch.cuda.set_device(device)  # streams and graphs take the current one
    return device


def use_threads(count: int) -> int:
    """Let torch compute with `count` threads, 0 = the cores this process may use; return how many it got.

    OMP_NUM_THREADS, which torchrun sets to 1 and a login profile to what another machine has, wins over 0, up to the
    cores: more threads than these made small models 140 times slower.
    """
    if count == 0:
        given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # one number for each level of nesting
        count = min(_cores(), int(given) if given.isdecimal() and int(given) else _cores())
    if count > 4 * (os.cpu_count() or 1):
        raise ConfigError(f"--threads {count}: this machine has {os.cpu_count()} cores")
    torch.set_num_threads(count)
    return count


def cap_threads() -> None:
    """Let torch compute with no more threads than this process may use cores, whatever OMP_NUM_THREADS says."""
    if torch.get_num_threads() > _cores():
        torch.set_num_threads(_cores())


def keep_freed_memory() -> None:
    """Tell malloc to keep the pages of freed tensors for the next ones instead of returning them to the system.

    Fresh pages cost more than the arithmetic on them: on the machine of docs/benchmarks.md, turning 13 M float16 into
    float32 takes 75 ms on fresh pages and 1.5 ms on kept ones.  Does nothing where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and mallopt(M_MMAP_THRESHOLD, 1 << 30):  # an old glibc refuses more than 32 MB
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def free_memory(device: torch.device) -> int:
    """Return the bytes that a process may still take on the device; on the CPU, of what the system calls available."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + unused)
    return memory.free()


def _cores() -> int:
    """Return the cores that this process may use."""
    return min(len(os.sched_getaffinity(0)), _quota())


def _quota() -> int:
    """Return the whole CPUs that the container's quota allows."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no cgroup v2, or "max"
        return os.cpu_count() or 1
