"""Where the features of a run may lie while it trains.  No torch here."""

from typing import Literal

Resident = Literal["auto", "device", "host", "mmap"]
