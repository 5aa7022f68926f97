"""`run` and `attach` at a terminal: what a job sees of it, what the user sees of the job."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

import pytest

from tests.support.house import House, is_running
from tests.support.jobs import (
    Running,
    allow,
    job_directory,
    kill,
    listed,
    run_bytes,
    state_of,
    supervisor_pid,
    waiting_for,
)
from tests.support.openssh_house import behind_openssh
from tests.support.relay import Relay
from tests.support.terminals import AtTerminal, at_terminal, kill_hard, render
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One computer with one runtime for all tests here, whose Python has rich and tqdm."""
    with House(tmp_path_factory.mktemp("house")) as house:
        done = house.colabdev("connect", "--provider", "local", "--python", sys.executable)
        assert done.returncode == 0, done.stderr
        yield house


def job_of(at: AtTerminal) -> str:
    """The job that this terminal said it runs."""
    at.expect(b" on local")
    found = re.search(rb"job (\S+) on local", at.output)
    assert found is not None
    return found[1].decode()


def job_lines(at: AtTerminal) -> list[str]:
    """The screen without our own first lines."""
    return [line for line in at.screen() if not line.startswith(("  job ", "  ~. on"))]


# --- what a job sees -----------------------------------------------------------------------------

LOOK = (
    "import os, sys; print(sys.stdin.isatty(), sys.stdout.isatty(), sys.stderr.isatty(), "
    "*os.get_terminal_size(), *(os.environ.get(n) for n in ('TERM', 'COLORTERM', 'NO_COLOR')))"
)


def test_job_sees_this_terminal(house: House) -> None:
    env = {"TERM": "vt100", "COLORTERM": "truecolor", "NO_COLOR": "1"}
    for more, stdin in (([], "False"), (["-i"], "True")):
        with at_terminal(house, "run", *more, "python3", "-c", LOOK, size=(97, 31), env=env) as at:
            assert at.finish() == 0
            assert job_lines(at) == [f"{stdin} True True 97 31 vt100 truecolor 1"]


def test_variable_of_the_user_counts_more_than_the_terminals(house: House) -> None:
    with at_terminal(house, "run", "--env", "TERM=dumb", "sh", "-c", "echo $TERM") as at:
        assert (at.finish(), job_lines(at)) == (0, ["dumb"])


def test_pipe_and_detached_job_get_no_terminal(house: House) -> None:
    expected = b"False False False 80 24\n"
    look = LOOK.partition("*os")[0] + "*__import__('shutil').get_terminal_size())"
    status, out, err = run_bytes(house, "run", "--name", "plain", "python3", "-c", look)
    assert (status, out) == (0, expected), err
    with at_terminal(house, "run", "--detach", "--name", "bg", "python3", "-c", look) as at:
        assert at.finish() == 0
        job_id = next(line for line in at.screen() if line.startswith("bg-"))
    assert run_bytes(house, "logs", "-f", job_id)[:2] == (0, expected)


def test_redirected_run_at_a_terminal_is_the_jobs_log_byte_for_byte(
    house: House, tmp_path: Path
) -> None:
    line = "printf 'a\\r\\n\\033[1mb\\n'; test -t 1 || echo plain; printf end"
    with (
        (tmp_path / "log").open("wb") as file,
        at_terminal(house, "run", "sh", "-c", line, stdout=file.fileno()) as at,
    ):
        assert at.finish() == 0
        job_id = job_of(at)
    written = (tmp_path / "log").read_bytes()
    assert written == b"a\r\n\x1b[1mb\nplain\nend"
    assert (job_directory(house, job_id) / "log").read_bytes() == written


def test_window_that_changes_is_heard_of_while_the_job_runs(house: House) -> None:
    program = (
        "import os, signal\n"
        "def tell(*_): print(*os.get_terminal_size(), flush=True)\n"
        "signal.signal(signal.SIGWINCH, tell); tell()\n"
        "while os.get_terminal_size().columns != 42: signal.pause()\n"
    )
    with at_terminal(house, "run", "python3", "-c", program) as at:
        at.expect(b"80 24")
        at.resize(120, 50)
        at.expect(b"120 50")
        at.resize(42, 12)
        assert at.finish() == 0
        assert b"42 12" in at.output


# --- what the user sees --------------------------------------------------------------------------

BARS = {
    "tqdm": (
        "from tqdm import tqdm\n"
        # Without its speed, whose width the bar's own depends on.
        "form = '{l_bar}{bar}| {n_fmt}/{total_fmt}'\n"
        "for n in tqdm(range(300), desc='epoch', bar_format=form): pass\n"
        "print('done')"
    ),
    "rich": (
        "from rich.console import Console\nfrom rich.progress import track\n"
        "from rich.table import Table\nconsole = Console()\n"
        "for n in track(range(50), console=console): pass\n"
        "table = Table('layer', 'grad'); table.add_row('fc', '[red]0.5[/red]'); console.print(table)"
    ),
    "colours": "print('\\033[31mred\\033[0m', '\\033[2K\\rwiped'); print('tab\\tü€')",
}


@pytest.mark.parametrize("name", sorted(BARS))
def test_bars_and_colours_look_as_they_do_here(house: House, name: str) -> None:
    program = "import os; os.environ['TERM'] = 'xterm-256color'\n" + BARS[name]
    with AtTerminal(
        [sys.executable, "-c", program], cwd=house.project, env=house.environment
    ) as here:
        assert here.finish() == 0
    with at_terminal(house, "run", "python3", "-c", program) as there:
        assert there.finish() == 0
        job_id = job_of(there)
    shown, expected = job_lines(there), here.screen()
    # The times differ that a bar took; the rest is the same to the letter.
    times = re.compile(r"\d+:\d\d(:\d\d)?")
    assert [times.sub("#", line) for line in shown] == [times.sub("#", line) for line in expected]
    assert len(shown) > 0
    log = (job_directory(house, job_id) / "log").read_bytes()
    assert (b"\x1b[" in log) or name == "tqdm"
    status, out, _ = run_bytes(house, "logs", job_id)
    assert (status, out) == (0, log)
    assert [times.sub("#", line) for line in render(log)] == [
        times.sub("#", line) for line in expected
    ]


def test_sentence_of_ours_begins_a_line_of_its_own(own_house: House) -> None:
    house = own_house
    for typing in ([], ["-i"]):
        gate = f"go{len(typing)}"
        line = f"printf 'epoch 1 [###  ]'; {waiting_for(gate)}; printf '\\r\\nepoch 2\\n'"
        with at_terminal(house, "run", *typing, "sh", "-c", line) as at:
            at.expect(b"[###  ]")
            house.end_keeper()
            at.expect(b"reconnecting")
            allow(house, gate)
            assert at.finish() == 0
            assert job_lines(at)[-3:] == [
                "epoch 1 [###  ]",
                "  the connection to local was cut; reconnecting",
                "epoch 2",
            ]


def test_long_output_at_a_terminal_is_whole(house: House) -> None:
    with at_terminal(house, "run", "seq", "300000") as at:
        assert at.finish() == 0
        job_id = job_of(at)
    expected = b"".join(b"%d\r\n" % number for number in range(1, 300001))
    log = (job_directory(house, job_id) / "log").read_bytes()
    assert log == expected
    # Between the log and the screen stands this terminal, which makes CR LF of our LF.
    assert at.output.replace(b"\r\r\n", b"\r\n").endswith(b"on local\r\n" + expected)


# --- the keyboard --------------------------------------------------------------------------------


def test_python_is_at_the_keyboard(house: House) -> None:
    with at_terminal(house, "run", "-i", "python3", "-q") as at:
        at.expect(b">>> ")
        assert at.is_raw()
        at.type(b"import os, time; print(6 * 7)\r")
        at.expect(b"42\r\n>>> ")
        at.type(b"time.sleep(60 + 0)\r")
        at.expect(b"60 + 0)\r\n")
        at.type(b"\x03")
        at.expect(b"KeyboardInterrupt")
        at.type("print('ü')\r".encode())
        at.expect("\nü\r\n".encode())
        at.type(b"raise SystemExit(7)\r")
        assert at.finish() == 7
        assert at.modes() == at.modes_before


def test_end_of_input_is_a_key_and_a_debugger_answers(house: House) -> None:
    (house.project / "bug.py").write_text("x = 41\nbreakpoint()\nprint('after', x)\n")
    with at_terminal(house, "run", "-i", "bug.py") as at:
        at.expect(b"(Pdb) ")
        at.type(b"x += 1\r")
        at.expect(b"x += 1\r\n(Pdb) ")
        at.type(b"c\r")
        assert at.finish() == 0
        assert at.output.endswith(b"after 42\r\n")
    with at_terminal(house, "run", "-i", "cat") as at:
        at.expect(b"detaches")
        at.type(b"one\r")
        at.expect(b"one\r\none\r\n")
        at.type(b"\x04")
        assert at.finish() == 0


def test_tilde_and_dot_detach_and_attach_goes_on(house: House) -> None:
    with at_terminal(house, "run", "-i", "--name", "shell", "sh") as at:
        at.expect(b"detaches")
        at.type(b"PS1='> '; x=5\r")
        at.expect(b"\n> ")
        at.type(b"~~hi\r")
        at.expect(b"~hi: ")
        at.type(b"~.")
        assert at.finish(timeout_s=10) == 130
        assert at.modes() == at.modes_before
        job_id = job_of(at)
    assert f"{job_id} runs on" in at.screen()
    assert state_of(house, job_id) == "running"
    with at_terminal(house, "attach", "-i", job_id) as again:
        again.expect(b"hi")
        again.type(b"exit $((x + 1))\r")
        assert again.finish() == 6
        assert again.modes() == again.modes_before


def test_ctrl_c_without_the_keyboard_detaches(house: House) -> None:
    line = f"trap 'echo hit' INT; printf begun; {waiting_for('never')}"
    with at_terminal(house, "run", "--name", "noint", "sh", "-c", line) as at:
        at.expect(b"begun")
        at.type(b"\x03")
        assert at.finish(timeout_s=10) == 130
        assert at.modes() == at.modes_before
        job_id = job_of(at)
    assert state_of(house, job_id) == "running"
    assert house.colabdev("stop", job_id, "--grace", "0").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_terminal_is_given_back_whatever_ends_us(house: House, number: signal.Signals) -> None:
    with at_terminal(house, "run", "-i", "--name", "ended", "sh", "-c", "echo on; sleep 60") as at:
        at.expect(b"on\r\n")
        wait_until(at.is_raw, message="it has the keyboard")
        at.signal(number)
        expected = 130 if number == signal.SIGINT else -number
        assert at.finish(timeout_s=10) == expected
        assert at.modes() == at.modes_before
        job_id = job_of(at)
    assert state_of(house, job_id) == "running"
    assert house.colabdev("stop", job_id, "--grace", "0").returncode == 0


def test_terminal_is_given_back_while_we_are_stopped(house: House) -> None:
    with at_terminal(house, "run", "-i", "cat") as at:
        at.expect(b"detaches")
        wait_until(at.is_raw, message="it has the keyboard")
        at.signal(signal.SIGTSTP)
        # Only then: whoever is told to go on before it stands still stands still for ever.
        wait_until(at.is_stopped, message="it stands still")
        assert not at.is_raw(), "the modes are as before"
        at.signal(signal.SIGCONT)
        wait_until(at.is_raw, message="it has the keyboard again")
        at.type(b"yes\r")
        at.expect(b"yes\r\nyes\r\n")
        at.type(b"\x04")
        assert at.finish() == 0
        assert at.modes() == at.modes_before


def test_terminal_is_given_back_when_something_fails(own_house: House) -> None:
    with at_terminal(own_house, "run", "-i", "cat") as at:
        at.expect(b"detaches")
        wait_until(at.is_raw, message="it has the keyboard")
        kill(supervisor_pid(own_house, job_of(at)))
        assert at.finish(timeout_s=20) == 125
        assert "exit code unknown" in " ".join(at.screen())
        assert at.modes() == at.modes_before


# --- pipes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_piped_input_arrives_byte_for_byte_and_ends(
    house: House, tmp_path: Path, size: int
) -> None:
    data = os.urandom(size)
    (tmp_path / "in").write_bytes(data)
    with (tmp_path / "in").open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "colabdev", "run", "-i", "cat"],
            cwd=house.project,
            env=house.environment,
            stdin=file,
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout == data) == (0, True), done.stderr


def test_job_that_reads_only_a_little_ends_with_a_writer_that_has_more(house: House) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "colabdev", "run", "-i", "head", "-c", "3"],
        cwd=house.project,
        env=house.environment,
        input=b"abc" * 5_000_000,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"abc"), done.stderr


def test_writer_that_is_held_back_can_be_left_at_once(house: House) -> None:
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "colabdev",
            "run",
            "-i",
            "--name",
            "deaf",
            "sh",
            "-c",
            "echo on; sleep 60",
        ],
        cwd=house.project,
        env=house.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        os.set_blocking(running.stdin.fileno(), False)
        assert running.stdout.read(3) == b"on\n"
        sent = 0

        def stuffed() -> bool:
            nonlocal sent
            before = sent
            try:
                while True:
                    sent += os.write(running.stdin.fileno(), bytes(65536))  # type: ignore[union-attr]
            except BlockingIOError:
                return sent == before and sent > 1_000_000

        wait_until(stuffed, message="no more is taken")
        assert sent < 8_000_000
        running.send_signal(signal.SIGINT)
        begun = time.monotonic()
        assert running.wait(10) == 130
        assert time.monotonic() - begun < 5
        assert running.stderr is not None
        job_id = running.stderr.read().split()[1].decode()
    assert house.colabdev("stop", job_id, "--grace", "0").returncode == 0


def test_loop_around_run_keeps_its_own_stdin(house: House) -> None:
    loop = (
        f"while read -r line; do echo got $line; {sys.executable} -m colabdev run sh -c 'cat; "
        "echo ran'; done"
    )
    done = subprocess.run(
        ["sh", "-c", loop],
        cwd=house.project,
        env=house.environment,
        input=b"1\n2\n",
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == b"got 1\nran\ngot 2\nran\n", done.stderr


def test_piped_input_and_a_terminal_to_write_to(house: House, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"line\n")
    with (
        (tmp_path / "in").open("rb") as file,
        at_terminal(
            house, "run", "-i", "sh", "-c", "cat; test -t 1 && stty size <&1", stdin=file.fileno()
        ) as at,
    ):
        assert at.finish() == 0
        assert job_lines(at) == ["line", "24 80"]


def test_typing_and_leaving_alone_exclude_each_other(house: House) -> None:
    status, _, err = run_bytes(house, "run", "-i", "--detach", "cat")
    assert status == 125
    assert "exclude each other" in err


# --- attach --------------------------------------------------------------------------------------


def test_attach_shows_the_last_lines_and_what_comes_and_ends_as_the_job(house: House) -> None:
    line = f"seq 30; {waiting_for('attached')}; echo later; exit 4"
    done = house.colabdev("run", "--detach", "--name", "count", "sh", "-c", line)
    job_id = done.stdout.strip()
    wait_until(
        lambda: (job_directory(house, job_id) / "log").read_bytes().endswith(b"30\n"),
        message="it has counted",
    )
    last = b"".join(b"%d\n" % number for number in range(21, 31))
    with Running(house, "attach") as running:
        assert running.read(len(last)) == last
        running.interrupt()
        status, _, err = running.finish()
    assert (status, f"{job_id} runs on" in err) == (130, True)
    with Running(house, "attach", job_id) as running:
        assert running.read(len(last)) == last
        allow(house, "attached")
        assert running.finish()[:2] == (4, b"later\n")
    assert run_bytes(house, "attach", job_id)[:2] == (4, last.partition(b"\n")[2] + b"later\n")
    row = next(row for row in listed(house) if row["id"] == job_id)
    assert (row["state"], row["exit_code"]) == ("failed", 4)
    assert run_bytes(house, "logs", job_id)[1].startswith(b"1\n2\n")


def test_attach_says_what_it_cannot_do(house: House) -> None:
    done = house.colabdev("run", "--detach", "--name", "closed", "sleep", "60")
    job_id = done.stdout.strip()
    status, out, err = run_bytes(house, "attach", "-i", job_id)
    assert (status, out) == (125, b"")
    assert "it was started without -i" in err
    assert run_bytes(house, "attach", "nothing")[0] == 125
    assert house.colabdev("stop", job_id, "--grace", "0").returncode == 0


def test_two_terminals_may_type_and_the_last_window_counts(house: House) -> None:
    with (
        at_terminal(house, "run", "-i", "--name", "both", "sh") as first,
        at_terminal(house, "attach", "-i", keyboard_of(first), size=(60, 10)) as second,
    ):
        second.expect(b"detaches")
        second.type(b"stty size; echo $((20 + 2))\r")
        for at in (first, second):
            at.expect(b"10 60\r\n22\r\n")
        first.resize(90, 40)
        wait_until(partial(tells, first, b"40 90"), message="the window is the first one's")
        kill_hard(second)
        first.type(b"exit 3\r")
        assert first.finish() == 3


def keyboard_of(at: AtTerminal) -> str:
    """The terminal's job, which has the keyboard now."""
    at.expect(b"detaches")
    return job_of(at)


def tells(at: AtTerminal, size: bytes) -> bool:
    """Whether `stty` says so by now."""
    before = len(at.output)
    at.type(b"stty size\r")
    wait_until(lambda: at.output.count(b"\r\n", before) >= 2, message="it answers")
    return size in at.output[before:]


def test_attach_has_a_full_screen_program_draw_anew(house: House) -> None:
    program = (
        "import os, signal\n"
        "drawn = 0\n"
        "def draw(*_):\n"
        "    global drawn; drawn += 1; print('drawn', drawn, *os.get_terminal_size(), flush=True)\n"
        "signal.signal(signal.SIGWINCH, draw); draw()\n"
        "while drawn < 2: signal.pause()\n"
    )
    with at_terminal(house, "run", "--name", "draw", "python3", "-c", program) as at:
        at.expect(b"drawn 1 80 24")
        job_id = job_of(at)
        kill_hard(at)
    with at_terminal(house, "attach", job_id) as again:
        again.expect(b"drawn 2 80 24")
        assert again.finish() == 0


# --- cuts and kills ------------------------------------------------------------------------------


def test_input_arrives_once_although_keepers_and_agents_are_killed_and_the_way_is_cut(
    own_house: House,
) -> None:
    house = own_house
    machine = house.record().machine
    assert machine is not None
    with Relay(machine.ssh.host, machine.ssh.port) as relay:
        moved = replace(machine, ssh=replace(machine.ssh, port=relay.port))
        house.change(lambda record: replace(record, machine=moved))
        house.end_keeper()
        data = os.urandom(6_000_000)
        slow = "import sys, time\nwhile d := sys.stdin.buffer.read(50000):\n"
        slow += "    sys.stdout.buffer.write(d); sys.stdout.flush(); time.sleep(.02)"
        command = [sys.executable, "-m", "colabdev", "run", "-i", "--name", "slow"]
        with subprocess.Popen(
            [*command, "python3", "-c", slow],
            cwd=house.project,
            env=house.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as running:
            writer = threading.Thread(target=write_all, args=(running.stdin, data))
            writer.start()
            seen = b""
            assert running.stdout is not None
            assert running.stderr is not None
            for hurt in (relay.cut, house.end_keeper, partial(kill_agents, house), relay.cut):
                seen += running.stdout.read(800_000)
                hurt()
            seen += running.stdout.read()
            err = running.stderr.read()
            writer.join()
        assert (running.returncode, seen == data) == (0, True), err
        assert err.count(b"was cut; reconnecting") >= 3
        house.end_keeper()


def write_all(pipe: IO[bytes] | None, data: bytes) -> None:
    """All of it, and the end."""
    assert pipe is not None
    pipe.write(data)
    pipe.close()


def kill_agents(house: House) -> None:
    """kill -9 to every agent that serves a request of this house."""
    state = os.fsencode(house.places.state_dir)
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            words = (directory / "cmdline").read_bytes()
            if b"colabdev-agent" in words and state in (directory / "environ").read_bytes():
                kill(int(directory.name))
        except OSError:
            continue


def test_keyboard_goes_on_after_a_cut_and_a_killed_client_leaves_the_job(own_house: House) -> None:
    house = own_house
    with at_terminal(house, "run", "-i", "--name", "kept", "sh") as at:
        at.expect(b"detaches")
        at.type(b"echo $((1 + 1))\r")
        at.expect(b"\n2\r\n")
        house.end_keeper()
        at.type(b"echo $((40 + 2))\r")
        at.expect(b"\n42\r\n")
        assert at.output.count(b"\n42\r\n") == 1
        job_id = job_of(at)
        kill_hard(at)
    assert state_of(house, job_id) == "running"
    supervisor = supervisor_pid(house, job_id)
    with at_terminal(house, "attach", "-i", job_id) as again:
        again.type(b"exit 9\r")
        assert again.finish() == 9
    wait_until(lambda: not is_running(supervisor), message="it has ended")


def test_terminals_work_through_openssh(own_house: House) -> None:
    house = own_house
    with behind_openssh(house), at_terminal(house, "run", "-i", "sh", size=(66, 22)) as at:
        at.expect(b"detaches")
        at.type(b"stty size\r")
        at.expect(b"22 66")
        at.resize(33, 11)
        wait_until(partial(tells, at, b"11 33"), message="the window is smaller")
        at.type(b"exit 8\r")
        assert at.finish() == 8
        assert at.modes() == at.modes_before
