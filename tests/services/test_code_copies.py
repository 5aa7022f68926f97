"""The code of jobs that may go on elsewhere: kept from the files here, else brought from their machine,
and asked for only where it can be."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from colabdev.adapters.files import cache_name
from colabdev.adapters.job_store import FileJobStore
from colabdev.adapters.own_code import OwnCode
from colabdev.adapters.recovery_store import FileRecoveryStore
from colabdev.adapters.store import FileStore
from colabdev.adapters.sync_memory import FileSyncMemory
from colabdev.agent import archive, tree
from colabdev.agent.archive import Archive
from colabdev.agent.stamps import Index
from colabdev.core.job_records import START_TIMEOUT
from colabdev.errors import RuntimeUnreachable
from colabdev.models import JobRecord, JobState, KnownSide, Phase
from colabdev.models.orders import JobOrder
from colabdev.ports import AgentStream
from colabdev.services.code_copies import CodeCopies
from tests.support.records import make_job, make_record


@dataclass
class Desk:
    """A project that was just synced with a runtime, and a job of it."""

    root: Path
    project: Path
    asked: int = 0

    def __post_init__(self) -> None:
        self.own_code = OwnCode(self.root / "indexes", lambda: "mine")

    @property
    def plans(self) -> FileRecoveryStore:
        return FileRecoveryStore(self.root)

    def start(self, job: JobRecord, phase: Phase = Phase.UP) -> str:
        """Write down what `run` does; the tree."""
        entries = tree.scan(str(self.project), ["a.py", "link"], Index()).entries
        marks = {entry.path: entry.fingerprint for entry in entries}
        wanted = tree.hash_fingerprints(marks)
        memory = FileSyncMemory(self.root / "indexes" / cache_name(self.project))
        memory.save("box", KnownSide(wanted, wanted, wanted, 0), marks)
        FileStore(self.root).save(replace(make_record(), phase=phase))
        assert FileJobStore(self.root).create(job)
        order = JobOrder({"spec": {}}, project_path=str(self.project), project_name="digits")
        self.plans.save_order(job.id, order.with_tree(wanted))
        return wanted

    def bring(self) -> bool:
        return CodeCopies(
            name="box",
            runtimes=FileStore(self.root),
            jobs=FileJobStore(self.root),
            plans=self.plans,
            own_code=self.own_code.pieces,
            open_agent=self._open_agent,
        ).bring()

    def _open_agent(self) -> AgentStream:
        self.asked += 1
        raise RuntimeUnreachable("cannot reach it")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path / "state", tmp_path / "project")
    desk.project.mkdir()
    (desk.project / "a.py").write_text("print(1)\n")
    (desk.project / "link").symlink_to("a.py")
    return desk


@pytest.mark.parametrize("phase", [Phase.UP, Phase.LOST])
def test_code_is_kept_from_the_files_here_and_no_runtime_is_asked(desk: Desk, phase: Phase) -> None:
    """Also when the machine died before anybody looked."""
    job = make_job()
    wanted = desk.start(job, phase)
    assert desk.bring()
    assert (desk.plans.code_tree(job.id), desk.asked) == (wanted, 0)
    with (desk.root / "jobs" / job.id / "code.zip").open("rb") as file:
        packed = Archive(file)
        packed.verify()
        assert [entry.path for entry in packed.entries] == ["a.py", "link"]
        assert packed.summary.origin == f"{desk.project} on mine"


@pytest.mark.parametrize(
    ("change", "is_asked"),
    [
        (lambda job: job, True),
        (lambda job: replace(job, state=JobState.QUEUED, created=datetime.now(UTC)), True),
        (lambda job: replace(job, state=JobState.QUEUED, created=_long_ago()), False),
        (lambda job: replace(job, request_id="another machine's"), False),
    ],
    ids=["runs", "was just written down", "was never started", "machine is another one"],
)
def test_runtime_is_asked_for_files_that_changed_if_it_may_have_them(
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[JobRecord], JobRecord],
    is_asked: bool,
) -> None:
    job = change(make_job())
    desk.start(job)
    (desk.project / "a.py").write_text("print(2)\n")
    if is_asked:
        with pytest.raises(RuntimeUnreachable):
            desk.bring()
    else:
        assert desk.bring()
    assert (desk.plans.code_tree(job.id), desk.asked) == (None, is_asked)
    monkeypatch.setattr(archive, "write", None)
    with suppress(RuntimeUnreachable):
        desk.bring()  # It is not packed again to see that.


def _long_ago() -> datetime:
    return datetime.now(UTC) - START_TIMEOUT - timedelta(seconds=1)
