"""One world that the tests of linking share."""

import pytest


@pytest.fixture(scope="package")
def world(tmp_path_factory):
    """The release, cache and runs; tests only read them."""
    from tests.link.world import World  # torch: not for tests that have nothing to do with it

    return World.made(tmp_path_factory.mktemp("linked"), ("ghmfc", "mel_hi", "dwe"))
