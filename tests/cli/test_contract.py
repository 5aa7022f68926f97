"""What scripts rely on, frozen: exit codes, commands, JSON keys. A change here is a change for users."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer

from colabdev.cli import output, render, render_checkpoints, render_jobs, render_watch
from colabdev.cli.app import build_app
from colabdev.core.checkpoints import Checkpoint, Durable
from colabdev.core.outlook import Outlook
from colabdev.errors import (
    EXIT_CODE_MEANINGS,
    ColabdevError,
    ExitCode,
    StateUnreadable,
    UsageError,
)
from colabdev.models import JobRecord, JobState, Phase, RuntimeState, RuntimeStatus
from colabdev.services.checkpoint_push import Pushed
from colabdev.services.checkpoints import CheckpointListing
from colabdev.services.glances import Glance
from colabdev.services.jobs import JobListing
from colabdev.services.releases import Release
from colabdev.services.runtimes import Listing
from colabdev.services.sync_report import SyncReport
from tests.support.records import make_record

EXIT_CODES = {
    "OK": 0,
    "FAILED": 1,
    "USAGE": 2,
    "PARTLY_DONE": 3,
    "AUTH": 10,
    "CAPACITY": 11,
    "UNREACHABLE": 12,
    "HOST_KEY": 13,
    "GUARD": 14,
    "STATE_UNREADABLE": 15,
    "NOT_SAFE": 16,
    "BUG": 70,
    "INTERRUPTED": 130,
}

ERROR_EXIT_CODES = {
    "AgentUnusable": 1,
    "AuthNeeded": 10,
    "BehindProved": 1,
    "CheckpointNotFound": 1,
    "ConflictsLeft": 3,
    "GuardHalted": 14,
    "HostKeyMismatch": 13,
    "JobNotFound": 1,
    "NoCapacity": 11,
    "NoCode": 1,
    "NotOnDrive": 1,
    "NotSafeToRelease": 16,
    "ProtocolError": 1,
    "ReleaseUnproven": 1,
    "RuntimeLost": 12,
    "RuntimeNotFound": 1,
    "RuntimeUnreachable": 12,
    "SettingsError": 2,
    "SshRefused": 12,
    "StaleTree": 1,
    "StateNotWritable": 1,
    "StateUnreadable": 15,
    "UsageError": 2,
}

COMMANDS = [
    "attach",
    "auth login",
    "auth logout",
    "auth ngrok",
    "auth status",
    "auth terms",
    "checkpoints ls",
    "checkpoints prune",
    "checkpoints pull",
    "checkpoints push",
    "checkpoints restore",
    "checkpoints verify",
    "code",
    "config schema",
    "connect",
    "data ls",
    "data pull",
    "data push",
    "doctor",
    "down",
    "forward",
    "init",
    "jupyter",
    "local kill",
    "logs",
    "notebook",
    "proxy",
    "ps",
    "restore",
    "run",
    "ssh",
    "ssh-config print",
    "ssh-config remove",
    "ssh-config repair",
    "status",
    "stop",
    "sync",
    "tensorboard",
]

HIDDEN = {"proxy"}
"""Only other programs type it."""

JOB_STATES = [
    "queued",
    "starting",
    "running",
    "succeeded",
    "failed",
    "stopped",
    "timed_out",
    "lost",
    "unknown",
]

RUNTIME_KEYS = {
    "name",
    "provider",
    "state",
    "accelerator",
    "workdir",
    "drive_dir",
    "ssh",
    "since",
    "durable",
    "forecast",
    "running_jobs",
    "metrics",
    "mirrors",
    "lost_jobs",
}


def command_lines(command: Any, path: str = "") -> Iterator[str]:
    """Every command of ours that does something, as typed."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path
        return
    for name, child in inner.items():
        yield from command_lines(child, f"{path} {name}".strip())


def colabdev(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line where it knows nothing and may write nowhere else."""
    environment = {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "COLABDEV_STATE_DIR": str(home / "state"),
        "COLABDEV_CONFIG_DIR": str(home / "config"),
        "COLABDEV_SSH_CONFIG": str(home / ".ssh" / "config"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "COLUMNS": "80",
    }
    return subprocess.run(
        [sys.executable, "-m", "colabdev", *arguments],
        env=environment,
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The one JSON document on stdout; nothing stands on stderr."""
    captured = capsys.readouterr()
    assert captured.err == ""
    document: dict[str, Any] = json.loads(captured.out)
    return document


def test_exit_codes_are_the_documented_ones() -> None:
    assert {code.name: int(code) for code in ExitCode} == EXIT_CODES
    assert set(EXIT_CODE_MEANINGS) == set(ExitCode)


def test_each_error_has_its_documented_exit_code() -> None:
    codes = {
        kind.__name__: int(kind.exit_code)
        for kind in ColabdevError.__subclasses__()
        if kind.__module__ == "colabdev.errors"
    }
    assert codes == ERROR_EXIT_CODES
    assert ColabdevError.exit_code == 1


def test_commands_are_the_documented_ones() -> None:
    assert sorted(command_lines(typer.main.get_command(build_app()))) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_gives_an_example(tmp_path: Path, command: str) -> None:
    done = colabdev(tmp_path, *command.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.strip(" │\n") for line in done.stdout.splitlines()]
    assert any(line.startswith(f"Example: colabdev {command}") for line in lines), done.stdout
    assert list(tmp_path.iterdir()) == []


def test_help_shows_every_command_and_exit_code(tmp_path: Path) -> None:
    done = colabdev(tmp_path, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(done.stdout.split())
    for code, meaning in EXIT_CODE_MEANINGS.items():
        assert f"{int(code)} {meaning}" in text
    for command in set(COMMANDS) - HIDDEN:
        assert command.split()[0] in text


def test_status_document_has_the_documented_keys(capsys: pytest.CaptureFixture[str]) -> None:
    status = RuntimeStatus(make_record(), RuntimeState.READY)
    render.listing(Listing((status,), ()), {}, as_json=True)
    document = printed(capsys)
    assert set(document) == {"schema", "runtimes"}
    assert document["schema"] == 1
    (runtime,) = document["runtimes"]
    assert set(runtime) == RUNTIME_KEYS
    assert runtime == {
        "name": "box",
        "provider": "local",
        "state": "ready",
        "accelerator": "Tesla T4",
        "workdir": "/content/digits",
        "drive_dir": "/content/drive/MyDrive",
        "ssh": {"alias": "box", "host": "127.0.0.1", "port": 2222},
        "since": "2026-11-20T22:34:05Z",
        "durable": None,
        "forecast": None,
        "running_jobs": None,
        "metrics": None,
        "mirrors": None,
        "lost_jobs": None,
    }


def test_status_of_a_runtime_without_a_machine_has_the_same_keys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = replace(make_record(), machine=None, projects=(), phase=Phase.STARTING)
    render.listing(Listing((RuntimeStatus(record, RuntimeState.STARTING),), ()), {}, as_json=True)
    (runtime,) = printed(capsys)["runtimes"]
    assert set(runtime) == RUNTIME_KEYS
    assert (runtime["ssh"], runtime["workdir"], runtime["state"]) == (None, None, "starting")


def test_status_document_with_unreadable_state_has_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    unreadable = StateUnreadable("cannot read it", hint="repair it")
    render.listing(Listing((), (unreadable,)), {}, as_json=True)
    assert printed(capsys) == {
        "schema": 1,
        "runtimes": [],
        "error": {
            "type": "StateUnreadable",
            "message": "cannot read it",
            "hint": "repair it",
            "exit_code": 15,
        },
    }


def test_checkpoint_documents_have_the_documented_keys(capsys: pytest.CaptureFixture[str]) -> None:
    one = Checkpoint(
        job="train-261120-abcd",
        name="1-1180",
        attempt=1,
        step=1180,
        saved=1795214045.0,
        level="published",
        size_bytes=12,
        sha256="a" * 64,
        store="drivefs",
        path="digits/runs/train-261120-abcd/checkpoints/1-1180",
    )
    row = {
        "job": "train-261120-abcd",
        "name": "1-1180",
        "step": 1180,
        "attempt": 1,
        "level": "published",
        "size_bytes": 12,
        "sha256": "a" * 64,
        "store": "drivefs",
        "path": "digits/runs/train-261120-abcd/checkpoints/1-1180",
        "saved": "2026-11-20T22:34:05Z",
        "unproven": False,
    }
    render_checkpoints.listing(CheckpointListing([one]), as_json=True)
    assert printed(capsys) == {"schema": 1, "checkpoints": [row]}
    render_checkpoints.pushed(Pushed(one, is_safe=False, problem=""), as_json=True)
    assert printed(capsys) == {"schema": 1, "checkpoint": row, "safe": False, "problem": None}
    durable = Durable(one.job, 1180, "published", 38.04, 60, 112.0, is_safe=True)
    assert render.durable_json(durable) == {
        "job": "train-261120-abcd",
        "step": 1180,
        "level": "published",
        "safe": True,
        "age_s": 38.0,
        "at_risk_steps": 60,
        "at_risk_s": 112.0,
    }


def test_forecast_is_a_document_a_column_and_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 11, 20, 22, 34, 5, tzinfo=UTC)
    job = JobRecord("train-261120-abcd", "train", "box", "r", ("train.py",), moment)
    ahead = Outlook(
        job=job.id,
        step=500,
        total_steps=1000,
        low=moment,
        done=moment + timedelta(minutes=12),
        high=moment + timedelta(minutes=24),
        limit=moment,
        hand_overs=1,
        hand_overs_left=3,
        units=21.504,
        balance=18.0,
    )
    assert render.outlook_json(ahead) == {
        "job": "train-261120-abcd",
        "step": 500,
        "total_steps": 1000,
        "done": "2026-11-20T22:46:05Z",
        "done_low": "2026-11-20T22:34:05Z",
        "done_high": "2026-11-20T22:58:05Z",
        "limit": "2026-11-20T22:34:05Z",
        "hand_overs": 1,
        "hand_overs_left": 3,
        "units": 21.5,
        "balance": 18.0,
    }
    ends_before = render.outlook_json(replace(ahead, hand_overs_left=0))
    assert ends_before is not None
    assert (ends_before["hand_overs"], ends_before["hand_overs_left"]) == (None, 0)
    render_jobs.jobs(JobListing((job,), outlooks={job.id: ahead}), as_json=False)
    assert " ± 12 min  " in capsys.readouterr().out
    status = RuntimeStatus(make_record(), RuntimeState.READY)
    seen = {"box": Glance(1, None)}
    render.listing(Listing((status,), ()), seen, {"box": ahead}, as_json=False)
    assert "± 12 min; VM limit" in capsys.readouterr().out


def test_states_are_the_documented_ones() -> None:
    assert [state.value for state in RuntimeState] == [
        "starting",
        "ready",
        "unreachable",
        "lost",
        "released",
    ]


def test_job_states_are_the_documented_ones() -> None:
    assert [state.value for state in JobState] == JOB_STATES


def test_job_document_has_the_documented_keys(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 11, 20, 22, 34, 5, tzinfo=UTC)
    job = JobRecord(
        id="train-261120-abcd",
        name="train",
        runtime="box",
        request_id="r",
        argv=("train.py", "--lr", "1"),
        created=moment,
        state=JobState.FAILED,
        signal=9,
        started=moment,
        ended=moment,
    )
    render_jobs.jobs(JobListing((job,)), as_json=True)
    assert printed(capsys) == {
        "schema": 1,
        "jobs": [
            {
                "id": "train-261120-abcd",
                "name": "train",
                "runtime": "box",
                "state": "failed",
                "attempt": 1,
                "exit_code": 137,
                "argv": ["train.py", "--lr", "1"],
                "started": "2026-11-20T22:34:05Z",
                "ended": "2026-11-20T22:34:05Z",
                "reason": None,
                "current": True,
                "metrics": None,
                "forecast": None,
            }
        ],
    }


def test_ps_shows_what_goes_on_and_the_newest_that_ended(
    capsys: pytest.CaptureFixture[str],
) -> None:
    moment = datetime(2026, 11, 20, 22, 34, 5, tzinfo=UTC)
    old = JobRecord("oldest-261120-aaaa", "oldest", "box", "r", ("a",), moment)
    ended = [
        replace(old, id=f"ended-261120-aaa{letter}", state=JobState.SUCCEEDED)
        for letter in "abcdefghijklmnopqrstuvwxyz"
    ]
    listing = JobListing((*ended, old)).recent()
    render_jobs.jobs(listing, as_json=False)
    said = capsys.readouterr()
    shown = [row.split()[0] for row in said.out.splitlines()[1:]]
    assert shown == [*(job.id for job in ended[:20]), old.id]
    assert said.err == "6 older; colabdev ps --all lists them too\n"


def test_down_document_has_the_documented_keys(capsys: pytest.CaptureFixture[str]) -> None:
    render.released([Release("box")], as_json=True)
    assert printed(capsys) == {"schema": 1, "released": ["box"]}
    left = Release("gpu", stays="your files stay", running=["train-261120-abcd"])
    render.released([Release("box"), left], as_json=True)
    assert printed(capsys) == {
        "schema": 1,
        "released": ["box", "gpu"],
        "running": ["train-261120-abcd"],
    }


def test_error_document_has_the_documented_keys(capsys: pytest.CaptureFixture[str]) -> None:
    output.error(UsageError("cannot do it", hint="do that"), as_json=True)
    assert printed(capsys) == {
        "error": {
            "type": "UsageError",
            "message": "cannot do it",
            "hint": "do that",
            "exit_code": 2,
        }
    }


@pytest.mark.parametrize(
    ("arguments", "kind", "code"),
    [
        (["status", "--json", "--bogus"], "UsageError", 2),
        (["bogus", "--json"], "UsageError", 2),
        (["connect", "Bad Name", "--json"], "UsageError", 2),
        (["connect", "--json"], "AuthNeeded", 10),
        (["down", "nobody", "--json"], "RuntimeNotFound", 1),
    ],
)
def test_failure_prints_one_error_document_and_its_code(
    tmp_path: Path, arguments: list[str], kind: str, code: int
) -> None:
    done = colabdev(tmp_path, *arguments)
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert set(document) == {"error"}
    assert set(document["error"]) == {"type", "message", "hint", "exit_code"}
    assert (document["error"]["type"], document["error"]["exit_code"]) == (kind, code)
    assert done.returncode == code


def test_status_without_a_runtime_prints_an_empty_document(tmp_path: Path) -> None:
    done = colabdev(tmp_path, "status", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"schema": 1, "runtimes": []}


def test_watch_tells_a_document_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    audience = render_watch.WatchAsJson()
    audience.synced(SyncReport(runtime="box", workdir="/w", tree_hash="", sent_tree=""))
    audience.held(UsageError("cannot", hint="do"))
    audience.noted("looks now and then")
    audience.resumed()
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    always = ["schema", "time", "event"]
    assert [list(document) for document in told] == [
        [
            *always,
            *("sent", "received", "deleted", "unchanged"),
            *("conflicts", "problems", "actions", "wire_bytes"),
        ],
        [*always, "error"],
        [*always, "message"],
        always,
    ]
    assert [document["event"] for document in told] == ["synced", "waits", "noted", "resumed"]
