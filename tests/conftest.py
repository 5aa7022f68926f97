"""In CI a skipped test fails, unless `allowed_skips.txt` allows it."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.txt")


def read_allowed_skips(text: str) -> dict[str, str]:
    """The reason for each node id that may be skipped."""
    allowed = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        node_id, separator, reason = (part.strip() for part in line.partition(" # "))
        if not (separator and reason):
            raise pytest.UsageError(f"{ALLOWED_SKIPS.name}: no reason is given in {line!r}")
        allowed[node_id] = reason
    return allowed


class SkipsFail:
    """The plugin that turns a skip, of a test or of a whole module, into a failure."""

    def __init__(self, allowed: dict[str, str]) -> None:
        self._allowed = allowed

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self,
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        self._judge(report)
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(
        self,
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        self._judge(report)
        return report

    def _judge(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        expected_failure = hasattr(report, "wasxfail")
        if report.skipped and not expected_failure and report.nodeid not in self._allowed:
            report.outcome = "failed"
            report.longrepr = (
                f"skipped in CI, and not listed in {ALLOWED_SKIPS.name}: {report.longreprtext}"
            )


def pytest_configure(config: pytest.Config) -> None:
    """Make skips fail, in CI only; and take Ctrl-C, which a job in the background ignores, as a
    terminal's programs do: what the tests start inherits it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get("CI") == "true":
        config.pluginmanager.register(SkipsFail(read_allowed_skips(ALLOWED_SKIPS.read_text())))
