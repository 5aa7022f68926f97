"""The agent on every Python it must run on: put there once, verified at each start, asked over pipes."""

from __future__ import annotations

import hashlib
import io
import os
import shlex
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from colabdev.adapters.agent_archive import AgentArchive, build_agent, pack
from colabdev.adapters.agent_client import RunningAgent, exchange, start_agent
from colabdev.adapters.processes import LocalProcess, LocalTransport
from colabdev.agent import wire
from colabdev.errors import AgentUnusable, ColabdevError, ProtocolError
from colabdev.models import ExitStatus
from tests.support.pythons import find_pythons

PYTHONS = find_pythons()
SYSTEM_PATH = "/usr/bin:/bin"


class CountedProcess(LocalProcess):
    """A process that knows how much it was sent."""

    sent_bytes = 0

    def write(self, data: bytes) -> None:
        self.sent_bytes += len(data)
        super().write(data)


@dataclass(frozen=True)
class Machine:
    """A home and a PATH of its own, on which `python3` is the `python` given."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.root / "home"

    def open(self, argv: Sequence[str]) -> CountedProcess:
        return CountedProcess(argv, cwd=self.root, environment=self.environment)

    def install_python(self, script: str) -> None:
        """Make `python3` what that shell script does."""
        program = self.root / "bin" / "python3"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def folder(self, archive: AgentArchive) -> Path:
        return self.home / ".cache" / "colabdev" / f"agent-{archive.digest}"

    def sources(self, archive: AgentArchive) -> dict[str, bytes]:
        """What lies there of the agent, but for Python's bytecode."""
        folder = self.folder(archive)
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        }


@dataclass
class Agent:
    """A running agent and the bytes of it that were not asked for yet."""

    running: RunningAgent[CountedProcess]
    _buffer: bytes = b""

    def request(
        self, kind: str, arguments: Mapping[str, object] | None = None, body: bytes = b""
    ) -> tuple[Mapping[str, object], bytes]:
        return exchange(self.running.process.write, self._read, kind, arguments, body)

    def send(self, data: bytes) -> None:
        self.running.process.write(data)

    def end(self) -> tuple[ExitStatus, bytes]:
        """Let it end; its status and its last words on stderr."""
        process = self.running.process
        process.close_stdin()
        words = b""
        while (output := process.read(20)) is not None:
            words += output.data if output.pipe == "stderr" else b""
        status = process.wait(20)
        process.close()
        return status, words

    def _read(self, count: int) -> bytes:
        while not self._buffer:
            output = self.running.process.read(20)
            if output is None:
                return b""
            assert output.pipe == "stdout", output
            self._buffer = output.data
        piece, self._buffer = self._buffer[:count], self._buffer[count:]
        return piece


def make_machine(root: Path, python: str | Path = sys.executable) -> Machine:
    """A machine with `python` as its `python3`."""
    (root / "home").mkdir(parents=True)
    (root / "bin").mkdir()
    environment = {"HOME": str(root / "home"), "PATH": f"{root / 'bin'}:{SYSTEM_PATH}"}
    machine = Machine(root, environment)
    machine.install_python(f'exec {shlex.quote(str(python))} "$@"')
    return machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with the Python of these tests."""
    return make_machine(tmp_path / "machine")


@pytest.fixture(scope="module", params=list(PYTHONS) or ["none"])
def versioned(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Machine]:
    """A machine with each Python in turn."""
    version: str = request.param
    if version not in PYTHONS:
        pytest.fail("no Python from 3.8 to 3.13 was found, neither on the PATH nor from pyenv")
    return version, make_machine(tmp_path_factory.mktemp("m") / "machine", PYTHONS[version])


@pytest.fixture
def agent(versioned: tuple[str, Machine], archive: AgentArchive) -> Iterator[Agent]:
    """A running agent on each Python in turn."""
    running = start_agent(versioned[1], archive)
    yield Agent(running)
    running.process.close()


def start(machine: Machine, archive: AgentArchive) -> Agent:
    return Agent(start_agent(machine, archive))


def refusal(machine: Machine, archive: AgentArchive) -> AgentUnusable:
    """The error of a start that must fail, and soon."""
    begun = time.monotonic()
    with pytest.raises(AgentUnusable) as caught:
        start_agent(machine, archive)
    assert time.monotonic() - begun < 5
    assert caught.value.hint
    return caught.value


def make_archive(archive: AgentArchive, main: str) -> AgentArchive:
    """An archive whose program is `main`, put in place by the true boot."""
    return pack({"__main__.py": main.encode("utf-8")}, archive.boot)


# --- the archive ---------------------------------------------------------------------------------


def test_archive_is_the_same_byte_for_byte(tmp_path: Path, archive: AgentArchive) -> None:
    again = build_agent()
    assert again == archive
    script = "import sys; from colabdev.adapters.agent_archive import build_agent as build; "
    elsewhere = subprocess.run(
        [sys.executable, "-c", script + "sys.stdout.buffer.write(build().content)"],
        env={**os.environ, "PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=True,
        umask=0o77,
    )
    assert elsewhere.stdout == archive.content


def unpacked(archive: AgentArchive) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive.content)) as file:
        return {name: file.read(name) for name in file.namelist()}


def test_archive_holds_the_agent_and_is_named_by_its_hash(archive: AgentArchive) -> None:
    whole = hashlib.sha256()
    with zipfile.ZipFile(io.BytesIO(archive.content)) as file:
        names = file.namelist()
        for name in sorted(names):
            whole.update(f"{name} {file.getinfo(name).file_size}\n".encode() + file.read(name))
    assert archive.digest == whole.hexdigest()
    package = {f"colabdev_agent/{name}.py" for name in ("__init__", "__main__", "wire", "probe")}
    assert {"__main__.py"} | package <= set(names)
    assert "colabdev_agent/boot.py" not in names
    assert len(names) == len(set(names))


# --- on every Python -----------------------------------------------------------------------------


def test_some_python_is_there_to_be_tested() -> None:
    assert PYTHONS


def test_hello_says_which_python_it_is(versioned: tuple[str, Machine], agent: Agent) -> None:
    hello = agent.running.hello
    assert hello.protocol == wire.PROTOCOL
    assert hello.python.startswith(versioned[0] + ".")
    assert hello.pid > 0


def test_ping_gives_back_every_byte(agent: Agent) -> None:
    body = bytes(range(256)) * 1024
    arguments = {"text": "schön \udcff\n", "nothing": None, "list": [1, 2.5, True]}
    answer, back = agent.request("ping", arguments, body)
    assert (answer, back) == (arguments, body)


def test_probe_says_what_the_machine_is(versioned: tuple[str, Machine], agent: Agent) -> None:
    facts, body = agent.request("probe")
    assert body == b""
    assert set(facts) == {"hostname", "home", "python", "cpus", "disk_free_bytes", "gpu"}
    assert facts["home"] == str(versioned[1].home)
    assert facts["python"] == agent.running.hello.python
    assert facts["cpus"] == os.cpu_count()
    assert isinstance(facts["disk_free_bytes"], int)
    assert facts["disk_free_bytes"] > 0


def test_checkup_says_how_places_are_and_changes_nothing(
    versioned: tuple[str, Machine], agent: Agent
) -> None:
    home = versioned[1].home
    before = sorted(os.listdir(home))
    seen, _ = agent.request("checkup", {"places": {"content": str(home), "drive": "/nowhere"}})
    assert abs(float(str(seen["time"])) - time.time()) < 60
    places = seen["places"]
    assert isinstance(places, dict)
    assert set(places) == {"home", "jobs", "content", "drive"}
    assert (places["content"]["exists"], places["content"]["writable"]) == (True, True)
    assert places["content"]["free_bytes"] > 0
    assert places["drive"] == {
        "path": "/nowhere",
        "exists": False,
        "writable": False,
        "free_bytes": None,
    }
    assert places["jobs"]["path"] == str(home / ".colabdev" / "jobs")
    assert sorted(os.listdir(home)) == before


@pytest.mark.parametrize("name", ["plain", "with space", "schön\n'$x", "\udcff\udcfe"], ids=ascii)
def test_prepare_makes_the_work_dir_and_may_be_repeated(
    versioned: tuple[str, Machine], agent: Agent, name: str
) -> None:
    workdir = str(versioned[1].root / "content" / name)
    for _ in range(2):
        answer, _ = agent.request("prepare", {"workdir": workdir})
        assert answer == {"workdir": workdir}
        assert os.path.isdir(workdir)


def test_unknown_request_is_refused_by_name_and_the_loop_goes_on(agent: Agent) -> None:
    with pytest.raises(ProtocolError, match="knows no request 'fly'"):
        agent.request("fly")
    with pytest.raises(ProtocolError, match="knows no request 'None'"):
        agent.request(None)  # type: ignore[arg-type]
    assert agent.request("ping", {"x": 1}) == ({"x": 1}, b"")


def test_os_error_is_an_answer(versioned: tuple[str, Machine], agent: Agent) -> None:
    file = versioned[1].root / "bin" / "python3"
    with pytest.raises(ColabdevError, match="the runtime cannot make the work dir: ") as it:
        agent.request("prepare", {"workdir": str(file)})
    assert not isinstance(it.value, ProtocolError)
    assert agent.request("ping", {"x": 1}) == ({"x": 1}, b"")


def test_bug_in_the_agent_is_an_answer(agent: Agent) -> None:
    with pytest.raises(ProtocolError, match="KeyError: 'workdir'"):
        agent.request("prepare", {})
    assert agent.request("ping", {"x": 1}) == ({"x": 1}, b"")


def test_unknown_header_fields_are_ignored(agent: Agent) -> None:
    agent.send(wire.encode({"request": "ping", "arguments": {"x": 1}, "new": [1]}))
    assert agent.request("ping", {"x": 2}) == ({"x": 1}, b"")


def test_end_of_requests_ends_the_agent(agent: Agent) -> None:
    agent.request("ping")
    assert agent.end() == (ExitStatus(code=0), b"")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (wire.encode({"request": "ping"})[:-1], b"agent: stream ended 1 bytes short"),
        (b"GET / HTTP/1.1\r\n\r\n", b"agent: not a frame"),
        (bytes(8), b"agent: header is not JSON"),
    ],
    ids=["truncated", "http", "empty header"],
)
def test_bytes_that_are_no_frames_end_the_agent(agent: Agent, data: bytes, words: bytes) -> None:
    agent.send(data)
    status, said = agent.end()
    assert status == ExitStatus(code=1)
    assert said.startswith(words)
    assert b"Traceback" not in said


def test_hostile_modules_in_the_way_are_not_imported(
    versioned: tuple[str, Machine], tmp_path: Path, archive: AgentArchive
) -> None:
    version, _ = versioned
    machine = make_machine(tmp_path / "machine", PYTHONS[version])
    trap = machine.root / "trapped"
    spring = f"open({str(trap)!r}, 'w').close()\n"
    names = ("hashlib", "runpy", "json", "struct", "wire", "probe", "sitecustomize", "startup")
    for name in names:
        (machine.root / f"{name}.py").write_text(spring)
    user_site = machine.home / f".local/lib/python{version}/site-packages"
    user_site.mkdir(parents=True)
    (user_site / "usercustomize.py").write_text(spring)
    machine.environment["PYTHONPATH"] = str(machine.root)
    machine.environment["PYTHONSTARTUP"] = str(machine.root / "startup.py")

    for _ in range(2):
        agent = start(machine, archive)
        assert agent.request("probe")[0]["home"] == str(machine.home)
        assert agent.end() == (ExitStatus(code=0), b"")

    assert not trap.exists()
    # Without -I the trap does spring.
    subprocess.run(
        [machine.root / "bin" / "python3", "-c", "import hashlib"],
        env=machine.environment,
        cwd=machine.root,
        check=True,
    )
    assert trap.exists()


# --- putting it in place -------------------------------------------------------------------------


def test_first_start_sends_and_the_second_does_not(machine: Machine, archive: AgentArchive) -> None:
    folder = machine.folder(archive)
    first = start(machine, archive)
    assert first.running.process.sent_bytes == len(archive.content)
    assert machine.sources(archive) == unpacked(archive)
    assert os.listdir(folder.parent) == [folder.name]
    before = stamps(folder)
    assert any(path.suffix == ".pyc" for path in before)

    second = start(machine, archive)

    assert second.running.process.sent_bytes == 0
    # Bytecode, too, was written once.
    assert stamps(folder) == before
    for agent in (first, second):
        assert agent.end() == (ExitStatus(code=0), b"")


def stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    """Which file is where, since when."""
    seen = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {path: (status.st_ino, status.st_mtime_ns) for path, status in seen.items()}


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda content: b"",
    "torn": lambda content: content[: len(content) // 2],
    "torn by a byte": lambda content: content[:-1],
    "altered": lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:],
    "longer": lambda content: content + b"\0",
    "another program": lambda content: b"raise SystemExit('hostile')\n",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", ["__main__.py", "colabdev_agent/wire.py"])
def test_damaged_agent_is_replaced(
    machine: Machine, archive: AgentArchive, damage: Callable[[bytes], bytes], name: str
) -> None:
    folder = machine.folder(archive)
    start(machine, archive).end()
    file = folder / name
    file.write_bytes(damage(file.read_bytes()))

    agent = start(machine, archive)

    assert agent.request("ping", {"x": 1}) == ({"x": 1}, b"")
    assert agent.end() == (ExitStatus(code=0), b"")
    assert machine.sources(archive) == unpacked(archive)
    assert os.listdir(folder.parent) == [folder.name]


def test_agent_that_lacks_a_file_or_has_one_too_many_is_mended(
    machine: Machine, archive: AgentArchive
) -> None:
    start(machine, archive).end()
    package = machine.folder(archive) / "colabdev_agent"
    (package / "wire.py").unlink()
    (package / "json.py").write_text("raise SystemExit('hostile')\n")
    (package / "gone.py").symlink_to("nowhere")
    assert start(machine, archive).end() == (ExitStatus(code=0), b"")
    assert machine.sources(archive) == unpacked(archive)


def test_older_agent_beside_it_is_left_alone(machine: Machine, archive: AgentArchive) -> None:
    older = make_archive(archive, "raise SystemExit(3)")
    refusal(machine, older)
    start(machine, archive).end()
    assert machine.sources(older) == unpacked(older)


def test_starts_at_the_same_time_all_work(machine: Machine, archive: AgentArchive) -> None:
    statuses: list[object] = []

    def run() -> None:
        agent = start(machine, archive)
        agent.request("ping")
        statuses.append(agent.end())

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert statuses == [(ExitStatus(code=0), b"")] * 4
    assert os.listdir(machine.folder(archive).parent) == [machine.folder(archive).name]
    assert machine.sources(archive) == unpacked(archive)


@pytest.mark.parametrize(("part", "flips"), [(0, 0), (0.5, 0), (0.99, 0), (1, 1), (1, 255)])
def test_upload_that_is_cut_or_altered_leaves_nothing(
    machine: Machine, archive: AgentArchive, part: float, flips: int
) -> None:
    content = bytearray(archive.content)
    content[len(content) // 2] ^= flips
    size = str(len(archive.content))
    process = machine.open(["python3", "-I", "-c", archive.boot, archive.digest, size])
    process.write(bytes(content[: int(len(content) * part)]))
    process.close_stdin()
    said = b""
    while (output := process.read(20)) is not None:
        assert output.pipe == "stdout", output
        said += output.data
    process.close()
    assert said == b"colabdev-agent send\ncolabdev-agent fail the agent arrived damaged\n"
    assert os.listdir(machine.folder(archive).parent) == []


# --- runtimes that cannot run it -----------------------------------------------------------------


def test_home_that_cannot_be_written_is_said(machine: Machine, archive: AgentArchive) -> None:
    (machine.home / ".cache").touch()  # Root may write everywhere, but not below a file.
    error = refusal(machine, archive)
    assert error.message.startswith("cannot put the agent on the runtime: ")
    assert "Not a directory" in error.message or "File exists" in error.message
    assert str(machine.home / ".cache") in error.message


def test_disk_without_room_is_said_and_nothing_is_left(
    machine: Machine, archive: AgentArchive
) -> None:
    machine.install_python(f'ulimit -f 1; exec {shlex.quote(sys.executable)} "$@"')
    error = refusal(machine, archive)
    assert error.message.startswith("cannot put the agent on the runtime: ")
    assert "File too large" in error.message
    assert "make room" in error.hint
    assert os.listdir(machine.folder(archive).parent) == []


def old_pythons() -> dict[str, str]:
    """Programs that are a Python older than 3.8: a pretended one, and those that are here."""
    scripts = {"3.6.9": "echo colabdev-agent old 3.6.9"}
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for found in (*versions.glob("3.6.*"), *versions.glob("3.7.*")):
        scripts[found.name] = f'exec {shlex.quote(str(found / "bin" / "python3"))} "$@"'
    return scripts


@pytest.mark.parametrize(("version", "script"), old_pythons().items(), ids=old_pythons())
def test_python_that_is_too_old_says_its_version(
    machine: Machine, archive: AgentArchive, version: str, script: str
) -> None:
    machine.install_python(script)
    assert refusal(machine, archive).message == (
        f"cannot start the agent: the runtime's python3 is {version}; it needs 3.8 or newer"
    )


def test_missing_python_is_said_at_once(machine: Machine, archive: AgentArchive) -> None:
    (machine.root / "bin" / "python3").unlink()
    machine.environment["PATH"] = str(machine.root / "bin")
    error = refusal(machine, archive)
    assert error.message == "cannot start the agent on the runtime: python3: command not found"
    assert "python3 --version" in error.hint


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ("exit 0", "it ended without a word"),
        ("echo broken >&2; exit 1", "broken"),
        ("echo one >&2; echo two >&2; echo; exit 1", "two"),
        ("echo some words", "it ended without a word"),
        ("head -c 100000 /dev/zero", "it ended without a word"),
        ("yes", "it ended without a word"),
        ("echo colabdev-agent have; echo no frame", "it ended without a word"),
        ("echo colabdev-agent have; echo died >&2", "died"),
        ("echo colabdev-agent have; printf 'SSH-2.0-OpenSSH'", "it ended without a word"),
    ],
)
def test_python_that_is_none_is_said_with_its_last_words(
    machine: Machine, archive: AgentArchive, script: str, cause: str
) -> None:
    machine.install_python(script)
    assert refusal(machine, archive).message == f"cannot start the agent on the runtime: {cause}"


@pytest.mark.parametrize(
    "noise",
    [
        "echo Welcome; echo; echo 'to colab'",
        "printf 'no newline: '",
        "printf '\\377\\376 latin-1 caf\\351\\n'",
        "echo on stderr >&2",
        "head -c 60000 /dev/zero; echo",
        "i=0; while [ $i -lt 1000 ]; do echo 'a line of a long message of the day'; i=$((i+1)); done",
    ],
)
def test_noise_of_a_shell_before_the_marker_is_skipped(
    machine: Machine, archive: AgentArchive, noise: str
) -> None:
    machine.install_python(f'{noise}\nexec {shlex.quote(sys.executable)} "$@"')
    agent = start(machine, archive)
    assert agent.request("ping", {"x": 1}, b"\0\xff") == ({"x": 1}, b"\0\xff")
    assert agent.end()[0] == ExitStatus(code=0)


@pytest.mark.parametrize("protocol", [0, 1, None, "2"])
def test_agent_of_another_protocol_is_refused(
    machine: Machine, archive: AgentArchive, protocol: object
) -> None:
    frame = wire.encode({"protocol": protocol, "python": "3.8.0", "pid": 1})
    other = make_archive(
        archive, f"import sys; sys.stdout.buffer.write({frame!r}); sys.stdout.flush()"
    )
    error = refusal(machine, other)
    assert error.message == (
        f"the agent on the runtime speaks protocol {protocol}, this colabdev {wire.PROTOCOL}"
    )


def test_agent_that_dies_in_an_answer_is_a_lost_connection(
    machine: Machine, archive: AgentArchive
) -> None:
    hello = wire.encode({"protocol": wire.PROTOCOL, "python": "3.8.0", "pid": 1})
    answer = wire.encode({"x": 1}, b"body")
    for length in (0, 1, 8, len(answer) - 1):
        main = (
            f"import sys; out = sys.stdout.buffer; out.write({hello!r}); out.flush();"
            f"sys.stdin.buffer.read(8); out.write({answer[:length]!r}); out.flush()"
        )
        agent = start(machine, make_archive(archive, main))
        with pytest.raises(ConnectionError):
            agent.request("ping")
        agent.end()


def test_local_transport_is_a_way_to_an_agent(tmp_path: Path, archive: AgentArchive) -> None:
    machine = make_machine(tmp_path / "machine")
    transport = LocalTransport(cwd=tmp_path, environment=machine.environment)
    running = start_agent(transport, archive)
    try:
        assert running.hello.python == sys.version.split()[0]
    finally:
        running.process.close()
