"""Secrets that a keeper holds: for every client that has its key, in memory alone, as long as it may
matter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from colabdev.adapters.job_store import FileJobStore
from colabdev.models import JobRecord, JobState
from tests.support.house import House
from tests.support.records import MOMENT
from tests.support.waiting import wait_until

SECRETS = {"HF_TOKEN": "s3cret-\u00fc-token"}


def test_secrets_are_held_in_memory_until_the_job_is_over(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        record = house.connect()
        jobs = FileJobStore(house.places.state_dir)
        job = JobRecord("a-261120-aaaa", "a", "local", record.request_id, ("a.py",), MOMENT)
        assert jobs.create(job)
        keeper = house.keeper()
        assert keeper.held(job.id) is None
        keeper.hold(job.id, SECRETS)
        assert house.keeper().held(job.id) == SECRETS
        jobs.save(replace(job, state=JobState.LOST))
        for file in tmp_path.rglob("*"):
            if file.is_file() and not file.is_symlink():
                assert b"s3cret" not in file.read_bytes(), file
        assert house.keeper().held(job.id) == SECRETS
        jobs.save(replace(job, state=JobState.SUCCEEDED))
        wait_until(lambda: house.keeper().held(job.id) is None, message="it is let go")
        keeper.hold(job.id, SECRETS)
        house.end_keeper()
        assert house.keeper().held(job.id) is None
