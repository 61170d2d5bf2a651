"""The commands of `melcache` that need nothing but caches."""

from cache.commands import files, looking, sharing
from cache.commands.options import LOOK, MAKE, SHARE
from common import console
from common.commands import Command, program

GOES_ON = "what has arrived is kept, the same command continues"
OF_TAR = "nothing was written"
IMPORTING = "of a tar nothing is kept, of arrays the finished shards; the same command continues from there"

COMMANDS = (
    Command("import", MAKE, files.ImportConfig, files.import_, IMPORTING),
    Command("synth", MAKE, files.SynthConfig, files.synth),
    Command("info", LOOK, looking.InfoConfig, looking.info),
    Command("verify", LOOK, looking.VerifyConfig, looking.verify),
    Command("diff", LOOK, looking.DiffConfig, looking.diff),
    Command("push", SHARE, sharing.PushConfig, sharing.push, GOES_ON),
    Command("pull", SHARE, sharing.PullConfig, sharing.pull, GOES_ON),
    Command("export", SHARE, files.ExportConfig, files.export, OF_TAR),
    Command("card", SHARE, sharing.CardConfig, sharing.card),
    Command("sign", SHARE, sharing.SignConfig, sharing.sign),
    Command("gc", SHARE, files.GcConfig, files.gc),
)
app = program(COMMANDS, "Look at, check, share and make caches.")


def main() -> None:
    """Run the command line; a MelcacheError is one line and its exit code."""
    console.run(app, "melcache")
