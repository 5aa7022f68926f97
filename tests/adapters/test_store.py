"""The state files: private, whole at every moment, and never overwritten when not understood."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random

import pytest

from colabdev.adapters.store import FileStore
from colabdev.core.records import format_record
from colabdev.errors import ExitCode, StateNotWritable, StateUnreadable
from colabdev.models import ProjectLink, RuntimeRecord
from tests.support.records import MOMENT, make_record
from tests.support.waiting import wait_until

START = """
import sys
from dataclasses import replace
from pathlib import Path
from colabdev.adapters.store import FileStore
store = FileStore(Path(sys.argv[1]))
"""

# Adds its own word to the record as often as it is told.
ADD_PROJECTS = (
    START
    + """
from datetime import UTC, datetime
from colabdev.models import ProjectLink
for number in range(int(sys.argv[3])):
    link = ProjectLink(f"{sys.argv[2]}-{number}", "/content/x", datetime(2026, 1, 1, tzinfo=UTC))
    store.update("box", lambda known: known.with_project(link))
"""
)

# Writes a small and a large record in turns until it is killed.
WRITE_FOR_EVER = (
    START
    + """
small = store.load("box")
large = replace(small, request_id="x" * 300_000)
store.save(small)  # The first write loads what locks take, which is no moment of writing.
print("ready", flush=True)
while True:
    store.save(large)
    store.save(small)
"""
)

HOLD = (
    START
    + """
with store.operation("box"):
    print("held", flush=True)
    sys.stdin.read()
"""
)

# One byte more than there is room for, as on a full disk.
WITHOUT_ROOM = (
    START
    + """
import resource, signal
from colabdev.errors import ColabdevError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
try:
    store.update("box", lambda known: replace(known, request_id="other"))
except ColabdevError as exc:
    print(type(exc).__name__, exc.message)
"""
)


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "state")


def start(script: str, store: FileStore, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", script, store.state_dir, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def end(process: subprocess.Popen[bytes]) -> bytes:
    """Let it come to its end, which must be a good one."""
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return output


def state_file(store: FileStore, name: str = "box") -> Path:
    return store.state_dir / "runtimes" / f"{name}.json"


def damage(store: FileStore, content: bytes, name: str = "box") -> Path:
    """A state file with that content."""
    store.save(make_record(name))
    file = state_file(store, name)
    file.write_bytes(content)
    return file


def test_record_is_loaded_as_it_was_saved(store: FileStore) -> None:
    store.save(make_record("box"))
    store.save(make_record("box-2"))
    assert store.load("box") == make_record("box")
    assert FileStore(store.state_dir).load("box-2") == make_record("box-2")
    assert store.names() == ["box", "box-2"]


def test_nothing_saved_is_nothing_known(store: FileStore) -> None:
    assert store.names() == []
    assert store.load("box") is None
    assert not store.state_dir.exists()  # Looking leaves no trace.


def test_update_of_nothing_makes_nothing(store: FileStore) -> None:
    assert store.update("box", lambda known: known) is None
    assert store.names() == []


def test_update_returns_what_it_wrote(store: FileStore) -> None:
    store.save(make_record())
    changed = store.update("box", lambda known: replace(known, keeper=None))
    assert changed == replace(make_record(), keeper=None)
    assert store.load("box") == changed


def test_update_without_a_change_writes_nothing(store: FileStore) -> None:
    store.save(make_record())
    before = state_file(store).stat().st_ino
    assert store.update("box", lambda known: known) == make_record()
    assert state_file(store).stat().st_ino == before


def test_update_that_fails_changes_nothing(store: FileStore) -> None:
    store.save(make_record())

    def fail(known: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.update("box", fail)  # type: ignore[arg-type]
    assert store.load("box") == make_record()
    store.save(make_record())  # The lock is free again.


def test_delete_forgets_and_may_be_repeated(store: FileStore) -> None:
    store.save(make_record("box"))
    store.save(make_record("other"))
    for _ in range(2):
        store.delete("box")
        assert store.load("box") is None
    assert store.names() == ["other"]


def test_state_is_0600_in_0700(store: FileStore) -> None:
    before = os.umask(0)
    try:
        store.save(make_record())
        store.update("box", lambda known: replace(known, keeper=None))
        with store.operation("box"), store.keeper_lock("box"):
            pass
    finally:
        os.umask(before)
    modes: dict[bool, set[int]] = {True: set(), False: set()}
    for path in (store.state_dir, *store.state_dir.rglob("*")):
        modes[path.is_dir()].add(stat.S_IMODE(path.stat().st_mode))
    assert modes == {True: {0o700}, False: {0o600}}


def test_updates_of_several_processes_are_all_there(store: FileStore) -> None:
    store.save(replace(make_record(), projects=()))
    for process in [start(ADD_PROJECTS, store, word, "25") for word in ("a", "b", "c")]:
        end(process)
    record = store.load("box")
    assert record is not None
    assert {link.path for link in record.projects} == {
        f"{word}-{number}" for word in ("a", "b", "c") for number in range(25)
    }


def test_updates_of_several_threads_are_all_there(store: FileStore) -> None:
    store.save(replace(make_record(), projects=()))

    def add(word: str) -> None:
        for number in range(10):
            link = ProjectLink(f"{word}-{number}", "/content/x", MOMENT + timedelta(days=number))
            store.update("box", partial(RuntimeRecord.with_project, link=link))

    threads = [threading.Thread(target=add, args=(word,)) for word in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    record = store.load("box")
    assert record is not None
    assert len(record.projects) == 30


def test_writer_killed_at_any_moment_leaves_old_or_new(store: FileStore) -> None:
    small = make_record()
    large = replace(small, request_id="x" * 300_000)
    seen = set()
    random = Random(20)
    for _ in range(20):
        store.save(small)
        process = start(WRITE_FOR_EVER, store)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(random.uniform(0, 0.02))  # A random moment is what this test is about.
        process.send_signal(signal.SIGKILL)
        process.communicate()
        left = store.load("box")
        assert left in (small, large)
        seen.add(left)
        assert store.names() == ["box"]
        # Its lock died with it.
        assert store.update("box", lambda known: replace(known, keeper=None)) is not None
    assert seen == {small, large}


DAMAGES = {
    "empty": b"",
    "zeros": bytes(4096),
    "half": format_record(make_record()).encode()[:300],
    "not utf-8": b'{"schema": 1, "name": "\xff"}',
    "other schema": format_record(make_record()).replace('"schema": 1', '"schema": 2').encode(),
    "no object": b"[]",
    "nested": b"[" * 100_000,
    "of another runtime": format_record(make_record("other")).encode(),
}


@pytest.mark.parametrize("content", DAMAGES.values(), ids=DAMAGES)
def test_damaged_file_is_said_and_left_as_it_is(store: FileStore, content: bytes) -> None:
    file = damage(store, content)
    before = file.stat()
    attempts: list[Callable[[], object]] = [
        lambda: store.load("box"),
        lambda: store.update("box", lambda known: replace(known, keeper=None)),
    ]
    for attempt in attempts:
        with pytest.raises(StateUnreadable) as caught:
            attempt()
        assert caught.value.exit_code is ExitCode.STATE_UNREADABLE
        assert str(file) in caught.value.message
        assert caught.value.hint == "colabdev doctor --repair box"
    assert file.read_bytes() == content
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert store.names() == ["box"]


def test_damaged_file_says_what_can_still_be_read(store: FileStore) -> None:
    damage(store, b'{"schema": 1, "name": "box", "provider": "colab", "keeper": {"key": "5a5a"}}')
    with pytest.raises(StateUnreadable) as caught:
        store.load("box")
    assert "still readable: name box, provider colab" in caught.value.message
    assert "5a5a" not in caught.value.message


def test_directory_instead_of_a_file_is_unreadable(store: FileStore) -> None:
    store.save(make_record())
    state_file(store).unlink()
    state_file(store).mkdir()
    with pytest.raises(StateUnreadable, match="Is a directory"):
        store.load("box")


@pytest.mark.parametrize("rebuilt", [make_record(), None])
def test_damaged_file_is_set_aside_whole(store: FileStore, rebuilt: RuntimeRecord | None) -> None:
    asides = []
    for content in (b"first", b"second"):
        damage(store, content)
        asides.append(Path(store.replace_unreadable("box", rebuilt)))
    assert [aside.read_bytes() for aside in asides] == [b"first", b"second"]
    assert store.names() == (["box"] if rebuilt else [])
    assert store.load("box") == rebuilt


def test_nothing_to_set_aside_is_an_error(store: FileStore) -> None:
    with pytest.raises(StateNotWritable, match="No such file"):
        store.replace_unreadable("box", make_record())
    assert store.names() == []


def test_state_below_a_file_is_refused_with_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = FileStore(tmp_path / "file" / "state")
    attempts: list[Callable[[], object]] = [
        lambda: store.save(make_record()),
        lambda: store.update("box", lambda known: known),
        lambda: store.delete("box"),
        lambda: store.replace_unreadable("box", None),
        lambda: store.load("box"),
        lambda: store.operation("box").__enter__(),
    ]
    for attempt in attempts:
        with pytest.raises(StateNotWritable, match="Not a directory") as caught:
            attempt()
        assert "COLABDEV_STATE_DIR" in caught.value.hint


def test_list_that_cannot_be_read_is_never_an_empty_list(tmp_path: Path) -> None:
    # "No runtime is up" would be a lie that leaves a VM running.
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "runtimes").touch()
    with pytest.raises(StateUnreadable, match="cannot list") as caught:
        FileStore(tmp_path / "state").names()
    assert "COLABDEV_STATE_DIR" in caught.value.hint


def test_no_room_is_said_and_leaves_the_old(store: FileStore) -> None:
    store.save(make_record())
    before = state_file(store).read_bytes()
    said = end(start(WITHOUT_ROOM, store)).decode()
    assert said.startswith("StateNotWritable cannot write colabdev's state in ")
    assert said.rstrip().endswith("File too large")
    assert state_file(store).read_bytes() == before
    assert os.listdir(state_file(store).parent) == ["box.json"]


def test_operation_makes_the_next_wait(store: FileStore) -> None:
    holder = start(HOLD, store)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    entered = threading.Event()

    def enter() -> None:
        with store.operation("box"):
            entered.set()

    waiting = threading.Thread(target=enter)
    waiting.start()
    try:
        assert not entered.wait(0.3)
        # Others go on meanwhile, and so does the keeper, which writes down where it listens.
        with store.operation("other"):
            store.save(make_record())
            assert store.update("box", lambda known: replace(known, keeper=None)) is not None
    finally:
        end(holder)
        waiting.join(10)
    assert entered.is_set()


def test_operation_of_a_killed_command_is_free(store: FileStore) -> None:
    holder = start(HOLD, store)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    holder.kill()
    holder.communicate()
    begun = time.monotonic()
    with store.operation("box"):
        assert time.monotonic() - begun < 2


def test_keeper_lock_is_free_when_its_keeper_is_gone(store: FileStore) -> None:
    lock = store.keeper_lock("box")
    with lock:
        assert not _can_take(store)
    wait_until(lambda: _can_take(store), timeout_s=5, message="the lock is not free")


def _can_take(store: FileStore) -> bool:
    script = START + (
        "from filelock import Timeout\n"
        "try:\n store.keeper_lock('box').acquire(timeout=0)\n"
        "except Timeout:\n print('taken')\n"
    )
    return end(start(script, store)) == b""
