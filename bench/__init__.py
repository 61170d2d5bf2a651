"""Benchmarks of the trainer and the cache: `make bench`."""

from common.threads import sleep_when_waiting

sleep_when_waiting()  # before torch is imported
