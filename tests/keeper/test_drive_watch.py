"""Looking after Drive: what is mended, what is waited for, and what is said of it."""

from __future__ import annotations

import threading

from colabdev.errors import AuthNeeded
from colabdev.keeper.drive_watch import PATIENT_LOOKS, DriveWatch


def watch(looks: list[str], *, refused: bool = False) -> tuple[list[str], int]:
    """What is said after each look, and how often it was mended."""
    said: list[str] = []
    mended: list[str] = []
    stopping = threading.Event()
    left = list(looks)

    def look() -> str:
        said.append(watched.notice)
        if not left:
            stopping.set()
            return "mounted"
        return left.pop(0)

    def mend() -> str:
        mended.append("")
        if refused:
            raise AuthNeeded("Google asks again", hint="colabdev connect")
        return "/content/drive-1"

    watched = DriveWatch(look=look, mend=mend, interval_s=0.001)
    watched.run(stopping)
    return said[1:], len(mended)


def test_mount_that_is_well_is_left_alone() -> None:
    assert watch(["mounted", "mounted"]) == (["", ""], 0)


def test_mount_that_went_is_mended_and_said() -> None:
    said, mended = watch(["absent", "mounted"])
    assert mended == 1
    assert said[0] == said[1]
    assert said[0].startswith("Drive was not mounted any more; mounted again at ")
    assert said[0].endswith(
        "what was written in its place was copied there, and is in /content/drive-1"
    )


def test_slow_mount_is_given_time() -> None:
    said, mended = watch(["hung"] * (PATIENT_LOOKS - 1) + ["mounted"])
    assert (said[0], said[-1], mended) == ("Drive does not answer; it is given some minutes", "", 0)
    said, mended = watch(["hung"] * PATIENT_LOOKS)
    assert said[-1].startswith("Drive did not answer; mounted again at ")
    assert mended == 1


def test_mount_that_cannot_be_mended_is_tried_again_and_said() -> None:
    said, mended = watch(["dead", "dead"], refused=True)
    assert mended == 2
    assert said[0] == "Drive had died, and cannot be mounted: Google asks again; colabdev connect"
