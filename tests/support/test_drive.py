"""The simulated Drive does what it is asked to, so that what is tested against it is tested."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.drive.cloud import checksums
from tests.support.drive.faults import Faults
from tests.support.drive.simulated import (
    FORMS,
    FuseDrive,
    SimulatedDrive,
    attribute,
    is_committed,
)
from tests.support.waiting import wait_until


@pytest.fixture(params=list(FORMS))
def drive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SimulatedDrive]:
    with FORMS[request.param](tmp_path) as drive:
        yield drive


@pytest.fixture
def fuse(tmp_path: Path) -> Iterator[FuseDrive]:
    with FuseDrive(tmp_path) as drive:
        yield drive


def put(drive: SimulatedDrive, name: str, content: bytes) -> Path:
    path = drive.mountpoint / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def settle(path: Path) -> None:
    wait_until(lambda: is_committed(path), message=f"{path} is not committed")


def test_what_arrived_is_there_on_the_next_machine_and_the_rest_is_lost(
    drive: SimulatedDrive,
) -> None:
    first = put(drive, "a/first", b"1" * 300_000)
    settle(first)
    assert attribute(first, "md5") == checksums(first)[0]
    drive.set(stalled=True)
    second = put(drive, "a/second", b"2")
    wait_until(lambda: attribute(second, "uncommitted") == "1", message="it says nothing")
    assert attribute(second, "id").startswith("local-")
    assert second.read_bytes() == b"2"
    drive.lose_machine()
    drive.faults = Faults()
    drive.mount()
    assert first.read_bytes() == b"1" * 300_000
    assert is_committed(first)
    assert not second.exists()
    first.unlink()
    wait_until(lambda: not drive.cloud.files(), message="it stays in the cloud")


def test_lies_flips_and_twins_are_only_seen_in_the_cloud(drive: SimulatedDrive) -> None:
    for name, faults in (
        ("lie", {"lies": 1.0}),
        ("flip", {"flips": 1.0}),
        ("twin", {"twins": 1.0}),
    ):
        drive.set(**{"lies": 0.0, "flips": 0.0, "twins": 0.0, **faults})
        path = put(drive, name, name.encode() * 100)
        settle(path)
        assert attribute(path, "md5") == checksums(path)[0], name
        assert path.read_bytes() == name.encode() * 100
    (flipped,) = drive.cloud.named("flip")
    assert drive.cloud.named("lie") == []
    assert flipped.md5 != checksums(drive.mountpoint / "flip")[0]
    assert len(drive.cloud.named("twin")) == 2
    drive.lose_machine()
    drive.mount()
    shown = sorted(os.listdir(drive.mountpoint))
    assert shown == ["flip", "twin", "twin (1)"]


def test_order_is_another_when_it_is_to_be(drive: SimulatedDrive) -> None:
    names = [f"{number:02}" for number in range(12)]
    for reorders in (False, True):
        drive.set(stalled=True, reorders=reorders)
        paths = [put(drive, f"{reorders}-{name}", b"x") for name in names]
        wait_until(lambda: attribute(paths[-1], "id") != "", message="it says nothing")  # noqa: B023
        time.sleep(0.2)  # For the folder to see them all as closed.
        drive.set(stalled=False)
        for path in paths:
            settle(path)
        came = [file.path for file in drive.cloud.files() if file.path.startswith(f"{reorders}-")]
        if reorders:
            assert came != sorted(came)
        elif isinstance(drive, FuseDrive):
            assert came == sorted(came)


def test_drive_without_attributes_says_nothing(drive: SimulatedDrive) -> None:
    drive.set(has_attributes=False)
    path = put(drive, "a", b"1")
    wait_until(lambda: drive.cloud.named("a"), message="it did not arrive")
    assert attribute(path, "uncommitted") == attribute(path, "id") == ""


def test_calls_fail_as_on_a_real_mount(fuse: FuseDrive) -> None:
    path = fuse.mountpoint / "a"
    fuse.set(io_errors=1.0)
    with pytest.raises(OSError, match=r"Input/output error"):
        path.write_bytes(b"1")
    fuse.set(io_errors=0.0, quota_bytes=1000)
    with pytest.raises(OSError, match=r"No space left"):
        path.write_bytes(bytes(2000))
    fuse.set(quota_bytes=0)
    for make in (os.symlink, os.link):
        with pytest.raises(OSError, match=r"not supported"):
            make(path, fuse.mountpoint / "link")
    path.write_bytes(b"12")
    assert path.stat().st_mode & 0o777 == 0o600
    (fuse.mountpoint / "b").mkdir()
    os.rename(path, fuse.mountpoint / "b" / "c")
    settle(fuse.mountpoint / "b" / "c")
    assert [file.path for file in fuse.cloud.files()] == ["b/c"]
    assert os.listdir(fuse.mountpoint) == ["b"]
    fuse.crash()
    with pytest.raises(OSError, match=r"not connected") as raised:
        os.listdir(fuse.mountpoint)
    assert raised.value.errno == errno.ENOTCONN
    fuse.remount()
    assert os.listdir(fuse.mountpoint / "b") == ["c"]


def test_hang_ends_with_it_and_no_sooner(fuse: FuseDrive) -> None:
    path = put(fuse, "a", b"1")
    fuse.set(hangs=True)
    with subprocess.Popen(
        [sys.executable, "-c", f"open({str(path)!r}).read()"], stderr=subprocess.DEVNULL
    ) as child:
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.5)
        fuse.set(hangs=False)
        assert child.wait(10) == 0


def test_new_mount_lists_late_what_arrived_last(fuse: FuseDrive) -> None:
    settle(put(fuse, "a", b"1"))
    fuse.lose_machine()
    fuse.faults = Faults(stale_s=1.0)
    fuse.mount()
    assert os.listdir(fuse.mountpoint) == []
    wait_until(lambda: os.listdir(fuse.mountpoint) == ["a"], message="it is never listed")


def test_the_mount_ends_with_whoever_made_it(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from tests.support.drive.simulated import FuseDrive; import os\n"
        f"FuseDrive(Path({str(tmp_path)!r})); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)

    def has_ended() -> bool:
        try:
            os.listdir(tmp_path / "drive")
        except OSError:
            return True
        return False

    wait_until(has_ended, message="it goes on")
    subprocess.run(["fusermount3", "-u", "-z", tmp_path / "drive"], check=True, timeout=10)
