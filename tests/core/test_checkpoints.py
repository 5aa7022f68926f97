"""What a runtime tells of its checkpoints, and what is said of them."""

from __future__ import annotations

from typing import Any

import pytest

from colabdev.core.checkpoints import (
    Durable,
    check_checkpoint_name,
    choose_checkpoint,
    choose_job,
    describe_durable,
    durable_of,
    parse_checkpoint,
    parse_jobs,
    parse_runs,
)
from colabdev.errors import CheckpointNotFound, ProtocolError, UsageError

JOB = "train-261120-abcd"
ROW = {
    "name": "1-1180",
    "step": 1180,
    "attempt": 1,
    "saved": 1000.0,
    "level": "confirmed",
    "unproven": False,
    "store": "pull",
    "path": "/x",
    "size_bytes": 12,
    "sha256": "a" * 64,
    "levels": {"drivefs": "published", "pull": "confirmed"},
    "local": True,
    "since": 1002.0,
}


def job_row(job: str = JOB, **changes: Any) -> dict[str, Any]:
    newest = {**ROW, "name": "1-1240", "step": 1240, "level": "local", "saved": 1112.0}
    return {
        "job": job,
        "accept": "confirmed",
        "stores": ["drivefs", "pull"],
        "checkpoints": [newest, ROW],
        "newest": newest,
        "safe": ROW,
        "is_safe": False,
        "at_risk_steps": 60,
        "at_risk_s": 112.4,
        "problems": {"drivefs": ""},
        **changes,
    }


def test_status_line_is_the_documented_one() -> None:
    durable = durable_of(parse_jobs({"jobs": [job_row()]}), now=1040.0)
    assert durable == Durable(JOB, 1180, "confirmed", 38.0, 60, 112.4, is_safe=True)
    said = "safe: step 1180 (CONFIRMED), 38 s ago; would lose 60 steps, 1m52s"
    assert describe_durable(durable) == said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"at_risk_steps": 0, "at_risk_s": 0.0}, "safe: step 1180 (CONFIRMED), 38 s ago"),
        (
            {"at_risk_steps": None, "at_risk_s": 3700},
            "safe: step 1180 (CONFIRMED), 38 s ago; would lose 1h01m",
        ),
        (
            {"safe": None, "checkpoints": [{**ROW, "level": "accepted"}], "at_risk_s": 9},
            "nothing is safe yet: step 1180 (ACCEPTED); would lose 60 steps, 9s",
        ),
    ],
)
def test_status_line_says_no_more_than_is_known(changes: dict[str, Any], said: str) -> None:
    durable = durable_of(parse_jobs({"jobs": [job_row(**changes)]}), now=1040.0)
    assert durable is not None
    assert describe_durable(durable) == said


def test_path_is_where_the_store_has_it() -> None:
    row = {**ROW, "store": "drivefs", "path": "1-1180.2"}
    (job,) = parse_jobs({"jobs": [job_row(folder="digits/runs/x/checkpoints", checkpoints=[row])]})
    assert job.checkpoints[0].path == "digits/runs/x/checkpoints/1-1180.2"


def test_job_with_the_newest_checkpoint_counts() -> None:
    empty = job_row("other-261120-abcd", checkpoints=[], safe=None)
    assert durable_of(parse_jobs({"jobs": [empty]}), now=0) is None
    both = parse_jobs({"jobs": [empty, job_row()]})
    assert choose_job(None, both).job == JOB
    assert choose_job("train", both).job == JOB
    with pytest.raises(CheckpointNotFound):
        choose_job("nothing", both)
    with pytest.raises(CheckpointNotFound):
        choose_job(None, parse_jobs({"jobs": [empty]}))
    twins = parse_jobs({"jobs": [job_row(), job_row("train-261121-abcd")]})
    with pytest.raises(UsageError, match="train-261120-abcd, train-261121-abcd"):
        choose_job("train", twins)


def test_checkpoint_is_chosen_by_name_or_step() -> None:
    known = parse_jobs({"jobs": [job_row()]})[0].checkpoints
    assert choose_checkpoint(None, JOB, known).name == "1-1240"
    assert choose_checkpoint("1180", JOB, known).name == "1-1180"
    assert choose_checkpoint("1-1180", JOB, known).name == "1-1180"
    for word, among in (("7", known), (None, [])):
        with pytest.raises(CheckpointNotFound):
            choose_checkpoint(word, JOB, among)


@pytest.mark.parametrize(
    "name", ["", "../1-2", "1-2/3", "/1-2", ".1-2", "1-", "x", "1-a b", 3, None]
)
def test_names_that_lead_elsewhere_are_refused(name: object) -> None:
    with pytest.raises(ValueError, match="no name"):
        check_checkpoint_name(name)
    with pytest.raises(ProtocolError):
        parse_checkpoint(JOB, {**ROW, "name": name})


@pytest.mark.parametrize(
    "row",
    [
        *(
            {**ROW, **{key: value}}
            for key, value in (("level", "safe"), ("step", "x"), ("levels", 3))
        ),
        *(None, [], {}, {"name": "1-2"}),
    ],
)
def test_rows_without_sense_are_refused(row: object) -> None:
    with pytest.raises(ProtocolError):
        parse_checkpoint(JOB, row)
    with pytest.raises(ProtocolError):
        parse_jobs({"jobs": [job_row(checkpoints=[row])]})


def test_stored_runs_come_newest_first_and_odd_ones_not() -> None:
    other = "older-261120-abcd"
    runs = [
        *({"job": "../..", "checkpoints": [ROW]}, {"job": None}, 3),
        {"job": other, "run": {"created": 1.0}},
        {"job": JOB, "run": {"created": 2.0}, "checkpoints": [ROW]},
    ]
    assert [run.job for run in parse_runs({"runs": runs})] == [JOB, other]
    assert parse_runs({"runs": runs})[0].checkpoints[0].step == 1180
    assert parse_runs({}) == []
