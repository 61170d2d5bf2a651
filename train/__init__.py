"""Stage two: a cache to trained heads and their accuracy."""

from common.threads import sleep_when_waiting

sleep_when_waiting()  # before torch is imported
