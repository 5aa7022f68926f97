"""`colabdev sync --watch` as typed, against a real sandbox."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.house import House
from tests.support.relay import Relay
from tests.support.syncing import SyncedFolder, make_synced_folder
from tests.support.waiting import wait_until
from tests.support.watching import Watcher


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("house")) as house:
        house.connect()
        yield house


@pytest.fixture
def project(house: House, request: pytest.FixtureRequest) -> SyncedFolder:
    """A project of its own for each test, on the house's one runtime."""
    project = make_synced_folder(house, re.sub(r"\W+", "-", request.node.name))
    project.write("train.py", "print(1)\n")
    return project


def test_edits_go_both_ways_and_what_is_ignored_wakes_nobody(project: SyncedFolder) -> None:
    project.write(".gitignore", "node_modules\n*.log\n")
    (project.local / "node_modules" / "deep").mkdir(parents=True)
    with Watcher(project) as watcher:
        project.write("train.py", "print(2)\n")
        watcher.wait_equal()
        (project.remote / "typed_there.py").write_text("print(3)\n")
        watcher.wait_equal()
        assert (project.local / "typed_there.py").read_text() == "print(3)\n"
        project.write("new/folder/inside.py", "4")
        watcher.wait_equal()
        (project.remote / "new" / "folder" / "there.py").write_text("5")
        watcher.wait_equal()
        (project.local / "new").rename(project.local / "newer")
        watcher.wait_equal()
        watcher.settle()
        before = len(watcher.said)
        project.write("node_modules/deep/x.js", "x")
        project.write("out.log", "x")
        (project.remote / "there.log").write_text("x")
        watcher.settle()
        assert len(watcher.said) == before + 1, watcher.said[before:]
    assert watcher.events() == []


def test_rules_that_change_hold_from_then_on(project: SyncedFolder) -> None:
    with Watcher(project) as watcher:
        project.write(".gitignore", "*.log\n")
        watcher.wait_equal()
        project.write("a.log", "not this one")
        project.write(".gitignore", "")
        watcher.wait_equal()
        project.write("colabdev.toml", '[sync]\nexclude = ["private/"]\n')
        watcher.wait_for((project.remote / "colabdev.toml").exists)
        project.write("private/x", "x")
        watcher.settle()
        assert not (project.remote / "private").exists()
        project.write("colabdev.toml", "[sync]\nexclud = 1\n")
        watcher.wait_for(lambda: "waits" in watcher.events())
        assert "did you mean 'exclude'" in watcher.said[-1]["error"]["message"]
        project.write("colabdev.toml", "")
        watcher.wait_equal()


@pytest.mark.parametrize("files", [500, pytest.param(3000, marks=pytest.mark.long)])
def test_a_branch_switch_is_one_sync(project: SyncedFolder, files: int) -> None:

    def git(*arguments: str) -> None:
        words = ["git", "-c", "user.name=me", "-c", "user.email=me@localhost", *arguments]
        subprocess.run(words, cwd=project.local, check=True, capture_output=True)

    git("init", "-b", "main")
    for branch in ("other", "main"):
        for number in range(files):
            project.write(f"package{number // 100}/m{number}.py", f"# {branch} {number}\n")
        git("add", ".")
        git("commit", "-m", branch)
        git("branch", "-f", "other" if branch == "other" else "done")
    with Watcher(project) as watcher:
        watcher.settle()
        git("checkout", "other")
        watcher.wait_for(lambda: len(watcher.syncs) > 1, 60)
        watcher.settle()
        project.assert_equal()
        assert [sync["sent"]["files"] for sync in watcher.syncs] == [1, files, 1]


def test_a_save_by_rename_is_one_sync(project: SyncedFolder) -> None:
    with Watcher(project) as watcher:
        for number in range(3):
            before = len(watcher.syncs)
            draft = project.write(".train.py.swp", f"print({number})\n" * 9)
            draft.chmod(0o600)
            draft.rename(project.local / "train.py")
            watcher.wait_equal()
            watcher.wait_for(lambda before=before: len(watcher.syncs) > before)  # type: ignore[misc]
        watcher.settle()
        assert [list(map(_path, sync["actions"])) for sync in watcher.syncs[:-1]] == (
            [["train.py"]] * 3
        )


def test_conflicts_are_said_once_and_the_guard_waits(project: SyncedFolder) -> None:
    for number in range(30):
        project.write(f"m{number}", str(number))
    with Watcher(project) as watcher:
        watcher.process.send_signal(signal.SIGSTOP)
        project.write("train.py", "mine")
        (project.remote / "train.py").write_text("theirs")
        watcher.process.send_signal(signal.SIGCONT)
        watcher.settle()
        watcher.settle()
        told = [sync["conflicts"] for sync in watcher.syncs if sync["conflicts"]]
        paths = {conflict["path"] for conflicts in told for conflict in conflicts}
        assert paths == {"train.py"}
        aside = project.local.with_name(f"{project.local.name}-aside")
        aside.mkdir()
        for file in project.local.iterdir():
            file.rename(aside / file.name)
        watcher.wait_for(lambda: "waits" in watcher.events())
        assert watcher.said[-1]["error"]["exit_code"] == 14
        assert (project.remote / "m1").exists()
        for file in aside.iterdir():
            file.rename(project.local / file.name)
        (project.remote / "train.py").write_text("mine")
        watcher.wait_equal()
        assert watcher.process.poll() is None


def test_a_folder_that_goes_is_waited_for(project: SyncedFolder) -> None:
    with Watcher(project) as watcher:
        aside = project.local.with_name(f"{project.local.name}-aside")
        project.local.rename(aside)
        watcher.wait_for(lambda: "waits" in watcher.events())
        assert "is not there" in watcher.said[-1]["error"]["message"]
        assert (project.remote / "train.py").exists()
        aside.rename(project.local)
        watcher.settle()


def test_a_cut_and_a_sleep_are_outlived(house: House, project: SyncedFolder) -> None:
    machine = house.record().machine
    assert machine is not None
    with Relay(machine.ssh.host, machine.ssh.port) as relay:
        ssh = replace(machine.ssh, host="127.0.0.1", port=relay.port)
        house.change(lambda record: replace(record, machine=replace(machine, ssh=ssh)))
        house.end_keeper()
        try:
            with Watcher(project) as watcher:
                watcher.settle()
                # Told by who listens now: what is asked for otherwise is given 30 s for the way
                # to be back.
                watcher.settle()
                relay.refuse()
                relay.cut()
                watcher.wait_for(lambda: "waits" in watcher.events())
                project.write("train.py", "saved in the train")
                relay.accept()
                watcher.wait_equal(40)
                watcher.process.send_signal(signal.SIGSTOP)  # The lid is closed.
                relay.cut()
                (project.remote / "there.py").write_text("meanwhile")
                project.write("here.py", "meanwhile")
                watcher.process.send_signal(signal.SIGCONT)
                watcher.wait_equal(40)
                watcher.settle()
                assert watcher.process.poll() is None
                assert watcher.events().count("waits") <= 2
        finally:
            house.change(lambda record: replace(record, machine=machine))
            house.end_keeper()


def test_a_new_machine_behind_the_name_gets_everything(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        house.connect()
        project = make_synced_folder(house, "digits")
        project.write("train.py", "print(1)\n")
        with Watcher(project) as watcher:
            watcher.settle()
            house.provider.release("local")
            watcher.wait_for(lambda: "waits" in watcher.events())
            house.connect()
            watcher.wait_equal(40)
            assert {path.name for path in project.local.iterdir()} == {"train.py", "mark1"}
            watcher.settle()


def test_control_c_ends_it(project: SyncedFolder) -> None:
    with Watcher(project) as watcher:
        watcher.settle()
        watcher.process.send_signal(signal.SIGINT)
        assert watcher.process.wait(10) == 130


def test_the_first_sync_fails_as_any_other(house: House, project: SyncedFolder) -> None:
    for words, code in (
        (["--watch", "-r", "nobody"], 1),
        (["--watch", "--dry-run"], 2),
        (["--watch", "--pull", "x"], 2),
        (["--watch", "--explain", "x"], 2),
    ):
        done = project.type("sync", *words)
        assert done.returncode == code, done.stderr
        assert "next: " in done.stderr


def test_words_for_people_are_a_line_for_each_sync(project: SyncedFolder) -> None:
    command = subprocess.Popen(
        [sys.executable, "-m", "colabdev", "sync", "--watch"],
        cwd=project.local,
        env=project.house.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert command.stdout is not None
    with command, command.stdout as lines:
        try:
            assert "sending" in lines.readline()
            assert re.fullmatch(r"[\d:]{8}  -> train\.py \(9 bytes\) in .* s\n", lines.readline())
            (project.remote / "b.py").write_text("b")
            wait_until((project.local / "b.py").exists, message="it did not come")
            assert re.fullmatch(r"[\d:]{8}  <- b\.py \(1 bytes\) in .* s\n", lines.readline())
            shutil.rmtree(project.local)
            assert re.fullmatch(r"[\d:]{8}  waits: .* is not there\n", lines.readline())
        finally:
            command.kill()


def _path(action: dict[str, object]) -> object:
    return action["path"]
