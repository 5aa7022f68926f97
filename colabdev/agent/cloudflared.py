"""Cloudflare's quick tunnel on this machine: a daemon that keeps `cloudflared` running, and who asks it.

`python3 -I -S <agent> cloudflared FOLDER` reads what is wanted (`wanted.json`: `port`, `url`), fetches
the program from there when the PATH has none, and writes how it stands (`state.json`). It outlives the
agent; a name is for one start of the program, so whoever uses it follows the state.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any, Dict, Iterator, List, Optional, Tuple

from . import jobdir, processes, tunnels

Answer = Tuple[Dict[str, Any], bytes]

FOLDER = "~/.colabdev/cloudflared"
PORT = 443
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_DOWNLOAD_TIMEOUT_S = 60.0
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_STEADY_S = 60.0
"""Who ran for that long starts again at once."""
_END_TIMEOUT_S = 5.0
_POLL_S = 0.2
_STDIN = 0
_NAME = re.compile(r"https://([a-z0-9]+(?:-[a-z0-9]+)*\.trycloudflare\.com)\s*\|")
"""In the frame that it draws around the name; its messages have other addresses in them."""
_FAILURE = re.compile(r"\bERR\b|failed|error", re.IGNORECASE)


class Place:
    """The daemon's files."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.lock = os.path.join(folder, "lock")
        self.wanted = os.path.join(folder, "wanted.json")
        self.state = os.path.join(folder, "state.json")
        self.log = os.path.join(folder, "log")

    def read(self, path: str) -> Dict[str, Any]:
        """{} when it is not there, or not whole."""
        with contextlib.suppress(jobdir.Unreadable):
            return jobdir.read_document(path) or {}
        return {}


def hold(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """Have it run, and tell how it stands: `{"host"}`, `{"problem": {"message", "hint",
    "waiting_helps"}}` or neither, at once and at every change, until stdin has something for us.

    Arguments: `port`, of 127.0.0.1, and `url`, where the program is. One that runs for another port is
    replaced; one that was killed is started again.
    """
    place = Place(os.path.expanduser(FOLDER))
    tunnels.close_others("cloudflared")
    want(place, int(arguments["port"]), str(arguments["url"]))
    said: Optional[Dict[str, Any]] = None
    while True:
        revive(place)
        told = describe(place.read(place.state))
        if told != said:
            said = told
            yield told, b""
        if select.select([_STDIN], [], [], _POLL_S)[0]:
            return


def describe(state: Dict[str, Any]) -> Dict[str, Any]:
    """What others are told of it."""
    return {name: state[name] for name in ("host", "problem") if state.get(name) is not None}


def want(place: Place, port: int, url: str) -> None:
    """Write down what is to run; what runs and is something else ends."""
    os.makedirs(place.folder, mode=0o700, exist_ok=True)
    wanted = {"port": port, "url": url}
    if place.read(place.wanted) != wanted:
        end(place)
        jobdir.write_document(place.wanted, wanted)


def close() -> None:
    """End it. Harmless when there is none."""
    place = Place(os.path.expanduser(FOLDER))
    if os.path.exists(place.wanted):
        end(place)
        os.unlink(place.wanted)


def end(place: Place) -> None:
    """End the daemon and its program; returns when both are gone."""
    deadline = time.monotonic() + _END_TIMEOUT_S
    number = signal.SIGTERM
    while _runs(place):
        state = place.read(place.state)
        processes.send(state.get("daemon"), state.get("boot", ""), number)
        if time.monotonic() >= deadline:
            number = signal.SIGKILL
        time.sleep(0.02)
    _end_program(place.read(place.state))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(place.state)


def revive(place: Place) -> None:
    """Start the daemon when none runs."""
    if _runs(place):
        return
    with open(place.log, "ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", sys.argv[0], "cloudflared", place.folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd="/",
        )
    child.wait()  # It forks away at once, with the lock.


def main(arguments: List[str]) -> int:
    """Leave who started us, and keep the program running until SIGTERM."""
    place = Place(arguments[0])
    lock = os.open(place.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return 0  # Another one was faster.
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _Daemon(place).run()
    return 0


class _Daemon:
    def __init__(self, place: Place) -> None:
        self._place = place
        self._wanted = place.read(place.wanted)
        before = place.read(place.state)
        self._state: Dict[str, Any] = {
            "daemon": processes.identify(os.getpid()),
            "boot": processes.boot_id(),
        }
        _end_program(before)  # Of a daemon that was killed.
        self._say(host=None, problem=None, program=None)

    def run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            begun = time.monotonic()
            try:
                problem = self._run_once(self._program())
            except OSError as exc:
                problem = "cannot have cloudflared there: %s" % exc
            self._say(host=None, problem=_problem(problem), program=None)
            if time.monotonic() - begun >= _STEADY_S:
                pause_s = _FIRST_PAUSE_S
            time.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _run_once(self, program: str) -> str:
        """Until the program ends; the last of its words that says why."""
        child = subprocess.Popen(
            [
                *(program, "tunnel", "--no-autoupdate"),
                *("--url", "ssh://127.0.0.1:%d" % int(self._wanted["port"])),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # A configuration of the user's there would keep it from being a quick tunnel.
            env={**os.environ, "HOME": self._place.folder},
        )
        failure = ""
        try:
            self._say(program=processes.identify(child.pid))
            assert child.stderr is not None, "opened with a pipe"
            for raw in child.stderr:
                line = raw.decode("utf-8", "replace").strip()
                found = _NAME.search(line)
                if found is not None:
                    self._say(host=found[1], problem=None)
                elif _FAILURE.search(line):
                    failure = line
            child.wait()
        finally:
            child.kill()
            child.wait()
        return failure or "cloudflared ended with status %d" % child.returncode

    def _program(self) -> str:
        """Its path; fetched once."""
        found = shutil.which("cloudflared")
        if found is not None:
            return found
        path = os.path.join(self._place.folder, "cloudflared")
        if not os.path.exists(path):
            self._fetch(path)
        return path

    def _fetch(self, path: str) -> None:
        machine = platform.machine().lower()
        url = str(self._wanted["url"]).replace("{arch}", _ARCHITECTURES.get(machine, machine))
        staging = path + ".part"
        try:
            answer = urllib.request.urlopen(url, timeout=_DOWNLOAD_TIMEOUT_S)
        except (urllib.error.URLError, ValueError) as exc:
            raise OSError("cannot fetch %s: %s" % (url, exc)) from exc
        with answer, open(staging, "wb") as file:
            shutil.copyfileobj(answer, file)
        os.chmod(staging, 0o700)
        os.replace(staging, path)

    def _say(self, **changes: Any) -> None:
        self._state.update(changes)
        jobdir.write_document(self._place.state, self._state)


def _problem(line: str) -> Dict[str, Any]:
    """What it said at its end, for the user."""
    if "429" in line or "1015" in line:
        return {
            "message": "Cloudflare gives this machine no quick tunnel now: too many were asked for",
            "hint": "wait some minutes, or use another tunnel: --tunnel ngrok",
            "waiting_helps": True,
        }
    return {
        "message": "the cloudflared tunnel ended: %s" % line[-300:],
        "hint": "it is started again by itself; if it never comes up: --tunnel ngrok",
        "waiting_helps": True,
    }


def _runs(place: Place) -> bool:
    """Somebody holds the daemon's lock."""
    try:
        lock = os.open(place.lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def _end_program(state: Dict[str, Any]) -> None:
    processes.send(state.get("program"), state.get("boot", ""), signal.SIGKILL)
