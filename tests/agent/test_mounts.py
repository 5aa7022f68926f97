"""Drive's mount, looked at while it hangs and after it died: a FUSE mount whose server is this test."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from colabdev.agent import mounts

libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        pytest.skip("needs root, and /dev/fuse")
    place = tmp_path / "drive"
    place.mkdir()
    yield place
    mounts.unmount(str(place))


def mount_silent(place: Path) -> int:
    """Mount what nobody answers for; until the returned handle is closed, its server's death."""
    server = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
    assert libc.mount(b"silent", os.fsencode(place), b"fuse", 0, options) == 0, os.strerror(
        ctypes.get_errno()
    )
    return server


def test_mount_is_told_from_one_that_hangs_or_died(place: Path) -> None:
    def look() -> str:
        return mounts.look(str(place), str(place / "MyDrive"), timeout_s=0.5)

    assert look() == mounts.ABSENT
    server = mount_silent(place)
    assert look() == mounts.HUNG
    os.close(server)
    assert look() == mounts.DEAD
    mounts.unmount(str(place))
    assert look() == mounts.ABSENT
    assert os.listdir(place) == []


def test_mount_that_hangs_is_taken_away(place: Path) -> None:
    server = mount_silent(place)
    mounts.unmount(str(place))
    assert not mounts.is_mount_point(str(place))
    os.close(server)


def test_what_was_written_in_its_place_is_copied_and_replaces_nothing(tmp_path: Path) -> None:
    place = tmp_path / "drive"
    assert mounts.set_aside(str(place)) == ""
    for name in ("new", "known"):
        (place / "MyDrive" / "runs").mkdir(parents=True, exist_ok=True)
        (place / "MyDrive" / "runs" / name).write_text("meanwhile")
    (place / "MyDrive" / "link").symlink_to("/etc/passwd")
    aside = Path(mounts.set_aside(str(place)))
    assert not place.exists()
    (place / "MyDrive" / "runs").mkdir(parents=True)
    (place / "MyDrive" / "runs" / "known").write_text("on Drive")
    mounts.copy_missing(str(aside), str(place))
    assert (place / "MyDrive" / "runs" / "new").read_text() == "meanwhile"
    assert (place / "MyDrive" / "runs" / "known").read_text() == "on Drive"
    assert not (place / "MyDrive" / "link").exists()
    assert (aside / "MyDrive" / "runs" / "new").read_text() == "meanwhile"
