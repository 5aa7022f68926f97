"""What lies where in a sandbox's directory, for the provider, the guardian and the server.

    <root>/sandboxes/<name>/       lock  log  sandbox.json  authorized_keys
    <root>/sandboxes/<name>/disk/  root (its HOME)  tmp  bin  content
        content/drive/MyDrive      a link to <root>/drive/MyDrive
    <root>/drive/                  the one Drive folder of this computer; never deleted

The lock is held by the sandbox's guardian for as long as it lives: held means running, whatever
process ids were reused meanwhile.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shlex
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from colabdev.core.times import parse_time
from colabdev.errors import ColabdevError
from colabdev.models import Machine, SshAddress
from colabdev.providers.processes import MARKER_VARIABLE

if sys.platform != "win32":
    import fcntl
    import pwd

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class SandboxFiles:
    """The paths of one sandbox, and the marker that its processes carry."""

    root: Path
    name: str

    @property
    def directory(self) -> Path:
        return self.root / "sandboxes" / self.name

    @property
    def lock(self) -> Path:
        return self.directory / "lock"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def record(self) -> Path:
        return self.directory / "sandbox.json"

    @property
    def ending(self) -> Path:
        """There from the moment somebody decided that the sandbox has to end."""
        return self.directory / "ending"

    @property
    def authorized_keys(self) -> Path:
        return self.directory / "authorized_keys"

    @property
    def disk(self) -> Path:
        return self.directory / "disk"

    @property
    def home(self) -> Path:
        return self.disk / "root"

    @property
    def content(self) -> Path:
        return self.disk / "content"

    @property
    def drive_link(self) -> Path:
        return self.content / "drive" / "MyDrive"

    @property
    def drive(self) -> Path:
        return self.root / "drive" / "MyDrive"

    @property
    def marker(self) -> str:
        """The same for every sandbox that ever lives here: what an earlier one left running is
        found without anything having been written down about it."""
        return hashlib.sha256(os.fsencode(os.path.realpath(self.directory))).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class SandboxRecord:
    """`sandbox.json`: a running sandbox as its guardian describes it."""

    request_id: str
    marker: str
    guardian_pid: int
    server_pid: int
    port: int
    user: str
    host_key: str
    since: str

    def machine(self, files: SandboxFiles) -> Machine:
        return Machine(
            ssh=SshAddress("127.0.0.1", self.port, self.user, self.host_key),
            content_dir=str(files.content),
            drive_dir=str(files.drive_link),
            since=parse_time(self.since),
            request_id=self.request_id,
        )


def format_sandbox(record: SandboxRecord) -> bytes:
    return json.dumps(asdict(record), indent=1).encode("ascii") + b"\n"


def parse_sandbox(content: bytes) -> SandboxRecord:
    """The record that `format_sandbox` wrote; ValueError for anything else."""
    document = json.loads(content)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    record = SandboxRecord(
        request_id=_field(document, "request_id", str),
        marker=_field(document, "marker", str),
        guardian_pid=_field(document, "guardian_pid", int),
        server_pid=_field(document, "server_pid", int),
        port=_field(document, "port", int),
        user=_field(document, "user", str),
        host_key=_field(document, "host_key", str),
        since=_field(document, "since", str),
    )
    parse_time(record.since)
    return record


def login_environment(files: SandboxFiles, python: str) -> dict[str, str]:
    """The whole environment of a command in the sandbox; nothing of the caller's is added to it."""
    path = f"{files.disk / 'bin'}:{os.path.dirname(python)}:{_SYSTEM_PATH}"
    return {
        "HOME": str(files.home),
        "USER": user_name(),
        "LOGNAME": user_name(),
        "SHELL": login_shell(),
        "LANG": "C.UTF-8",
        "TMPDIR": str(files.disk / "tmp"),
        "PATH": path,
        "COLABDEV_RUNTIME": files.name,
        MARKER_VARIABLE: files.marker,
    }


def guardian_environment(files: SandboxFiles, package_parent: Path | None) -> dict[str, str]:
    """The environment of our own processes. They carry the marker, so that they are found by it."""
    environment = {
        "PATH": _SYSTEM_PATH,
        "HOME": _user_home(),
        "LANG": "C.UTF-8",
        MARKER_VARIABLE: files.marker,
    }
    if package_parent is not None:
        environment["PYTHONPATH"] = str(package_parent)
    return environment


def login_shell() -> str:
    return "/bin/bash" if os.access("/bin/bash", os.X_OK) else "/bin/sh"


def user_name() -> str:
    assert sys.platform != "win32"
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        # As in a container that runs under a number nobody gave a name.
        return str(os.getuid())


def make_disk(files: SandboxFiles, python: str) -> None:
    """A new VM's disk: empty, with Drive mounted and the login Python under its usual names."""
    for folder in (files.home, files.disk / "tmp", files.disk / "bin", files.drive_link.parent):
        make_folders(folder, below=files.directory)
    make_folders(files.drive, below=files.root)
    files.drive_link.symlink_to(files.drive)
    for name in ("python3", "python"):
        wrapper = files.disk / "bin" / name
        wrapper.write_bytes(b"#!/bin/sh\nexec " + os.fsencode(shlex.quote(python)) + b' "$@"\n')
        wrapper.chmod(0o755)


def make_folders(folder: Path, *, below: Path) -> None:
    """Make `below`, and every missing folder from there down to `folder`, private to the user."""
    below.mkdir(mode=0o700, parents=True, exist_ok=True)
    current = below
    for part in folder.relative_to(below).parts:
        current = current / part
        current.mkdir(mode=0o700, exist_ok=True)


def wipe(files: SandboxFiles) -> None:
    """Delete all of a sandbox that has ended, except its lock and its log."""
    for entry in list(files.directory.iterdir()):
        if entry not in (files.lock, files.log):
            delete(entry)


def delete(path: Path) -> None:
    """Delete a file, a link or a whole folder, never what a link points to."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    _make_writable(path)
    shutil.rmtree(path)


def open_lock(files: SandboxFiles) -> int:
    """A handle to the lock file, which is made when it is missing. No child inherits it."""
    return os.open(files.lock, os.O_RDWR | os.O_CREAT, 0o600)


def take_lock(handle: int, *, shared: bool = False) -> bool:
    """Take the lock if it is free. It is free again when the handle is closed, by death too."""
    assert sys.platform != "win32"
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def is_lock_file(files: SandboxFiles, handle: int) -> bool:
    """Whether the handle is still what the path names; a release deletes the file it has locked."""
    try:
        return os.path.samestat(os.stat(files.lock), os.fstat(handle))
    except FileNotFoundError:
        return False


def is_locked(files: SandboxFiles) -> bool:
    """Whether somebody holds the lock. Asked with a shared lock, so that two who ask do not take
    each other for the sandbox."""
    try:
        handle = os.open(files.lock, os.O_RDONLY)  # Enough for asking, also on a read-only disk.
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as exc:
        raise ColabdevError(
            f"cannot tell whether sandbox {files.name} runs: {exc}",
            hint=f"give access to {files.root} again",
        ) from exc
    try:
        return not take_lock(handle, shared=True)
    finally:
        os.close(handle)


def read_guardian_pid(files: SandboxFiles) -> int | None:
    """The process id that the holder wrote into its lock. Means nothing while the lock is free."""
    try:
        return int(files.lock.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _make_writable(folder: Path) -> None:
    folder.chmod(0o700)
    for parent, names, _ in os.walk(folder):
        for name in names:
            # os.walk lists links to folders among the folders, and chmod would follow them.
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)


def _user_home() -> str:
    assert sys.platform != "win32"
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return "/"


def _field(document: dict[str, Any], key: str, kind: type) -> Any:
    value = document.get(key)
    if type(value) is not kind:
        raise ValueError(f"{key!r} is {value!r}")
    return value
