"""How a runtime of Colab's ends by itself: after its job, or at the end of its ttl."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from colabdev.models import RuntimeRecord
from tests.colab.test_life import runtime
from tests.support.colab import Colab
from tests.support.colab_user import ColabHouse
from tests.support.jobs import Running, listed
from tests.support.waiting import wait_until

TRAIN = """\
import os, pathlib, time
pathlib.Path("runs").mkdir()
pathlib.Path("runs/model").write_text("weights")
pathlib.Path("notes.txt").write_text("made there")
print("trained", flush=True)
while not os.path.exists("/tmp/go"):
    time.sleep(0.05)
time.sleep(3)
"""


@pytest.fixture
def ready(house: ColabHouse) -> ColabHouse:
    """Logged in, in a project that wants a T4."""
    house.log_in_by_gcloud()
    (house.project / "train.py").write_text(TRAIN)
    (house.project / "colabdev.toml").write_text(
        '[runtime]\nprovider = "colab"\ngpu = ["T4"]\n[sync]\noutputs = ["runs/"]\n'
    )
    return house


def folders_with_archives(colab: Colab) -> set[str]:
    """The folders of the cloud, not of a mount, that have a zip in them."""
    files = colab.drive()
    names = {file["id"]: file["name"] for file in files}
    archives = [file for file in files if file["name"].endswith(".zip")]
    return {names[parent] for file in archives for parent in file["parents"]}


def test_runtime_ends_after_its_job_while_this_computer_sleeps(
    ready: ColabHouse, colab: Colab
) -> None:
    (ready.project / "colabdev.toml").write_text('[sync]\noutputs = ["runs/"]\n')
    run = ("run", "--provider", "colab", "--gpu", "T4", "--yes")
    started = ready.colabdev(*run, "--detach", "--down", "train.py", timeout_s=120)
    assert started.returncode == 0, started.stderr
    job = started.stdout.strip()
    assert "starting 'colab': a Colab runtime (T4), paid in compute units" in started.stderr
    assert "asking Colab for T4 (about 1.07 compute units an hour)" in started.stderr
    assert "it gives itself back when its jobs have ended" in started.stderr
    endpoint = runtime(colab)["endpoint"]
    assert ready.colabdev("ssh", "--", "touch", "/tmp/go").returncode == 0
    os.kill(ready.keeper_pid("colab"), signal.SIGKILL)
    wait_until(
        lambda: colab.describe()["ended"] == {endpoint: "unassigned from within"},
        timeout_s=60,
        message="it does not end itself",
    )
    assert colab.counters()["drive flushed"] == 1
    assert folders_with_archives(colab) == {"code", "outputs", "log"}
    (told,) = ready.status()
    assert told["state"] == "released"
    said = ready.colabdev("status").stderr
    assert f"gone. It was to give itself back once {job} had ended, when Drive had" in said
    assert [row["state"] for row in listed(ready)] == ["lost"]
    check_end_comes_home_with_the_next_runtime(ready, job)
    assert ready.colabdev("down").returncode == 0
    ready.assert_nothing_is_billed()


def check_end_comes_home_with_the_next_runtime(ready: ColabHouse, job: str) -> None:
    connected = ready.colabdev("connect", timeout_s=60)
    assert connected.returncode == 0, connected.stderr
    assert f"{job} came home from Drive" in connected.stderr
    assert [row["state"] for row in listed(ready)] == ["succeeded"]
    assert ready.colabdev("logs", job).stdout == "trained\n"


def end_ttl(house: ColabHouse, in_s: float = 0.0) -> None:
    """As if the hours had passed, but for those seconds."""

    def ended(record: RuntimeRecord) -> RuntimeRecord:
        assert record.machine is not None
        assert record.machine.ssh.tunnel is not None
        tunnel = replace(
            record.machine.ssh.tunnel, keep_until=datetime.now(UTC) + timedelta(seconds=in_s)
        )
        ssh = replace(record.machine.ssh, tunnel=tunnel)
        return replace(record, machine=replace(record.machine, ssh=ssh))

    house.change(ended, "colab")


def test_keeper_gives_back_at_the_end_of_the_ttl_what_came_home(
    ready: ColabHouse, colab: Colab
) -> None:
    settings = ready.project / "colabdev.toml"
    settings.write_text(settings.read_text().replace("[sync]", 'ttl = "8h"\n[sync]'))
    with Running(ready, "run", "--yes", "train.py") as running:
        assert running.read_line() == "trained\n"
        shown = ready.colabdev("status").stdout
        assert "  colab: up " in shown
        assert ", of 12 h to 1 d at most; its ttl ends at 20" in shown
        end_ttl(ready)
        running.interrupt()
        assert running.finish()[0] == 130
    wait_until(lambda: ready.store.names() == [], timeout_s=90, message="it is not given back")
    ready.assert_nothing_is_billed()
    assert list(colab.describe()["ended"].values()) == ["unassigned"]
    assert (ready.project / "notes.txt").read_text() == "made there"
    assert (ready.project / "runs" / "model").read_text() == "weights"
    assert [row["state"] for row in listed(ready)] == ["stopped"]
    log = ready.places.log_dir / "down-colab.log"
    assert json.loads(log.read_text())["released"] == ["colab"]


@pytest.mark.long
def test_what_would_be_lost_keeps_the_runtime_at_the_end_of_its_ttl(
    ready: ColabHouse, colab: Colab
) -> None:
    """It is said, and the runtime is not kept alive any more: that is all that is left to do."""
    settings = ready.project / "colabdev.toml"
    settings.write_text(settings.read_text().replace("[sync]", 'ttl = "8h"\n[sync]'))
    ready.connect_colab()
    assert ready.colabdev("sync").returncode == 0
    (ready.project / "train.py").write_text("here")
    there = "/content/project/train.py"
    assert ready.colabdev("ssh", "--", f"echo there > {there}").returncode == 0
    end_ttl(ready)
    wait_until(
        lambda: "could not be given back" in ready.colabdev("status").stderr,
        timeout_s=60,
        message="nobody says that it stays",
    )
    said = ready.colabdev("status").stderr
    assert "colab: its ttl is over" in said
    assert "changed on both sides (train.py)" in said
    wait_until(
        lambda: not runtime(colab)["kernel_websockets"], message="somebody holds its kernel still"
    )
    assert ready.colabdev("down", "--force").returncode == 0
    ready.assert_nothing_is_billed()
