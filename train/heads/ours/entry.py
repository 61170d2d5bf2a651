"""ours."""

from cache.schema import READS
from train.heads.entry import Entry
from train.heads.ours.config import OursConfig

DEFAULTS = {"epochs": 3, "batch": 128, "decay": True}
ENTRIES = (Entry("ours", OursConfig, "train.heads.ours.model:Ours", READS["ours"], defaults=DEFAULTS),)
