"""Jobs that go on on the next runtime of Colab's with what they need: Drive, packages, secrets."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from colabdev.adapters.recovery_store import FileRecoveryStore
from colabdev.services.recovery import USER_PATIENCE
from tests.colab.test_life import runtime
from tests.support.colab import Colab
from tests.support.colab_continuing import (
    LIMITED,
    NEXT_RUNTIME_S,
    SECRET,
    TELLS_THE_SECRET,
    begin,
    give_up,
    made,
    newest_safe,
    reclaim,
    there,
    told,
    wait_for_attempt,
)
from tests.support.colab_user import ColabHouse, files_with
from tests.support.recovering import TRAINER, is_safe, log_of, settle, standing, train
from tests.support.waiting import wait_until
from tests.support.wheels import make_source


@pytest.mark.long
@pytest.mark.timeout(600)
def test_user_is_waited_for_who_alone_can_let_the_next_runtime_into_drive(
    ready: ColabHouse, colab: Colab
) -> None:
    job = begin(ready, "--yes")
    colab.account(consented=False)
    reclaim(colab)
    page = f"open {colab.base_url}/drive-consent"
    asks = f"Google asks whether the new runtime may use your Drive; next: {page}"
    wait_until(
        lambda: asks in standing(ready, job).get("why", ""),
        timeout_s=NEXT_RUNTIME_S,
        message="nobody says what it waits for",
    )
    assert asks in ready.colabdev("ps").stderr
    assert (
        f"colab: {job} continues: it is tried again soon: {asks}" in ready.colabdev("status").stdout
    )
    assert page in (ready.places.log_dir / "continue-colab.log").read_text()
    assert (made(colab), len(colab.describe()["runtimes"])) == (2, 1)
    colab.account(consented=True)
    assert wait_for_attempt(ready, job, 2) > 0
    assert made(colab) == 2

    wait_until(lambda: newest_safe(ready, job) == 2, timeout_s=60, message="attempt 2 is not safe")
    colab.account(consented=False)
    reclaim(colab)
    wait_until(
        lambda: standing(ready, job)["user_awaited"],
        timeout_s=NEXT_RUNTIME_S,
        message="it is not waited for",
    )
    as_if_nobody_came(ready, job)
    wait_until(lambda: standing(ready, job)["is_over"], timeout_s=90, message="it waits for ever")
    wait_until(lambda: colab.describe()["runtimes"] == [], timeout_s=60, message="one is left over")
    assert made(colab) == 3
    status = ready.colabdev("status")
    typed = ("run", "--continue", job)
    said = "may use your Drive; its new machine was given back; next: colabdev " + " ".join(typed)
    assert said in status.stdout + status.stderr, status
    assert ready.colabdev(*typed, "--detach", timeout_s=120).returncode == 0
    assert wait_for_attempt(ready, job, 3) > 0
    assert colab.counters()["drive consent"] == 1, "asked in a browser once somebody was there"
    give_up(ready)


def as_if_nobody_came(house: ColabHouse, job: str) -> None:
    """For longer than it waits."""
    plans = FileRecoveryStore(house.places.state_dir)
    with plans.at_work(job):
        going_on = plans.continuation(job)
        assert going_on.user_awaited is not None
        long_ago = going_on.user_awaited - USER_PATIENCE
        plans.save_continuation(job, replace(going_on, user_awaited=long_ago))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_job_whose_checkpoints_go_by_the_api_goes_on_also_without_a_mounted_drive(
    ready: ColabHouse, colab: Colab
) -> None:
    ready.log_in()
    ready.environment["COLABDEV_DRIVE_URL"] = colab.base_url
    settle(ready, LIMITED.replace('["drivefs", "pull"]\naccept = "published"', '["driveapi"]'))
    job = begin(ready, "--yes")
    colab.account(consented=False)
    reclaim(colab)
    assert wait_for_attempt(ready, job, 2) > 0
    wait_until(lambda: newest_safe(ready, job) == 2, timeout_s=60, message="attempt 2 is not safe")
    assert made(colab) == 2
    give_up(ready)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_environment_of_the_job_comes_from_drive_and_is_made_anew_where_that_is_torn(
    ready: ColabHouse, colab: Colab
) -> None:
    drive = "/content/drive/MyDrive"
    ready.connect_colab()
    # What is made in less than a second is not kept.
    source = make_source(ready.root / "wheels", "tool", "1.5", build_s=1.5)
    packed = base64.b64encode(source.read_bytes()).decode()
    there(ready, f"cd {drive} && mkdir wheels && echo {packed} | base64 -d > wheels/{source.name}")
    wanted = f"--no-index\n--find-links {drive}/wheels\ntool\n"
    (ready.project / "requirements.txt").write_text(wanted)
    settle(ready, f'[job]\nrequirements = "requirements.txt"\n{LIMITED}')
    (ready.project / "train.py").write_text(f"import tool\n{TRAINER}")
    job = train(ready, "--yes")
    kept = f"{drive}/colabdev/environments"
    wait_until(
        lambda: ".zip" in there(ready, f"ls {kept} || true"), timeout_s=60, message="not kept"
    )
    wait_until(
        lambda: not runtime(colab)["drive_pending"], timeout_s=60, message="not in the cloud"
    )

    reclaim(colab)
    wait_until(lambda: is_safe(ready, job, attempt=2), timeout_s=120, message="it does not go on")
    log = log_of(ready, job, 2)
    assert ("environment: cold " in log, "installing" in log) == (True, False), log
    there(ready, f"truncate -s 1000 {kept}/*.zip")
    wait_until(
        lambda: not runtime(colab)["drive_pending"], timeout_s=60, message="not in the cloud"
    )

    reclaim(colab)
    wait_until(lambda: is_safe(ready, job, attempt=3), timeout_s=120, message="it does not go on")
    log = log_of(ready, job, 3)
    assert "the environment on Drive is not used: " in log
    assert "installing requirements.txt with " in log
    assert made(colab) == 3
    give_up(ready)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_job_whose_secret_went_with_its_keeper_waits_for_whoever_has_it(
    ready: ColabHouse, colab: Colab
) -> None:
    (ready.project / "train.py").write_text(TELLS_THE_SECRET)
    ready.environment["HF_TOKEN"] = SECRET
    job = begin(ready, "--yes", "--secret", "HF_TOKEN")
    ready.end_keeper("colab")
    del ready.environment["HF_TOKEN"]
    reclaim(colab)
    typed = ("run", "--continue", job)
    wait_until(
        lambda: f"next: colabdev {' '.join(typed)} asks for it" in told(ready),
        timeout_s=60,
        message="nobody says what is to be typed",
    )
    why = f"{job} is lost: needs HF_TOKEN, and the keeper that had it is gone; "
    assert why in ready.colabdev("status").stdout
    refused = ready.colabdev(*typed, "--detach")
    assert (refused.returncode, why[:-2].replace("is lost: ", "") in refused.stderr) == (125, True)
    assert (made(colab), colab.describe()["runtimes"]) == (1, [])
    colab.fault("assign_status", 503, times=2)  # From then on a keeper has it again.
    refused = ready.colabdev(*typed, "--detach", env={"HF_TOKEN": SECRET}, timeout_s=120)
    assert (refused.returncode, "Colab has no L4 free now" in refused.stderr) == (125, True)
    assert wait_for_attempt(ready, job, 2) > 0
    assert there(ready, f"grep -rl {SECRET} /content /root; touch /content/project/enough") == ""
    assert ready.colabdev("attach", job).returncode == 3
    assert files_with(SECRET, ready.root) == []
    assert ready.colabdev("down", timeout_s=120).returncode == 0
    ready.assert_nothing_is_billed()
