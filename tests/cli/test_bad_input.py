"""Bad input: one sentence, the next step, the right code, nothing half done."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.support.disks import fill, tiny_disk
from tests.support.house import House
from tests.support.keys import make_keypair
from tests.support.waiting import wait_until
from tests.test_crash_points import processes


@dataclass(frozen=True, slots=True)
class Case:
    """A command line, colabdev.toml where it matters, and what must come of it."""

    argv: tuple[str, ...]
    code: int
    says: str
    settings: str | None = None


def case(line: str, code: int, says: str, settings: str | None = None) -> Case:
    return Case(tuple(line.split()), code, says, settings)


LOCAL = "connect --provider local"

CASES = [
    # The command line itself.
    case("conect", 2, "conect"),
    case("--no-such-option", 2, "No such option"),
    case("connect a b", 2, "unexpected extra argument"),
    case("connect --provider", 2, "requires an argument"),
    case("status local", 2, "unexpected extra argument"),
    case("down local --al", 2, "No such option"),
    case("config", 2, ""),
    case("config schmea", 2, "schmea"),
    case("doctor --repair", 2, "requires an argument"),
    # Providers.
    case("connect --provider locl", 2, "did you mean 'local'?"),
    case("connect --provider LOCAL", 2, "unknown provider 'LOCAL'"),
    case("connect --provider aws", 2, "known: colab, local, notebook, ssh"),
    case("connect", 10, "no Google login"),
    case("connect --provider colab", 10, "no Google login"),
    case("connect --provider notebook", 2, "known by the code that its cell prints"),
    case("connect --code", 2, "requires an argument"),
    case("connect --code ssh", 2, "not the code of a notebook: it does not begin with colabdev1."),
    case("connect --code colabdev1.AAAA", 2, "a piece of it is missing or was changed"),
    case("connect --provider notebook --tunnel ngrok", 2, "opened by its cell"),
    case("notebook --tunnel colab", 2, "cannot be reached by tunnel 'colab'"),
    case("notebook nowhere/mine.ipynb --tunnel cloudflared", 2, "needs the program cloudflared"),
    case("connect --provider ssh", 2, "none is named"),
    case("connect --provider ssh --host", 2, "requires an argument"),
    case("connect --provider ssh --host -oProxyCommand=x", 2, "cannot use '-oProxyCommand=x'"),
    case("connect --provider ssh --host me@", 2, "cannot use 'me@'"),
    case("connect --provider ssh --host a:0", 2, "cannot use 'a:0'"),
    case("connect --provider ssh --host $(id)", 2, "cannot use '$(id)'"),
    case("connect", 2, "cannot use ''", settings='[runtime]\nprovider = "ssh"\nhost = ""'),
    case("connect", 2, "cannot use 'a b'", settings='[runtime]\nprovider = "ssh"\nhost = "a b"'),
    case("connect", 2, "none is named", settings='[runtime]\nprovider = "ssh"'),
    case(
        "connect",
        2,
        "cannot be reached by tunnel 'ngrok'",
        settings='[runtime]\nprovider = "ssh"\nhost = "gpu"\ntunnel = "ngrok"',
    ),
    case("connect gpu --provider ssh --host me@gpu", 2, "cannot have its host's own name"),
    case("connect --provider local --host gpu", 2, "'local' brings its own machines"),
    case("connect --provider colab --host gpu", 2, "'colab' brings its own machines"),
    case("connect --python /nowhere/python3 --provider local", 2, "no Python that runs here"),
    case("connect --python /bin/true --provider local", 2, "no Python that runs here"),
    case("connect --python python3 --provider ssh", 2, "'ssh' brings its own"),
    case("connect --python python3", 2, "'colab' brings its own"),
    # Names.
    case("connect Local --provider local", 2, "cannot use 'Local'"),
    case("connect a.b --provider local", 2, "cannot use 'a.b'"),
    case("connect me@host --provider local", 2, "cannot use 'me@host'"),
    case("connect ../up --provider local", 2, "cannot use '../up'"),
    case("connect a- --provider local", 2, "cannot use 'a-'"),
    case("connect 7up --provider local", 2, "cannot use '7up'"),
    case(f"connect {'a' * 33} --provider local", 2, "at most 32"),
    Case(("connect", "", "--provider", "local"), 2, "cannot use ''"),
    Case(("connect", "a\nb", "--provider", "local"), 2, "cannot use"),
    Case(("connect", "a b", "--provider", "local"), 2, "cannot use"),
    case("ssh ../../etc", 2, "cannot use '../../etc'"),
    case("doctor --repair ../x", 2, "cannot use '../x'"),
    case("down ../x", 2, "cannot use '../x'"),
    # No runtime.
    case("ssh", 1, "no runtime is up"),
    case("ssh -- pwd", 1, "no runtime is up"),
    case("ssh local", 1, "no runtime is called 'local'"),
    case("down", 1, "no runtime is up"),
    case("down local", 1, "no runtime is called 'local'"),
    case("down local --all", 2, "cannot release 'local' and all of them"),
    Case(("down", ""), 2, "cannot use ''"),
    Case(("ssh", ""), 2, "cannot use ''"),
    case("ssh -T local", 2, "the runtime's name comes before what is for ssh (-T)"),
    case("doctor --repair local", 1, "no runtime is called 'local'"),
    # colabdev.toml.
    case(LOCAL, 2, "did you mean 'provider'?", '[runtime]\nprovidr = "local"'),
    case(LOCAL, 2, "unknown section 'runtim'; did you mean 'runtime'?", "[runtim]"),
    case(LOCAL, 2, "unknown section 'zzz'; known: checkpoints", "zzz = 1"),
    case(LOCAL, 2, "runtime.provider = 'cloud'", '[runtime]\nprovider = "cloud"'),
    case(LOCAL, 2, "runtime.ttl = 'soon'", '[runtime]\nttl = "soon"'),
    case(LOCAL, 2, "runtime.max_units = -1", "[runtime]\nmax_units = -1"),
    case(LOCAL, 2, "checkpoints.keep = 1", "[checkpoints]\nkeep = 1"),
    case(LOCAL, 2, "is not TOML", "[runtime\n"),
    case(LOCAL, 2, "at line 2", "[runtime]\nprovider = local"),
    case(LOCAL, 2, "cannot be reached by tunnel 'colab'", '[runtime]\ntunnel = "colab"'),
    case(LOCAL, 2, "/content/drive is not free", '[project]\nname = "drive"'),
    case(LOCAL, 2, "cannot use 'a/b' as a project's name", '[project]\nname = "a/b"'),
    case(LOCAL, 2, "cannot use '..'", '[project]\nname = ".."'),
    case("connect", 2, "known by the code", '[runtime]\nprovider = "notebook"'),
]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        yield house


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case.argv)[:50])
def test_bad_command_line_is_answered_and_does_nothing(house: House, case: Case) -> None:
    if case.settings is not None:
        (house.project / "colabdev.toml").write_text(case.settings)
    done = house.colabdev(*case.argv, forks=True)
    assert_expected_failure(done, case.code, case.says)
    as_json = house.colabdev(*case.argv, "--json", forks=True)
    if "ssh" not in case.argv[:1] and "config" not in case.argv[:1]:
        assert as_json.returncode == case.code
        error = json.loads(as_json.stdout)["error"]
        assert error["exit_code"] == case.code
        assert error["message"]
    assert house.store.names() == []
    assert not (house.places.local_dir / "sandboxes").exists()


def test_name_that_another_provider_has_is_refused(house: House) -> None:
    record = house.connect()
    house.change(lambda known: replace(known, provider="ssh"))
    done = house.colabdev("connect", "local", "--provider", "local")
    assert_expected_failure(done, 2, "the name 'local' is taken by a runtime of provider 'ssh'")
    house.change(lambda known: record)


def test_several_runtimes_and_none_named_is_refused(house: House) -> None:
    house.connect("one")
    house.connect("two")
    elsewhere = house.home / "elsewhere"
    elsewhere.mkdir()
    for command, naming in ((["ssh", "--", "true"], "-r one"), (["down"], "colabdev down one")):
        done = house.colabdev(*command, cwd=elsewhere)
        assert_expected_failure(done, 2, "several runtimes are up (one, two)")
        assert done.stderr.endswith(f"for example {naming}\n")
    # In the project the one it connected to last is meant; the environment and -r beat that.
    show = ["ssh", "--", "echo $COLABDEV_RUNTIME"]
    assert house.colabdev(*show).stdout == "two\n"
    assert house.colabdev(*show, env={"COLABDEV_NAME": "one"}).stdout == "one\n"
    assert house.colabdev("ssh", "-r", "one", *show[1:]).stdout == "one\n"
    assert_expected_failure(house.colabdev("ssh", "tow"), 1, "did you mean 'two'?")


def test_home_is_no_project_but_may_have_a_runtime(house: House) -> None:
    done = house.colabdev("connect", "--provider", "local", cwd=house.home)
    assert done.returncode == 0, done.stderr
    assert house.record().workdir is None
    assert "this folder is no project" in done.stdout


def test_state_directory_that_cannot_be_written_is_named(house: House) -> None:
    house.places.state_dir.write_text("a file stands here")
    done = house.colabdev("connect", "--provider", "local")
    assert_expected_failure(done, 1, "cannot write colabdev's state")
    assert "COLABDEV_STATE_DIR" in done.stderr


def test_ssh_directory_that_cannot_be_written_is_named(house: House) -> None:
    (house.home / ".ssh").write_text("a file stands here")
    done = house.colabdev("connect", "--provider", "local")
    assert_expected_failure(done, 1, "cannot write the SSH host entry")
    assert house.colabdev("down", "--all").returncode == 0


@pytest.mark.parametrize("name", ["dollar${HOME}x", "new\nline"])
def test_home_that_ssh_cannot_name_is_refused_before_anything_starts(
    tmp_path: Path, name: str
) -> None:
    with House(tmp_path / name) as house:
        done = house.colabdev("connect", "--provider", "local")
        assert_expected_failure(done, 2, "OpenSSH cannot read line ends or ${ in a path")
        assert house.store.names() == []
        elsewhere = {"COLABDEV_SSH_CONFIG": str(tmp_path / "elsewhere" / "config")}
        done = house.colabdev("connect", "--provider", "local", env=elsewhere)
        assert done.returncode == 0, done.stderr


def test_runtime_whose_state_file_is_gone_is_found_again(house: House) -> None:
    before = house.connect()
    house.end_keeper()
    house.store.delete("local")
    done = house.colabdev("doctor")
    assert done.returncode == 1
    assert "runtime local: runs, but has no state file here" in done.stdout
    assert house.colabdev("doctor", "--repair", "local").returncode == 0
    assert house.record().request_id == before.request_id
    assert [runtime["state"] for runtime in house.status()] == ["ready"]
    for command in (["down", "--all"], ["down", "local"]):
        house.connect()
        house.end_keeper()
        house.store.delete("local")
        assert house.colabdev(*command).returncode == 0
        assert house.provider.names() == ()


def test_directory_in_place_of_a_state_file_is_repaired(house: House) -> None:
    house.connect()
    state_file = house.places.state_dir / "runtimes" / "local.json"
    state_file.unlink()
    state_file.mkdir()
    assert_expected_failure(house.colabdev("status"), 15, "cannot read the state of 'local'")
    assert house.colabdev("doctor", "--repair", "local").returncode == 0
    assert [runtime["state"] for runtime in house.status()] == ["ready"]


def test_state_directory_that_is_removed_ends_everything(house: House) -> None:
    house.connect()
    shutil.rmtree(house.places.state_dir)
    wait_until(lambda: not processes(house), timeout_s=15, message="no process is left")


def test_down_makes_room_on_a_full_disk(house: House) -> None:
    house.places.state_dir.mkdir(mode=0o700)
    with tiny_disk(house.places.state_dir, size_kb=4096) as state:
        house.connect()
        fill(state / "ballast")
        done = house.colabdev("down", "local")
        assert done.returncode == 0, done.stderr
        assert house.provider.names() == ()
        assert house.store.names() == []


def test_name_in_the_environment_is_no_reason_to_refuse_all(house: House) -> None:
    house.connect()
    done = house.colabdev("down", "--all", env={"COLABDEV_NAME": "local"})
    assert done.returncode == 0, done.stderr


def test_progress_that_nobody_reads_does_not_stop_the_work(house: House) -> None:
    for arguments in (["connect", "--provider", "local"], ["down", "local"]):
        command = [sys.executable, "-m", "colabdev", *arguments]
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                command, cwd=house.project, env=house.environment, stderr=full, check=False
            )
        assert done.returncode == 0
    assert house.provider.names() == ()


def test_result_that_cannot_be_written_is_said(house: House) -> None:
    results = (["status"], ["status", "--json"], ["--version"], ["config", "schema"])
    for arguments in (*results, ["--help"], ["run", "--help"]):
        code, what = (
            (125 if "run" in arguments else 1),
            "result" if arguments in results else "help",
        )
        command = [sys.executable, "-m", "colabdev", *arguments]
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                command, env=house.environment, stdout=full, stderr=subprocess.PIPE, text=True,
                check=False,
            )  # fmt: skip
        assert (done.returncode, f"cannot write the {what}" in done.stderr) == (code, True), (
            arguments
        )
        assert "Exception" not in done.stderr


def test_closed_streams_are_no_bug(house: House) -> None:
    house.connect()
    for line in ("status >&-", "status 2>&-", "ssh local -- true >&-", "status <&- >&- 2>&-"):
        done = subprocess.run(
            ["/bin/sh", "-c", f'"$0" -m colabdev {line}', sys.executable],
            cwd=house.project, env=house.environment, capture_output=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b""), line


def test_reader_that_leaves_is_no_failure(house: House) -> None:
    done = subprocess.run(
        ["/bin/bash", "-c", 'set -o pipefail; "$0" -m colabdev config schema | head -1', sys.executable],
        env=house.environment, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
def test_names_that_are_no_text_are_shown_escaped(house: House, encoding: str) -> None:
    project = Path(os.fsdecode(os.fsencode(house.project) + b"/\xff\xe9\n\xc3\xbc"))
    project.mkdir()
    for command in (["connect", "--provider", "local"], ["status"], ["status", "--json"]):
        done = house.colabdev(*command, cwd=project, env={"PYTHONIOENCODING": encoding})
        assert done.returncode == 0, done.stderr
    head, row, drive = house.colabdev("status").stdout.splitlines()
    assert (head[:4], row[:5]) == ("NAME", "local")
    assert drive.endswith("\\udcff\\udce9\\nü: nothing of it was handed to Drive yet")


def test_full_disk_under_the_state_is_said_and_forgets_nothing(house: House) -> None:
    """With a little more room each time, so that each step in turn is the one that fails."""
    house.places.state_dir.mkdir(mode=0o700)
    outcomes = set()
    with tiny_disk(house.places.state_dir, size_kb=4096) as state:
        for free_kb in (0, 4, 8, 16, 32, 64, 128, 3072):
            ballast = state / "ballast"
            fill(ballast)
            with ballast.open("r+b") as file:
                file.truncate(ballast.stat().st_size - free_kb * 1024)
            done = house.colabdev("connect", "--provider", "local")
            outcomes.add(done.returncode)
            if done.returncode != 0:
                assert_expected_failure(done, 1, "No space left on device")
            ballast.unlink()
            assert house.colabdev("down", "--all").returncode == 0
            assert house.provider.names() == ()
    assert outcomes == {0, 1}


def test_full_disk_on_the_runtime_is_said(house: House) -> None:
    house.connect()
    sandbox_home = Path(house.colabdev("ssh", "local", "--", "echo ~").stdout.strip())
    cache = sandbox_home / ".cache"
    cache.rename(sandbox_home / "before")  # Agents may be writing bytecode into it.
    cache.mkdir()
    with tiny_disk(cache, size_kb=1024):
        fill(cache / "ballast")
        house.end_keeper()
        done = house.colabdev("connect", "local", "--provider", "local")
        assert_expected_failure(done, 1, "cannot put the agent on the runtime")
        assert "No space left on device" in done.stderr
        (cache / "ballast").unlink()
        assert house.colabdev("connect", "local", "--provider", "local").returncode == 0
        house.end_keeper()


def test_refused_port_is_unreachable_and_the_record_stays(house: House) -> None:
    machine = house.connect().machine
    assert machine is not None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    moved = replace(machine, ssh=replace(machine.ssh, port=port))
    house.change(lambda record: replace(record, machine=moved))
    house.end_keeper()
    done = house.colabdev("status", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["runtimes"][0]["state"] == "unreachable"
    done = house.colabdev("status")
    assert "Connection refused" in done.stderr
    # connect asks the provider for the address anew.
    assert house.colabdev("connect", "local", "--provider", "local").returncode == 0


def test_login_key_that_the_runtime_does_not_know_is_said(house: House, tmp_path: Path) -> None:
    house.connect()
    other = make_keypair(tmp_path, "other")
    shutil.copy(other.private, house.ssh_files.private_key_file)
    house.end_keeper()
    done = house.colabdev("status")
    assert "it refuses this computer's key" in done.stderr
    # connect tells the runtime of the new key, over the provider's own way.
    assert house.colabdev("connect", "local").returncode == 0
    assert house.colabdev("ssh", "local", "--", "true").returncode == 0


DAMAGES = {
    "": "it is not JSON",
    "{": "it is not JSON",
    "[]": "it is not a JSON object",
    '{"schema": 99, "name": "local", "provider": "local"}': "it has schema 99",
    '{"schema": 1, "name": "local", "provider": "local"}': "it lacks 'request_id'",
}


def test_unreadable_state_stays_and_is_repaired(house: House) -> None:
    before = house.connect()
    state_file = house.places.state_dir / "runtimes" / "local.json"
    for number, (damage, cause) in enumerate(DAMAGES.items(), 1):
        state_file.write_text(damage)
        for command in (
            ["status"],
            ["ssh", "local"],
            ["ssh"],
            ["down", "local"],
            ["down"],
            ["down", "--all"],
            ["connect", "--provider", "local"],
        ):
            assert_expected_failure(house.colabdev(*command), 15, cause)
            assert state_file.read_text() == damage, f"{command} changed it"
        if '"provider"' in damage:
            said = house.colabdev("status").stderr
            assert "still readable: name local, provider local" in said
        document = json.loads(house.colabdev("status", "--json").stdout)
        assert (document["runtimes"], document["error"]["exit_code"]) == ([], 15)
        done = house.colabdev("doctor", "--repair", "local")
        assert done.returncode == 0, done.stderr
        assert Path(state_file.parent / f"local.unreadable-{number}").read_text() == damage
        assert house.record().request_id == before.request_id
        assert [runtime["state"] for runtime in house.status()] == ["ready"]
    assert house.connect().machine == before.machine
    assert house.colabdev("down").returncode == 0


def test_unreadable_state_of_one_runtime_is_not_in_the_way_of_another(house: House) -> None:
    house.connect("good")
    (house.places.state_dir / "runtimes" / "bad.json").write_text("?")
    done = house.colabdev("status", "--json")
    assert done.returncode == 15
    assert [row["name"] for row in json.loads(done.stdout)["runtimes"]] == ["good"]
    assert house.colabdev("ssh", "good", "--", "true").returncode == 0
    done = house.colabdev("down", "--all")
    assert done.returncode == 15
    assert "good is released" in done.stdout
    done = house.colabdev("doctor", "--repair", "bad")
    assert "no provider knows bad" in done.stdout
    assert house.store.names() == []


def test_host_key_that_changed_under_a_running_runtime_ends_with_13(
    house: House, tmp_path: Path
) -> None:
    """Somebody else answers at the address that the provider named."""
    house.connect()
    sandbox = house.places.local_dir / "sandboxes" / "local" / "sandbox.json"
    document = json.loads(sandbox.read_text())
    document["host_key"] = make_keypair(tmp_path, "pinned").public
    sandbox.write_text(json.dumps(document))
    house.end_keeper()
    done = house.colabdev("connect", "--provider", "local")
    assert_expected_failure(done, 13, "another host key than the pinned one")
    done = house.colabdev("ssh", "local", "--", "true")
    assert done.returncode == 255  # The system's own ssh refuses it, too.
    assert "HOST KEY VERIFICATION FAILED" in done.stderr.upper()


def test_commands_side_by_side_make_one_runtime(house: House) -> None:
    results = run_side_by_side(house, *[["connect", "--provider", "local"]] * 4)
    assert [code for code, _ in results] == [0, 0, 0, 0], results
    assert len(house.provider.names()) == 1
    results = run_side_by_side(house, *[["down", "--all"]] * 3)
    assert [code for code, _ in results] == [0, 0, 0], results
    assert house.store.names() == []


def run_side_by_side(house: House, *command_lines: list[str]) -> list[tuple[int, str]]:
    """Start all at once; each one's exit code and what it complained of."""
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "colabdev", *arguments],
            cwd=house.project,
            env=house.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for arguments in command_lines
    ]
    results = []
    for command in running:
        _, complaints = command.communicate(timeout=60)
        results.append((command.returncode, complaints))
    return results


def assert_expected_failure(done: subprocess.CompletedProcess[str], code: int, says: str) -> None:
    """The exit code, the sentence, a next step, and no traceback."""
    assert done.returncode == code, (done.stdout, done.stderr)
    assert says in " ".join(done.stderr.split()) or says in done.stderr
    assert "Traceback" not in done.stderr
    assert "next:" in done.stderr or code == 2
