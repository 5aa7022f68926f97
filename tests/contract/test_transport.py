"""What every way of starting a process on a machine must do."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from colabdev.adapters.processes import run
from colabdev.errors import RuntimeUnreachable
from colabdev.models import ExitStatus, Output
from colabdev.ports import RemoteProcess, Transport
from tests.support.colab_user import ColabHouse
from tests.support.relay import Relay

BOTH_PIPES = """
import os, sys, threading
def fill(descriptor, byte):
    for _ in range(80):
        os.write(descriptor, byte * 65536)
threads = [threading.Thread(target=fill, args=pair) for pair in ((1, b"o"), (2, b"e"))]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
"""

HOSTILE = [
    "plain",
    "",
    "with space",
    "-rf",
    "--help",
    "$HOME",
    "`id`",
    "$(id)",
    "a;b|c&d>e<f",
    "it's",
    'say "hi"',
    "back\\slash",
    "new\nline",
    "trailing newline\n",
    "tab\there",
    "*?[x]{a,b}~!#%^",
    "schön-日本語-🚀",
    os.fsdecode(b"\xff\xfe latin-1 \xe9"),
    os.fsdecode(b"\xff\n'\"$x"),
]


@pytest.fixture
def place(transport: Transport) -> Iterator[str]:
    """A new, empty directory where the processes run."""
    path = run(transport, ["mktemp", "-d"], timeout_s=20).stdout.decode().strip()
    yield path
    run(transport, ["rm", "-r", path], timeout_s=20)


@pytest.mark.parametrize("argument", HOSTILE, ids=ascii)
def test_argument_arrives_byte_for_byte(transport: Transport, argument: str) -> None:
    done = run(transport, ["printf", "%s.", argument], timeout_s=20)
    assert done.stdout == os.fsencode(argument) + b"."
    assert done.stderr == b""


@pytest.mark.parametrize("name", [name for name in HOSTILE if name], ids=ascii)
def test_path_is_made_and_found(transport: Transport, place: str, name: str) -> None:
    path = f"{place}/{name}"
    assert run(transport, ["mkdir", "--", path], timeout_s=20).status == ExitStatus(code=0)
    seen = run(transport, ["find", place, "-mindepth", "1", "-printf", "%f\\0"], timeout_s=20)
    assert seen.stdout == os.fsencode(name) + b"\0"
    assert run(transport, ["test", "-d", path], timeout_s=20).status == ExitStatus(code=0)


@pytest.mark.parametrize("code", [0, 1, 7, 126, 127, 130, 137, 143])
def test_exit_code_is_its_own(transport: Transport, code: int) -> None:
    done = run(transport, ["sh", "-c", f"exit {code}"], timeout_s=20)
    assert done.status == ExitStatus(code=code)


@pytest.mark.parametrize("signal", ["TERM", "KILL", "INT", "HUP"])
def test_death_by_signal_is_told_from_an_exit_code(transport: Transport, signal: str) -> None:
    done = run(
        transport, ["sh", "-c", f"exec {sys.executable} -c '{_suicide(signal)}'"], timeout_s=20
    )
    assert done.status == ExitStatus(signal=signal)


def test_missing_command_ends_with_127(transport: Transport) -> None:
    done = run(transport, ["colabdev-no-such-command"], timeout_s=20)
    assert done.status == ExitStatus(code=127)
    assert b"not found" in done.stderr


def test_file_that_is_no_program_ends_with_126(transport: Transport, place: str) -> None:
    file = f"{place}/data"
    assert run(transport, ["touch", file], timeout_s=20).status == ExitStatus(code=0)
    assert run(transport, [file], timeout_s=20).status == ExitStatus(code=126)


def test_both_pipes_carry_5_mb_at_once(transport: Transport) -> None:
    done = run(transport, [sys.executable, "-c", BOTH_PIPES], timeout_s=60)
    assert done.status == ExitStatus(code=0)
    assert done.stdout == b"o" * (80 * 65536)
    assert done.stderr == b"e" * (80 * 65536)


def test_every_byte_goes_through_and_back(transport: Transport) -> None:
    data = bytes(range(256)) * 64
    done = run(transport, ["cat"], stdin=data, timeout_s=20)
    assert done.stdout == data


def test_large_data_goes_through_and_back(transport: Transport) -> None:
    data = os.urandom(1 << 20) * 24
    done = run(transport, ["sha256sum"], stdin=data, timeout_s=60)
    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()
    done = run(transport, ["head", "-c", str(len(data)), "/dev/zero"], timeout_s=60)
    assert done.stdout == bytes(len(data))


def test_output_streams_while_the_process_runs(transport: Transport) -> None:
    process = transport.open(["cat"])
    try:
        for word in (b"one", b"two"):
            process.write(word)
            assert process.read(20) == Output("stdout", word)
        process.close_stdin()
        assert process.read(20) is None
        assert process.wait(20) == ExitStatus(code=0)
    finally:
        process.close()


def test_input_that_nobody_reads_is_dropped(transport: Transport) -> None:
    done = run(transport, ["sh", "-c", "exec <&-; echo bye"], stdin=bytes(8 << 20), timeout_s=30)
    assert (done.status, done.stdout) == (ExitStatus(code=0), b"bye\n")


def test_closed_stdout_does_not_end_stderr(transport: Transport) -> None:
    done = run(transport, ["sh", "-c", "exec >&-; echo still here >&2; exit 3"], timeout_s=20)
    assert (done.status, done.stdout, done.stderr) == (ExitStatus(code=3), b"", b"still here\n")


def test_silent_process_times_out_and_lives_on(transport: Transport) -> None:
    process = transport.open(["sh", "-c", 'read line; echo "$line"'])
    try:
        with pytest.raises(TimeoutError):
            process.read(0.2)
    finally:
        process.close()


def test_run_that_is_too_slow_times_out(transport: Transport) -> None:
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        run(transport, ["sleep", "30"], timeout_s=0.5)
    assert time.monotonic() - begun < 5


def test_many_processes_run_side_by_side(transport: Transport) -> None:
    processes = [transport.open(["cat"]) for _ in range(8)]
    try:
        for number, process in enumerate(processes):
            process.write(str(number).encode())
        for number, process in enumerate(processes):
            assert process.read(20) == Output("stdout", str(number).encode())
    finally:
        for process in processes:
            process.close()


def test_cut_in_mid_stream_is_an_error_and_never_an_end(
    through_relay: tuple[Relay, Transport],
) -> None:
    relay, transport = through_relay
    _check_cut_is_an_error(transport, relay.cut)


def test_cut_of_colabs_tunnel_is_an_error_and_never_an_end(
    on_colab: ColabHouse, through_colab: Transport
) -> None:
    (runtime,) = on_colab.colab.describe()["runtimes"]
    drop = partial(on_colab.colab.do, "drop_ssh", runtime["endpoint"])
    _check_cut_is_an_error(through_colab, lambda: drop()["dropped"])


def _check_cut_is_an_error(transport: Transport, cut: Callable[[], int]) -> None:
    process = transport.open(["sh", "-c", "while :; do echo line; sleep 0.01; done"])
    try:
        assert process.read(20) is not None
        assert cut() >= 1
        with pytest.raises(RuntimeUnreachable):
            _read_to_the_end(process)
    finally:
        process.close()


def test_cut_after_any_byte_is_an_error_and_never_an_end(
    through_relay: tuple[Relay, Transport],
) -> None:
    relay, transport = through_relay
    for budget in (1, 100, 5_000, 300_000):
        process = _open_again(transport)
        try:
            relay.cut_after(budget)
            with pytest.raises(RuntimeUnreachable):
                _read_to_the_end(process)
        finally:
            process.close()
        if not hasattr(transport, "link"):
            return  # A bare connection does not come back; a keeper does.


def _open_again(transport: Transport) -> RemoteProcess:
    return transport.open(["head", "-c", "50000000", "/dev/zero"])


def _read_to_the_end(process: RemoteProcess) -> None:
    while process.read(20) is not None:
        pass


def _suicide(signal: str) -> str:
    return f"import os, signal; os.kill(os.getpid(), signal.SIG{signal})"
