"""A worker that is a fork of the test's process."""

import os
import signal
import subprocess

from torture.processes import child, until


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

    def kill(self):
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, seconds=60.0):
        try:
            until(lambda: self.poll() is not None, f"process {self.pid} ends", seconds)
        except TimeoutError:
            raise subprocess.TimeoutExpired("a fork", seconds) from None
