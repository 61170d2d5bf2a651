"""ours."""

from cache.schema import READS
from train.heads.entry import Entry
from train.heads.ours.config import OursConfig

DEFAULTS = {"epochs": 6, "learning_rate": 2e-4}
ENTRIES = (Entry("ours", OursConfig, "train.heads.ours.model:Ours", READS["ours"], defaults=DEFAULTS),)
