"""A worker that is a fork of the test's process."""

import os
import signal
import time

from torture.processes import child


class Forked:
    """A worker as a fork of this process: importing torch anew takes longer than the test."""

    def __init__(self, work):
        self.pid, self.returncode = child(work), None

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def terminate(self):
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)

    def wait(self, seconds):
        while self.poll() is None:
            time.sleep(0.01)
