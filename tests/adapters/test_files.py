"""A file is the old one or the new one, whatever happens."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from colabdev.adapters.files import make_private_directory, write_atomic
from colabdev.errors import StateNotWritable

# Writes 1 MB where not even one byte may be written, as on a full disk.
WITHOUT_ROOM = """
import resource, signal, sys
from pathlib import Path
from colabdev.adapters.files import write_atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_atomic(Path(sys.argv[1]), bytes(1 << 20))
except OSError as exc:
    sys.exit(f"OSError {exc.strerror}")
"""


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_file_is_written_with_its_mode(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_atomic(tmp_path / "a", b"one")
        write_atomic(tmp_path / "b", b"two", mode=0o644)
    finally:
        os.umask(before)
    assert (tmp_path / "a").read_bytes() == b"one"
    assert (mode_of(tmp_path / "a"), mode_of(tmp_path / "b")) == (0o600, 0o644)
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_file_is_replaced_and_its_wide_mode_narrowed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old, and longer")
    path.chmod(0o666)
    write_atomic(path, b"new")
    assert (path.read_bytes(), mode_of(path)) == (b"new", 0o600)


def test_file_that_was_open_keeps_what_it_had(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with path.open("rb") as held:
        write_atomic(path, b"new")
        assert held.read() == b"old"


@pytest.mark.parametrize("name", ["with space", "-rf", "new\nline", "schön", "\udcff", "x" * 200])
def test_hostile_name_is_written(tmp_path: Path, name: str) -> None:
    write_atomic(tmp_path / name, b"content")
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == b"content"


def test_directory_in_the_way_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomic(tmp_path / "a", b"new")
    assert os.listdir(tmp_path) == ["a"]


def test_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "none" / "a", b"new")


def test_no_room_is_an_error_and_leaves_the_old(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ROOM, tmp_path / "a"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.strip()) == (1, "OSError File too large")
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_reader_sees_old_or_new_and_nothing_between(tmp_path: Path) -> None:
    path = tmp_path / "a"
    contents = [bytes([number]) * 100_000 for number in range(4)]
    write_atomic(path, contents[0])
    done = threading.Event()
    seen: set[bytes] = set()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(60):
            write_atomic(path, contents[number % 4])
    finally:
        done.set()
        reader.join()
    assert seen <= set(contents)
    assert len(seen) > 1


def test_private_directory_is_0700_with_what_is_above_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    for _ in range(2):
        make_private_directory(path, what="x", variable="X")
    assert mode_of(path) == 0o700


def test_directory_below_a_file_is_refused_with_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateNotWritable) as caught:
        make_private_directory(tmp_path / "file" / "a", what="things", variable="COLABDEV_X")
    assert caught.value.message == f"cannot write things in {tmp_path}/file/a: Not a directory"
    assert "COLABDEV_X" in caught.value.hint
