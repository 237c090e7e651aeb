"""Setup of every test: asyncio as the loop, no calls that block it, the same Hypothesis examples on every machine.

``pytest --hypothesis-profile=explore`` draws new examples.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator

import hypothesis
import pytest

pytest.register_assert_rewrite("tests.support", "tests.core", "tests.engines")  # for the values in failed asserts

from tests.support import forked_commands  # noqa: E402
from tests.support.blocking import watch_the_loop  # noqa: E402
from tests.support.rewriting import import_own_share  # noqa: E402
from tests.support.servers import new_postgres, own_server, postgres_server, redis_server  # noqa: E402, F401
from tests.support.tiers import Tiers  # noqa: E402

hypothesis.settings.register_profile("explore", deadline=None, print_blob=True)
hypothesis.settings.register_profile("same", deadline=None, print_blob=True, derandomize=True, database=None)
hypothesis.settings.load_profile("same")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Tiers(config))


def pytest_sessionstart(session: pytest.Session) -> None:
    import_own_share(session.config)


def pytest_unconfigure() -> None:
    forked_commands.close()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Keep the garbage collector away from thousands of collected tests: each full collection takes half a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def anyio_backend() -> str:
    """Backend of ``@pytest.mark.anyio``."""
    return "asyncio"


@pytest.fixture
def as_root() -> None:
    """Skip tests that need root: files of other users, or mounts."""
    if os.geteuid() != 0:
        pytest.skip("only root can make files that belong to others")


@pytest.fixture(autouse=True)
def no_blocked_loop() -> Iterator[None]:
    """Fail a test in whose process our code blocked an event loop."""
    with watch_the_loop():
        yield


LOG_LINES = 60


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of each log that the test's processes wrote to the report of a failure, before the log is removed.

    A log may hold half a character (a job can raise anything), which would break the transfer of the report. After a
    failure, the timer is cancelled: an alarm in the middle of the report would end the whole session.
    """
    if call.excinfo is not None:
        item.ihook.pytest_timeout_cancel_timer(item=item)
    report = yield
    directory = getattr(item, "funcargs", {}).get("tmp_path")
    if report.failed and directory is not None:
        for log in sorted(directory.rglob("log")):
            lines = log.read_text(errors="backslashreplace").splitlines()
            report.sections.append((f"end of {log.relative_to(directory)}", "\n".join(lines[-LOG_LINES:])))
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report
