"""A job's terminal and stdin as the agent keeps them, on the oldest Python and on ours."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from colabdev.adapters.agent_client import encode_request
from colabdev.agent import inlet, jobdir, wire
from colabdev.agent.terminal import Terminal
from colabdev.errors import ColabdevError
from tests.agent.test_jobs import PYTHONS, Bench, Talk, is_running, make_bench
from tests.support.disks import tiny_disk
from tests.support.waiting import wait_until


@pytest.fixture(params=sorted(PYTHONS))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    bench = make_bench(tmp_path, PYTHONS[request.param])
    yield bench
    bench.close()


def in_terminal(spec: dict[str, object], stdin: str = jobdir.NO_INPUT) -> dict[str, object]:
    return {**spec, "pty": True, "window": [100, 30], "stdin": stdin}


def started(bench: Bench, spec: Mapping[str, object]) -> Talk:
    """The job's follower, its first bytes having come."""
    talk = bench.talk()
    talk.request("job.start", spec=spec, follow=True)
    return talk


class Input:
    """A client's way into a job."""

    def __init__(self, bench: Bench, spec: Mapping[str, object], client: str = "me") -> None:
        self._talk = bench.talk()
        asked = {"id": spec["id"], "client": client}
        self._talk.process.write(encode_request("job.input", asked))
        self.first = self.answer()

    def send(self, header: dict[str, object], body: bytes = b"") -> None:
        self._talk.process.write(wire.encode(header, body))

    def answer(self) -> Mapping[str, Any]:
        return self._talk.next()[0]

    def leave(self) -> None:
        self._talk.process.close()


def expect(talk: Talk, text: bytes) -> bytes:
    """The log up to where it holds that."""
    log = b""
    while text not in log:
        header, body = talk.next()
        assert "status" not in header, (log, header)
        log += body
    return log


def test_command_has_a_terminal_of_that_size_and_leads_its_session(bench: Bench) -> None:
    line = "test -t 1 && test -t 2 && ! test -t 0 && stty size < /dev/tty; ps -o tpgid=,pid= -p $$"
    log, status = bench.finish(in_terminal(bench.shell(line)))
    size, numbers = log.split(b"\r\n")[:2]
    foreground, pid = numbers.split()
    assert (size, foreground, status["exit_code"]) == (b"30 100", pid, 0)
    assert status["log_bytes"] == len(log)


def test_all_that_a_command_wrote_before_its_end_is_in_the_log(bench: Bench) -> None:
    """Also when it ends at once, with a grandchild that keeps its terminal open."""
    for line in ("", "(trap '' HUP; exec sleep 5) &"):
        for _ in range(4):
            log, status = bench.finish(
                in_terminal(bench.shell(f"{line} seq 1 4000; printf last; exit 4"))
            )
            expected = b"".join(b"%d\r\n" % number for number in range(1, 4001)) + b"last"
            assert (log, status["exit_code"]) == (expected, 4)
            assert status["log_bytes"] == len(log)


def test_end_takes_what_is_there_and_does_not_wait_for_who_writes_for_ever(tmp_path: Path) -> None:
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    ends = Terminal(log, [80, 24], lambda: None)
    slave = os.open(os.ttyname(ends.slave), os.O_WRONLY | os.O_NOCTTY)
    ends.hand_over()
    os.write(slave, b"last\n")
    ends.finish()
    assert (tmp_path / "log").read_bytes() == b"last\r\n"

    def write_for_ever() -> None:
        with suppress(OSError):
            while True:
                os.write(slave, bytes(4096))

    writer = threading.Thread(target=write_for_ever, daemon=True)
    writer.start()
    ends.finish()
    ends.close()
    writer.join(10)
    assert not writer.is_alive()
    os.close(slave)
    os.close(log)


def test_terminal_that_is_closed_and_opened_again_is_read_on(bench: Bench) -> None:
    line = "me=$(tty <&2); exec >/dev/null 2>&1; sleep 0.3; exec >$me; echo again"
    log, status = bench.finish(in_terminal(bench.shell(line)))
    assert (log, status["exit_code"]) == (b"again\r\n", 0)


def test_long_output_of_a_terminal_is_whole(bench: Bench) -> None:
    program = (
        "import os, hashlib\n"
        "os.system('stty -opost <&1')\n"
        "data = os.urandom(1 << 20); sum = hashlib.sha256()\n"
        "for _ in range(20):\n"
        "    sum.update(data); view = memoryview(data)\n"
        "    while view: view = view[os.write(1, view):]\n"
        "os.write(1, sum.digest())\n"
    )
    log, status = bench.finish(in_terminal(bench.spec("python3", "-c", program)))
    assert (status["exit_code"], len(log)) == (0, 20 * (1 << 20) + 32)
    assert hashlib.sha256(log[:-32]).digest() == log[-32:]


def test_keys_reach_the_job_as_in_a_terminal(bench: Bench) -> None:
    program = (
        "import sys, time\n"
        "print(sys.stdin.isatty(), flush=True)\n"
        "print('? ', flush=True); print(repr(sys.stdin.readline()))\n"
        "try: print('ready', flush=True); time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    print('stopping', flush=True); print('stopped', repr(sys.stdin.read()))\n"
    )
    spec = in_terminal(bench.spec("python3", "-c", program), jobdir.TERMINAL)
    talk = started(bench, spec)
    assert expect(talk, b"? ").startswith(b"True\r\n")
    keys = Input(bench, spec)
    assert keys.first == {"taken": 0}
    # Backspace takes a whole letter.
    keys.send({"data": 0}, "a\u00e9\x7fb\r".encode())
    assert keys.answer() == {"taken": 6}
    assert b"'ab\\n'" in expect(talk, b"ready")
    keys.send({"data": 6}, b"\x03")
    # A terminal forgets what was typed before Ctrl-C is dealt with.
    expect(talk, b"stopping")
    keys.send({"data": 7}, b"\x04")
    log, status = talk.rest()
    assert log.endswith(b"stopped ''\r\n")
    assert status["exit_code"] == 0
    while "closed" not in (said := keys.answer()):
        pass
    assert said["ended"] is True


def test_input_is_taken_once_whatever_is_sent_twice_and_ends_the_pipe(bench: Bench) -> None:
    spec = {**bench.spec("cat"), "stdin": jobdir.PIPE}
    talk = started(bench, spec)
    first = Input(bench, spec)
    first.send({"data": 0}, b"abc")
    assert first.answer() == {"taken": 3}
    first.leave()
    again, other = Input(bench, spec), Input(bench, spec, "other")
    assert (again.first, other.first) == ({"taken": 3}, {"taken": 0})
    again.send({"data": 1}, b"bcde")
    assert again.answer() == {"taken": 5}
    other.send({"data": 0}, b"-")
    assert other.answer() == {"taken": 1}
    again.send({"eof": 5})
    log, status = talk.rest()
    assert (log, status["exit_code"]) == (b"abcde-", 0)


def test_job_that_does_not_read_holds_its_writer_back(bench: Bench) -> None:
    os.mkfifo(bench.workdir / "go")
    spec = {**bench.shell("read line < go; sha256sum"), "stdin": jobdir.PIPE}
    talk = started(bench, spec)
    data = os.urandom(16 << 20)
    way_in = Input(bench, spec)
    supervisor = int(bench.pid(spec)["supervisor"]["pid"])
    before = resident_kb(supervisor)

    def write() -> None:
        for offset in range(0, len(data), 65536):
            way_in.send({"data": offset}, data[offset : offset + 65536])
        way_in.send({"eof": len(data)})

    writer = threading.Thread(target=write)
    writer.start()
    writer.join(1)
    assert writer.is_alive(), "nobody has room for all that"
    assert resident_kb(supervisor) < before + 4000
    (bench.workdir / "go").write_text("\n")
    log, _ = talk.rest()
    writer.join(20)
    assert log.split()[0].decode() == hashlib.sha256(data).hexdigest()


def resident_kb(pid: int) -> int:
    """How much memory the process has."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])


def test_window_changes_are_heard_of_and_the_same_size_means_draw_anew(bench: Bench) -> None:
    program = (
        "import os, signal\n"
        "def tell(*_): print(tuple(os.get_terminal_size()), flush=True)\n"
        "signal.signal(signal.SIGWINCH, tell)\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()\n"
    )
    spec = in_terminal(bench.spec("python3", "-c", program))
    talk = started(bench, spec)
    expect(talk, b"ready\r\n")
    one, other = Input(bench, spec), Input(bench, spec, "other")
    for way_in, size in ((one, [90, 20]), (one, [90, 20]), (other, [70, 10]), (one, [0, 99999])):
        way_in.send({"resize": size})
        assert way_in.answer() == {"resized": size}
        shown = (min(max(size[0], 1), 65535), min(max(size[1], 1), 65535))
        assert expect(talk, b"\r\n") == f"{shown}\r\n".encode()


def test_client_that_sends_nonsense_or_leaves_changes_nothing(bench: Bench) -> None:
    spec = in_terminal(bench.spec("cat"), jobdir.TERMINAL)
    talk = started(bench, spec)
    for nonsense in (
        b"\0" * 8,
        b"no frames at all",
        wire.encode({"data": 0}, b"x"),
        wire.encode({"client": "x"}) + wire.encode({"data": 7}, b"x"),
        wire.encode({"client": "x"}) + wire.encode({"resize": "x"}),
        wire.encode({"client": "x"})[:-2],
    ):
        files = jobdir.JobFiles(str(bench.jobs / str(spec["id"])))
        connection = inlet.connect(files)
        assert connection is not None
        with connection:
            connection.sendall(nonsense)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(10)
            while connection.recv(4096):
                pass
    keys = Input(bench, spec)
    keys.send({"data": 0}, b"well\r\x04")
    assert talk.rest()[0] == b"well\r\nwell\r\n"


def test_only_its_owner_reaches_a_job(bench: Bench) -> None:
    spec = in_terminal(bench.shell("sleep 60"))
    started(bench, spec)
    path = bench.jobs / str(spec["id"]) / "input"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    bench.talk().request("job.stop", id=spec["id"], grace_s=0)
    wait_until(lambda: not path.exists(), message="nobody can come any more")


def test_job_without_a_terminal_is_told_to_nobody_and_stays_as_it_was(bench: Bench) -> None:
    spec = bench.shell("tty; read x; sleep 60")
    talk = started(bench, spec)
    assert expect(talk, b"\n") == b"not a tty\n"
    assert not (bench.jobs / str(spec["id"]) / "input").exists()
    with pytest.raises(ColabdevError, match="it has no terminal and no stdin"):
        Input(bench, spec)


def test_terminal_ends_with_a_killed_supervisor_and_how_is_unknown(bench: Bench) -> None:
    spec = in_terminal(bench.shell("echo begun; sleep 60"), jobdir.TERMINAL)
    talk = started(bench, spec)
    expect(talk, b"begun")
    keys = Input(bench, spec)
    pid = bench.pid(spec)
    os.kill(int(pid["supervisor"]["pid"]), signal.SIGKILL)
    assert keys.answer()["closed"] is True
    _, status = talk.rest()
    assert (status["state"], status["exit_code"], status["signal"]) == ("unknown", None, None)
    assert not is_running(int(pid["command"]["pid"]))


def test_stop_ends_all_of_a_job_with_a_terminal(bench: Bench) -> None:
    line = "trap 'echo bye; exit 5' TERM; (trap '' TERM HUP; sleep 600) & echo on; wait; wait"
    spec = in_terminal(bench.shell(line))
    talk = started(bench, spec)
    expect(talk, b"on\r\n")
    status = bench.talk().request("job.stop", id=spec["id"], grace_s=1)["status"]
    assert (status["state"], status["exit_code"]) == ("stopped", 5)
    assert talk.rest()[0] == b"bye\r\n"


def test_full_disk_loses_output_and_says_so_but_holds_nobody_up(bench: Bench) -> None:
    bench.jobs.parent.mkdir()
    with tiny_disk(bench.jobs.parent, size_kb=400):
        line = "head -c 2000000 /dev/zero; exit 9"
        spec = in_terminal(bench.shell(line))
        _, status = bench.finish(spec)
        assert (status["state"], status["exit_code"]) == ("failed", 9)
        assert status["lost_bytes"] > 1_000_000
        assert status["lost_bytes"] + status["log_bytes"] == 2_000_000


def test_socket_is_reached_however_deep_its_directory_lies(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 150) / ("y" * 150)
    deep.mkdir(parents=True)
    before = os.getcwd()
    files = jobdir.JobFiles(str(deep))
    way_in = inlet.Inlet(files, None, lambda size: None, is_pipe=False)
    connection = inlet.connect(files)
    assert connection is not None
    connection.close()
    way_in.close()
    assert inlet.connect(files) is None
    assert os.getcwd() == before


def test_events_tell_when_output_was_lost(bench: Bench) -> None:
    spec = in_terminal(bench.shell("echo 123"))
    bench.finish(spec)
    lines = (bench.jobs / str(spec["id"]) / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["started", "ended"]
