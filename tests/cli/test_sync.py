"""`colabdev sync` as typed, against a real sandbox."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.test_tree import HOSTILE
from tests.support.disks import fill, tiny_disk
from tests.support.house import House
from tests.support.syncing import SyncedFolder, look, make_synced_folder

DOCUMENT_KEYS = [
    *("schema", "sent", "received", "deleted", "unchanged"),
    *("conflicts", "problems", "actions", "wire_bytes"),
]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("house")) as house:
        house.connect()
        yield house


@pytest.fixture
def project(house: House, request: pytest.FixtureRequest) -> SyncedFolder:
    """A project of its own for each test, on the house's one runtime."""
    return make_synced_folder(house, re.sub(r"\W+", "-", request.node.name))


def test_first_sync_sends_all_and_the_second_nothing(project: SyncedFolder) -> None:
    project.write("train.py", "print(1)\n")
    project.write("empty", b"")
    project.write("run.sh", "#!/bin/sh\n").chmod(0o755)
    (project.local / "link").symlink_to("train.py")
    for name in HOSTILE:
        project.write(f"hostile/{name}/{name}", name.encode("utf-8", "surrogateescape"))
    first = project.sync()
    assert list(first) == DOCUMENT_KEYS
    files = 4 + len(HOSTILE)
    assert first["sent"]["files"] == files
    assert {action["reason"] for action in first["actions"]} == {"new"}
    project.assert_equal()
    before = {path: path.lstat().st_mtime_ns for path in project.remote.rglob("*")}
    second = project.sync()
    assert second["sent"] == {"files": 0, "bytes": 0}
    assert (second["actions"], second["unchanged"]) == ([], files)
    assert second["wire_bytes"] < 1000
    ours = project.remote / ".colabdev"
    for path, mtime_ns in before.items():
        if path != ours and ours not in path.parents:
            assert path.lstat().st_mtime_ns == mtime_ns, path


def test_what_a_killed_sync_left_here_goes_though_nothing_is_to_come(project: SyncedFolder) -> None:
    project.write("train.py", "print(1)\n")
    project.sync()
    project.write(".colabdev/.gitignore", "*\n")
    project.write(".colabdev/staging/file", "had arrived; was it to be placed?")
    project.sync()
    assert not (project.local / ".colabdev").exists()


def test_what_is_not_ours_in_our_folder_stays(project: SyncedFolder) -> None:
    project.write("train.py", "print(1)\n")
    kept = project.write(".colabdev/notes", "the user's")
    project.sync()
    assert kept.read_text() == "the user's"


def test_edits_deletions_renames_and_changes_of_type_arrive(project: SyncedFolder) -> None:
    for path in ("edited", "deleted", "d/renamed", "x/folder", "file", "chmod", "linked"):
        project.write(path, path)
    project.sync()
    project.write("edited", "EDITED")
    (project.local / "deleted").unlink()
    (project.local / "d" / "renamed").rename(project.local / "new name")
    (project.local / "x" / "folder").unlink()
    (project.local / "x").rmdir()
    project.write("x", "a file now")
    (project.local / "file").unlink()
    project.write("file/inside", "a folder now")
    (project.local / "chmod").chmod(0o755)
    (project.local / "linked").unlink()
    (project.local / "linked").symlink_to("edited")
    (project.local / "d").rmdir()
    report = project.sync()
    project.assert_equal()
    assert not (project.remote / "d").exists()
    assert {action["path"]: action["op"] for action in report["actions"]} == {
        "edited": "send",
        "deleted": "delete",
        "d/renamed": "delete",
        "new name": "send",
        "x/folder": "delete",
        "x": "send",
        "file": "delete",
        "file/inside": "send",
        "chmod": "chmod",
        "linked": "link",
    }
    assert project.sync()["actions"] == []


def test_edit_of_the_same_size_and_time_is_found(project: SyncedFolder) -> None:
    file = project.write("a", "1111")
    status = file.stat()
    project.sync()
    for text in ("2222", "3333"):
        file.write_text(text)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert project.sync()["sent"]["files"] == 1
    project.assert_equal()


def test_edit_on_the_runtime_comes_home(project: SyncedFolder) -> None:
    for path in ("a", "d/b", "gone", "run.sh", "mine"):
        project.write(path, f"{path} 1")
    project.sync()
    (project.remote / "a").write_text("typed in VS Code")
    (project.remote / "d" / "new").write_text("new there")
    (project.remote / "gone").unlink()
    (project.remote / "run.sh").chmod(0o755)
    (project.remote / "link").symlink_to("d/new")
    project.write("mine", "edited here")
    report = project.sync()
    project.assert_equal()
    assert (project.local / "a").read_text() == "typed in VS Code"
    assert {action["path"]: (action["op"], action["reason"]) for action in report["actions"]} == {
        "a": ("receive", "edited there"),
        "d/new": ("receive", "new there"),
        "gone": ("remove", "deleted there"),
        "link": ("receive", "new there"),
        "mine": ("send", "edited"),
        "run.sh": ("receive", "made executable there"),
    }
    assert (report["received"]["files"], report["sent"]["files"]) == (3, 1)
    assert not (project.local / ".colabdev").exists()
    before = {path: path.lstat().st_mtime_ns for path in project.local.rglob("*")}
    again = project.sync()
    assert (again["actions"], again["wire_bytes"] < 1000) == ([], True)
    assert {path: path.lstat().st_mtime_ns for path in project.local.rglob("*")} == before


def test_times_come_home_with_the_files(project: SyncedFolder) -> None:
    project.write("a", "1")
    project.sync()
    (project.remote / "old").write_text("old")
    os.utime(project.remote / "old", ns=(1, 1_500_000_000_123_456_789))
    project.sync()
    assert (project.local / "old").stat().st_mtime_ns == 1_500_000_000_123_456_789


def test_edits_on_both_sides_are_kept_and_reported(project: SyncedFolder) -> None:
    project.write("a", "1")
    project.write("b", "1")
    project.sync()
    (project.remote / "a").write_text("typed in VS Code")
    project.write("a", "2")
    project.write("b", "2")
    report = project.sync(code=3)
    assert report["conflicts"] == [{"path": "a", "local": "edited", "remote": "edited"}]
    assert (project.remote / "a").read_text() == "typed in VS Code"
    assert (project.local / "a").read_text() == "2"
    assert (project.remote / "b").read_text() == "2"
    done = project.type("sync")
    assert done.returncode == 3
    assert "conflict: a: here edited, on the runtime edited; both are kept" in done.stdout


def test_edit_wins_against_a_deletion(project: SyncedFolder) -> None:
    for path in "abcdef":
        project.write(path, "1")
    project.sync()
    (project.local / "a").unlink()
    (project.remote / "a").write_text("edited there")
    (project.remote / "b").unlink()
    project.write("b", "edited here")
    project.sync()
    project.assert_equal()
    assert (project.local / "a").read_text() == "edited there"
    assert (project.remote / "b").read_text() == "edited here"


def test_one_way_takes_nothing_from_the_runtime(project: SyncedFolder) -> None:
    for path in ("a", "b", "c"):
        project.write(path, "1")
    project.sync()
    (project.remote / "a").write_text("edited there")
    (project.remote / "b").unlink()
    (project.remote / "extra").write_text("new there")
    report = project.sync("--one-way", code=3)
    assert report["conflicts"] == [{"path": "a", "local": "unchanged", "remote": "edited"}]
    assert [action["reason"] for action in report["actions"]] == ["missing on the runtime"]
    assert (project.local / "a").read_text() == "1"
    assert project.type("sync", "--delete").returncode == 2
    assert project.type("sync", "--one-way", "--prefer", "remote").returncode == 2
    mirrored = project.sync("--one-way", "--delete")
    assert {action["path"]: action["op"] for action in mirrored["actions"]} == {
        "a": "send",
        "extra": "delete",
    }
    project.assert_equal()


def test_emptied_work_dir_halts_until_told(project: SyncedFolder) -> None:
    for name in "abc":
        project.write(name, name)
    project.sync()
    before = look(project.local)
    for name in "abc":
        (project.remote / name).unlink()
    error = project.sync(code=14)["error"]
    assert "3 of the 3 files of the project would be deleted here" in error["message"]
    assert "--one-way sends yours again" in error["hint"]
    assert project.type("run", "true").returncode == 125
    assert look(project.local) == before
    assert project.sync("--one-way")["sent"]["files"] == 3
    project.assert_equal()
    for name in "abc":
        (project.remote / name).unlink()
    assert project.sync("--force")["deleted"] == 3
    assert look(project.local) == {}


def test_replaced_folder_halts(project: SyncedFolder) -> None:
    """As when a disk is not mounted, and another project stands below."""
    for name in "abcd":
        project.write(name, name * 3)
    project.sync()
    aside = project.local.with_name("aside-" + project.local.name)
    project.local.rename(aside)
    project.local.mkdir()
    for name in "abc":
        project.write(name, "another project's")
    error = project.sync(code=14)["error"]
    assert "would be deleted on the runtime" in error["message"]
    assert (project.remote / "a").read_text() == "aaa"


def test_files_that_lie_behind_a_new_link_there_are_left_alone(project: SyncedFolder) -> None:
    project.write("data/x", "precious")
    project.write("a", "1")
    project.sync()
    elsewhere = project.remote.parent / ("elsewhere-" + project.local.name)
    (project.remote / "data").rename(elsewhere)
    (project.remote / "data").symlink_to(elsewhere)
    report = project.sync(code=3)
    assert [problem["path"] for problem in report["problems"]] == ["data"]
    assert (project.local / "data" / "x").read_text() == "precious"


def test_what_is_ignored_or_large_there_stays_there(project: SyncedFolder) -> None:
    project.write(".gitignore", "*.log\nbuild/\n")
    project.write("a", "1")
    project.sync()
    for path in ("x.log", "build/y", "__pycache__/z.pyc", ".venv/lib/m.py", ".git/config"):
        (project.remote / path).parent.mkdir(parents=True, exist_ok=True)
        (project.remote / path).write_text("made there")
    (project.remote / ".venv" / ".gitignore").write_text("*\n")
    os.mkfifo(project.remote / "fifo")
    (project.remote / "out").symlink_to("/etc")
    with (project.remote / "big").open("wb") as file:
        file.truncate(5_000_000)
    report = project.sync("--max-size", "1M", code=3)
    assert [problem["path"] for problem in report["problems"]] == ["big", "fifo", "out"]
    assert (
        "on the runtime, is large; colabdev sync --max-size 5M" in report["problems"][0]["reason"]
    )
    assert report["actions"] == []
    for path in ("fifo", "out"):
        (project.remote / path).unlink()
    assert project.sync()["received"] == {"files": 1, "bytes": 5_000_000}


def test_rules_that_are_typed_there_hold_at_once(project: SyncedFolder) -> None:
    project.write("a", "1")
    project.sync()
    (project.remote / ".gitignore").write_text("*.log\n")
    (project.remote / "x.log").write_text("not wanted")
    (project.remote / "b").write_text("wanted")
    report = project.sync()
    assert [action["path"] for action in report["actions"]] == [".gitignore", "b"]
    assert project.sync()["actions"] == []


def test_small_edit_costs_one_round_trip(project: SyncedFolder) -> None:
    for number in range(200):
        project.write(f"d/{number}", f"{number}\n" * 50)
    project.sync()
    project.write("d/7", "edited")
    (project.local / "d" / "8").rename(project.local / "renamed")
    report = project.sync()
    assert {action["path"]: action["op"] for action in report["actions"]} == {
        "d/7": "send",
        "renamed": "copy",
        "d/8": "delete",
    }
    # A comparison of all of them would be more.
    assert report["wire_bytes"] < 2500
    project.assert_equal()


def test_memory_that_makes_no_sense_costs_a_round_trip(project: SyncedFolder) -> None:
    project.write("a", "1")
    project.write("b", "1")
    project.sync()
    for content in ("", "{", '[1, "x", "y", "z", 1]\n', '[1, "x", "x", "z", 1]\n{"a": "f-"}\n'):
        for file in (project.house.places.state_dir / "indexes").glob("*.known"):
            file.write_text(content)
        project.write("a", content + "!")
        assert [a["op"] for a in project.sync()["actions"]] == ["send"], content
        project.assert_equal()
    for file in (project.house.places.state_dir / "indexes").glob("*.known"):
        head, _, _ = file.read_text().partition("\n")
        file.write_text(head + '\n{"a": "f-00"}\n')
    project.write("a", "once more")
    (project.remote / "b").write_text("there")
    assert [a["op"] for a in project.sync()["actions"]] == ["receive", "send"]
    project.assert_equal()


def test_file_created_on_the_runtime_is_kept(project: SyncedFolder) -> None:
    project.write("a", "1")
    project.sync()
    (project.remote / "notes").write_text("theirs")
    project.write("notes", "mine")
    for arguments in (["--dry-run"], []):
        report = project.sync(*arguments, code=3)
        assert report["conflicts"] == [{"path": "notes", "local": "new", "remote": "created"}]
    assert (project.remote / "notes").read_text() == "theirs"


def test_dry_run_says_all_and_does_nothing(project: SyncedFolder) -> None:
    project.write("a", "1")
    project.write("b", "1")
    project.sync()
    project.write("a", "22")
    (project.local / "b").unlink()
    before = look(project.remote)
    report = project.sync("--dry-run")
    assert report["actions"] == [
        {"op": "send", "path": "a", "reason": "edited", "bytes": 2},
        {"op": "delete", "path": "b", "reason": "deleted here", "bytes": 0},
    ]
    text = project.type("sync", "--dry-run").stdout
    assert "-> send     a  (edited, 2 bytes)" in text
    assert look(project.remote) == before


def test_new_empty_folder_is_there_when_a_job_wants_it(project: SyncedFolder) -> None:
    project.write("train.py", "open('checkpoints/1', 'w'); print('saved')")
    project.sync()
    (project.local / "checkpoints").mkdir()
    done = project.type("run", "train.py")
    assert (done.returncode, done.stdout) == (0, "saved\n"), done.stderr


def test_dry_run_in_a_missing_work_dir_makes_none(project: SyncedFolder) -> None:
    project.write("a", "1")
    assert project.sync("--dry-run")["sent"]["files"] == 1
    assert not project.remote.exists()


def test_emptied_project_halts_until_forced(project: SyncedFolder) -> None:
    for name in "abc":
        project.write(name, name)
    project.sync()
    before = look(project.remote)
    for name in "abc":
        (project.local / name).unlink()
    error = project.sync(code=14)["error"]
    assert "3 of the 3 files that sync put there would be deleted" in error["message"]
    assert "--force" in error["hint"]
    assert look(project.remote) == before
    assert project.sync("--dry-run", code=3)["deleted"] == 3
    assert project.sync("--force")["deleted"] == 3
    assert look(project.remote) == {}


def test_work_dir_of_another_folder_is_refused(project: SyncedFolder) -> None:
    project.write("a", "1")
    project.sync()
    namesake = project.local.parent / "elsewhere" / project.local.name
    namesake.mkdir(parents=True)
    (namesake / "a").write_text("other")
    done = project.house.colabdev("sync", "--json", cwd=namesake)
    assert done.returncode == 14
    error = json.loads(done.stdout)["error"]
    assert (error["type"], str(project.local) in error["message"]) == ("GuardHalted", True)
    assert (project.remote / "a").read_text() == "1"


def test_what_is_ignored_excluded_or_an_output_is_not_sent(project: SyncedFolder) -> None:
    settings = '[sync]\nexclude = ["data/raw/", "*.bin"]\noutputs = ["runs/"]\n'
    project.write("colabdev.toml", settings)
    project.write(".gitignore", "*.log\n")
    project.write(".colabdevignore", "private\n")
    kept = ["a.py", "data/x", "sub/keep"]
    left = ["a.log", "data/raw/y", "big.bin", "runs/1/out", "private", "sub/private/x"]
    for path in [*kept, *left, ".colabdev/own"]:
        project.write(path, path)
    sent = {action["path"] for action in project.sync()["actions"]}
    assert sent == {*kept, "colabdev.toml", ".gitignore", ".colabdevignore"}


def test_newly_ignored_file_stays_on_the_runtime(project: SyncedFolder) -> None:
    project.write("a", "1")
    project.write("data", "1")
    project.sync()
    project.write(".gitignore", "data\n")
    report = project.sync()
    assert {action["path"]: action["op"] for action in report["actions"]} == {
        ".gitignore": "send",
        "data": "forget",
    }
    assert (project.remote / "data").read_text() == "1"
    assert project.sync()["actions"] == []


def test_repositories_inside_are_sent_by_their_own_rules(project: SyncedFolder) -> None:
    for folder in ("", "inner"):
        place = project.local / folder
        place.mkdir(exist_ok=True)
        subprocess.run(["git", "init", "-q", place], check=True)
    project.write(".colabdevignore", "inner/secret\n")
    for path in ("top", "inner/file", "inner/x.log", "inner/secret"):
        project.write(path, path)
    project.write("inner/.gitignore", "*.log\n")
    sent = {action["path"] for action in project.sync()["actions"]}
    assert sent == {".colabdevignore", "top", "inner/file", "inner/.gitignore"}


def test_what_cannot_be_sent_is_named_and_the_rest_is_sent(project: SyncedFolder) -> None:
    project.write("fine", "1")
    os.mkfifo(project.local / "fifo")
    (project.local / "out").symlink_to("/etc")
    with project.write("big").open("wb") as file:
        file.truncate(5_000_000)
    report = project.sync("--max-size", "1M", code=3)
    assert [problem["path"] for problem in report["problems"]] == ["big", "fifo", "out"]
    assert "--max-size 5M" in report["problems"][0]["reason"]
    assert report["sent"]["files"] == 1
    project.sync(code=3)
    assert (project.remote / "big").stat().st_size == 5_000_000
    # Too large again: it is neither sent nor taken for deleted.
    assert project.sync("--max-size", "1M", code=3)["deleted"] == 0
    assert (project.remote / "big").exists()


def test_many_files_and_a_large_one_need_little_memory(project: SyncedFolder) -> None:
    for number in range(3000):
        project.write(f"d{number % 50}/f{number}.txt", f"{number}\n" * 20)
    with project.write("large").open("wb") as file:
        for _ in range(64):
            file.write(os.urandom(1 << 20))
    before_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert project.sync()["sent"]["files"] == 3001
    project.assert_equal()
    peak_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert peak_kb < max(before_kb + 1, 120_000)
    assert project.sync()["wire_bytes"] < 1000


def test_index_that_makes_no_sense_is_made_anew(project: SyncedFolder) -> None:
    project.write("a", "1")
    project.sync()
    time.sleep(0.1)
    project.sync()
    indexes = project.house.places.state_dir / "indexes"
    caches = [*indexes.glob("*.json"), *indexes.glob("*.stamps")]
    assert len(caches) >= 3
    for file in caches:
        file.write_text("{")
    assert project.sync()["actions"] == []
    made_anew = {file.suffixes[-1] for file in caches if file.read_bytes() != b"{"}
    assert made_anew == {".json", ".stamps"}


def test_fresh_runtime_is_an_empty_baseline(project: SyncedFolder) -> None:
    """As after a VM died: everything is sent, nothing is deleted."""
    project.write("a", "1")
    project.write("b", "1")
    project.sync()
    subprocess.run(["rm", "-rf", project.remote], check=True)
    report = project.sync()
    assert (report["sent"]["files"], report["deleted"]) == (2, 0)
    project.assert_equal()


def test_work_dir_is_remembered_with_the_project(project: SyncedFolder) -> None:
    project.write("a", "1")
    project.sync()
    links = {link.path: link.workdir for link in project.house.record().projects}
    assert links[str(project.local)] == str(project.remote)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["-r", "nope"], 1, "no runtime is called 'nope'"),
        (["-r", "../x"], 2, "cannot use '../x'"),
        (["--max-size", "big"], 2, "'big' is no size"),
        (["extra"], 2, "unexpected extra argument"),
    ],
)
def test_bad_command_line_sends_nothing(
    project: SyncedFolder, arguments: list[str], code: int, says: str
) -> None:
    project.write("a", "1")
    assert says in project.sync(*arguments, code=code)["error"]["message"]
    assert not project.remote.exists()


@pytest.mark.parametrize("settings", ["[sync\n", '[sync]\nexcude = ["x"]', "[sync]\nexclude = 3"])
def test_unreadable_settings_send_nothing(project: SyncedFolder, settings: str) -> None:
    project.write("colabdev.toml", settings)
    assert project.sync(code=2)["error"]["type"] == "SettingsError"
    assert not project.remote.exists()


def test_home_is_refused(house: House) -> None:
    done = house.colabdev("sync", cwd=house.home)
    assert done.returncode == 2
    assert "it is your home directory" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_full_disk_on_the_runtime_is_one_sentence(project: SyncedFolder) -> None:
    project.write("a", "old")
    project.write(".colabdevignore", "ballast\n")
    project.sync()
    with tiny_disk(project.remote, size_kb=600):
        assert project.sync()["sent"]["files"] == 2  # The mount hides what was there.
        project.write("a", "new")
        project.write("big", os.urandom(3_000_000))
        fill(project.remote / "ballast")
        done = project.type("sync")
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert "  next: " in done.stderr
        assert (project.remote / "a").read_text() in ("old", "new")
        (project.remote / "ballast").unlink()
        (project.local / "big").unlink()
        project.sync()
        assert (project.remote / "a").read_text() == "new"


def test_no_runtime_is_said(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        done = house.colabdev("sync")
        assert (done.returncode, "no runtime is up" in done.stderr) == (1, True)


def test_names_that_no_terminal_shows_are_printed_on_one_line(project: SyncedFolder) -> None:
    for name in HOSTILE:
        project.write(name, "x")
    done = subprocess.run(
        [sys.executable, "-m", "colabdev", "sync", "--dry-run"],
        cwd=project.local,
        env=project.house.environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 + len(HOSTILE)


@pytest.mark.parametrize("side", ["local", "remote"])
def test_preferred_side_replaces_the_other(project: SyncedFolder, side: str) -> None:
    for name in ("both.txt", "gone.txt", "other.txt"):
        project.write(name, "first")
    project.sync()
    (project.remote / "both.txt").write_text("theirs")
    (project.remote / "gone.txt").write_text("theirs")
    project.write("both.txt", "mine")
    (project.local / "gone.txt").unlink()
    before = look(project.local if side == "local" else project.remote)
    assert "--prefer local takes yours, --prefer remote" in project.type("sync", "--dry-run").stdout
    done = project.sync("--prefer", side)
    assert [row["path"] for row in done["actions"]] == ["both.txt", "gone.txt"]
    project.assert_equal()
    assert look(project.local) == before
    assert project.sync()["actions"] == []
    assert project.type("sync", "--prefer", "mine").returncode == 2


def test_outputs_come_home_and_any_path_can_be_fetched(project: SyncedFolder) -> None:
    project.write("colabdev.toml", '[sync]\noutputs = ["runs/"]\n')
    project.write(".gitignore", "runs/\nlogs/\n")
    project.sync()
    for path in ("runs/1/model.pt", "logs/x"):
        (project.remote / path).parent.mkdir(parents=True)
        (project.remote / path).write_text(path)
    report = project.sync()
    assert report["received"] == {"files": 1, "bytes": len("runs/1/model.pt")}
    assert (project.local / "runs/1/model.pt").read_text() == "runs/1/model.pt"
    assert project.sync("--pull", "logs", "--dry-run")["received"]["files"] == 1
    assert not (project.local / "logs").exists()
    assert project.sync("--pull", "logs")["received"]["files"] == 1
    assert (project.local / "logs/x").read_text() == "logs/x"
    nothing = project.sync("--pull", "nowhere", code=1)["error"]
    assert "nothing of that name" in nothing["message"]
    for path in ("..", "/etc/passwd", ".", "../other"):
        assert project.type("sync", "--pull", path).returncode == 2


def test_every_verdict_is_explained(project: SyncedFolder) -> None:
    settings = '[sync]\nexclude = ["data/raw/"]\noutputs = ["runs/"]\n'
    project.write("colabdev.toml", settings)
    project.write(".colabdevignore", "# mine\nprivate\n")
    project.write(".gitignore", "*.log\n\n!keep.log\n")
    kept = ["a.py", "keep.log", "inner/y.log", "tracked.log"]
    for path in [*kept, "x.log", "data/raw/y", "private", "runs/1", "big"]:
        project.write(path, "x")
    (project.local / "out").symlink_to("/etc")
    os.truncate(project.local / "big", 5_000_000)
    cases = {
        "a.py": ("yes", "no rule is against it"),
        "x.log": ("no", "ignored by .gitignore:1: *.log"),
        "data/raw/y": ("no", "excluded by 'data/raw/' in [sync] exclude of colabdev.toml"),
        "private": ("no", "ignored by .colabdevignore:2: private"),
        "runs/1": ("comes", "an output by 'runs/' in [sync] outputs"),
        "big": ("no", "is large; colabdev sync --max-size 5M"),
        "out": ("no", "points out of the project"),
        ".git/config": ("no", "is never synced"),
        "nowhere": ("no", "nothing of that name is here"),
        "inner": ("yes", "a folder"),
    }

    def explain(path: str) -> tuple[str, str]:
        document = project.sync("--explain", path, "--max-size", "1M")
        assert list(document) == ["schema", "path", "synced", "reason"]
        return document["synced"], document["reason"]

    for path, (synced, says) in cases.items():
        found = explain(path)
        assert (found[0], says in found[1]) == (synced, True), (path, found)
    for folder in ("", "inner"):
        subprocess.run(["git", "init", "-q", project.local / folder], check=True)
    subprocess.run(["git", "-C", project.local, "add", "-f", "tracked.log"], check=True)
    cases |= {
        "keep.log": ("yes", "kept by .gitignore:3: !keep.log"),
        "tracked.log": ("yes", "tracked by git"),
        "inner/y.log": ("yes", "no rule is against it"),
    }
    for path, (synced, says) in cases.items():
        found = explain(path)
        assert (found[0], says in found[1]) == (synced, True), (path, found)
    said = project.type("sync", "--explain", "x.log").stdout
    assert said == "x.log: not synced: ignored by .gitignore:1: *.log\n"
