"""The `local` provider: a sandbox on this computer that behaves like a rented VM behind SSH.

No account and no network are needed. On Linux a sandbox dies whole, daemons included; on macOS,
which has neither /proc nor subreapers, a daemon that left its parents may survive it. It is a
stand-in for a machine, not a prison: a command in it can see the rest of this computer.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import colabdev
from colabdev.adapters.files import write_atomic
from colabdev.errors import (
    ColabdevError,
    RuntimeUnreachable,
    StateNotWritable,
    UsageError,
)
from colabdev.models import Machine, StartRequest
from colabdev.ports import Progress
from colabdev.providers import sandbox_end
from colabdev.providers.sandbox import BUSY, FAILED, Options
from colabdev.providers.sandbox_files import (
    SandboxFiles,
    SandboxRecord,
    guardian_environment,
    is_locked,
    make_folders,
    parse_sandbox,
    read_guardian_pid,
)

_START_TIMEOUT_S = 20.0
_FIND_TIMEOUT_S = 5.0
_PYTHON_TIMEOUT_S = 10.0
_POLL_S = 0.02
_PRINT_EXECUTABLE = "import sys; print(sys.executable)"
_PRINT_IF_NEW_ENOUGH = "import sys; print(sys.version_info >= (3, 8) and sys.executable)"


@dataclass(frozen=True, slots=True)
class LocalLogin:
    """What a shell of this computer's user would have, and a sandbox therefore has too."""

    python: str
    """The absolute path of its python3."""


class LocalProvider:
    """`ports.Provider` over sandboxes below `root`; asks `find_login` only when it starts one."""

    def __init__(self, root: Path, find_login: Callable[[], LocalLogin]) -> None:
        self._root = Path(os.path.abspath(root))
        self._find_login = find_login

    @property
    def name(self) -> str:
        return "local"

    def start(self, request: StartRequest, progress: Progress) -> Machine:
        check_system()
        files = SandboxFiles(self._root, request.name)
        deadline = time.monotonic() + _START_TIMEOUT_S
        if files.ending.exists():
            # A release was interrupted; what it was to end must not be taken for ours.
            self.release(request.name)
        while True:
            record = _running(files, deadline)
            if record is None:
                progress(f"starting sandbox {request.name}")
                # None again when another command started it meanwhile: then we look once more.
                record = _start_guardian(files, self._options(request), deadline)
            if record is not None:
                return _adopt(files, record, request)

    def find(self, name: str) -> Machine | None:
        files = SandboxFiles(self._root, name)
        record = _running(files, time.monotonic() + _FIND_TIMEOUT_S)
        return None if record is None else record.machine(files)

    def names(self) -> Sequence[str]:
        try:
            entries = sorted(os.listdir(self._root / "sandboxes"))
        except FileNotFoundError:
            return ()
        return tuple(name for name in entries if is_locked(SandboxFiles(self._root, name)))

    def release(self, name: str) -> None:
        if sys.platform != "win32":
            sandbox_end.release(SandboxFiles(self._root, name))

    def kill(self, name: str) -> bool:
        files = SandboxFiles(self._root, name)
        if sys.platform == "win32" or not files.directory.is_dir():
            return False
        sandbox_end.kill(files)
        return True

    def _options(self, request: StartRequest) -> Options:
        return Options(
            root=self._root,
            name=request.name,
            request_id=request.request_id,
            public_key=request.public_key,
            python=request.python or self._find_login().python,
        )


def check_system() -> None:
    """Refuse a system that cannot have a sandbox, before anything is written down."""
    if sys.platform == "win32":
        raise ColabdevError(
            "cannot start a local runtime: a sandbox needs Linux or macOS",
            hint="run colabdev inside WSL, or use another provider: colabdev connect --help",
        )


def find_login(environ: Mapping[str, str]) -> LocalLogin:
    """The login of this computer's user: the python3 that a shell without our own venv finds."""
    ours = {os.path.join(environ["VIRTUAL_ENV"], "bin")} if environ.get("VIRTUAL_ENV") else set()
    if sys.prefix != sys.base_prefix:
        ours.add(os.path.dirname(sys.executable))
    folders = environ.get("PATH", os.defpath).split(os.pathsep)
    path = os.pathsep.join(folder for folder in folders if folder not in ours)
    dropped = {"VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH"}
    clean = {key: value for key, value in environ.items() if key not in dropped} | {"PATH": path}
    # Through env, because Popen would look `python3` up on our own PATH.
    found = _ask_python(["/usr/bin/env", "python3"], clean, cwd=os.path.expanduser("~"))
    return LocalLogin(found or str(getattr(sys, "_base_executable", "") or sys.executable))


def checked_python(wanted: str) -> str:
    """The absolute path of the interpreter that the user named; `UsageError` when it is none, or is
    too old for the agent."""
    found = _ask_python([wanted], os.environ, cwd=None)
    if found is None:
        raise UsageError(
            f"cannot use --python {wanted}: it is no Python that runs here",
            hint="give the path of a python3, as `which -a python3` shows them",
        )
    if _ask_python([found], os.environ, cwd=None, code=_PRINT_IF_NEW_ENOUGH) is None:
        raise UsageError(
            f"cannot use --python {wanted}: it is older than Python 3.8",
            hint="give the path of a newer one, as `which -a python3` shows them",
        )
    return found


def _ask_python(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    cwd: str | None,
    code: str = _PRINT_EXECUTABLE,
) -> str | None:
    """The path of the interpreter itself, as what the command names may be a shim that needs the
    whole environment; None when nothing there says one."""
    try:
        asked = subprocess.run(
            [*command, "-c", code],
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_PYTHON_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = os.fsdecode(asked.stdout).strip()
    return found if os.path.isabs(found) else None


def _running(files: SandboxFiles, deadline: float) -> SandboxRecord | None:
    """The running sandbox; None when none runs. Waits for one that is just starting or ending."""
    while is_locked(files):
        with contextlib.suppress(FileNotFoundError):
            record = _read_record(files)
            # What an earlier sandbox left is not what the holder of the lock wrote.
            ours = record.guardian_pid == read_guardian_pid(files)
            if ours and not files.ending.exists():
                return record
        if time.monotonic() >= deadline:
            raise RuntimeUnreachable(
                f"cannot tell how sandbox {files.name} stands: it is starting or ending, and takes "
                "too long",
                hint=f"colabdev down {files.name}; its log is {files.log}",
            )
        time.sleep(_POLL_S)
    return None


def _read_record(files: SandboxFiles) -> SandboxRecord:
    content = files.record.read_bytes()
    try:
        return parse_sandbox(content)
    except ValueError as exc:
        raise ColabdevError(
            f"cannot read {files.record}, though its sandbox runs: {exc}",
            hint=f"colabdev down {files.name} ends it and deletes its disk",
        ) from exc


def _adopt(files: SandboxFiles, record: SandboxRecord, request: StartRequest) -> Machine:
    if record.request_id != request.request_id:
        raise ColabdevError(
            f"cannot start sandbox {files.name}: one of that name runs already, started by another "
            "request",
            hint=f"colabdev doctor --repair {files.name} to use it, or colabdev down {files.name}",
        )
    authorized = request.public_key.strip().encode("utf-8") + b"\n"
    if files.authorized_keys.read_bytes() != authorized:
        write_atomic(files.authorized_keys, authorized)
    return record.machine(files)


def _start_guardian(files: SandboxFiles, options: Options, deadline: float) -> SandboxRecord | None:
    """Start a guardian and hear from it; None when another one has the sandbox."""
    try:
        make_folders(files.directory, below=files.root)
        log = os.open(files.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as exc:
        raise StateNotWritable(
            f"cannot make a sandbox in {files.directory}: {exc.strerror}",
            hint="make room or give write access there, or set COLABDEV_STATE_DIR",
        ) from exc
    try:
        already_logged = os.fstat(log).st_size
        answer = _spawn_guardian(files, options, log, deadline)
    finally:
        os.close(log)
    if answer is not None:
        document = json.loads(answer)
        if FAILED in document:
            raise ColabdevError(
                f"cannot start sandbox {files.name}: {document[FAILED]}",
                hint=f"make room or give write access in {files.root}",
            )
        return None if document == BUSY else parse_sandbox(answer)
    if is_locked(files):
        # Another guardian took the place and, emptying it, ended ours.
        return None
    raise ColabdevError(
        f"cannot start sandbox {files.name}: {_last_line(files.log, already_logged)}",
        hint=f"its log is {files.log}",
    )


def _spawn_guardian(
    files: SandboxFiles, options: Options, log: int, deadline: float
) -> bytes | None:
    """The line that the guardian reported; None when it ended without one, or is too slow."""
    guardian = subprocess.Popen(
        [sys.executable, "-P", "-m", "colabdev.providers.sandbox", *options.to_argv()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        cwd="/",
        env=guardian_environment(files, _package_parent()),
        start_new_session=True,
    )
    with guardian:
        assert guardian.stdout is not None
        line = _read_line(guardian.stdout.fileno(), deadline)
        if line is None:
            # It left its child in charge long ago, or hangs before it could.
            guardian.kill()
        return line


def _read_line(pipe: int, deadline: float) -> bytes | None:
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([pipe], [], [], max(deadline - time.monotonic(), 0))
        piece = os.read(pipe, 65536) if ready else b""
        if not piece:
            return None
        line += piece
    return line


def _package_parent() -> Path | None:
    """The directory to import colabdev from, unless it is one that this Python always looks in."""
    parent = Path(colabdev.__path__[0]).resolve().parent
    installed = {Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib")}
    return None if parent in installed else parent


def _last_line(log: Path, offset: int) -> str:
    with log.open("rb") as file:
        file.seek(offset)
        lines = file.read().decode("utf-8", "replace").split("\n")
    written = [line.strip() for line in lines if line.strip()]
    return written[-1] if written else "it did not answer in time, and said nothing"
