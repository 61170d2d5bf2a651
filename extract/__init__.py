"""Stage one: a release of a dataset to a cache of shards."""

from common.threads import sleep_when_waiting

sleep_when_waiting()  # before torch is imported
