"""Jobs on runtimes that refuse, forget, hang up and change under one's hands: the services alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from colabdev.adapters.job_store import FileJobStore
from colabdev.cli import render_jobs
from colabdev.errors import (
    ColabdevError,
    ProtocolError,
    RuntimeLost,
    RuntimeUnreachable,
    StaleTree,
    StateNotWritable,
)
from colabdev.models import JobState
from colabdev.services.job_logs import Starting
from colabdev.services.starts import MAX_SYNCS, Start
from tests.support.odd_runtimes import ENDED, Answer, Bench, make_bench, report
from tests.support.records import make_record


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path)


def stale(arguments: object) -> Iterator[Answer]:
    raise StaleTree("other files")
    yield


def refuse(arguments: object) -> Iterator[Answer]:
    raise ColabdevError("no room")
    yield


def cut(arguments: object) -> Iterator[Answer]:
    raise RuntimeUnreachable("cut")
    yield


def interrupted(arguments: object = None) -> Any:
    raise KeyboardInterrupt


def whole_log(arguments: Mapping[str, Any]) -> Iterator[Answer]:
    yield {"offset": 0}, b"abc"
    yield {"status": ENDED}, b""


# --- starting --------------------------------------------------------------------------------------


def test_run_never_starts_other_files_than_those_that_were_sent(bench: Bench) -> None:
    bench.runtime.answers["job.start"] = stale
    bench.files.bring_them = lambda: report(undone=("locked.py",))
    with pytest.raises(ColabdevError, match=r"other files .*'locked\.py'") as caught:
        bench.run()
    assert "--no-sync" in caught.value.hint
    assert bench.files.synced == MAX_SYNCS
    trees = [arguments["expect"]["tree"] for kind, arguments in bench.runtime.asked]
    assert trees == ["local-0", *["local-1"] * MAX_SYNCS]
    assert bench.store.ids() == []


def test_run_starts_once_a_sync_brought_the_files(bench: Bench) -> None:
    def start(arguments: Mapping[str, Any]) -> Iterator[Answer]:
        if arguments["expect"]["tree"] != "local-1":
            raise StaleTree("other files")
        yield {"id": arguments["spec"]["id"]}, b""
        yield from whole_log(arguments)

    bench.runtime.answers["job.start"] = start
    assert bench.run() == b"abc"
    assert bench.files.synced == 1
    assert bench.start.starting.started


def test_ctrl_c_during_the_sync_leaves_no_job(bench: Bench) -> None:
    bench.runtime.answers["job.start"] = stale
    bench.files.bring_them = interrupted
    with pytest.raises(KeyboardInterrupt):
        bench.run()
    assert (bench.start.starting.started, bench.start.starting.unanswered) == (False, 0)
    assert bench.store.ids() == []


def test_ctrl_c_while_the_start_is_on_the_wire_keeps_the_job(bench: Bench) -> None:
    bench.runtime.answers["job.start"] = interrupted
    with pytest.raises(KeyboardInterrupt):
        bench.run()
    assert (bench.start.starting.started, bench.start.starting.unanswered) == (False, 1)
    assert bench.store.ids() == [bench.start.job.id]


def test_refused_job_is_forgotten_unless_the_runtime_may_have_it(bench: Bench) -> None:
    bench.runtime.answers["job.start"] = refuse
    with pytest.raises(ColabdevError, match="no room"):
        bench.run()
    assert bench.store.ids() == []
    bench.runtime.answers["job.list"] = lambda _: {
        "jobs": [],
        "problems": [{"id": bench.store.ids()[0], "reason": "torn"}],
    }
    with pytest.raises(ColabdevError, match="no room"):
        bench.run()
    assert bench.store.ids() == [bench.start.job.id]


def test_job_that_was_refused_after_a_cut_is_kept(bench: Bench) -> None:
    answers = [refuse, cut]

    def start(arguments: object) -> Iterator[Answer]:
        return answers.pop()(arguments)

    bench.runtime.answers["job.start"] = start
    with pytest.raises(ColabdevError, match="no room"):
        bench.run()
    assert bench.store.ids() == [bench.start.job.id], "the first one may still be at work"


def test_no_sync_says_whose_work_dir_it_means(bench: Bench) -> None:
    bench.runtime.answers["job.start"] = refuse
    with pytest.raises(ColabdevError, match="no room"):
        bench.run(sync=False)
    [(_, arguments)] = [asked for asked in bench.runtime.asked if asked[0] == "job.start"]
    assert arguments["expect"] == {"marker": bench.files.marker()}


# --- asking ----------------------------------------------------------------------------------------


def test_job_that_the_runtime_cannot_read_is_not_lost(bench: Bench) -> None:
    kept, lost = bench.job("kept"), bench.job("lost")
    bench.runtime.answers["job.list"] = lambda _: {
        "jobs": [],
        "problems": [{"id": kept.id, "reason": "status.json is torn"}],
    }
    listing = bench.jobs.ps(bench.said.append)
    states = {job.id: job.state for job in listing.jobs}
    assert states == {kept.id: JobState.RUNNING, lost.id: JobState.LOST}
    assert listing.unasked == (f"'box' cannot say how {kept.id} stands: status.json is torn",)


def test_row_that_makes_no_sense_is_said(bench: Bench) -> None:
    job = bench.job("odd")
    bench.runtime.answers["job.list"] = lambda _: {"jobs": [{"id": job.id}], "problems": []}
    [sentence] = bench.jobs.ps(bench.said.append).unasked
    assert "cannot understand" in sentence
    bench.runtime.answers["job.stop"] = lambda _: {"status": {"started": 1}}
    with pytest.raises(ProtocolError):
        bench.jobs.stop(job, grace_s=1)


def test_unreadable_record_is_in_nobody_elses_way(bench: Bench, tmp_path: Path) -> None:
    train, other = bench.job("train"), bench.job("other")
    (tmp_path / "train-state" / "jobs" / other.id / "job.json").write_text("{")
    assert bench.jobs.find("train", bench.said.append) == train
    with pytest.raises(ColabdevError, match="cannot read"):
        bench.jobs.find("oth", bench.said.append)


# --- logs of machines that go --------------------------------------------------------------------


def test_each_log_comes_home_whatever_the_others_do(bench: Bench) -> None:
    """One that the runtime does not have, one that it cannot send, one that is all right."""
    bench.job("absent")
    broken, good = bench.job("broken"), bench.job("good")
    rows = [{"id": job.id, "state": "running"} for job in (broken, good)]
    bench.runtime.answers["job.list"] = lambda _: {"jobs": rows, "problems": []}
    bench.runtime.answers["job.stop"] = lambda _: {"status": ENDED}
    bench.runtime.answers["job.follow"] = lambda arguments: (
        whole_log(arguments) if arguments["id"] == good.id else refuse(arguments)
    )
    bench.jobs.logs.bring_home(make_record(), bench.said.append)
    assert bench.store.read_log(good.id, 1, 0) == b"abc"
    [complaint] = [said for said in bench.said if said.startswith("cannot")]
    assert complaint == f"cannot bring the end of {broken.id} home: no room"


def test_log_that_finds_no_room_at_home_is_said_to_be_lost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = bench.job("big")
    rows = [{"id": job.id, "state": "running"}]
    bench.runtime.answers["job.list"] = lambda _: {"jobs": rows, "problems": []}
    bench.runtime.answers["job.stop"] = lambda _: {"status": ENDED}
    bench.runtime.answers["job.follow"] = whole_log

    def full(*_: object) -> None:
        raise StateNotWritable("cannot write: No space left on device")

    monkeypatch.setattr(FileJobStore, "append", full)
    bench.jobs.logs.bring_home(make_record(), bench.said.append)
    assert bench.said[-1] == (
        "cannot write: No space left on device; "
        f"the log of {job.id} is lost with the machine's disk"
    )


@pytest.mark.parametrize("another", [False, True], ids=["down", "connected anew"])
def test_part_of_a_log_whose_machine_is_gone_is_printed_and_said(
    bench: Bench, another: bool
) -> None:
    job = bench.job("ended", "failed", log_bytes=10)
    bench.store.append(job.id, 1, 0, b"abcd")
    bench.runtimes.delete("box")
    if another:
        bench.runtimes.save(replace(make_record(), request_id="another"))
    pieces = bench.jobs.follow(job, bench.said.append, wait=False)
    assert next(pieces) == b"abcd"
    with pytest.raises(RuntimeLost, match="4 of 10 bytes of its log are here; the machine is gone"):
        next(pieces)
    bench.store.append(job.id, 1, 4, b"efghij")
    whole = b"".join(bench.jobs.follow(job, bench.said.append, wait=True))
    assert whole == b"abcdefghij"


@pytest.mark.parametrize("home", [b"", b"abc"], ids=["lost", "brought home"])
def test_follower_of_an_ended_job_ends_when_its_machine_goes(bench: Bench, home: bytes) -> None:
    job = bench.job("ended", "succeeded", log_bytes=3)

    def down(arguments: object) -> Iterator[Answer]:
        bench.store.append(job.id, 1, 0, home)
        bench.runtimes.delete("box")
        yield from cut(arguments)

    bench.runtime.answers["job.follow"] = down
    pieces = bench.jobs.follow(job, bench.said.append, wait=True)
    if home:
        assert b"".join(pieces) == home
    else:
        with pytest.raises(RuntimeLost, match="0 of 3 bytes"):
            list(pieces)


# --- what Ctrl-C says ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("starting", "says"),
    [
        (Starting({}), "was not started"),
        (Starting({}, unanswered=1), "may have started; colabdev ps tells"),
        (Starting({}, unanswered=1, started=True), "runs on"),
    ],
)
def test_ctrl_c_says_what_became_of_the_job(
    bench: Bench, starting: Starting, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job = bench.job("left")
    render_jobs.left(Start(job, make_record(), starting))
    assert capsys.readouterr().err.splitlines()[1] == f"{job.id} {says}"
