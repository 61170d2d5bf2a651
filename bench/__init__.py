"""Benchmarks: `make bench` measures `lines`; others are commands of their own, `python -m bench.ROOM.NAME`."""

from common.threads import sleep_when_waiting

sleep_when_waiting()  # before torch is imported
