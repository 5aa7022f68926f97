"""The keepers of this computer: finding them, starting them, ending them."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from colabdev.adapters.broker import HUNG_AFTER_S, KeeperAgent, KeeperClient, KeeperUnavailable
from colabdev.adapters.handshake import KEEPER_VERSION
from colabdev.adapters.processes import detached_flags
from colabdev.adapters.store import FileStore
from colabdev.errors import ColabdevError, RuntimeUnreachable, error_from_json
from colabdev.models import RuntimeRecord

START_TIMEOUT_S = 20.0
_POLL_S = 0.1


class LocalKeepers:
    """`ports.Keepers`: the keepers of this computer, found through the state files; `own` as for
    `KeeperClient`."""

    def __init__(
        self, store: FileStore, spawn: Callable[[str], Mapping[str, Any]], *, own: bool = False
    ) -> None:
        self._store = store
        self._spawn = spawn
        self._own = own

    def find(self, record: RuntimeRecord) -> KeeperClient | None:
        client = self._client(record)
        if client is None:
            return None
        try:
            client.link()
        except KeeperUnavailable as exc:
            if _has_no_loopback(exc.__cause__):
                raise RuntimeUnreachable(
                    f"cannot reach the keeper of {record.name!r}: 127.0.0.1 does not answer to this "
                    "computer itself",
                    hint="bring the loopback network up; on Linux: ip link set lo up",
                ) from exc
            return None
        return client

    def ensure(self, name: str) -> KeeperClient:
        begun = time.monotonic()
        holder: int | None = None
        held_since = begun
        while time.monotonic() - begun < START_TIMEOUT_S:
            record = self._store.load(name)
            if record is None:
                raise RuntimeUnreachable(
                    f"cannot reach {name!r}: it was released meanwhile", hint="colabdev status"
                )
            keeper = self.find(record)
            if keeper is not None:
                return keeper
            if record.keeper is not None and record.keeper.version != KEEPER_VERSION:
                self.stop(record)
            said = self._spawn(name)
            if "error" in said:
                raise error_from_json(said["error"])
            if "ready" not in said:
                # Another keeper holds the lock: it is starting, leaving, or does not answer any more.
                pid = self._store.keeper_pid(name)
                if pid != holder:
                    holder, held_since = pid, time.monotonic()
                elif time.monotonic() - held_since > HUNG_AFTER_S:
                    self._kill(name)
                time.sleep(_POLL_S)
        raise ColabdevError(
            f"cannot start the keeper of {name!r} within {START_TIMEOUT_S:.0f} s",
            hint=f"colabdev doctor; end process {self._store.keeper_pid(name)} if it hangs",
        )

    def agent(self, name: str) -> KeeperAgent:
        record = self._store.load(name)
        client = self._client(record) if record is not None else None
        if client is not None:
            # Not asked first whether it answers: nearly always it does.
            with contextlib.suppress(KeeperUnavailable):
                return client.agent()
        return self.ensure(name).agent()

    def stop(self, record: RuntimeRecord) -> None:
        if record.keeper is not None:
            KeeperClient(record.name, record.keeper).quit()
        deadline = time.monotonic() + HUNG_AFTER_S
        while (pid := self._store.keeper_pid(record.name)) is not None:
            if time.monotonic() > deadline:
                self._kill(record.name)
            if time.monotonic() > deadline + HUNG_AFTER_S:
                raise ColabdevError(
                    f"cannot end the keeper of {record.name!r}", hint=f"end process {pid}"
                )
            time.sleep(_POLL_S)

    def _client(self, record: RuntimeRecord) -> KeeperClient | None:
        """The keeper that wrote down where it listens, if it is of this version."""
        address = record.keeper
        if address is None or address.version != KEEPER_VERSION:
            return None
        return KeeperClient(record.name, address, own=self._own)

    def _kill(self, name: str) -> None:
        """End a keeper that holds its lock and does not answer, if that is surely what it is."""
        pid = self._store.keeper_pid(name)
        if pid is not None and is_keeper(pid, name):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))


def spawn_keeper(name: str, environment: Mapping[str, str]) -> Mapping[str, Any]:
    """Start a keeper in the background. Returns what it said: `ready` once it listens, `error` when
    it cannot, nothing when another one holds the lock."""
    keeper = subprocess.Popen(
        [sys.executable, "-P", "-m", "colabdev.keeper", name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # Anywhere but here: a keeper must not keep the caller's directory from being unmounted.
        cwd=os.path.abspath(os.sep),
        env=environment,
        start_new_session=True,
        creationflags=detached_flags(),
    )
    lines: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_attend, args=(keeper, lines), daemon=True).start()
    try:
        line = lines.get(timeout=START_TIMEOUT_S)
    except queue.Empty:
        line = b""
    said = json.loads(line) if line else {}
    assert isinstance(said, dict), "a keeper says a JSON object"
    return said


def _attend(keeper: subprocess.Popen[bytes], lines: queue.Queue[bytes]) -> None:
    assert keeper.stdout is not None, "opened with a pipe"
    with keeper.stdout:
        lines.put(keeper.stdout.readline())
    # It outlives us; should it end before, somebody must take its status.
    keeper.wait()


def _has_no_loopback(cause: object) -> bool:
    """A keeper that ended leaves a port that refuses; this is another thing."""
    return isinstance(cause, OSError) and cause.errno in (
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.EHOSTUNREACH,
        errno.EADDRNOTAVAIL,
    )


def is_keeper(pid: int, name: str) -> bool:
    """Whether the process is that runtime's keeper. Without /proc the lock's word is taken for it."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return not Path("/proc/self").exists()
    return b"colabdev.keeper" in words and name.encode("ascii") in words
