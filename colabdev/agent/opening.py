"""The stores by their names."""

from __future__ import annotations

from typing import Optional

from . import manifest
from .carrier_files import CarrierFiles, Run
from .refusal import Refusal
from .store_driveapi import DriveApi
from .store_folder import Disk, DriveFs
from .stores import Store


def open_store(name: str, run: Run, files: CarrierFiles) -> Store:
    """The store of a job; see `open_named`."""
    return open_named(name, run.drive_dir, run.api_url, files.drive_api)


def open_named(name: str, drive_dir: Optional[str], api_url: str, notes: str = "") -> Store:
    """The store of that name. It may not be there: that is said when it is used."""
    if name == manifest.DRIVEAPI:
        return DriveApi(api_url, notes)
    if name == manifest.DRIVEFS:
        return DriveFs(drive_dir or "the Drive of the runtime")
    if name == manifest.DISK:
        return Disk(drive_dir or "the disk for checkpoints")
    raise Refusal("the runtime knows no store {!r}".format(name))
