"""Every endpoint under schemathesis: what the schema allows and what it forbids, and answers that keep to it."""

import contextlib

import pytest

from serve.app import application
from serve.config import ServeConfig
from tests.serve.fake_linker import FakeLinker

HERE = {"host": "127.0.0.1"}
EXAMPLES = 20  # of what is allowed, and of what is not, for each endpoint
TAKE_NOTHING = ("GET /", "GET /api/health")


class Yes(FakeLinker):
    """A linker that answers whatever is asked: a mention that its text lacks is no fault of the schema."""

    def _link(self, place, mention, top):
        text = "Super G"
        return super()._link(place, type(mention)(text, text, image=mention.image, id=mention.id), top)


def check(operation, mode, examples=EXAMPLES):
    """Ask an endpoint so many times, and raise where an answer does not keep to the schema."""
    import schemathesis  # seconds, of one process alone
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.specs.openapi.checks import negative_data_rejection

    # in a form `false` is a file of five bytes, which is as good as any
    excluded = [negative_data_rejection] if operation.path == "/" else []

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode[mode]))
    def keeps(case):
        case.call_and_validate(headers=HERE, excluded_checks=excluded)

    keeps()


@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
def test_every_endpoint_keeps_to_its_schema(mode):
    import schemathesis

    linker = Yes()
    with contextlib.closing(application(linker, ServeConfig("runs/demo", max_mentions=5))) as app:
        schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=HERE)
        operations = [found.ok() for found in schema.get_all_operations()]
        assert len(operations) == 6
        for operation in operations:
            if mode == "POSITIVE" or operation.label not in TAKE_NOTHING:
                check(operation, mode)
    assert linker.calls or mode == "NEGATIVE"
