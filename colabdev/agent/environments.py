"""What jobs require, installed: one virtual environment for each content of their requirements.

    ~/.colabdev/environments/
        <key>/          the environment, on top of what the machine's Python has
        <key>/whole     written last: without it the environment is none
        <key>.lock      held while it is made, by the installer, too

The key is the hash of the Python and of all that is asked of it, so what is there is what was asked.
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
from typing import Any, Callable, Dict, List, NamedTuple, Optional

_INCLUDE = re.compile(r"(?:-r|-c|--requirement|--constraint)(?:\s+|\s*=\s*|(?=[^\s-]))(\S+)")
_LOCAL = re.compile(r"\.|/|-e|--editable|file:|[^#]*@\s*file:|[^#\s]*\.(?:whl|tar\.gz|zip)(?:\s|$)")


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


def provide(root: str, wanted: Wanted, python: Dict[str, Any], say: Callable[[str], None]) -> str:
    """The directory of the environment, made unless it is there. CannotInstall, or an OSError, when that
    fails; then nothing of it is left. `python` is what `ask` told."""
    directory = os.path.join(root, key_of(wanted, python))
    whole = os.path.join(directory, "whole")
    os.makedirs(root, mode=0o700, exist_ok=True)
    lock = os.open(directory + ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(whole):
            shutil.rmtree(directory, ignore_errors=True)  # Of an install that was killed.
            try:
                _install(directory, wanted, python, lock, say)
                os.close(os.open(whole, os.O_WRONLY | os.O_CREAT, 0o600))
            except BaseException:
                shutil.rmtree(directory, ignore_errors=True)
                raise
    finally:
        os.close(lock)
    return directory


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
    uv = shutil.which("uv")
    if not uv and not python["pip"]:
        raise CannotInstall("the runtime has neither uv nor pip")
    say("installing {} with {}".format(wanted.name, "uv" if uv else "pip"))
    interpreter = os.path.join(directory, "bin", "python3")
    make = [uv, "venv", "--quiet", "--python", "python3"] if uv else ["python3", "-m", "venv"]
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
    """Its words go to the job's log. It holds the lock, too: as long as it runs, nobody else begins."""
    done = subprocess.run(argv, cwd=workdir, env=_environment(), pass_fds=[lock], check=False)
    if done.returncode:
        program = os.path.basename(argv[0])
        raise CannotInstall("{} ended with {}".format(program, done.returncode))


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


def key_of(wanted: Wanted, python: Dict[str, Any]) -> str:
    """The name of the environment that has all of that."""
    lines = _lines(wanted)
    is_local = any(_LOCAL.match(line.strip()) for line in lines)
    asked = [python["version"], python["prefix"], lines, wanted.tree if is_local else ""]
    return hashlib.sha256(json.dumps(asked).encode("ascii")).hexdigest()[:32]


def _lines(wanted: Wanted) -> List[str]:
    return [*wanted.lines, *(_with_included(wanted.file, set()) if wanted.file else [])]


def _with_included(path: str, seen: Any) -> List[str]:
    """The lines of a requirements file, those of a file that it includes behind the line that does."""
    seen.add(os.path.realpath(path))
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8", "surrogateescape")
    except OSError as exc:
        raise CannotInstall("{}: {}".format(path, exc.strerror)) from exc
    lines = []
    for line in text.splitlines():
        lines.append(line)
        included = _INCLUDE.match(line.strip())
        other = os.path.join(os.path.dirname(path), included.group(1)) if included else ""
        if other and "://" not in other and os.path.realpath(other) not in seen:
            lines += _with_included(other, seen)
    return lines
