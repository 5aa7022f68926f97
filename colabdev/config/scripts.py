"""What the word behind `run` is: a file of the project, or a command on the runtime."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from colabdev.agent import jobdir
from colabdev.errors import UsageError, nearest

_KINDS = {".py": jobdir.PYTHON, ".sh": jobdir.SHELL, ".ipynb": jobdir.NOTEBOOK}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS = ("COLABDEV_JOB", "COLABDEV_ATTEMPT")


_HINT = "colabdev run train.py"


@dataclass(frozen=True, slots=True)
class Program:
    """What a job runs."""

    name: str
    """The job's."""
    kind: str
    """One of `jobdir.PYTHON`, `MODULE`, `SHELL`, `NOTEBOOK` and `COMMAND`."""
    argv: tuple[str, ...]
    """SCRIPT by its path in the work dir, MODULE or the command; then the arguments."""
    typed: tuple[str, ...]
    """The words as the user typed them."""


@dataclass(frozen=True, slots=True)
class Standpoint:
    """Where the words were typed."""

    cwd: Path
    project: Path | None
    here: bool
    """A file must exist on this computer, not only on the runtime."""


def find_program(
    words: Sequence[str], standpoint: Standpoint, *, module: str | None, name: str | None
) -> Program:
    """What `words` mean; UsageError says why they cannot be run."""
    if name is not None and not jobdir.is_job_name(name):
        raise UsageError(
            f"cannot call a job {name!r}: only lower-case letters, digits and dashes, at most 40",
            hint="--name first-try",
        )
    if module is not None:
        if not module:
            raise UsageError("cannot run a module without a name", hint="colabdev run -m train")
        typed = ("-m", module, *words)
        named = name or jobdir.make_job_name(module)
        return Program(named, jobdir.MODULE, (module, *words), typed)
    if not words or not words[0]:
        raise UsageError("cannot run an empty command", hint=_HINT)
    kind, word = _find_script(words[0], standpoint)
    if kind == jobdir.NOTEBOOK and words[1:]:
        raise UsageError(
            f"cannot run {words[0]!r} with arguments: a notebook takes none",
            hint="--env NAME=VALUE sets a variable, which it finds in os.environ",
        )
    stem = os.path.splitext(os.path.basename(words[0].rstrip("/")))[0]
    named = name or jobdir.make_job_name(stem)
    return Program(named, kind, (word, *words[1:]), tuple(words))


def _find_script(word: str, standpoint: Standpoint) -> tuple[str, str]:
    kind = _KINDS.get(os.path.splitext(word)[1], jobdir.COMMAND)
    if kind == jobdir.COMMAND and ("/" not in word or os.path.isabs(word)):
        if (standpoint.cwd / word).is_dir() and not shutil.which(word):
            raise _is_a_directory(word)
        return kind, word
    path = path_in_project(word, standpoint)
    return kind, f"./{path}" if kind == jobdir.COMMAND else path


def parse_variables(pairs: Iterable[str]) -> dict[str, str]:
    """The job's own variables from `K=V` words."""
    variables = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            # Only the name is repeated: what stands behind it may be a secret.
            raise UsageError(
                f"cannot set the variable {name!r}: --env takes NAME=VALUE", hint="--env SEED=1"
            )
        variables[name] = value
    return check_variables(variables, takes="--env takes NAME=VALUE", hint="--env SEED=1")


def check_variables(variables: Mapping[str, str], *, takes: str, hint: str) -> dict[str, str]:
    """The variables, when a job may have them; UsageError says what is wrong, never with a value."""
    for name, value in variables.items():
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            raise UsageError(f"cannot set the variable {name!r}: {takes}", hint=hint)
        if name in _OURS:
            raise UsageError(
                f"cannot set {name}: every job gets it from colabdev", hint="choose another name"
            )
    return dict(variables)


def path_in_project(word: str, standpoint: Standpoint) -> str:
    """A file of the project by its path there; UsageError when it is none that can be read."""
    path = _in_project(word, standpoint)
    if standpoint.here:
        _check_readable(word, standpoint.cwd / word)
    return path


def _in_project(word: str, standpoint: Standpoint) -> str:
    project = standpoint.project
    if project is None:
        raise UsageError(
            f"cannot use {word!r}: this folder is no project",
            hint="cd into the folder of your project first",
        )
    path = Path(os.path.abspath(standpoint.cwd / word))
    real = Path(os.path.realpath(path)), Path(os.path.realpath(project))
    for candidate, root in ((path, project), real):
        if candidate.is_relative_to(root):
            return candidate.relative_to(root).as_posix()
    raise UsageError(
        f"cannot use {word!r}: it is outside of the project {project}",
        hint="only the project's files are on the runtime: put it there, or cd to its project",
    )


def _meant(path: Path) -> str:
    """The script beside it that was probably meant."""
    try:
        names = map(Path, os.listdir(path.parent))
    except OSError:
        return ""
    alike = {name.stem for name in names if name.suffix == path.suffix and name.name != path.name}
    meant = nearest(path.stem, sorted(alike))
    return f"; did you mean {meant + path.suffix!r}?" if meant else ""


def _check_readable(word: str, path: Path) -> None:
    try:
        if path.is_dir():
            raise _is_a_directory(word)
        if path.exists() and not path.is_file():  # Opening a pipe would wait for its writer.
            raise UsageError(f"cannot use {word!r}: it is not a file", hint="name a file")
        path.open("rb").close()
    except FileNotFoundError:
        raise UsageError(
            f"cannot use {word!r}: there is no such file{_meant(path)}",
            hint="--no-sync runs what the runtime has",
        ) from None
    except OSError as exc:
        raise UsageError(
            f"cannot use {word!r}: {exc.strerror or exc}", hint="give read access to it"
        ) from exc


def _is_a_directory(word: str) -> UsageError:
    return UsageError(
        f"cannot use {word!r}: it is a directory", hint="name a file in it, or use -m MODULE"
    )
