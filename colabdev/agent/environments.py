"""What jobs require, installed: one virtual environment for each content of their requirements.

    ~/.colabdev/environments/
        <key>/             the environment, on top of what the machine's Python has
        <key>/files.json   what was put there, so that later changes of it are seen
        <key>/whole        written last: without it the environment is none; its time is the last use's
        <key>.lock         held alone while it is made, by the installer, too; shared while it is used

The key is the hash of the Python, of the machine and of all that is asked of it, so what is there is
what was asked. Those that were not used for long go.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import pkgutil
import re
import shutil
import subprocess
import time
from contextlib import suppress
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

from . import jobdir, requirement_lines

SCHEMA = 1
WHOLE, FILES = "whole", "files.json"

_MOST = 10
_MAX_AGE_S = 30 * 86400.0
_KEY = re.compile("[0-9a-f]{32}")
_OF_NO_USE = b"Requirement already satisfied: "


class CannotInstall(Exception):
    """It says why, in a sentence."""


class Wanted(NamedTuple):
    """What a job requires."""

    name: str
    """What the user calls it."""
    file: str
    """A requirements file; "" for none."""
    lines: List[str]
    """Requirements that stand in no such file."""
    workdir: str
    """What paths in the file start from."""
    tree: str
    """The hash of the work dir's files, which matter when the file names some."""


class Environment(NamedTuple):
    """One that is whole."""

    directory: str
    lock: int
    """Open: for as long it counts as used, and stays."""


def provide(
    root: str,
    wanted: Wanted,
    python: Dict[str, Any],
    say: Callable[[str], None],
    restore: Callable[[str, int], bool] = lambda directory, lock: False,
) -> Environment:
    """The environment, made unless it is there. CannotInstall, or an OSError, when that fails; then
    nothing of it is left. `python` is what `ask` told; `restore`, given the directory and its lock, may
    bring what was made elsewhere, and says whether it did."""
    directory = os.path.join(root, key_of(wanted, python))

    def fill(lock: int) -> bool:
        if restore(directory, lock):
            return True
        shutil.rmtree(directory, ignore_errors=True)
        begun = time.monotonic()
        _install(directory, wanted, python, lock, say)
        jobdir.write_document(os.path.join(directory, FILES), _survey(directory))
        finish(directory, {"cold_s": time.monotonic() - begun})
        return True

    made = use(directory, fill)
    assert made is not None, "what cannot be filled raises"
    with suppress(OSError):
        prune(root)
    return made


def use(directory: str, fill: Callable[[int], bool]) -> Optional[Environment]:
    """The environment there, which `fill` makes, given its lock, when it is not whole; None when that
    says that it did not."""
    os.makedirs(os.path.dirname(directory), mode=0o700, exist_ok=True)
    lock = locked(directory, fcntl.LOCK_SH)
    if not is_whole(directory):
        os.close(lock)
        lock = locked(directory, fcntl.LOCK_EX)
        try:
            if not is_whole(directory) and not _filled(directory, lock, fill):
                os.close(lock)
                return None
        except BaseException:
            os.close(lock)
            raise
        # It may be let go in between; what is as new as this is not pruned.
        fcntl.flock(lock, fcntl.LOCK_SH)
    with suppress(OSError):
        os.utime(os.path.join(directory, WHOLE))
    return Environment(directory, lock)


def _filled(directory: str, lock: int, fill: Callable[[int], bool]) -> bool:
    shutil.rmtree(directory, ignore_errors=True)  # Of an install that was killed.
    done = False
    try:
        done = fill(lock)
    finally:
        if not done:
            shutil.rmtree(directory, ignore_errors=True)
    return done


def is_whole(directory: str) -> bool:
    """An environment is there, and not a part of one."""
    return os.path.exists(os.path.join(directory, WHOLE))


def finish(directory: str, measured: Dict[str, float]) -> None:
    """All of it is there; `cold_s` is how long making it takes, `warm_s` how long bringing it took."""
    jobdir.write_document(os.path.join(directory, WHOLE), {"schema": SCHEMA, **measured})


def prune(root: str, now: Optional[float] = None) -> None:
    """Remove what was not used for long, all but the newest, and what is left of one that was never
    whole; nothing that somebody uses or makes."""
    now = time.time() if now is None else now
    newest_first = sorted(_last_uses(root), reverse=True)
    for place, (used, directory) in enumerate(newest_first):
        if place < _MOST and now - used <= _MAX_AGE_S:
            continue
        with suppress(OSError):
            lock = locked(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                shutil.rmtree(directory, ignore_errors=True)
                os.unlink(directory + ".lock")
            finally:
                os.close(lock)


def _last_uses(root: str) -> Iterator[Any]:
    """When each environment was used, and its directory; what is not whole never was."""
    for name in os.listdir(root):
        if _KEY.fullmatch(name):
            directory = os.path.join(root, name)
            try:
                yield os.stat(os.path.join(directory, WHOLE)).st_mtime, directory
            except FileNotFoundError:
                yield 0.0, directory


def locked(directory: str, how: int) -> int:
    """The lock of that environment, held; OSError when somebody has it and nobody is to wait."""
    path = directory + ".lock"
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, how)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock), os.stat(path)):
                    return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)  # Whoever pruned it took the file away meanwhile.


def _survey(directory: str) -> Dict[str, Any]:
    """`directory`, where it is made, and `files`: rows of path, size and mtime_ns of what lies there,
    links included."""
    rows: List[List[Any]] = []
    for parent, folders, names in os.walk(directory):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        for name in [*names, *links]:
            path = os.path.join(parent, name)
            status = os.lstat(path)
            rows.append([os.path.relpath(path, directory), status.st_size, status.st_mtime_ns])
    return {"schema": SCHEMA, "directory": directory, "files": sorted(rows)}


def ask(wanted: Wanted, modules: List[str]) -> Dict[str, Any]:
    """What the `python3` of the job says of itself; see `interpreter.py`."""
    return question({"lines": _lines(wanted), "modules": modules})


def question(
    asked: Dict[str, Any], python: str = "python3", complaints: Optional[int] = None
) -> Dict[str, Any]:
    """The answer of a Python to what `interpreter.py` can be asked; what it complains of goes where ours
    does, or to `complaints`."""
    source = pkgutil.get_data(__name__, "interpreter.py")
    assert source is not None, "it stands beside this file"
    try:
        done = subprocess.run(
            [python, "-c", source.decode("utf-8")],
            input=json.dumps(asked).encode("ascii"),
            stdout=subprocess.PIPE,
            stderr=complaints,
            cwd="/",  # With -c Python looks for modules there first.
            env=_environment(),
            check=False,
        )
        told: Dict[str, Any] = json.loads(done.stdout.decode("utf-8"))
    except (OSError, ValueError) as exc:
        raise CannotInstall("{} does not say what it is: {}".format(python, exc)) from exc
    return told


def _install(
    directory: str,
    wanted: Wanted,
    python: Dict[str, Any],
    lock: int,
    say: Callable[[str], None],
) -> None:
    uv = _uv()
    if not uv and not python["pip"]:
        raise CannotInstall("the runtime has neither uv nor pip")
    say("installing {} with {}".format(wanted.name, "uv" if uv else "pip"))
    interpreter = os.path.join(directory, "bin", "python3")
    # By its path: of a python3 that is an environment itself uv would look for another one.
    like = ["--python", python["program"]]
    make = [uv, "venv", "--quiet", *like] if uv else ["python3", "-m", "venv"]
    # Its own pip is not needed: the machine's is seen from inside, and works there.
    more = ["--system-site-packages"] + ([] if uv else ["--without-pip"])
    _run([*make, *more, directory], wanted.workdir, lock)
    _see_outer(directory, python["outer"])
    lines = _written(directory, "lines.txt", wanted.lines)
    sources = ["-r", lines] + (["-r", wanted.file] if wanted.file else [])
    if uv:
        # uv does not count what the machine has, so torch is taken out of what it looks at.
        kept = [name + "; python_version < '0'" for name in python["kept"]]
        base = [uv, "pip", "install", "--python", interpreter]
        base += ["--override", _written(directory, "kept.txt", kept)]
    else:
        kept = ["{}=={}".format(name, version) for name, version in python["kept"].items()]
        base = [interpreter, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
        base += ["-c", _written(directory, "kept.txt", kept)]
    _run([*base, *sources], wanted.workdir, lock)


def _run(argv: List[str], workdir: str, lock: int) -> None:
    """Its words go to the job's log, but for what pip says of each package that needs nothing. It holds
    the lock, too: as long as it runs, nobody else begins."""
    with subprocess.Popen(
        argv, cwd=workdir, env=_environment(), pass_fds=[lock], stdout=subprocess.PIPE
    ) as process, open(1, "wb", closefd=False) as log:
        assert process.stdout is not None, "opened with a pipe"
        for line in process.stdout:
            if not line.startswith(_OF_NO_USE):
                log.write(line)
                log.flush()
    if process.returncode:
        program = os.path.basename(argv[0])
        raise CannotInstall("{} ended with {}".format(program, process.returncode))


def _environment() -> Dict[str, str]:
    """The job's, but for what would have its Python or its installer look at the job's code."""
    drop = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in drop}


def _see_outer(directory: str, outer: List[str]) -> None:
    """An environment that is made in an environment sees only the machine's packages by itself."""
    for packages in glob.glob(os.path.join(directory, "lib", "python3*", "site-packages")):
        _written(packages, "outer.pth", outer)


def _written(directory: str, name: str, lines: List[str]) -> str:
    path = os.path.join(directory, name)
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)
    return path


def _uv() -> Optional[str]:
    return shutil.which("uv")


def key_of(wanted: Wanted, python: Dict[str, Any]) -> str:
    """The name of the environment that has all of that."""
    lines = _lines(wanted)
    tree = wanted.tree if requirement_lines.name_files(lines) else ""
    # What the installer counted on as being there below the environment: uv looks at no more than this.
    below = python["kept"] if _uv() else python["installed"]
    asked = [python["version"], python["prefix"], python["machine"], below, lines, tree]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode("ascii")).hexdigest()[:32]


def names_files(wanted: Wanted) -> bool:
    """Whether what lies in the project belongs to it: it changes with that."""
    return requirement_lines.name_files(_lines(wanted))


def _lines(wanted: Wanted) -> List[str]:
    try:
        return [*wanted.lines, *(requirement_lines.read(wanted.file) if wanted.file else [])]
    except OSError as exc:
        raise CannotInstall("{}: {}".format(exc.filename, exc.strerror)) from exc
