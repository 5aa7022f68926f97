"""The project on Drive, from sync to another computer, as typed against real sandboxes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from colabdev.agent import archive, tree
from colabdev.agent.stamps import Index
from colabdev.agent.tree import Entry
from colabdev.core.portability import windows_objection
from tests.agent.test_tree import HOSTILE
from tests.support.house import House
from tests.support.jobs import workdir
from tests.support.read_only import read_only_mount
from tests.support.syncing import look
from tests.support.waiting import wait_until

RESTORE_KEYS = [
    *("schema", "project", "path", "files", "tree", "stored", "bytes"),
    *("archive", "origin", "rejected", "problems"),
]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path / "house") as house:
        yield house


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One with a runtime, for what does not change it."""
    with House(tmp_path_factory.mktemp("shared")) as house:
        house.connect()
        yield house


def drive_of(house: House) -> Path:
    """The folder that all of the house's sandboxes have as their Drive."""
    return house.places.local_dir / "drive" / "MyDrive"


def code_of(house: House, project: str = "project") -> Path:
    return drive_of(house) / "colabdev" / project / "code"


def archives(house: House, project: str = "project") -> list[str]:
    folder = code_of(house, project)
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def tree_of(folder: Path) -> str:
    """The hash of the tree of all files in the folder."""
    return tree.hash_entries(tree.scan(str(folder), sorted(look(folder)), Index()).entries)


def type_json(house: House, *words: str, code: int = 0) -> dict[str, Any]:
    done = house.colabdev(*words, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def sync_and_wait(house: House) -> None:
    """Sync, and wait until Drive was handed it."""
    before = archives(house)
    done = house.colabdev("sync")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: len(archives(house)) > len(before), message="nothing came to Drive")


def test_project_comes_back_on_another_computer(house: House, tmp_path: Path) -> None:
    for name in HOSTILE:
        file = house.project / "hostile" / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(os.fsencode(name))
    (house.project / "run.sh").write_text("#!/bin/sh\n")
    (house.project / "run.sh").chmod(0o755)
    (house.project / ".gitignore").write_text("ignored/\n")
    (house.project / "link").symlink_to("hostile/plain.py")
    house.connect()
    sync_and_wait(house)
    # What is typed there after the keeper is gone, and the laptop maybe, too.
    house.end_keeper()
    (workdir(house) / "run.sh").write_text("#!/bin/sh\necho edited there\n")
    (workdir(house) / "new.py").write_text("made there")
    (workdir(house) / "ignored").mkdir()
    (workdir(house) / "ignored" / "large").write_bytes(bytes(100_000))
    down = house.colabdev("down")
    assert down.returncode == 0, down.stderr
    assert "to Drive" in down.stderr
    (house.project / "run.sh").write_text("#!/bin/sh\necho edited there\n")
    (house.project / "new.py").write_text("made there")
    with House(tmp_path / "other") as other:
        shutil.copytree(drive_of(house), drive_of(other))
        other.connect()
        document = type_json(other, "restore", "project", "--to", "back")
        assert list(document) == RESTORE_KEYS
        back = other.project / "back"
        assert document["tree"] == tree_of(back) == tree_of(house.project)
        assert document["path"] == str(back)
        assert stat.S_IMODE((back / "run.sh").stat().st_mode) & 0o111
        assert (back / "link").is_symlink()
        mtimes = [(p / "hostile" / "plain.py").stat().st_mtime_ns for p in (back, house.project)]
        assert mtimes[0] == mtimes[1]


def test_newest_that_verifies_is_taken_and_older_ones_by_name(house: House) -> None:
    house.connect()
    trees = []
    for number in range(3):
        (house.project / "a.py").write_text(f"{number}" + os.urandom(60).hex())
        sync_and_wait(house)
        trees.append(tree_of(house.project))
    listing = type_json(house, "restore", "--list")
    (project,) = listing["projects"]
    assert (project["project"], project["broken"]) == ("project", [])
    assert [version["tree"] for version in project["versions"]] == trees[::-1]
    assert set(project["versions"][0]) == set(RESTORE_KEYS) - {
        *("schema", "project", "path", "rejected", "problems")
    }
    # The newest is torn in its middle, the one before lost its end.
    newest = code_of(house) / f"{trees[2]}.zip"
    content = bytearray(newest.read_bytes())
    content[50] ^= 1
    newest.write_bytes(content)
    second = code_of(house) / f"{trees[1]}.zip"
    second.write_bytes(second.read_bytes()[:-30])
    document = type_json(house, "restore", "project", "--to", "back")
    assert document["tree"] == trees[0]
    assert sorted(document["rejected"]) == sorted([newest.name, second.name])
    assert (house.project / "back" / "a.py").read_text()[0] == "0"
    for words, code in (
        (("--version", trees[0][:8], "--to", "again"), 0),
        (("--version", trees[2][:8], "--to", "torn"), 1),
        (("--version", "zzz", "--to", "none"), 1),
    ):
        done = house.colabdev("restore", "project", *words)
        assert done.returncode == code, done.stderr
        assert (house.project / words[-1]).exists() == (code == 0)
    assert not [path for path in house.project.iterdir() if path.name.startswith(".colabdev-")]


def test_edits_that_drive_cannot_take_keep_the_runtime(house: House) -> None:
    (house.project / "a.py").write_text("1")
    house.connect()
    sync_and_wait(house)
    (workdir(house) / "a.py").write_text("typed there")
    (workdir(house) / "new.py").write_text("made there")
    house.project.rename(house.home / "moved")  # So they cannot come home.
    with read_only_mount(drive_of(house)):
        down = house.colabdev("down", "local", cwd=house.home)
        assert down.returncode == 16, down.stderr
        assert "2 files" in down.stderr
        assert "a.py, new.py" in down.stderr
        assert "read-only" in down.stderr
        assert house.status()[0]["state"] == "ready"
        doctor = house.colabdev("doctor", cwd=house.home)
        assert doctor.returncode == 1
        assert "Drive is mounted read-only" in doctor.stdout
        down = house.colabdev("down", "local", "--force", cwd=house.home)
        assert down.returncode == 0, down.stderr
        assert "giving up 2 files" in down.stderr
    assert house.status() == []


def test_drive_that_has_everything_or_nothing_to_lose_lets_go(house: House) -> None:
    (house.project / "a.py").write_text("1")
    house.connect()
    with read_only_mount(drive_of(house)):
        assert house.colabdev("sync").returncode == 0
        down = house.colabdev("down")
    assert down.returncode == 0, down.stderr
    assert "all of it came from here" in down.stderr


def test_a_file_too_large_for_drive_keeps_the_runtime(house: House) -> None:
    (house.project / "a.py").write_text("1")
    house.connect()
    sync_and_wait(house)
    with (workdir(house) / "model.bin").open("wb") as file:
        file.truncate(200_000_001)
    down = house.colabdev("down")
    assert down.returncode == 16, down.stderr
    assert "model.bin" in down.stderr
    assert "too large" in down.stderr
    (workdir(house) / "model.bin").unlink()
    down = house.colabdev("down")
    assert down.returncode == 0, down.stderr


def test_reconnecting_starts_a_mirror_that_was_killed(house: House) -> None:
    (house.project / "a.py").write_text("1")
    house.connect()
    sync_and_wait(house)
    state = workdir(house) / ".colabdev" / "mirror.json"

    def pid() -> int:
        return int(json.loads(state.read_text())["pid"])

    first = pid()
    os.kill(first, 9)
    house.connect()
    wait_until(lambda: pid() != first, message="nobody took over")


# --- refusals ---


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("restore nothing", 1, "nor any other"),
        ("restore --to x", 2, "without a project"),
        ("restore ../x", 2, "no name of a project"),
        ("restore a/b", 2, "no name of a project"),
        ("restore x -r nobody", 1, "no runtime is called"),
        ("restore x y", 2, "unexpected extra argument"),
    ],
)
def test_what_cannot_be_restored_is_said(shared: House, words: str, code: int, says: str) -> None:
    before = sorted(shared.project.iterdir())
    done = shared.colabdev(*words.split())
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "next:" in done.stderr
    assert sorted(shared.project.iterdir()) == before


def test_folder_that_holds_something_is_left_alone(shared: House) -> None:
    file = shared.project / "digits" / "mine"
    file.parent.mkdir()
    file.write_text("mine")
    done = shared.colabdev("restore", "digits")
    assert done.returncode == 2
    assert "something is there already" in done.stderr
    assert file.read_text() == "mine"


# --- archives made by somebody else ---


def craft(entries: list[tuple[Entry, bytes]], left_out: list[tuple[str, str]]) -> bytes:
    """An archive that proves itself, whatever is in it."""
    file = io.BytesIO()
    rows = []
    with zipfile.ZipFile(file, "w") as packed:
        for number, (entry, content) in enumerate(entries):
            packed.writestr(f"m{number}", content)
            rows.append([f"m{number}", *tree.entry_to_row(entry)])
        manifest = {"schema": 1, "files": rows, "left_out": left_out}
        packed.writestr(archive.MANIFEST, json.dumps(manifest))
        about = {
            **{"schema": 1, "project": "crafted", "stored": "2026-11-20T22:34:05Z"},
            **{"tree": tree.hash_entries([entry for entry, _ in entries])},
            **{"files": len(rows), "size_bytes": 0, "origin": "x"},
        }
        packed.comment = json.dumps(about).encode("ascii")
    return file.getvalue()


def entry_of(path: str, content: bytes = b"x", target: str = "") -> tuple[Entry, bytes]:
    content = target.encode() or content
    kind = tree.LINK if target else tree.FILE
    digest = hashlib.sha256(content).hexdigest()
    return Entry(path, kind, False, len(content), 0, digest, target), content


def put_on_drive(house: House, name: str, content: bytes) -> None:
    folder = code_of(house, name)
    folder.mkdir(parents=True, exist_ok=True)
    summary = archive.read_summary(io.BytesIO(content))
    (folder / f"{summary.tree}.zip").write_bytes(content)


def test_names_that_lead_out_make_an_archive_unusable(shared: House) -> None:
    evil = [
        entry_of("../out"),
        entry_of("/etc/out"),
        entry_of("a/../../out"),
        entry_of(".git/config"),
        entry_of("link", target="../../etc"),
        entry_of("link", target="/etc/passwd"),
    ]
    for entry in evil:
        put_on_drive(shared, "evil", craft([entry], []))
    done = shared.colabdev("restore", "evil")
    assert done.returncode == 1, done.stdout
    assert "none of its archives" in done.stderr
    assert done.stderr.count("cannot be used") == len(evil)
    assert not (shared.project / "evil").exists()
    assert not (shared.project / "out").exists()


def test_what_cannot_be_here_is_listed_and_the_rest_is_there(shared: House) -> None:
    entries = [
        entry_of("a", b"a file"),
        entry_of("a/b", b"below a file"),
        entry_of("sub/link", target="../other"),
        entry_of("sub/link/through", b"x"),
        entry_of("fine", b"fine"),
    ]
    put_on_drive(shared, "odd", craft(entries, [("weights.bin", "is large: 900 MB")]))
    document = type_json(shared, "restore", "odd", code=3)
    reasons = {problem["path"]: problem["reason"] for problem in document["problems"]}
    assert reasons.pop("weights.bin") == "is not in the archive: it is large: 900 MB"
    assert set(reasons) == {"a/b", "sub/link"}
    assert (shared.project / "odd" / "fine").read_bytes() == b"fine"
    assert not (shared.project / "odd" / "other").exists()


@pytest.mark.parametrize(
    ("path", "is_fine"),
    [
        ("a/b.py", True),
        ("console/nul-1", True),
        ("a/CON", False),
        ("nul.txt", False),
        ("com1", False),
        ("COM¹.log", False),
        ("a./b", False),
        ("a ", False),
        ("a:b", False),
        ("a\\b", False),
        ("tab\t", False),
    ],
)
def test_names_that_windows_cannot_have(path: str, is_fine: bool) -> None:
    assert (windows_objection(path) == "") is is_fine


def test_listing_names_what_is_torn(shared: House) -> None:
    folder = code_of(shared, "torn")
    folder.mkdir(parents=True)
    (folder / f"{'a' * 64}.zip").write_bytes(b"PK\x03\x04 torn")
    done = shared.colabdev("restore", "torn", "--list")
    assert done.returncode == 0
    assert "is not whole" in done.stderr
