"""Jobs that go on on the next runtime of Colab's: when there is one, when not, and none is left over."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.colab.crashes import ASKED
from tests.colab.test_leaving import end_ttl
from tests.colab.test_life import IDLE_S, runtime
from tests.services.test_recovery import RECOVERY
from tests.support.colab import Colab
from tests.support.colab_continuing import (
    ASKED_TO_SAVE,
    NEXT_RUNTIME_S,
    SECRET,
    SETTINGS,
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
from tests.support.house import is_running
from tests.support.jobs import Running, job_of, state_of
from tests.support.recovering import (
    allow_many,
    beside,
    forget_the_hour,
    is_safe,
    kill_at,
    log_of,
    record,
    settle,
    standing,
)
from tests.support.waiting import wait_until
from tests.test_crash_points import crash

BEFORE_ITS_KEEPER = ("connect.recorded", *ASKED, "connect.started", "connect.addressed")


@pytest.mark.timeout(300)
def test_run_goes_on_when_colab_takes_its_runtime_and_gives_the_next_one_back(
    ready: ColabHouse, colab: Colab
) -> None:
    (ready.project / "train.py").write_text(TELLS_THE_SECRET)
    env = {**ready.environment, "HF_TOKEN": SECRET}
    words = ("run", "--yes", "--down", "--secret", "HF_TOKEN", "train.py")
    with Running(ready, *words, env=env) as running:
        said = running.read_complaints("job ")
        assert "it continues on a new one, up to 3 times, at most 20 units" in said
        job = job_of(said)
        wait_until(lambda: is_safe(ready, job), timeout_s=60, message="nothing of it is safe")
        check_unreachable_is_not_gone(ready, colab)
        colab.fault("assign_status", 503, times=3)  # Nothing is free, and then no T4.
        reclaim(colab)
        began = wait_for_attempt(ready, job, 2)
        assert began > 0
        assert (made(colab), runtime(colab)["accelerator"]) == (2, "L4")
        check_run_record(ready, job, began)
        held = there(ready, f"grep -rl {SECRET} /content /root; touch /content/project/enough")
        code, read, complaints = running.finish(120)
    assert code == 3, complaints
    assert (held, files_with(SECRET, ready.root)) == ("", [])
    logs = [log_of(ready, job, attempt) for attempt in (1, 2)]
    assert read.decode() == "".join(logs)
    assert f"step {began}\n" in logs[0]
    assert logs[1].startswith(f"attempt 2 from {began} --resume /content/restored/")
    assert "attempt 1 ended unseen after byte" in complaints
    assert "colab is released" in complaints
    ready.assert_nothing_is_billed()


def check_unreachable_is_not_gone(house: ColabHouse, colab: Colab) -> None:
    """Nobody starts a second one because the network is cut, or Colab does not answer."""
    endpoint = runtime(colab)["endpoint"]
    colab.fault("ssh_status", 502)
    colab.fault("backend_status", 500)
    colab.do("drop_ssh", endpoint)
    asked = struck(colab, "backend_status")
    wait_until(
        lambda: struck(colab, "backend_status") > asked + 2,
        timeout_s=60,
        message="nobody asks whether it is gone",
    )
    for name in "ssh_status", "backend_status":
        colab.fault(name, None)
    wait_until(
        lambda: [one["state"] for one in house.status()] == ["ready"],
        timeout_s=60,
        message="it is not reached again",
    )
    assert (made(colab), runtime(colab)["endpoint"]) == (1, endpoint)


def struck(colab: Colab, fault: str) -> int:
    """So often that fault was met."""
    count: int = colab.describe()["struck"].get(fault, 0)
    return count


def check_run_record(house: ColabHouse, job: str, began: int) -> None:
    """As the store has it: each attempt once, and that the second is not bit-exact."""
    folder = f"/content/drive/MyDrive/colabdev/project/runs/{job}/attempts"
    grounds: list[Any] = []

    def is_told() -> bool:
        told = there(house, f"cat {folder}/2-ground.json || true")
        grounds.append(json.loads(told) if told else None)
        return bool(told)

    wait_until(is_told, timeout_s=30, message="the second attempt does not say on what it stands")
    assert grounds[-1]["not_bit_exact"] == ["gpu was Tesla T4, is NVIDIA L4"]
    second = json.loads(there(house, f"cat {folder}/2.json"))
    assert (second["from_attempt"], second["from_step"]) == (1, began)


REFUSALS = [
    ("assign_status", 503, "Colab has no L4 free now"),
    ("captcha", True, "it asks for a CAPTCHA; next: run a cell at https://colab."),
    ("assign_outcome", 1, "the account's quota for it is used up"),
    ("mount_failure", "disabled", "'colab' came without Drive: "),
]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_laptop_was_off_and_refusals_are_waited_for_within_what_was_agreed(
    ready: ColabHouse, colab: Colab
) -> None:
    colab.account(balance=100)
    job = begin(ready, "--yes")
    ready.end_keeper("colab")
    reclaim(colab)
    assert f"{job}: its machine died; starting a new machine for it" in told(ready)
    assert wait_for_attempt(ready, job, 2) > 0
    wait_until(lambda: newest_safe(ready, job) == 2, timeout_s=60, message="attempt 2 is not safe")

    colab.fault(*REFUSALS[0][:2])
    reclaim(colab)
    for number, (fault, value, why) in enumerate(REFUSALS):
        if number:
            colab.fault(fault, value)
            colab.fault(REFUSALS[number - 1][0], None)
        wait_until(
            lambda why=why: why in standing(ready, job)["why"],  # type: ignore[misc]
            timeout_s=NEXT_RUNTIME_S,
            message=f"nothing is said of {fault}",
        )
        seen = ready.colabdev("ps").stderr
        assert f"{job}: its machine died; it is tried again " in seen, seen
        assert why in seen, seen
        assert len(colab.describe()["runtimes"]) == (fault == "mount_failure")
    colab.fault(fault, None)
    assert wait_for_attempt(ready, job, 3, timeout_s=300) > 0
    wait_until(lambda: newest_safe(ready, job) == 3, timeout_s=60, message="attempt 3 is not safe")
    assert made(colab) == 3

    colab.account(balance=80)
    reclaim(colab)
    wait_until(lambda: standing(ready, job)["is_over"], timeout_s=60, message="it is not given up")
    assert (made(colab), colab.describe()["runtimes"]) == (3, [])
    seen = ready.colabdev("ps").stderr
    used_up = f"the units are used up that {job} may cost on new machines"
    assert f"{job} is lost: {used_up}; next: colabdev run --continue {job}\n" in seen, seen
    typed = ready.colabdev("run", "--continue", job, "--detach", timeout_s=120)
    assert typed.returncode == 0, typed.stderr
    assert wait_for_attempt(ready, job, 4) > 0
    give_up(ready)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("why", ["nobody agreed", "its machine's ttl was over", "down"])
def test_nothing_is_allocated_that_nobody_wants(ready: ColabHouse, colab: Colab, why: str) -> None:
    limit = {"nobody agreed": "", "down": "max_units = 20"}.get(why, 'ttl = "8h"\nmax_units = 20')
    settle(ready, SETTINGS.format(limit=limit))
    ready.connect_colab()
    started = ready.colabdev("run", "--yes", "--detach", "train.py")
    assert started.returncode == 0, started.stderr
    job = started.stdout.strip()
    wait_until(lambda: "step 5" in log_of(ready, job, 1), timeout_s=60, message="it does not run")
    if why == "nobody agreed":
        assert "it does not continue: --yes agrees to what it costs only where" in started.stderr
        reclaim(colab)
    elif why == "down":
        assert ready.colabdev("down", "--force", timeout_s=120).returncode == 0
    else:
        ready.end_keeper("colab")  # It gives it back then: nothing would die.
        end_ttl(ready)
        reclaim(colab)
    seen = told(ready)
    assert state_of(ready, job) == ("stopped" if why == "down" else "lost"), seen
    if "ttl" in why:
        assert f"{job} is lost: {why}" in seen
    wait_until(lambda: not has_keeper(ready), timeout_s=60, message="somebody waits for something")
    assert (made(colab), colab.describe()["runtimes"]) == (1, [])
    assert ready.colabdev("down", "--all").returncode == 0
    ready.assert_nothing_is_billed()


def has_keeper(house: ColabHouse) -> bool:
    known = house.store.load("colab")
    return known is not None and known.keeper is not None and is_running(known.keeper.pid)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_job_saves_before_its_runtime_ends_by_age_and_goes_on_from_that(
    ready: ColabHouse, colab: Colab
) -> None:
    """Kept alive for as long as a runtime may live, and then taken by Colab: that is a death."""
    settle(ready, ASKED_TO_SAVE)
    ready.connect_colab()
    started = ready.colabdev("run", "--yes", "--detach", "train.py", "--when-asked")
    assert started.returncode == 0, started.stderr
    job = started.stdout.strip()
    wait_until(lambda: "step 5" in log_of(ready, job, 1), timeout_s=60, message="it does not run")
    assert not is_safe(ready, job)
    end_ttl(ready, in_s=100)
    ready.end_keeper("colab")  # The next one looks at once.
    ready.status()
    wait_until(lambda: is_safe(ready, job), timeout_s=60, message="it is not asked to save")
    end_ttl(ready)
    wait_until(
        lambda: not runtime(colab)["kernel_websockets"], message="somebody holds its kernel still"
    )
    colab.advance(IDLE_S)
    began = wait_for_attempt(ready, job, 2)
    assert began > 0
    assert list(colab.describe()["ended"].values()) == ["idle"]
    give_up(ready)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_runtime_that_gave_itself_back_after_the_job_is_told_from_one_that_died(
    ready: ColabHouse, colab: Colab
) -> None:
    """Nobody here saw either; what Drive has of the job tells, and what was allocated to look is given
    back."""
    job = begin(ready, "--yes", "--down")
    ready.end_keeper("colab")
    endpoint = runtime(colab)["endpoint"]
    there(ready, "touch /content/project/enough")
    ready.end_keeper("colab")
    wait_until(
        lambda: colab.describe()["ended"] == {endpoint: "unassigned from within"},
        timeout_s=90,
        message="it does not end itself",
    )
    ready.colabdev("ps")
    wait_until(
        lambda: record(ready, job)["state"] == "failed",
        timeout_s=NEXT_RUNTIME_S,
        message="its end is not told",
    )
    wait_until(lambda: colab.describe()["runtimes"] == [], timeout_s=60, message="one is left over")
    assert record(ready, job)["attempt"] == 1
    assert record(ready, job)["exit_code"] == 3
    assert ready.colabdev("down", "--all").returncode == 0
    ready.assert_nothing_is_billed()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_next_runtime_costs_no_more_than_was_agreed_also_while_a_run_follows(
    ready: ColabHouse, colab: Colab
) -> None:
    settle(ready, ASKED_TO_SAVE)
    colab.account(balance=100)
    ready.connect_colab()
    with Running(ready, "run", "--yes", "train.py", "--when-asked") as running:
        job = job_of(running.read_complaints("job "))
        wait_until(
            lambda: beside(ready, job, "code.zip").exists(), timeout_s=60, message="it is not here"
        )
        reclaim(colab)
        wait_for_attempt(ready, job, 2)
        assert not is_safe(ready, job)
        colab.account(balance=80)
        ready.end_keeper("colab")  # The next one asks at once.
        spent = f"{job} has cost all that was agreed to for new machines"
        wait_until(
            lambda: spent in ready.colabdev("status").stderr, timeout_s=60, message="not said"
        )
        wait_until(lambda: is_safe(ready, job), timeout_s=60, message="it is not asked to save")
        assert newest_safe(ready, job) == 2
        wait_until(
            lambda: not runtime(colab)["kernel_websockets"],
            timeout_s=60,
            message="somebody holds its kernel still",
        )
        colab.advance(IDLE_S)
        code, _, complaints = running.finish(60)
    assert (code, f"{job} is lost: {spent[len(job) + 1 :]}" in complaints) == (125, True), (
        complaints
    )
    assert (made(colab), colab.describe()["runtimes"]) == (2, [])
    assert ready.colabdev("down").returncode == 0
    ready.assert_nothing_is_billed()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_killed_at_each_point_there_is_one_runtime_and_each_attempt_once(
    ready: ColabHouse, colab: Colab
) -> None:
    """kill -9 of what goes on with a job, wherever that asks for its runtime, and at each of its steps;
    then a keeper does it."""
    job = begin(ready, "--yes")
    allow_many(ready, job)
    ready.end_keeper("colab")
    reclaim(colab)
    for point in BEFORE_ITS_KEEPER:
        crash(ready, point, "run", "--continue", job, "--agreed", "--detach")
        assert len(colab.describe()["runtimes"]) <= 1
    ready.status()
    assert wait_for_attempt(ready, job, 2) > 0
    for number, point in enumerate(RECOVERY, start=3):
        forget_the_hour(ready, job)
        wait_until(
            lambda number=number: is_safe(ready, job, attempt=number - 1),  # type: ignore[misc]
            timeout_s=60,
            message=f"attempt {number - 1} is not safe",
        )
        ready.end_keeper("colab")
        reclaim(colab)
        kill_at(ready, point, job)
        ready.end_keeper("colab")
        ready.status()
        assert wait_for_attempt(ready, job, number) > 0
        assert (made(colab), len(colab.describe()["runtimes"])) == (number, 1)
        check_one_lineage(ready, job, number)
    give_up(ready)


def check_one_lineage(house: ColabHouse, job: str, attempts: int) -> None:
    """Each attempt was begun once, after the one before, and the last one's process runs once."""
    assert [row["attempt"] for row in record(house, job)["past"]] == list(range(1, attempts))
    folder = f"/content/drive/MyDrive/colabdev/project/runs/{job}/attempts"
    begun = there(house, f"cat {folder}/[0-9].json | tr -d '\\n'")
    assert sorted(re.findall(r'"attempt": ?(\d+)', begun)) == [str(n + 1) for n in range(attempts)]
    assert there(house, "pgrep -fc '[t]rain.py --resume'").strip() == "1"
