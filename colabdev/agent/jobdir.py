"""The job directory: its names, its formats and what they say of a job. Both ends read it here.

    ~/.colabdev/jobs/<id>/
        spec.json      what is to run; never a value of the environment
        code/<tree hash>/, code.json   the frozen code of a Python job, and what it was at the start
        notebook.py    what executes a notebook, for a job that is one
        environment.json  the directory of the environment that the command runs in, if it has one
        lock           held by the supervisor for its whole life
        pid            supervisor and command with their start times, the boot id, and how far it is
        log            what the command wrote, raw; by itself, or copied from its terminal
        events.jsonl   what happened, each with the time and the log's size then
        metrics.jsonl  what it took of its machine, a row every ten seconds (agent/sampler.py)
        steps.json     which step it was at when, as far as it tells (agent/steps.py)
        reserve        room on the disk for status.json, given up when that is written
        input          the socket through which input and window sizes come, while it runs and takes any
        stop.json      that somebody asked for the end, by which signal, and the grace
        status.json    how the job ended; written last, never changed

A cursor into a job's log is (attempt, offset).
"""

from __future__ import annotations

import json
import os
import re
from typing import Any, Dict, Iterable, List, Optional

SCHEMA = 1
FIRST_ATTEMPT = 1

QUEUED = "queued"
STARTING = "starting"
RUNNING = "running"
SUCCEEDED = "succeeded"
FAILED = "failed"
STOPPED = "stopped"
TIMED_OUT = "timed_out"
LOST = "lost"
UNKNOWN = "unknown"

STATES = (QUEUED, STARTING, RUNNING, SUCCEEDED, FAILED, STOPPED, TIMED_OUT, LOST, UNKNOWN)
ENDED_STATES = frozenset({SUCCEEDED, FAILED, STOPPED, TIMED_OUT, LOST, UNKNOWN})

OUT_OF_MEMORY = "memory"
DISK_FULL = "disk_full"
SUPERSEDED = "superseded"
REASONS = (OUT_OF_MEMORY, DISK_FULL, SUPERSEDED)
"""Why a job failed, where its status alone does not tell; of one that was stopped, that a later attempt
of it runs elsewhere."""

EVENTS = "events.jsonl"
METRICS = "metrics.jsonl"
STATUS = "status.json"
RECORDS = (EVENTS, METRICS, STATUS)
"""What comes home of a job beside its log; the last one says that they are there."""

PYTHON = "python"
MODULE = "module"
SHELL = "shell"
NOTEBOOK = "notebook"
COMMAND = "command"
FILE_KINDS = frozenset({PYTHON, SHELL, NOTEBOOK})
"""Those whose first word is a file of the project."""
FROZEN_KINDS = frozenset({PYTHON, MODULE, NOTEBOOK})
"""Those that run from a copy of the code."""

NO_INPUT = "none"
TERMINAL = "terminal"
PIPE = "pipe"
STDINS = (NO_INPUT, TERMINAL, PIPE)
"""What a job's stdin is: /dev/null, its terminal, or a pipe that we close when the input ends."""

DEFAULT_GRACE_S = 10.0
DEFAULT_SIGNAL = "TERM"
"""What asks a job to end, without SIG."""

ASK_FILE = "file:"
ASK_SIGNALS = ("USR1", "USR2", "HUP")
"""How a job may be asked to save: by a file of that name behind the prefix, or by one of these."""

_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,39}-[0-9]{6}-[a-z2-7]{4}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")

Document = Dict[str, Any]


class Unreadable(Exception):
    """A file of a job directory is there and makes no sense."""


def job_id(name: str, day: str, random: bytes) -> str:
    """`<name>-<yymmdd>-<4 base32>`, from at least 4 random bytes."""
    return "{}-{}-{}".format(name, day, "".join(_BASE32[byte % 32] for byte in random[:4]))


def is_job_id(text: str) -> bool:
    """Whether that can be a job's id, and so a name in the directory of jobs."""
    return _ID.fullmatch(text) is not None


def is_job_name(text: str) -> bool:
    """Whether a job may be called so."""
    return _NAME.fullmatch(text) is not None


def make_job_name(text: str) -> str:
    """A name that a job may have, as near to `text` as can be."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].rstrip("-")
    return name or "job"


def matching(prefix: str, ids: Iterable[str]) -> List[str]:
    """The ids that `prefix` may mean, sorted; a whole id means itself alone."""
    known = sorted(ids)
    return [prefix] if prefix in known else [one for one in known if one.startswith(prefix)]


def jobs_directory(home: str) -> str:
    """Where a machine keeps its jobs."""
    return os.path.join(home, ".colabdev", "jobs")


def home_of(directory: str) -> str:
    """The home that a job's directory is in."""
    return os.path.dirname(os.path.dirname(os.path.dirname(directory)))


class JobFiles:
    """The names in one job's directory."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.id = os.path.basename(directory)
        self.spec = os.path.join(directory, "spec.json")
        self.code = os.path.join(directory, "code")
        self.code_list = os.path.join(directory, "code.json")
        self.notebook = os.path.join(directory, "notebook.py")
        self.environment = os.path.join(directory, "environment.json")
        self.lock = os.path.join(directory, "lock")
        self.pid = os.path.join(directory, "pid")
        self.log = os.path.join(directory, "log")
        self.events = os.path.join(directory, EVENTS)
        self.metrics = os.path.join(directory, METRICS)
        self.steps = os.path.join(directory, "steps.json")
        self.reserve = os.path.join(directory, "reserve")
        self.input_name = "input"
        self.input = os.path.join(directory, self.input_name)
        self.stop = os.path.join(directory, "stop.json")
        self.status = os.path.join(directory, STATUS)
        self.complaints = os.path.join(directory, "supervisor.log")


def read_document(path: str) -> Optional[Document]:
    """The JSON object in that file, None when there is no such file; Unreadable when it is none."""
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read().decode("ascii"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as exc:
        raise Unreadable("{} is not JSON: {}".format(path, exc)) from exc
    if not isinstance(document, dict):
        raise Unreadable("{} is not a JSON object".format(path))
    return document


def write_document(path: str, document: Document, durable: bool = False) -> None:
    """Replace the file so that a reader, and a kill at any moment, sees the old or the new; `durable`:
    and a crash of the machine, too."""
    staging = "{}.{}".format(path, os.getpid())
    content = json.dumps(document, indent=1).encode("ascii") + b"\n"
    handle = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(handle, "wb") as file:
        file.write(content)
        file.flush()
        if durable:
            os.fsync(handle)
    os.replace(staging, path)
    if not durable:
        return
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def append_row(path: str, row: Document) -> None:
    """Add a line with that object to a file that grows; one write, so that no reader sees half of it."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, json.dumps(row).encode("ascii") + b"\n")
    finally:
        os.close(handle)


def size_of(path: str) -> int:
    """The file's size in bytes; 0 when it is not there."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
