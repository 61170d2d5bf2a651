"""What is done to caches to see them break: each experiment returns what it tried and what went wrong.

`make test` runs every experiment small, `make torture` large; tests/torture/test_sabotage.py shows that each can fail.
"""

from common.threads import sleep_when_waiting

sleep_when_waiting()  # before torch is imported, here by extract's modules of pictures
