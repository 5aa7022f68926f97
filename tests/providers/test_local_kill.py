"""`local kill`: a sandbox dies as a VM dies, whole and without a word; Drive and others live on."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest

from tests.providers.test_local_provider import WITHOUT_MARKER, Place, alive, place
from tests.support.waiting import wait_until

__all__ = ["place"]

# A few that flee: each forks and ends at once, so that whoever is found has gone. Bounded in number
# and in time; the file's time says that they live.
FLEEING = """
import os, sys, time
until = time.monotonic() + 20
for _ in range(3):
    if os.fork() == 0: break
else:
    sys.exit()
os.setpgid(0, 0)
while time.monotonic() < until:
    os.utime(sys.argv[1])
    time.sleep(0.001)
    if os.fork(): os._exit(0)
"""

# Asked to go, it would leave a letter on Drive.
LAST_WORDS = """
import os, signal, sys, time
drive = sys.argv[1]
def leave(number, frame):
    open(os.path.join(drive, "last words"), "w").close()
    sys.exit()
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGCONT):
    signal.signal(number, leave)
if os.fork(): os._exit(0)
os.setsid()
open(os.path.join(drive, "ready"), "w").close()
while True: time.sleep(1000)
"""


def start_script(place: Place, script: str, *arguments: str, environment: str = "") -> None:
    """Run it in the sandbox, up to where its first process ends."""
    path = place.files().home / "script.py"
    path.write_text(script)
    machine = place.provider.find("box")
    assert machine is not None
    words = " ".join(f"'{argument}'" for argument in arguments)
    ran = place.ssh(machine).run(f"{environment} python3 script.py {words} >/dev/null 2>&1")
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("environment", ["", WITHOUT_MARKER], ids=["marked", "unmarked"])
def test_kill_ends_daemons_that_escaped(place: Place, environment: str) -> None:
    daemon = place.start_daemon(place.start(), environment=environment)
    assert place.provider.kill("box")
    assert not alive(daemon)
    assert place.family() == set()
    assert not place.files().directory.exists()
    assert place.provider.find("box") is None


def test_kill_ends_a_stopped_process(place: Place) -> None:
    daemon = place.start_daemon(place.start(), environment=WITHOUT_MARKER)
    os.kill(daemon, signal.SIGSTOP)
    assert place.provider.kill("box")
    assert not alive(daemon)


@pytest.mark.parametrize("environment", ["", WITHOUT_MARKER], ids=["marked", "unmarked"])
def test_kill_catches_what_flees_by_forking(place: Place, environment: str) -> None:
    place.start()
    heartbeat = place.directory / "heartbeat"
    heartbeat.touch()
    start_script(place, FLEEING, str(heartbeat), environment=environment)
    begun = heartbeat.stat().st_mtime_ns
    wait_until(lambda: heartbeat.stat().st_mtime_ns != begun, message="nobody flees")
    assert place.provider.kill("box")
    last = heartbeat.stat().st_mtime_ns
    time.sleep(0.5)  # Nothing to wait for: nothing may happen.
    assert heartbeat.stat().st_mtime_ns == last


def test_kill_warns_nobody_and_keeps_drive(place: Place) -> None:
    place.start()
    kept = place.files().drive / "kept"
    kept.write_text("precious")
    start_script(place, LAST_WORDS, str(place.files().drive_link))
    wait_until((place.files().drive / "ready").exists, message="it did not start")
    assert place.provider.kill("box")
    assert kept.read_text() == "precious"
    assert not (place.files().drive / "last words").exists()


def test_kill_touches_no_other_sandbox(place: Place) -> None:
    other = place.start("other")
    (place.files("other").home / "mine").write_text("mine")
    family = place.family("other")
    place.start()
    assert place.provider.kill("box")
    assert place.family("other") == family
    assert place.provider.find("other") == other
    assert place.ssh(other).run("cat mine").stdout == b"mine"


def test_kill_of_what_is_dead_says_so(place: Place) -> None:
    assert not place.provider.kill("box")
    place.start()
    assert place.provider.kill("box")
    assert not place.provider.kill("box")


def test_start_after_a_kill_gives_a_new_machine(place: Place) -> None:
    first = place.start()
    place.provider.kill("box")
    assert place.start(request_id="two").ssh.host_key != first.ssh.host_key


def test_kill_of_a_frozen_sandbox_goes_on(place: Place) -> None:
    daemon = place.start_daemon(place.start(), environment=WITHOUT_MARKER)
    for pid in (place.record().guardian_pid, *place.family(), daemon):
        with contextlib.suppress(ProcessLookupError):  # one of the family was just ending
            os.kill(pid, signal.SIGSTOP)
    assert place.provider.kill("box")
    assert not alive(daemon)
    assert not place.files().directory.exists()
