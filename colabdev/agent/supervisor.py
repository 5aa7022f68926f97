"""Starts a job's command, waits for it, and writes down how it ended.

`python3 -I -S <agent> supervise <job directory>` with the job's environment. It leaves the agent
(two forks, a session of its own), ignores SIGHUP, and adopts what its descendants leave behind. The
command leads a session and a group of its own and writes to `log` itself, or to a terminal that is
copied there. It is only let go once `pid` is on the disk: a command that runs is always written down.
`lock` is held meanwhile, so that a job that was started twice runs once.

SIGTERM asks it to stop the job: the signal of stop.json to the command's group, and after its grace
KILL to everything below us, daemons included.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import time
from contextlib import suppress
from typing import Any, Dict, List, Optional, Set

from . import frozen, jobdir, prelude, processes, signals
from .carriers import Carrying
from .command import become
from .crash_points import crash_point
from .endings import DiskGuard, Evidence, decode_status
from .inlet import Inlet
from .jobdir import JobFiles
from .prelude import Prelude
from .sampling import Sampling
from .terminal import DEFAULT_SIZE, Terminal

STARTED = b"started\n"

_MARK_INTERVAL_S = 10.0
_LOOK_S = 1.0
_POLL_S = 0.05
_KILL_TIMEOUT_S = 5.0
_RETRY_S = 1.0
_RESERVE_BYTES = 16 * 1024
_NAMED = 20


def main(arguments: List[str]) -> int:
    """Fork away from the agent; what runs on says STARTED, or why not, on stdout."""
    files = JobFiles(arguments[0])
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals.adopt_orphans()
    lock = os.open(files.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        _tell_starter()  # Another one has it: started twice, it runs once.
        return 0
    if os.path.exists(files.pid) or os.path.exists(files.status):
        _tell_starter()
        return 0
    spec = jobdir.read_document(files.spec)
    assert spec is not None, "a job directory appears with its spec in it"
    supervisor = Supervisor(files, spec)
    try:
        gate = supervisor.prepare()
    except OSError as exc:
        # Nothing has run, and nothing will: the command waits for a byte that never comes.
        _tell_starter(str(exc).encode("ascii", "backslashreplace"))
        return 1
    supervisor.run(gate)
    return 0


def _tell_starter(words: bytes = STARTED) -> None:
    """Say that the job runs, or why not. An agent that was killed meanwhile is no reason to leave it."""
    with suppress(OSError):
        os.write(1, words)


class Supervisor:
    """One attempt of one job, from its first to its last moment."""

    def __init__(self, files: JobFiles, spec: Dict[str, Any]) -> None:
        self._files = files
        self._spec = spec
        self._me = os.getpid()
        self._command = 0
        self._wait_status: Optional[int] = None
        self._kill_at: Optional[float] = None
        self._ended_by = ""
        self._time_out_at: Optional[float] = None
        self._marked = 0
        self._wakeup = signals.wakeups()
        self._begun: Optional[float] = None
        self._prelude: Optional[Prelude] = None
        self._log = os.open(files.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._terminal: Optional[Terminal] = None
        self._inlet: Optional[Inlet] = None
        self._evidence = Evidence()
        self._guard = DiskGuard(files.directory)
        self._sampling = Sampling(files)
        self._carrying = Carrying(files, spec)
        self._reason: Optional[str] = None

    def prepare(self) -> int:
        """Fork the command and write it down; returns where a byte lets it go. OSError when the disk
        does not take it."""
        with open(self._files.reserve, "wb") as reserve:
            reserve.write(bytes(_RESERVE_BYTES))
        gate = self._fork(self._log)
        crash_point("supervisor.forked")
        if self._prelude is None:
            self._begin()
        self._record(jobdir.STARTING if self._prelude else jobdir.RUNNING)
        crash_point("supervisor.recorded")
        return gate

    def _begin(self) -> None:
        """From now on the command runs, for all that counts its time."""
        self._note("started", pid=self._command)
        self._begun = time.time()
        if self._spec.get("timeout_s"):
            self._time_out_at = time.monotonic() + float(self._spec["timeout_s"])

    def _record(self, state: str) -> None:
        """Write down who we are, and how far the job is."""
        document = {
            "schema": jobdir.SCHEMA,
            "supervisor": processes.identify(self._me),
            "command": processes.identify(self._command),
            "boot_id": processes.boot_id(),
            "state": state,
            "started": self._begun,
        }
        jobdir.write_document(self._files.pid, document)

    def run(self, gate: int) -> None:
        """Let the command go; returns once the status is written."""
        os.write(gate, b"g")
        os.close(gate)
        crash_point("supervisor.released")
        _tell_starter()
        # The agent waits for this pipe to end; nothing of ours may hold it.
        silence = os.open(os.devnull, os.O_RDWR)
        os.dup2(silence, 1)
        os.close(silence)
        self._wait(self._wakeup)
        self._end(self._log)

    def _fork(self, log: int) -> int:
        """The command as a process that waits for a byte; returns the end where to write it."""
        if self._spec.get("pty"):
            size = self._spec.get("window") or DEFAULT_SIZE
            self._terminal = Terminal(log, size, lambda: self._note("lost"))
        stdin = self._open_stdin()
        if prelude.is_needed(self._spec):
            self._prelude = Prelude(self._files)
        reading, writing = os.pipe()
        # A TERM that comes before the command has a command's habits must wait for that, not be
        # swallowed by ours.
        unmasked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self._command = os.fork()
        if self._command:
            signal.pthread_sigmask(signal.SIG_SETMASK, unmasked)
            os.close(reading)
            os.close(stdin)
            if self._prelude:
                self._prelude.hand_over()
            if self._terminal:
                self._terminal.hand_over()
            return writing
        try:
            os.close(writing)
            become(self._spec, stdin, self._terminal or log, reading, self._prelude)
        finally:
            os._exit(125)  # The supervisor died before it let us go: nothing has run.

    def _open_stdin(self) -> int:
        """What the command reads, unless that is its terminal; and the way in for what is typed."""
        kind = self._spec.get("stdin", jobdir.NO_INPUT)
        stdin, sink = os.open(os.devnull, os.O_RDONLY), None
        if kind == jobdir.PIPE:
            os.close(stdin)
            stdin, sink = os.pipe()
            os.set_blocking(sink, False)
        elif kind == jobdir.TERMINAL and self._terminal:
            sink = self._terminal.master
        if self._terminal or sink is not None:
            try:
                self._inlet = Inlet(self._files, sink, self._resize, is_pipe=kind == jobdir.PIPE)
            except OSError:  # Some file systems have no sockets.
                if sink is not None:
                    raise
        return stdin

    def _resize(self, size: List[int]) -> None:
        if self._terminal:
            self._terminal.resize(size, self._command)

    def _wait(self, wakeup: int) -> None:
        """Until the command has ended and, after a stop, nothing is left below us."""
        next_mark = time.monotonic() + _MARK_INTERVAL_S
        next_look = time.monotonic() + _LOOK_S
        while self._wait_status is None or (self._ended_by and self._below()):
            due = min(filter(None, (next_mark, next_look, self._kill_at, self._time_out_at)))
            if self._wait_status is not None:
                due = min(due, time.monotonic() + _POLL_S)  # Orphans of orphans end unheard.
            if self._terminal and not self._terminal.is_open:
                due = min(due, time.monotonic() + _POLL_S)  # Somebody may open it again, unheard.
            ready = self._ready(wakeup, max(due - time.monotonic(), 0))
            if wakeup in ready and signal.SIGTERM in os.read(wakeup, 4096):
                self._stop()
            if self._terminal:
                self._terminal.copy()
            if self._inlet:
                self._inlet.serve(ready)
            if self._prelude and self._prelude.reader in ready:
                self._hear(self._prelude.read())
            self._reap()
            if self._time_out_at is not None and time.monotonic() >= self._time_out_at:
                self._time_out_at = None
                self._terminate(jobdir.TIMED_OUT, jobdir.DEFAULT_GRACE_S)
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self._kill()
                return
            if time.monotonic() >= next_mark:
                self._mark()
                next_mark = time.monotonic() + _MARK_INTERVAL_S
            if time.monotonic() >= next_look:
                self._look()
                next_look = time.monotonic() + _LOOK_S

    def _ready(self, wakeup: int, timeout_s: float) -> List[Any]:
        """What can be read or written, once anything can."""
        reading: List[Any] = [wakeup]
        writing: List[Any] = []
        if self._terminal and self._terminal.is_open:
            reading.append(self._terminal.master)
        if self._prelude and self._prelude.reader is not None:
            reading.append(self._prelude.reader)
        if self._inlet:
            reading.extend(self._inlet.readers())
            writing.extend(self._inlet.writers())
        readable, writable, _ = select.select(reading, writing, [], timeout_s)
        return readable + writable

    def _below(self) -> Set[int]:
        """The processes of the job that are left."""
        return self._sampling.without(self._carrying.without(processes.below(self._me)))

    def _look(self) -> None:
        """What is to be done about a job that has run for a while."""
        if self._begun is not None:
            self._sampling.start()
            self._carrying.start()
        if self._guard.is_due(time.monotonic()) and not self._ended_by:
            self._reason = jobdir.DISK_FULL
            self._terminate(jobdir.FAILED, jobdir.DEFAULT_GRACE_S)

    def _hear(self, states: List[str]) -> None:
        """What the process that is to be the command says of how far it is."""
        for state in states:
            if state in jobdir.ENDED_STATES:
                self._ended_by = state
                continue
            if state == jobdir.RUNNING:
                self._begin()
            with suppress(OSError):  # A full disk must not end the supervisor.
                self._record(state)

    def _stop(self) -> None:
        """Somebody asked for it; asked again, the earlier end counts."""
        try:
            wish = jobdir.read_document(self._files.stop) or {}
        except jobdir.Unreadable:
            wish = {}
        grace_s = float(wish.get("grace_s", jobdir.DEFAULT_GRACE_S))
        self._reason = self._reason or wish.get("reason") or None
        self._terminate(jobdir.STOPPED, grace_s, int(wish.get("signal", signal.SIGTERM)))

    def _terminate(self, state: str, grace_s: float, number: int = signal.SIGTERM) -> None:
        """The signal now, KILL when the grace is over; `state` is what the job ends as."""
        kill_at = time.monotonic() + grace_s
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)
        self._reap()
        if self._wait_status is None:
            self._ended_by = self._ended_by or state
            self._note("stop", grace_s=grace_s, state=state)
            signals.send_group(self._command, number)

    def _reap(self) -> None:
        """Take the status of everything that ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._sampling.reaped(pid)
            self._carrying.reaped(pid)
            if pid == self._command:
                self._wait_status = status
                if self._ended_by:
                    for left in self._below():
                        signals.send(left, signal.SIGTERM)

    def _kill(self) -> None:
        """KILL to everything below us, again and again: something may be forking."""
        self._note("kill")
        deadline = time.monotonic() + _KILL_TIMEOUT_S
        while time.monotonic() < deadline:
            left = self._below()
            if self._wait_status is None:
                left.add(self._command)
            if not left:
                return
            processes.kill(left)
            time.sleep(0.01)
            self._reap()

    def _mark(self) -> None:
        """Note when the log had which size, if it grew."""
        size = jobdir.size_of(self._files.log)
        if size != self._marked:
            self._marked = size
            self._note("mark")

    def _end(self, log: int) -> None:
        """What the job leaves behind, then its status, which is the last thing written."""
        ended = time.time()
        if self._prelude:
            self._hear(self._prelude.read())
        if self._terminal:
            self._terminal.finish()
            self._terminal.close()
        self._sampling.end()
        self._carrying.start()  # Of a job that was over before anybody looked.
        workdir = str(self._spec["workdir"])
        kept = self._bring_back(workdir)
        with suppress(OSError):
            os.fsync(log)
        code, number = decode_status(self._wait_status)
        if not self._ended_by:
            self._reason = self._evidence.reason(code, number, self._files.directory, workdir)
        state = self._ended_by or (jobdir.SUCCEEDED if code == 0 else jobdir.FAILED)
        self._note("ended", exit_code=code, signal=number, reason=self._reason)
        status = {
            "schema": jobdir.SCHEMA,
            "attempt": self._spec["attempt"],
            "state": state,
            "exit_code": code,
            "signal": number,
            "reason": self._reason,
            "started": self._begun,
            "ended": ended,
            "log_bytes": os.fstat(log).st_size,
            "kept": kept[:_NAMED],
            "lost_bytes": self._terminal.lost_bytes if self._terminal else 0,
        }
        crash_point("supervisor.unsettled")
        self._write_status(status)
        if self._inlet:
            self._inlet.close()  # Whoever hears of it can see how the job ended.

    def _bring_back(self, workdir: str) -> List[str]:
        """Move home what the job wrote beside its code; what could not be moved stays, and is named."""
        kept = []
        try:
            for path, reason in frozen.bring_back(workdir, self._files):
                self._note("kept", path=path, reason=reason)
                kept.append(path)
        except (OSError, jobdir.Unreadable) as exc:
            self._note("kept", path=".", reason=str(exc))
            kept.append(".")
        return kept

    def _write_status(self, status: Dict[str, Any]) -> None:
        """However long it takes: a job that filled the disk must not end as unknown."""
        with suppress(OSError):
            os.unlink(self._files.reserve)
        while True:
            try:
                return jobdir.write_document(self._files.status, status, durable=True)
            except OSError:
                if not os.path.isdir(self._files.directory):
                    return None  # Somebody removed the job: nobody will ask.
                time.sleep(_RETRY_S)

    def _note(self, event: str, **details: Any) -> None:
        where = {"time": time.time(), "offset": jobdir.size_of(self._files.log), "event": event}
        with suppress(OSError):  # A full disk must not end the supervisor.
            jobdir.append_row(self._files.events, dict(where, **details))
