"""Threads that wait sleep, unless the user says otherwise: settled by every package that computes, before torch."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# python -m, torchrun -m and an import of any module in them begin with the package
CODE = """
import importlib, os, sys
for package in ("extract", "train", "bench", "torture"):
    os.environ.pop("OMP_WAIT_POLICY", None)
    importlib.import_module(package)
    found = [os.environ.get("OMP_WAIT_POLICY")]
    os.environ["OMP_WAIT_POLICY"] = "active"
    importlib.reload(sys.modules[package])
    print(package, *found, os.environ["OMP_WAIT_POLICY"], "torch" in sys.modules)
"""


def test_every_package_that_computes_lets_waiting_threads_sleep_before_it_imports_torch():
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True)
    expected = [f"{package} PASSIVE active False" for package in ("extract", "train", "bench", "torture")]
    assert done.stdout.splitlines() == expected


def test_so_do_the_tests():
    assert "OMP_WAIT_POLICY" in os.environ
