"""For every test: asyncio as the loop, nothing that blocks it, and the same Hypothesis examples on every machine.

``pytest --hypothesis-profile=explore`` draws new examples.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator

import hypothesis
import pytest

pytest.register_assert_rewrite("tests.support", "tests.core")  # failed asserts in helpers show what they compared

from tests.support.blocking import watch_the_loop  # noqa: E402
from tests.support.servers import new_postgres, own_server, postgres_server, redis_server  # noqa: E402, F401
from tests.support.tiers import Tiers  # noqa: E402

hypothesis.settings.register_profile("explore", deadline=None, print_blob=True)
hypothesis.settings.register_profile("same", deadline=None, print_blob=True, derandomize=True, database=None)
hypothesis.settings.load_profile("same")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Tiers(config))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Keep the garbage collector from thousands of tests: half a second for each full collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def anyio_backend() -> str:
    """What ``@pytest.mark.anyio`` runs on."""
    return "asyncio"


@pytest.fixture
def as_root() -> None:
    """For tests that need other users' files, or mounts."""
    if os.geteuid() != 0:
        pytest.skip("only root can make files that belong to others")


@pytest.fixture(autouse=True)
def no_blocked_loop() -> Iterator[None]:
    """A test in whose process an event loop was blocked by our code has failed."""
    with watch_the_loop():
        yield


LOG_LINES = 60


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of each log that the test's processes wrote to the report of a failure, before it is cleared away.

    A log may hold half a character (a job can raise anything), which no report could be sent with.
    """
    report = yield
    directory = getattr(item, "funcargs", {}).get("tmp_path")
    if report.failed and directory is not None:
        for log in sorted(directory.rglob("log")):
            lines = log.read_text(errors="backslashreplace").splitlines()
            report.sections.append((f"end of {log.relative_to(directory)}", "\n".join(lines[-LOG_LINES:])))
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report
