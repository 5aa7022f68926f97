"""What Drive has written down of a job is believed only as far as it makes sense."""

from __future__ import annotations

from typing import Any

import pytest

from colabdev.core.run_records import as_record, parse_stored_job
from colabdev.models.recovery import Consent, PastAttempt, Resumed
from tests.support.records import MOMENT, make_record

AT = MOMENT.timestamp()
RUN = {
    "name": "train",
    "kind": "python",
    "argv": ["train.py"],
    "typed": ["train.py"],
    "tree": "a" * 64,
    "created": AT,
    "variables": ["HF_TOKEN"],
    "attempt": 1,
    "pty": True,
    "stdin": "terminal",
    "checkpoints": {"stores": ["local"]},
}
ROW: dict[str, Any] = {
    "job": "train-261120-abcd",
    "run": RUN,
    "starts": [
        {"attempt": 2, "runtime": "second", "started": AT},
        {"attempt": 1, "runtime": "first", "started": AT},
    ],
    "confirmed": [{"attempt": 1, "step": 900}, {"attempt": 2, "step": 40}],
}


def test_newest_attempt_is_the_one_to_go_on_from() -> None:
    stored = parse_stored_job(ROW)
    assert stored.safe == Resumed(2, 40)
    assert (stored.variables, stored.spec["stdin"], stored.spec["pty"]) == (
        ("HF_TOKEN",),
        "none",
        False,
    )
    job = as_record(stored, make_record(), Consent())
    assert (job.attempt, job.request_id, job.runtime) == (2, "second", "box")
    assert job.past == (PastAttempt(1, "first", MOMENT, 0),)


def test_run_of_which_only_the_first_carrier_wrote_has_one_attempt() -> None:
    stored = parse_stored_job({"job": ROW["job"], "run": RUN})
    assert (stored.newest, stored.safe) == (PastAttempt(1, "", MOMENT, 0), None)


def test_what_must_not_be_fallen_behind_is_of_the_lineage_and_as_safe_as_the_job_accepts() -> None:
    """Attempt 1 was gone on with from step 800, knowingly; what it had proved after that is over."""
    second = {"attempt": 2, "runtime": "second", "from_attempt": 1, "from_step": 800}
    listed = {"attempt": 2, "step": 820, "level": "published"}
    row = {**ROW, "starts": [second], "confirmed": [{"attempt": 1, "step": 900}]}
    assert parse_stored_job(row).safe == Resumed(1, 800)
    assert parse_stored_job({**row, "checkpoints": [listed]}).safe == Resumed(1, 800)
    accepts = {**RUN, "checkpoints": {"stores": ["drivefs"], "accept": "published"}}
    assert parse_stored_job({**row, "run": accepts, "checkpoints": [listed]}).safe == Resumed(
        2, 820
    )


@pytest.mark.parametrize(
    "row",
    [
        {**ROW, "run": None},
        {**ROW, "run": {**RUN, "typed": "train.py"}},
        {**ROW, "run": {**RUN, "created": "today"}},
        {**ROW, "run": {**RUN, "created": 1e300}},
        {**ROW, "run": {name: RUN[name] for name in RUN if name != "checkpoints"}},
        {**ROW, "starts": [{"attempt": "2", "runtime": "r"}]},
        {**ROW, "confirmed": [{"attempt": -1}]},
        {**ROW, "run": {**RUN, "checkpoints": "all"}},
        {**ROW, "checkpoints": [{"attempt": 2, "step": 3, "level": "sure"}]},
    ],
)
def test_run_that_makes_no_sense_is_a_value_error(row: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_stored_job(row)
