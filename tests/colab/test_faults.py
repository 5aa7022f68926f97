"""What goes wrong at Colab while there is a runtime: what the user reads, the exit code, and that no
runtime is left that nobody knows."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from colabdev.errors import NoCapacity
from colabdev.models import HardwareWish, StartRequest
from tests.support.colab import Colab, Machine
from tests.support.colab_kernel import Kernel
from tests.support.colab_user import ColabHouse
from tests.support.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Case:
    """`connect` with one thing that goes wrong."""

    fault: str
    value: Any
    code: int
    said: str
    times: int | None = None
    new_link: bool = False
    """The keeper has to connect anew."""


ASKED = [
    Case("captcha", True, 11, "Colab wants to see a person before it gives another runtime"),
    Case("assign_gives", "A100", 11, "Colab gave A100, which was not asked for; it was given back"),
]
GIVEN = [
    Case("mount_failure", "disabled", 0, "Drive is not mounted: mount failed: Drive for desktop"),
    Case("propagation_status", 400, 0, "the browser's account is another one"),
    Case("kernel_crash", True, 12, "the runtime's kernel died", times=1),
    Case("ssh_status", 403, 12, "Colab refuses SSH to", new_link=True),
    Case("ssh_busy", True, 0, "connecting to colab", times=1, new_link=True),
]
PATIENT = [
    Case("ssh_busy", True, 12, "waiting: another SSH connection to", new_link=True),
    Case("websocket_delay_s", 11, 0, "waiting for", times=1),
    Case("proxy_status", 500, 0, "waiting for", times=2),
]


def check(house: ColabHouse, case: Case, *options: str) -> None:
    """Type `connect` with that fault."""
    if case.new_link:
        house.end_keeper("colab")
    house.colab.fault(case.fault, case.value, case.times)
    done = house.colabdev("connect", "--provider", "colab", *options, timeout_s=110)
    house.colab.fault(case.fault, None)
    assert done.returncode == case.code, (case, done.stderr)
    assert case.said in done.stderr, case
    assert case.code == 0 or "\n  next: " in done.stderr, case
    assert house.colab.describe()["struck"][case.fault], case


def runtimes(colab: Colab) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = colab.describe()["runtimes"]
    return found


def test_every_fault_is_said_and_no_runtime_is_forgotten(house: ColabHouse, colab: Colab) -> None:
    house.log_in_by_gcloud()
    for case in ASKED:
        check(house, case, "--gpu", "v5e1")
        assert runtimes(colab) == []
    made = colab.counters()["runtime made"]
    for case in GIVEN:
        check(house, case, "--gpu", "v5e1")
    record = house.connect_colab("--gpu", "v5e1")
    (runtime,) = runtimes(colab)
    assert colab.counters()["runtime made"] == made + 1, "it was the same one all the time"
    assert record.machine is not None
    assert (runtime["accelerator"], record.machine.accelerator) == ("V5E1", "V5E1")
    assert record.machine.drive_dir == "/content/drive/MyDrive"
    twice = house.colabdev("connect", "other", "--adopt", runtime["endpoint"])
    assert twice.returncode == 2
    assert f"{runtime['endpoint']} is 'colab' here already" in twice.stderr
    colab.fault("unassign_status", 500)
    refused = house.colabdev("down", "colab")
    assert refused.returncode == 12
    assert f"Colab does not release {runtime['endpoint']}" in refused.stderr
    assert house.store.names() == ["colab", "other"]
    colab.fault("unassign_status", None)
    assert house.colabdev("down", "--all").returncode == 0
    house.assert_nothing_is_billed()


@pytest.mark.long
@pytest.mark.timeout(300)
def test_what_takes_long_is_waited_for_or_said(house: ColabHouse, colab: Colab) -> None:
    house.log_in_by_gcloud()
    house.connect_colab()
    for case in PATIENT:
        check(house, case)
    assert house.colabdev("down").returncode == 0
    house.assert_nothing_is_billed()


def test_runtime_without_ssh_is_told_at_once(house: ColabHouse, colab: Colab) -> None:
    house.log_in_by_gcloud()
    colab.fault("no_ssh", True)
    done = house.colabdev("connect", timeout_s=30)
    assert done.returncode == 12
    assert "has no SSH: it was made without" in done.stderr
    assert "next: colabdev down gives it back" in done.stderr
    assert house.colabdev("down").returncode == 0
    house.assert_nothing_is_billed()


def test_adopted_runtime_without_sshd_gets_one(house: ColabHouse, colab: Colab) -> None:
    """By apt, whose part a script plays: there is no network."""
    house.log_in_by_gcloud()
    unknown = house.colabdev("connect", "--adopt", "gpu-t4-s-nobody")
    assert unknown.returncode == 2
    assert "this account has no runtime gpu-t4-s-nobody" in unknown.stderr
    assigned = colab.assign("T4")
    with Kernel(Machine(assigned)) as kernel:
        assert not kernel.execute(HIDE_SSHD).error
        refused = house.colabdev("connect", "--adopt", assigned["endpoint"])
        assert refused.returncode == 1
        assert "there is no sshd, and it could not be installed" in refused.stderr
        kernel.execute("shutil.move('/tmp/apt-get', '/usr/local/sbin/apt-get')")
    record = house.connect_colab("--adopt", assigned["endpoint"])
    assert record.machine is not None
    assert record.machine.ssh.tunnel is not None
    assert record.machine.ssh.tunnel.endpoint == assigned["endpoint"]
    other = house.colabdev("connect", "--gpu", "L4")
    assert other.returncode == 2
    assert "is a runtime with T4 already" in other.stderr
    assert house.colabdev("down").returncode == 0
    house.assert_nothing_is_billed()


HIDE_SSHD = """\
import os, shutil
place = shutil.which("sshd", path="/usr/local/sbin:/usr/sbin:/usr/bin")
shutil.move(place, "/tmp/sshd")
def put(path, text):
    with open(path, "w") as file:
        file.write("#!/bin/sh\\n" + text)
    os.chmod(path, 0o755)
put("/tmp/apt-get", f'case "$*" in *install*openssh-server*) mv /tmp/sshd {place} ;; esac\\n')
put("/usr/local/sbin/apt-get", "exit 100\\n")
"""


def test_waiting_goes_on_until_one_is_free(house: ColabHouse, colab: Colab) -> None:
    house.log_in_by_gcloud()
    provider = house.colab_provider(wait_first_s=0.01)
    wish = HardwareWish(("A100",), high_memory=True, wait=True)
    request = StartRequest("colab", "one", house.ssh_files.public_key(), hardware=wish)
    steps: list[str] = []
    colab.fault("assign_status", 412)
    with pytest.raises(NoCapacity, match="as many as it may have"):
        provider.start(request, steps.append)
    assert not any("asking again" in step for step in steps), "waiting helps nobody there"
    colab.fault("assign_status", 503, times=3)
    provider.start(request, steps.append)
    assert len([step for step in steps if step.startswith("asking again in")]) == 3
    (runtime,) = runtimes(colab)
    assert (runtime["accelerator"], runtime["high_ram"]) == ("A100", True)
    provider.release("colab")
    assert runtimes(colab) == []


def test_waiting_ends_by_ctrl_c(house: ColabHouse, colab: Colab, tmp_path: Path) -> None:
    house.log_in_by_gcloud()
    colab.fault("assign_status", 503)
    said = tmp_path / "said"
    with said.open("wb") as stderr:
        waiting = subprocess.Popen(
            [sys.executable, "-m", "colabdev", "connect", "--wait"],
            cwd=house.project,
            env=house.environment,
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
        )
    wait_until(lambda: "Ctrl-C ends that" in said.read_text(), message="it does not wait")
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(20) == 130
    assert runtimes(colab) == []
    assert house.colabdev("down", "--all").returncode == 0
