"""From a job's spec to its running supervisor, at most once however often it is asked."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from . import frozen, jobdir, ledger, supervisor, tree, workdir
from .crash_points import crash_point
from .jobdir import JobFiles
from .refusal import Refusal, Stale

_STAGING = ".staging-"
_STAGING_AGE_S = 3600.0
_LOCK_TIMEOUT_S = 60.0
_DYING_TIMEOUT_S = 2.0

# `python -m` looks in the current directory first, which is the work dir; here the frozen code comes
# first. runpy's function is the one that `-m` itself calls.
_RUN_MODULE = """import runpy, sys
sys.path[: sys.path[:1] == [""]] = [sys.argv[1]]
module = sys.argv[2]
del sys.argv[1:3]
runpy._run_module_as_main(module)"""


class Source(NamedTuple):
    """Where a job's code comes from."""

    expect: Dict[str, Any]
    """What the work dir must be: `marker`, and with `tree` what it must hold."""
    code: Optional[Dict[str, Any]] = None
    """`tree`, and where its archive may be (`code_archives.find`): the code of an earlier attempt."""


def launch(
    spec: Dict[str, Any], variables: Dict[str, str], files: JobFiles, source: Source
) -> None:
    """Make the job directory unless it is there, and see that a supervisor has the job.

    Raises Stale when the work dir does not hold the tree that is expected, NoCode when the archive that
    it is to be started from is not to be had, Refusal when another attempt of it is here.
    """
    environment = _environment(spec, variables)
    there = jobdir.read_document(files.spec)
    if there is None:
        _prepare(spec, environment, files, source)
    elif there.get("attempt") != spec["attempt"]:
        raise Refusal(
            "cannot start attempt {} of {}: attempt {} is there".format(
                spec["attempt"], files.id, there.get("attempt")
            ),
            "colabdev logs {}".format(files.id),
        )
    _supervise(files, environment)


def _prepare(
    spec: Dict[str, Any], environment: Dict[str, str], files: JobFiles, source: Source
) -> None:
    """Make the whole job directory elsewhere and put it in place in one step; the first one wins."""
    if not os.path.isdir(spec["workdir"]):
        _as_expected(str(spec["workdir"]), source.expect)
        if "tree" not in source.expect and source.code is None:
            raise Refusal(
                "cannot run it: the work dir {} is not on the runtime".format(spec["workdir"]),
                "colabdev sync",
            )
        workdir.make(str(spec["workdir"]))  # The tree that it is to hold has no files.
    root = os.path.dirname(files.directory)
    _check_order(spec, root)
    os.makedirs(root, mode=0o700, exist_ok=True)
    _remove_leftovers(root)
    staging = JobFiles(tempfile.mkdtemp(prefix=_STAGING, dir=root))
    try:
        if source.code is None:
            spec["code"] = _freeze(spec, files, staging, source.expect)
        else:
            spec["code"] = _thaw(spec, files, staging, source)
        spec["command"] = _command(spec, files, environment)
        if spec["kind"] == jobdir.NOTEBOOK:
            _write_runner(staging)
        # The names only: a value may be a secret, and this is a file.
        spec["variables"] = sorted(environment)
        os.close(os.open(staging.log, os.O_WRONLY | os.O_CREAT, 0o600))
        jobdir.write_document(staging.spec, spec)
        crash_point("agent.job_staged")
        os.rename(staging.directory, files.directory)
        crash_point("agent.job_made")
    except OSError:
        if not os.path.exists(files.spec):
            raise
    finally:
        shutil.rmtree(staging.directory, ignore_errors=True)


def _check_order(spec: Dict[str, Any], root: str) -> None:
    for row in spec.get("after") or []:
        if not os.path.exists(JobFiles(os.path.join(root, str(row["id"]))).spec):
            raise Refusal(
                "cannot start it after {}: the runtime has no such job".format(row["id"]),
                "colabdev ps",
            )


def _freeze(
    spec: Dict[str, Any], files: JobFiles, staging: JobFiles, expect: Dict[str, Any]
) -> str:
    """The directory that the job takes its code from; for a frozen job it is made now."""
    place = str(spec["workdir"])
    if spec["kind"] in jobdir.FROZEN_KINDS and not spec.get("in_place"):
        with contextlib.ExitStack() as stack:
            if os.path.isdir(os.path.join(place, tree.OURS)):
                stack.enter_context(ledger.Ledger(place).locked(_LOCK_TIMEOUT_S))
            # Looked at only now: what is compared under the lock is what is copied.
            directory, survey = _as_expected(place, expect)
            with contextlib.suppress(OSError):
                directory.ledger.save()
            paths = list(survey.fingerprints)
            frozen.freeze(place, survey.tree, paths, tree.OURS, staging)
        place = os.path.join(files.code, survey.tree)
        made = os.path.join(staging.code, survey.tree)
    else:
        directory, survey = _as_expected(place, expect)
        directory.keep_hashes()
        made = place
    spec["tree"] = survey.tree
    # By which eyes that tree was seen: so it is found again.
    spec["max_bytes"] = expect.get("max_bytes")
    _check_files(spec, made)
    return place


def _thaw(spec: Dict[str, Any], files: JobFiles, staging: JobFiles, source: Source) -> str:
    """The directory that the job takes its code from, as an earlier attempt had it. What is not frozen
    runs from the work dir, which is filled from the archive when nothing brought it any file."""
    assert source.code is not None, "it is started from an archive"
    place = str(spec["workdir"])
    # Most jobs need not know of zips.
    archives = importlib.import_module(".code_archives", __package__)
    packed = archives.find(source.code)
    _, survey = _as_expected(place, source.expect)
    spec["tree"] = source.code["tree"]
    if spec["kind"] in jobdir.FROZEN_KINDS and not spec.get("in_place"):
        archives.unpack(packed, os.path.join(staging.code, spec["tree"]))
        without = {*survey.fingerprints, tree.OURS}
        archives.furnish(place, spec["tree"], without, staging)
        place = os.path.join(files.code, spec["tree"])
        made = os.path.join(staging.code, spec["tree"])
    else:
        if not _holds_files(place):
            archives.unpack(packed, place)
        made = place
    _check_files(spec, made)
    return place


def _check_files(spec: Dict[str, Any], made: str) -> None:
    """What the job names is among its code."""
    needed = [spec["argv"][0]] if spec["kind"] in jobdir.FILE_KINDS else []
    requirements = (spec.get("requirements") or {}).get("file")
    for path in [*needed, *([requirements] if requirements else [])]:
        if not os.path.isfile(os.path.join(made, path)):
            doing = "run" if path in needed else "install"
            raise Refusal(
                "cannot {} {!r}: it is not on the runtime".format(doing, path), "colabdev sync"
            )


def _write_runner(staging: JobFiles) -> None:
    source = pkgutil.get_data(__name__, "notebook.py")
    assert source is not None, "it stands beside this file"
    with open(staging.notebook, "wb") as file:
        file.write(source)


def _as_expected(place: str, expect: Dict[str, Any]) -> Tuple[workdir.WorkDir, workdir.Survey]:
    """The work dir and how its files are; Refusal when it is not that project's, Stale when they are
    not that tree."""
    directory = workdir.WorkDir(place)
    if "marker" in expect:
        try:
            directory.ledger.check(expect["marker"])
        except ledger.Foreign as exc:
            raise Refusal(
                "cannot run it in {}: {}".format(place, exc),
                "give the project another [project] name in colabdev.toml, and connect again",
            ) from exc
    limit = expect.get("max_bytes")
    view = workdir.View(directory.ledger.rules(expect.get("rules")), tree.Limits(limit, limit))
    if "tree" in expect and view.rules is None and _holds_files(place):
        raise Stale("the rules of the project here are not known there")
    missing = [path for path in expect.get("folders", []) if not os.path.isdir(place + "/" + path)]
    if missing:
        raise Stale("a folder of the project here is not there")
    survey = directory.survey(view)
    if "tree" in expect and survey.tree != expect["tree"]:
        raise Stale("the files there are not those of the project here")
    return directory, survey


def _holds_files(place: str) -> bool:
    """Whether there is anything that rules could be about."""
    return os.path.isdir(place) and any(name != tree.OURS for name in os.listdir(place))


def _command(spec: Dict[str, Any], files: JobFiles, environment: Dict[str, str]) -> List[str]:
    """What is executed, in the work dir."""
    kind, (first, *rest), code = spec["kind"], spec["argv"], spec["code"]
    if kind == jobdir.PYTHON:
        return ["python3", os.path.join(code, first), *rest]
    if kind == jobdir.MODULE:
        return ["python3", "-c", _RUN_MODULE, code, first, *rest]
    if kind == jobdir.NOTEBOOK:
        # As in Jupyter its own folder is where a notebook runs.
        folder = os.path.dirname(os.path.join(str(spec["workdir"]), first))
        return ["python3", files.notebook, os.path.join(code, first), folder]
    if kind == jobdir.SHELL:
        shell = "bash" if shutil.which("bash", path=environment.get("PATH")) else "sh"
        return [shell, os.path.join(code, first), *rest]
    return [first, *rest]


def _environment(spec: Dict[str, Any], variables: Dict[str, str]) -> Dict[str, str]:
    """The login's environment, the job's own variables, and ours."""
    environment = {"PYTHONUNBUFFERED": "1", **os.environ, **variables}
    environment["COLABDEV_JOB"] = spec["id"]
    environment["COLABDEV_ATTEMPT"] = str(spec["attempt"])
    if spec.get("resume_from"):
        environment["COLABDEV_RESUME_FROM"] = str(spec["resume_from"])
    return environment


def _supervise(files: JobFiles, environment: Dict[str, str]) -> None:
    """Start a supervisor. Where one was started before, this one sees it and ends."""
    spec = jobdir.read_document(files.spec) or {}
    if spec["kind"] == jobdir.MODULE:
        paths = [spec["code"], environment.get("PYTHONPATH", "")]
        environment = {**environment, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with open(files.complaints, "ab") as complaints:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", sys.argv[0], "supervise", files.directory],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=environment,
            start_new_session=True,
        )
    assert child.stdout is not None, "opened with a pipe"
    with child.stdout:
        said = child.stdout.read()
    child.wait()
    if said != supervisor.STARTED:
        reason = said.decode("ascii", "replace") or _last_line(files.complaints)
        _forget_unless_started(files)
        raise Refusal("cannot start the job: {}".format(reason), "colabdev ssh -- df -h")
    crash_point("agent.job_started")


def _forget_unless_started(files: JobFiles) -> None:
    """Remove a job that surely never ran: nobody has it, and without `pid` no command was let go."""
    lock = os.open(files.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + _DYING_TIMEOUT_S
        while not _is_free(lock):
            if time.monotonic() >= deadline:
                return
            time.sleep(0.01)
        if not os.path.exists(files.pid) and not os.path.exists(files.status):
            shutil.rmtree(files.directory, ignore_errors=True)
    finally:
        os.close(lock)


def _is_free(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _last_line(path: str) -> str:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        for line in reversed(file.read().decode("utf-8", "replace").split("\n")):
            if line.strip():
                return line
    return "its supervisor ended at once"


def _remove_leftovers(root: str) -> None:
    """What an agent that was killed in the middle of `_prepare` left."""
    for name in os.listdir(root):
        path = os.path.join(root, name)
        if name.startswith(_STAGING) and time.time() - os.lstat(path).st_mtime > _STAGING_AGE_S:
            shutil.rmtree(path, ignore_errors=True)
