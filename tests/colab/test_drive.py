"""Drive on a runtime: its mount goes, is mended, and what waited for it arrives."""

from __future__ import annotations

import pytest

from tests.support.colab import Colab
from tests.support.colab_user import ColabHouse
from tests.support.waiting import wait_until

MOUNT_DEAD = """python3 -c '
import ctypes, os
server = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
assert ctypes.CDLL(None).mount(b"dead", b"/content/drive", b"fuse", 0, options) == 0
'"""
"""Mounts what nobody serves any more, on whatever is there."""


def there(house: ColabHouse, command: str) -> None:
    """Run it on the runtime."""
    done = house.colabdev("ssh", "colab", "--", command)
    assert done.returncode == 0, done.stderr


def write_and_lose(house: ColabHouse, name: str) -> None:
    """A file that Drive has not uploaded when it vanishes."""
    (runtime,) = house.colab.describe()["runtimes"]
    house.colab.fault("drive_stalled", True)
    there(house, f"echo waits > /content/drive/MyDrive/{name}")
    wait_until(lambda: pending(house) == [name], message="Drive has not seen it")
    house.colab.do("lose_drive", runtime["endpoint"])
    house.colab.fault("drive_stalled", None)


def pending(house: ColabHouse) -> list[str]:
    (runtime,) = house.colab.describe()["runtimes"]
    names: list[str] = runtime["drive_pending"]
    return names


def in_cloud(colab: Colab) -> set[str]:
    return {file["name"] for file in colab.drive()}


@pytest.mark.timeout(300)
def test_drive_that_died_is_mounted_again_and_loses_nothing(
    house: ColabHouse, colab: Colab
) -> None:
    house.log_in_by_gcloud()
    house.connect_colab()
    write_and_lose(house, "pending")
    there(house, "mkdir /content/drive/MyDrive && echo more > /content/drive/MyDrive/meanwhile")
    there(house, MOUNT_DEAD)
    house.end_keeper("colab")  # The next one looks at once.

    def said() -> str:
        return house.colabdev("status").stderr

    wait_until(
        lambda: "Drive had died; mounted again" in said(), timeout_s=120, message="it is mended"
    )
    assert "what was written in its place was copied there, and is in /content/drive-" in said()
    checked = house.colabdev("doctor")
    assert "Drive had died; mounted again" in checked.stdout
    wait_until(
        lambda: in_cloud(colab) >= {"pending", "meanwhile"}, message="they are not in the cloud"
    )

    write_and_lose(house, "last")
    down = house.colabdev("down")
    assert down.returncode == 0, down.stderr
    assert "last" in in_cloud(colab)
    house.assert_nothing_is_billed()


def test_down_is_refused_while_drive_has_not_taken_all(house: ColabHouse, colab: Colab) -> None:
    house.log_in_by_gcloud()
    house.connect_colab()
    colab.fault("drive_stalled", True)
    there(house, "echo much > /content/drive/MyDrive/much")
    refused = house.colabdev("down", timeout_s=120)
    assert refused.returncode == 16
    assert "Drive has not taken all" in refused.stderr
    forced = house.colabdev("down", "--force", timeout_s=120)
    assert forced.returncode == 0
    assert "giving it up: Drive has not taken all" in forced.stderr
    house.assert_nothing_is_billed()
