"""`python -m tests.support.drive.mount FOLDER MOUNTPOINT FAULTS`: Drive, mounted by FUSE.

FOLDER has the `cloud` and this machine's `cache`. Each line on stdin is new faults; `die` ends it at
once, as DriveFS does when it crashes, and so does the end of stdin. What is not in the cloud yet stays
in the cache, which is for whoever lets the machine die to delete.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import mfusepy  # type: ignore[import-untyped]

from tests.support.drive.carrier import Carrier, Parcel
from tests.support.drive.cloud import Cloud, CloudFile
from tests.support.drive.faults import Faults

_HANG_S = 0.01


@dataclass(slots=True)
class Node:
    """A file of the mount. `parcel` is None until it is written here."""

    cloud: CloudFile | None = None
    parcel: Parcel | None = None
    mtime: float = 0.0
    writers: set[int] = field(default_factory=set)
    is_dirty: bool = False


class DriveMount(mfusepy.Operations):  # type: ignore[misc]
    """The calls of the kernel, one after the other."""

    use_ns = True

    def __init__(self, cloud: Cloud, cache: Path, faults: Faults) -> None:
        self.carrier = Carrier(cloud, faults)
        self._cloud = cloud
        self._cache = cache
        self._began = time.time()
        self._files: dict[str, Node] = {}
        self._folders = {""}
        self._handles: dict[int, int] = {}
        self._chosen = Random(faults.seed + 1)
        self._made = 0
        self._seen: set[str] = set()
        self._notice()

    # --- What is there ---

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        name = self._enter(path)
        if name in self._folders:
            return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2, "st_mtime": int(self._began)}
        node = self._node(name)
        return {
            "st_mode": stat.S_IFREG | 0o600,
            "st_nlink": 1,
            "st_size": self._content(node).stat().st_size,
            "st_mtime": int(node.mtime * 1e9),
        }

    def readdir(self, path: str, fh: int) -> list[str]:
        inside = self._enter(path) + "/" if path != "/" else ""
        self._notice()
        known = [*self._folders, *self._files]
        below = {name[len(inside) :] for name in known if name and name.startswith(inside)}
        return [".", "..", *sorted(name for name in below if name and "/" not in name)]

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        node = self._node(self._enter(path))
        if not self.carrier.faults.has_attributes:
            raise mfusepy.FuseOSError(errno.ENOTSUP)
        if node.parcel is not None:
            said = node.parcel.attributes()
        else:
            assert node.cloud is not None
            said = {"user.drive.id": node.cloud.id, "user.drive.uncommitted": "0"}
            said["user.drive.md5"] = node.cloud.md5
        if name not in said:
            raise mfusepy.FuseOSError(errno.ENODATA)
        return said[name].encode()

    def statfs(self, path: str) -> dict[str, int]:
        self._enter(path)
        quota = self.carrier.faults.quota_bytes or 2**40
        free = max(quota - self._used(), 0) // 4096
        return {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": quota // 4096, "f_bavail": free}

    # --- Contents ---

    def open(self, path: str, flags: int) -> int:
        name = self._enter(path)
        node = self._node(name)
        if flags & (os.O_WRONLY | os.O_RDWR):
            self._make_own(name, node)
        handle = os.open(self._content(node), flags & ~(os.O_CREAT | os.O_EXCL))
        if flags & (os.O_WRONLY | os.O_RDWR):
            node.writers.add(handle)
        return handle

    def create(self, path: str, mode: int, fi: object = None) -> int:
        name = self._enter(path)
        self._fail_sometimes()
        node = Node(mtime=time.time(), is_dirty=True)
        self._made += 1
        content = self._cache / f"{os.getpid()}-{self._made}"
        node.parcel = self.carrier.new_parcel(name, content)
        self._files[name] = node
        handle = os.open(content, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        node.writers.add(handle)
        return handle

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        self._enter(path)
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        node = self._node(self._enter(path))
        self._fail_sometimes()
        quota = self.carrier.faults.quota_bytes
        if quota and self._used() + len(data) > quota:
            raise mfusepy.FuseOSError(errno.ENOSPC)
        node.is_dirty, node.mtime = True, time.time()
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        name = self._enter(path)
        node = self._node(name)
        self._make_own(name, node)
        os.truncate(self._content(node), length)
        node.is_dirty, node.mtime = True, time.time()
        if not node.writers:
            self._send(node)
        return 0

    def flush(self, path: str, fh: int) -> int:
        self._enter(path)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._enter(path)
        self._fail_sometimes()
        return 0  # It is on this machine's disk, and nothing more was promised.

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        node = self._files.get(path.strip("/"))
        if node is not None and fh in node.writers:
            node.writers.discard(fh)
            if not node.writers and node.is_dirty:
                self._send(node)
        return 0

    # --- Names ---

    def mkdir(self, path: str, mode: int) -> int:
        self._folders.add(self._enter(path))
        return 0

    def rmdir(self, path: str) -> int:
        name = self._enter(path)
        if any(one.startswith(name + "/") for one in [*self._folders, *self._files]):
            raise mfusepy.FuseOSError(errno.ENOTEMPTY)
        self._folders.discard(name)
        return 0

    def unlink(self, path: str) -> int:
        name = self._enter(path)
        self._remove(self._node(name))
        del self._files[name]
        return 0

    def rename(self, old: str, new: str) -> int:
        source, target = self._enter(old), self._enter(new)
        node = self._node(source)
        if target in self._files:
            self._remove(self._files[target])
        self._files[target] = self._files.pop(source)
        if node.parcel is not None:
            self.carrier.rename(node.parcel, target)
        elif node.cloud is not None:
            node.cloud = self._cloud.rename(node.cloud, target)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        self._node(self._enter(path)).mtime = times[1] / 1e9 if times else time.time()
        return 0

    def chmod(self, path: str, mode: int) -> int:
        self._enter(path)
        return 0  # Drive has no modes, and says nothing of it.

    def symlink(self, target: str, source: str) -> int:
        raise mfusepy.FuseOSError(errno.EOPNOTSUPP)

    def link(self, target: str, source: str) -> int:
        raise mfusepy.FuseOSError(errno.EOPNOTSUPP)

    # --- How ---

    def _enter(self, path: str) -> str:
        while self.carrier.faults.hangs:
            time.sleep(_HANG_S)
        return path.strip("/")

    def _fail_sometimes(self) -> None:
        if self._chosen.random() < self.carrier.faults.io_errors:
            raise mfusepy.FuseOSError(errno.EIO)

    def _node(self, name: str) -> Node:
        if name not in self._files:
            raise mfusepy.FuseOSError(errno.ENOENT)
        return self._files[name]

    def _content(self, node: Node) -> Path:
        if node.parcel is not None:
            return node.parcel.content
        assert node.cloud is not None, "it was written here, or it came from the cloud"
        return self._cloud.content(node.cloud)

    def _make_own(self, name: str, node: Node) -> None:
        """What is changed here is a copy of what the cloud has."""
        if node.parcel is None and node.cloud is not None:
            self._made += 1
            content = self._cache / f"{os.getpid()}-{self._made}"
            content.write_bytes(self._cloud.content(node.cloud).read_bytes())
            node.parcel = self.carrier.new_parcel(name, content)
            node.parcel.file, node.cloud = node.cloud, None

    def _is_own(self, file: CloudFile) -> bool:
        parcels = [node.parcel for node in self._files.values() if node.parcel is not None]
        return any(parcel.file is not None and parcel.file.id == file.id for parcel in parcels)

    def _send(self, node: Node) -> None:
        assert node.parcel is not None, "it was written here"
        node.is_dirty = False
        self.carrier.send(node.parcel)

    def _remove(self, node: Node) -> None:
        if node.parcel is not None:
            self.carrier.forget(node.parcel)
        elif node.cloud is not None:
            self._cloud.delete(node.cloud)

    def _used(self) -> int:
        return sum(self._content(node).stat().st_size for node in self._files.values())

    def _notice(self) -> None:
        """Take what the cloud had before this mount, once it is listed, and what others put there
        since, as late as the faults say."""
        now, stale_s = time.time(), self.carrier.faults.stale_s
        for path, file in self._cloud.names().items():
            if file.arrived > self._began:
                is_listed = now >= file.arrived + self.carrier.faults.shows_others_s
            else:
                is_listed = file.arrived < self._began - stale_s or now > self._began + stale_s
            if not is_listed or file.id in self._seen or self._is_own(file):
                continue
            self._seen.add(file.id)
            self._files.setdefault(path, Node(cloud=file, mtime=file.arrived))
            self._folders |= set(_parents(path))


def _parents(path: str) -> Iterator[str]:
    parts = path.split("/")[:-1]
    for count in range(1, len(parts) + 1):
        yield "/".join(parts[:count])


def _obey(mount: DriveMount) -> None:
    for line in sys.stdin:
        if line.strip() == "die":
            break
        mount.carrier.faults = Faults.from_json(line)
    # Nobody is to clean up: a machine that dies does not, and a crash does not either.
    os._exit(1)


def main(folder: Path, mountpoint: str, faults: Faults) -> None:
    """Serve until stdin ends."""
    cache = folder / "cache"
    cache.mkdir(exist_ok=True)
    mount = DriveMount(Cloud(folder / "cloud"), cache, faults)
    for task in (lambda: _obey(mount), lambda: mount.carrier.run(threading.Event())):
        threading.Thread(target=task, daemon=True).start()
    mfusepy.FUSE(mount, mountpoint, foreground=True, nothreads=True, fsname="drive")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Faults.from_json(sys.argv[3]))
