"""In CI a skipped test fails, unless `allowed_skips.txt` allows it; long files are run first."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.txt")

LONG_FILES = (
    "templates/test_trainings.py",
    "hostile/test_places.py",
    "keeper/test_keeper.py",
    "cli/test_bad_input.py",
    "test_recovery_campaign.py",
    "test_crash_points.py",
    "test_sync_campaign.py",
    "jobs/test_on_demand.py",
    "colab/test_life.py",
    "colab/test_faults.py",
    "ssh/test_crash_points.py",
    "ssh/test_own_host.py",
    "colab/test_continuing.py",
    "colab/test_leaving.py",
    "colab/test_drive.py",
    "jobs/test_run.py",
    "test_checkpoint_campaign.py",
    "test_job_campaign.py",
    "cli/test_checkpoints.py",
    "cli/test_connect.py",
    "hostile/test_crashes.py",
    "hostile/test_full_disks.py",
    "jobs/test_hand_over.py",
    "agent/test_notebooks.py",
)
"""Half a minute and more each; of two that run at a time one would wait for such a file at the end."""
SHORT_FOLDERS = ("core", "config")
"""A file here takes a moment, which makes both end together."""


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For `--dist loadfile --no-loadscope-reorder`, which hands files out in this order."""
    items.sort(key=lambda item: _turn(item.path))


def _turn(file: Path) -> int:
    """When a file is run; those of the same turn as they were found."""
    name = Path(os.path.relpath(file, Path(__file__).parent)).as_posix()
    if name in LONG_FILES:
        return LONG_FILES.index(name)
    return len(LONG_FILES) + (name.split("/")[0] in SHORT_FOLDERS)
