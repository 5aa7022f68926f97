"""Keeps the machine's tunnel up: a daemon of its own, whoever else comes and goes.

`python3 -I -S <agent> tunnel`, a JSON line on stdin: `asked`, and the `secret`, which goes to
the child by its stdin and nowhere else. `asked` is `kind`, the role of the agent that the child
plays (`ngrok-session`, …); `has_secret`; `modules` that its Python needs, and the `lines` of
requirements that bring them; `timing`; `final`, the codes of failures that waiting does not help; and
`settings`, for the child alone.

The child reads `{"settings", "secret"}` as a line, and ends when its stdin does. It says, a JSON line
each: `{"endpoint": {"host", "port"}}`, `{"beat": true}` while its other end answers,
`{"lost": "why"}` when it was cut off and tries again by itself, `{"failed": "why", "code"}` as its
last word. It is ended and started again, with growing pauses, when it was silent for too long, when it
does not come back by itself soon, and when it dies. Where it came back by itself the endpoint is
dialled: it may be another by now, and the child cannot tell.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from . import environments, jobdir, processes
from .tunnel_files import DOWN, REFUSED, SCHEMA, STARTING, UP, Place, name_of

_TOKEN = re.compile(r"\b[0-9A-Za-z]{20,}_[0-9A-Za-z]{15,}\b")
"""What an ngrok token looks like; errors echo what they were given, whole or mistyped."""
_PROBE_S = 3.0
_PROBE_PAUSE_S = 0.3
_END_S = 3.0
_CHUNK_BYTES = 64 * 1024
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
"""ngrok's free plan refuses an agent behind one, and the environment of a machine may name one."""


class Timing(NamedTuple):
    """How patient the daemon is, in seconds."""

    silent_s: float = 45.0
    """Without a beat for so long a child that is up is of no use."""
    cut_s: float = 30.0
    """So long it may try by itself to come back; it waits ever longer between two tries."""
    start_s: float = 60.0
    """Until it says where it ends."""
    first_s: float = 1.0
    cap_s: float = 60.0
    """Of the pauses before it is started again."""
    look_s: float = 30.0
    """Between two looks whether the SSH server answers that it leads to."""
    steady_s: float = 60.0
    """After so long the next failure is the first again."""


class Failure(Exception):
    """Why there is no tunnel now."""

    def __init__(self, why: str, code: str = "", is_final: bool = False) -> None:
        super().__init__(why)
        self.why, self.code, self.is_final = why, code, is_final


def main(arguments: List[str]) -> int:
    """Leave the agent that started us, and go on until we are told to end or are refused."""
    told = json.loads(sys.stdin.buffer.readline().decode("ascii"))
    place = Place(os.path.expanduser("~"))
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    lock = os.open(place.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return 0  # Another one is at it.
    Supervisor(place, told["asked"], str(told["secret"])).run()
    return 0


class Supervisor:
    """Starts the child again and again, and says how it stands.

    `state.json`: `schema`, `asked` (the name of what was asked for), `kind`, `state`, `since`,
    `endpoint` (of the tunnel that is up), `why` and `code` of the last failure, `starts`, `process` and
    `boot` of this daemon, `child`.
    """

    def __init__(self, place: Place, asked: Dict[str, Any], secret: str) -> None:
        self._place = place
        self._asked = asked
        self._secret = secret
        self._timing = Timing(**asked.get("timing", {}))
        self._lock: Optional[int] = None
        """Of the environment that the child runs in."""
        self._said: Dict[str, Any] = {
            "schema": SCHEMA,
            "asked": name_of(asked),
            "kind": asked["kind"],
            "process": processes.identify(os.getpid()),
            "boot": processes.boot_id(),
            "starts": 0,
        }

    def run(self) -> None:
        """Returns when waiting does not help."""
        delay_s = self._timing.first_s
        while True:
            started = time.monotonic()
            self._say(STARTING, starts=self._said["starts"] + 1)
            try:
                self._follow_child()
            except Failure as exc:
                self._say(REFUSED if exc.is_final else DOWN, why=exc.why, code=exc.code)
                if exc.is_final:
                    return
            if time.monotonic() - started > self._timing.steady_s:
                delay_s = self._timing.first_s
            # With jitter: what one network's failure brought down does not come back all at once.
            time.sleep(delay_s * (0.5 + random.random() / 2))
            delay_s = min(delay_s * 2, self._timing.cap_s)

    def _say(self, state: str, **more: Any) -> None:
        now = datetime.now(timezone.utc).isoformat()
        endpoint = more.pop("endpoint", None)
        self._said = dict(self._said, **more, state=state, since=now, endpoint=endpoint)
        with suppress(OSError):  # On a full disk the tunnel is of use all the same.
            jobdir.write_document(self._place.state, self._said)

    def _follow_child(self) -> None:
        """Start one and stay until it is of no use any more, which `Failure` explains."""
        child = Child(self._python(), self._asked["kind"])
        self._said["child"] = child.pid
        try:
            child.tell({"settings": self._asked["settings"], "secret": self._secret})
            Watch(child, self._timing, self._asked["settings"]["port"], self._say).run()
        except Failure as exc:
            is_final = exc.code in self._asked["final"]
            raise Failure(self._redacted(exc.why), exc.code, is_final) from exc
        finally:
            child.end()

    def _python(self) -> str:
        """One that has the modules; made here when the machine's has not."""
        wanted = environments.Wanted(
            name="what the tunnel needs", file="", lines=self._asked["lines"], workdir="/", tree=""
        )
        try:
            python = environments.ask(wanted, self._asked["modules"])
            if not python["missing"]:
                return "python3"
            made = environments.provide(self._place.environments, wanted, python, _complain)
        except (environments.CannotInstall, OSError) as exc:
            raise Failure("cannot install {}: {}".format(wanted.name, exc)) from exc
        if self._lock is not None:
            os.close(self._lock)
        self._lock = made.lock
        return os.path.join(made.directory, "bin", "python3")

    def _redacted(self, text: str) -> str:
        if self._secret:
            text = text.replace(self._secret, "[token]")
        return _TOKEN.sub("[token]", text)


class Child:
    """The process that holds the tunnel open."""

    def __init__(self, python: str, kind: str) -> None:
        drop = {*_PROXIES, *map(str.upper, _PROXIES), "PYTHONPATH", "PYTHONHOME"}
        kept = {name: value for name, value in os.environ.items() if name not in drop}
        try:
            self._process = subprocess.Popen(
                [python, sys.argv[0], kind],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd="/",
                env=kept,
                start_new_session=True,
            )
        except OSError as exc:
            raise Failure("cannot start it: {}".format(exc)) from exc
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout.fileno()
        self._buffer = b""
        self.pid = self._process.pid

    def tell(self, told: Dict[str, Any]) -> None:
        """Its one line; stdin stays open, for its end is the child's."""
        with suppress(BrokenPipeError):  # Its end says why.
            self._stdin.write(json.dumps(told).encode("ascii") + b"\n")
            self._stdin.flush()

    def hear(self, timeout_s: float) -> Optional[Dict[str, Any]]:
        """The next thing it says; None when the time is up. `Failure` when it has ended."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            left_s = max(deadline - time.monotonic(), 0.0)
            if not select.select([self._stdout], [], [], left_s)[0]:
                return None
            data = os.read(self._stdout, _CHUNK_BYTES)
            if not data:
                raise Failure("its process ended with {}".format(self._process.wait()))
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            said = json.loads(line.decode("utf-8", "replace"))
        except ValueError:
            return None  # A library's own words.
        return said if isinstance(said, dict) else None

    def end(self) -> None:
        """With all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        with suppress(BrokenPipeError):
            self._stdin.close()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Watch:
    """One child, from its start until it is of no use."""

    def __init__(self, child: Child, timing: Timing, port: int, say: Callable[..., None]) -> None:
        """`port` of the SSH server here; `say` as `Supervisor` has it."""
        self._child = child
        self._timing = timing
        self._server = ("127.0.0.1", port)
        self._say = say
        self._looked = float("-inf")
        self._is_served = True
        self._endpoint: Optional[Tuple[str, int]] = None
        self._heard = time.monotonic()
        self._cut: Optional[float] = None
        """Since when it tries to come back by itself."""
        self._why = "it does not say where it ends"

    def run(self) -> None:
        """Raises `Failure`, sooner or later."""
        while True:
            said = self._child.hear(min(1.0, self._timing.silent_s / 4))
            if said is not None:
                self._take(said)
            self._check()

    def _take(self, said: Dict[str, Any]) -> None:
        now = time.monotonic()
        if "failed" in said:
            raise Failure(str(said["failed"]), str(said.get("code") or ""))
        if "lost" in said:
            self._why = str(said["lost"])
            if self._cut is None:
                self._cut = now
        if "endpoint" in said:
            self._heard = now
            self._endpoint = (str(said["endpoint"]["host"]), int(said["endpoint"]["port"]))
            self._say_up()
        if said.get("beat"):
            self._heard = now
            if self._cut is not None:
                self._cut = None
                self._look_again()

    def _check(self) -> None:
        now = time.monotonic()
        if self._endpoint is None:
            if now - self._heard > self._timing.start_s:
                raise Failure(self._why)
        elif self._cut is not None and now - self._cut > self._timing.cut_s:
            raise Failure(self._why)
        elif now - self._heard > self._timing.silent_s:
            raise Failure("its other end has not answered for {:.0f} s".format(now - self._heard))
        elif now - self._looked > self._timing.look_s:
            self._looked = now
            if _speaks_ssh(self._server) != self._is_served:
                self._is_served = not self._is_served
                self._say_up()

    def _look_again(self) -> None:
        assert self._endpoint is not None
        deadline = time.monotonic() + _PROBE_S
        while not _speaks_ssh(self._endpoint):  # The session is back before its endpoint is.
            if time.monotonic() > deadline:
                raise Failure("it came back at another address")
            time.sleep(_PROBE_PAUSE_S)
        self._say_up()

    def _say_up(self) -> None:
        assert self._endpoint is not None
        host, port = self._endpoint
        # As ngrok's own agent says it.
        why, code = ("", "") if self._is_served else ("no SSH server answers", "8012")
        self._say(UP, endpoint={"host": host, "port": port}, why=why, code=code)


def _speaks_ssh(address: Tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, _PROBE_S) as connection:
            connection.settimeout(_PROBE_S)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _complain(words: str) -> None:
    os.write(2, "colabdev: {}\n".format(words).encode("ascii", "backslashreplace"))
