"""`colabdev sync --watch --json` in the background, and what it said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from tests.support.syncing import SyncedFolder, look
from tests.support.waiting import wait_until


class Watcher:
    """Watches from `with` on, once its first sync was made."""

    def __init__(self, project: SyncedFolder, *arguments: str) -> None:
        self._project = project
        self.said: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "colabdev", "sync", "--watch", "--json", *arguments],
            cwd=project.local,
            env=project.house.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Watcher:
        self._reader.start()
        self.wait_for(lambda: bool(self.said))
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    @property
    def syncs(self) -> list[dict[str, Any]]:
        """What each sync did, but the first."""
        return [told for told in self.said if told["event"] == "synced"][1:]

    def events(self) -> list[str]:
        """The words of what was said, but for syncs."""
        return [told["event"] for told in self.said if told["event"] != "synced"]

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        wait_until(condition, timeout_s=timeout_s, message="the watcher is not there yet")

    def wait_equal(self, timeout_s: float = 20.0) -> None:
        """Until both sides have the same."""
        project = self._project
        self.wait_for(lambda: look(project.remote) == look(project.local), timeout_s)

    def settle(self) -> None:
        """Until an edit that is made now has come and gone: what was to be told was told."""
        mark = self._project.write(f"mark{len(self.said)}", os.urandom(8))
        copy = self._project.remote / mark.name
        self.wait_for(lambda: copy.is_file() and copy.read_bytes() == mark.read_bytes())
        self.wait_for(lambda: any(_names(told, mark.name) for told in list(self.said)))

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(json.loads(line))


def _names(told: dict[str, Any], path: str) -> bool:
    return any(action["path"] == path for action in told.get("actions", ()))
