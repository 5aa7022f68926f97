"""Drive as a plain folder that is carried to the cloud: where there is no FUSE.

It cannot fail or hang, and a file counts as closed once it has not changed for a moment. The extended
attributes are the file system's own, where it has any.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.drive.carrier import Carrier, Parcel
from tests.support.drive.cloud import Cloud
from tests.support.drive.faults import Faults

_TICK_S = 0.02
_CLOSED_S = 0.05


class CarriedFolder:
    """`mountpoint` holds what the cloud had when it began, and what is written there."""

    def __init__(self, cloud: Cloud, mountpoint: Path, faults: Faults) -> None:
        self.carrier = Carrier(cloud, faults)
        self._top = mountpoint
        self._stopping = threading.Event()
        self._known: dict[str, tuple[tuple[int, int], float, Parcel | None]] = {}
        mountpoint.mkdir(exist_ok=True)
        for path, file in cloud.names().items():
            target = mountpoint / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(cloud.content(file), target)
            parcel = Parcel(path, target, "", file=file, claimed_id=file.id, md5=file.md5)
            self._mark(target, parcel)
            self._known[path] = (_signature(target), 0.0, parcel)
        self._threads = [
            threading.Thread(target=self._watch, daemon=True),
            threading.Thread(target=self.carrier.run, args=(self._stopping,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """The machine dies: what has not arrived is lost."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        shutil.rmtree(self._top)

    def _watch(self) -> None:
        while not self._stopping.wait(_TICK_S):
            # Somebody may be faster than we look; the next time it is seen anew.
            with contextlib.suppress(OSError):
                self._look()

    def _look(self) -> None:
        here = dict(self._scan())
        for path in [path for path in self._known if path not in here]:
            parcel = self._known.pop(path)[2]
            if parcel is not None:
                self.carrier.forget(parcel)
        for path, file in here.items():
            signature = _signature(file)
            before, since, parcel = self._known.get(path, (None, 0.0, None))
            if signature != before:
                self._known[path] = (signature, time.monotonic(), parcel)
                parcel = parcel or self.carrier.new_parcel(path, file)
                self._mark(file, Parcel(path, file, parcel.local_id))
            elif since and time.monotonic() - since > _CLOSED_S:
                parcel = parcel or self.carrier.new_parcel(path, file)
                self._known[path] = (signature, 0.0, parcel)
                self.carrier.send(parcel)
            elif parcel is not None:
                self._mark(file, parcel)

    def _scan(self) -> Iterator[tuple[str, Path]]:
        for parent, _, names in os.walk(self._top):
            for name in names:
                file = Path(parent, name)
                yield file.relative_to(self._top).as_posix(), file

    def _mark(self, file: Path, parcel: Parcel) -> None:
        if not self.carrier.faults.has_attributes:
            return
        for name, value in parcel.attributes().items():
            with contextlib.suppress(OSError):
                os.setxattr(file, name, value.encode())


def _signature(file: Path) -> tuple[int, int]:
    seen = file.stat()
    return seen.st_size, seen.st_mtime_ns
