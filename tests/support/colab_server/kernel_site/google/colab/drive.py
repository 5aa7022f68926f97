"""Mounting Drive, by the real one's protocol; DriveFS itself is the stand-in's."""

from __future__ import annotations

import os
import subprocess

from . import _daemon, _message

_CREDENTIALS = "TBE_EPHEM_CREDS_ADDR"
_MY_DRIVE = "My Drive"


def mount(
    mountpoint: str,
    force_remount: bool = False,
    timeout_ms: int = 120000,
    readonly: bool = False,
) -> None:
    """Mount the user's Drive there. Blocks for as long as the user takes to consent."""
    if not os.path.exists("/var/colab/hostname"):
        raise NotImplementedError("Mounting drive is unsupported in this environment.")
    mountpoint = os.path.expanduser(mountpoint)
    # Asked before anything is looked at, so that every call needs a client that answers. Without
    # an answer in time the mount goes on, and fails for want of credentials.
    request = {"authType": "dfs_ephemeral"}
    _message.blocking_request("request_auth", request, timeout_sec=timeout_ms / 1000)
    # A mount that hangs is not noticed before this; it hangs here.
    if not force_remount and os.path.isdir(f"{mountpoint}/{_MY_DRIVE}"):
        print(
            f"Drive already mounted at {mountpoint}; to attempt to forcibly remount, "
            f'call drive.mount("{mountpoint}", force_remount=True).'
        )
        return
    subprocess.run(["umount", "-f", "-l", mountpoint], check=False, stderr=subprocess.DEVNULL)
    _check(mountpoint)
    started = _daemon.ask(_CREDENTIALS, "/drivefs/start", timeout_s=timeout_ms / 1000)
    if (failure := started.get("failure")) is not None:
        raise ValueError(_explain(failure))
    os.makedirs(mountpoint, exist_ok=True)
    subprocess.run(["mount", "--bind", started["source"], mountpoint], check=True)
    if readonly:
        subprocess.run(["mount", "-o", "remount,bind,ro", mountpoint], check=True)
    print(f"Mounted at {mountpoint}")


def flush_and_unmount(timeout_ms: int = 24 * 60 * 60 * 1000) -> None:
    """Bring everything to the cloud, and unmount."""
    with open("/proc/mounts") as file:
        mountpoints = [place for place in (line.split()[1] for line in file) if _is_drive(place)]
    if not mountpoints:
        print("Drive not mounted, so nothing to flush and unmount.")
        return
    if not _daemon.ask(_CREDENTIALS, "/drivefs/flush", timeout_s=timeout_ms / 1000)["flushed"]:
        raise ValueError("flush_and_unmount failed")
    for mountpoint in mountpoints:
        subprocess.run(["umount", "-l", mountpoint], check=True)


def _check(mountpoint: str) -> None:
    if " " in mountpoint:
        raise ValueError("Mountpoint must not contain a space.")
    if os.path.islink(mountpoint):
        raise ValueError("Mountpoint must not be a symlink")
    if os.path.isdir(mountpoint) and os.listdir(mountpoint):
        raise ValueError("Mountpoint must not already contain files")
    if not os.path.isdir(mountpoint) and os.path.exists(mountpoint):
        raise ValueError("Mountpoint must either be a directory or not exist")
    parent = os.path.normpath(os.path.join(mountpoint, ".."))
    if not os.path.exists(parent):
        raise ValueError("Mountpoint must be in a directory that exists")


def _explain(failure: str) -> str:
    if failure == "timeout":
        return (
            "mount failed: timeout during initial read of root folder; for more info: "
            "https://research.google.com/colaboratory/faq.html#drive-timeout"
        )
    if failure == "disabled":
        return "mount failed: Drive for desktop was disabled by your domain's administrator"
    return "mount failed"


def _is_drive(mountpoint: str) -> bool:
    return mountpoint != "/opt/google/drive/view" and os.path.isdir(f"{mountpoint}/{_MY_DRIVE}")
