"""Processes on this computer; what every transport must do stands in `tests/contract`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from colabdev.adapters.processes import LocalTransport, become, run, ssh_version
from colabdev.errors import ColabdevError
from colabdev.models import ExitStatus
from tests.support.house import is_running
from tests.support.waiting import wait_until

ECHO_ALL = ["sh", "-c", 'cat; echo "on stderr" >&2; exit 5']


def test_run_gives_status_and_both_pipes() -> None:
    done = run(LocalTransport(), ECHO_ALL, stdin=b"\0\xff", timeout_s=20)
    assert (done.status, done.stdout, done.stderr) == (
        ExitStatus(code=5),
        b"\0\xff",
        b"on stderr\n",
    )


def test_run_without_input_ends_the_input() -> None:
    assert run(LocalTransport(), ["cat"], timeout_s=20).status == ExitStatus(code=0)


def test_run_feeds_and_reads_at_the_same_time() -> None:
    # cat fills its output long before it has read all of its input.
    data = os.urandom(1 << 20) * 8
    assert run(LocalTransport(), ["cat"], stdin=data, timeout_s=30).stdout == data


def test_run_that_times_out_leaves_no_thread_waiting() -> None:
    before = threading.active_count()
    script = "import sys; sys.stdin.close(); import time; time.sleep(0.6)"
    with pytest.raises(TimeoutError):
        run(LocalTransport(), [sys.executable, "-c", script], stdin=bytes(1 << 20), timeout_s=0.2)
    wait_until(lambda: threading.active_count() <= before, message="threads are left")


def test_run_counts_the_time_of_output_that_never_ends() -> None:
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        run(LocalTransport(), ["yes"], timeout_s=0.3)
    assert time.monotonic() - begun < 3


def test_process_starts_where_and_with_what_it_is_told(tmp_path: Path) -> None:
    transport = LocalTransport(cwd=tmp_path, environment={"PATH": os.defpath, "ONLY": "this"})
    done = run(transport, ["sh", "-c", "pwd; env"], timeout_s=20)
    place, *variables = done.stdout.decode().splitlines()
    assert place == str(tmp_path)
    assert (
        {"PATH", "ONLY"}
        <= {line.partition("=")[0] for line in variables}
        <= {*("PATH", "ONLY", "PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE")}
    )


def test_program_is_looked_up_on_the_path_it_is_told(tmp_path: Path) -> None:
    program = tmp_path / "tool"
    program.write_text("#!/bin/sh\necho mine\n")
    program.chmod(0o755)
    transport = LocalTransport(environment={"PATH": str(tmp_path)})
    assert run(transport, ["tool"], timeout_s=20).stdout == b"mine\n"


@pytest.mark.parametrize(
    ("content", "mode", "code"),
    [
        (b"", 0o644, 126),
        (b"\x7fELF broken", 0o755, 126),
        (b"#!/no/such/interpreter\n", 0o755, 127),
    ],
    ids=["not executable", "no program", "no interpreter"],
)
def test_file_that_cannot_be_started_ends_as_from_a_shell(
    tmp_path: Path, content: bytes, mode: int, code: int
) -> None:
    program = tmp_path / "tool"
    program.write_bytes(content)
    program.chmod(mode)
    done = run(LocalTransport(), [str(program)], timeout_s=20)
    assert done.status == ExitStatus(code=code)
    assert done.stderr.startswith(str(program).encode())


def test_arguments_that_are_too_long_end_with_126() -> None:
    done = run(LocalTransport(), ["true", "x" * 4_000_000], timeout_s=20)
    assert done.status == ExitStatus(code=126)


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (signal.SIGKILL, "KILL"),
        (signal.SIGRTMIN, "RTMIN"),
        (signal.SIGRTMIN + 1, str(signal.SIGRTMIN + 1)),
    ],
)
def test_death_by_any_signal_has_a_name(number: int, name: str) -> None:
    done = run(LocalTransport(), ["sh", "-c", f"kill -{int(number)} $$"], timeout_s=20)
    assert done.status == ExitStatus(signal=name)


def test_process_outlives_our_hanging_up() -> None:
    process = LocalTransport().open(["sh", "-c", "echo $$; exec sleep 30 >&- 2>&-"])
    output = process.read(20)
    assert output is not None
    pid = int(output.data)
    try:
        process.close()
        time.sleep(0.1)  # That nothing happens can only be seen by waiting.
        assert is_running(pid)
        assert os.getpgid(pid) == pid != os.getpgid(0)  # Our terminal's Ctrl-C is not its own.
    finally:
        os.kill(pid, signal.SIGKILL)


def test_become_is_the_program_with_its_status() -> None:
    script = (
        "import sys; from colabdev.adapters.processes import become; print('before');"
        "become(['sh', '-c', 'echo \"$1\"; exit 7', 'sh', 'x  y'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"before\nx  y\n", b"")


def test_become_of_what_is_missing_says_what_to_install() -> None:
    with pytest.raises(ColabdevError, match="cannot start no-such-ssh: it is not installed") as it:
        become(["no-such-ssh"])
    assert "openssh-client" in it.value.hint


def test_ssh_version_is_what_ssh_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (ssh_version() or "").startswith("OpenSSH_")
    monkeypatch.setenv("PATH", "/no/such/folder")
    assert ssh_version() is None
