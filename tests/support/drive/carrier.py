"""Brings what was closed on a machine to the cloud, as late and as badly as the faults say."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.drive.cloud import Cloud, CloudFile, checksums
from tests.support.drive.faults import Faults

_TICK_S = 0.005


@dataclass(slots=True)
class Parcel:
    """A file on its way, and what Drive says of it."""

    path: str
    content: Path
    local_id: str
    due: float = 0.0
    file: CloudFile | None = None
    """Once it is in the cloud."""
    claimed_id: str = ""
    """Of what is said to have arrived, true or not."""
    md5: str = ""

    def attributes(self) -> dict[str, str]:
        """What `getxattr` answers."""
        said = {
            "user.drive.id": self.claimed_id or self.local_id,
            "user.drive.uncommitted": "0" if self.claimed_id else "1",
        }
        return said | ({"user.drive.md5": self.md5} if self.md5 else {})


@dataclass
class Carrier:
    """Uploads in a thread of its own, one after the other."""

    cloud: Cloud
    faults: Faults
    _waiting: list[Parcel] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _made: int = 0

    def __post_init__(self) -> None:
        self._chosen = random.Random(self.faults.seed)

    def new_parcel(self, path: str, content: Path) -> Parcel:
        """One that waits until it is sent."""
        self._made += 1
        return Parcel(path, content, f"local-{self._made}")

    def send(self, parcel: Parcel) -> None:
        """Upload it, after the delay; again when it was changed meanwhile."""
        with self._lock:
            parcel.claimed_id = parcel.md5 = ""
            parcel.due = time.monotonic() + self._chosen.uniform(*self.faults.delay_s)
            if parcel not in self._waiting:
                self._waiting.append(parcel)

    def forget(self, parcel: Parcel) -> None:
        """Delete it, wherever it is by now."""
        with self._lock:
            self._waiting = [one for one in self._waiting if one is not parcel]
            if parcel.file is not None:
                self.cloud.delete(parcel.file)

    def rename(self, parcel: Parcel, path: str) -> None:
        with self._lock:
            parcel.path = path
            if parcel.file is not None:
                parcel.file = self.cloud.rename(parcel.file, path)

    @property
    def pending(self) -> int:
        return len(self._waiting)

    def run(self, stopping: threading.Event) -> None:
        """Until `stopping`."""
        while not stopping.wait(_TICK_S):
            parcel = self._next()
            if parcel is not None:
                # The way takes its time, and the file may change on it.
                due, size = parcel.due, parcel.content.stat().st_size
                if not stopping.wait(size / self.faults.bytes_per_s):
                    self._arrive(parcel, due)

    def _next(self) -> Parcel | None:
        with self._lock:
            now = time.monotonic()
            due = [parcel for parcel in self._waiting if parcel.due <= now]
            if not due or self.faults.stalled:
                return None
            return self._chosen.choice(due) if self.faults.reorders else due[0]

    def _arrive(self, parcel: Parcel, due: float) -> None:
        with self._lock:
            if parcel.due != due or not any(one is parcel for one in self._waiting):
                return
            self._waiting = [one for one in self._waiting if one is not parcel]
            faults = self.faults
            written = checksums(parcel.content)[0]
            if parcel.file is not None:
                self.cloud.delete(parcel.file)
            if self._happens(faults.lies):
                parcel.claimed_id = "1lie" + parcel.local_id
            else:
                for _ in range(1 + self._happens(faults.twins)):
                    flip = self._happens(faults.flips)
                    parcel.file = self.cloud.put(parcel.path, parcel.content, flip=flip)
                assert parcel.file is not None
                parcel.claimed_id = parcel.file.id
            parcel.md5 = written

    def _happens(self, share: float) -> bool:
        return self._chosen.random() < share
