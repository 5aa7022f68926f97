"""What a bug report is made of, and the archive it goes to."""

from __future__ import annotations

import itertools
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from colabdev.adapters.host_entries import SshFiles
from colabdev.errors import ColabdevError

_MOST_BYTES = 256 * 1024
_MOST_FILES = 200

# Named one by one: what is not listed, keys above all, is never opened.
_STATE = (
    "runtimes/*.json",
    "runtimes/*.unreadable-*",
    "jobs/*/job.json",
    "local/sandboxes/*/sandbox.json",
    "local/sandboxes/*/log",
    "logs/*.log",
    "crash/*.txt",
)


class ReportFiles:
    """`ports.ReportFiles` over a state directory and our SSH files."""

    def __init__(self, state_dir: Path, ssh_files: SshFiles) -> None:
        self._state_dir = state_dir
        self._ssh_files = ssh_files

    def texts(self) -> Iterator[tuple[str, str]]:
        for pattern in _STATE:
            newest_last = sorted(self._state_dir.glob(pattern), key=_age)
            for path in newest_last[-_MOST_FILES:]:
                yield f"state/{path.relative_to(self._state_dir).as_posix()}", _end_of(path)
        for path in (self._ssh_files.config_file, self._ssh_files.directory / "known_hosts"):
            if path.exists():
                yield f"ssh/{path.name}", _end_of(path)

    def secret_lines(self) -> frozenset[str]:
        try:
            text = self._ssh_files.private_key_file.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            return frozenset()
        return frozenset(line for line in text.splitlines() if not line.startswith("-----"))

    def write(self, path: Path | None, default_name: str, contents: Mapping[str, str]) -> Path:
        candidates = iter([path]) if path is not None else _numbered(Path.cwd() / default_name)
        for candidate in candidates:
            try:
                handle = os.open(candidate, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError as exc:
                if path is None:
                    continue
                raise ColabdevError(
                    f"cannot write {path}: it is there already, and is not overwritten",
                    hint="name another file",
                ) from exc
            except OSError as exc:
                raise _cannot_write(candidate, exc) from exc
            _fill(candidate, handle, contents)
            return candidate
        raise AssertionError("there is always another number")


def _fill(path: Path, handle: int, contents: Mapping[str, str]) -> None:
    try:
        with (
            os.fdopen(handle, "wb") as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for name, text in contents.items():
                archive.writestr(name, text.encode("utf-8", "backslashreplace"))
    except OSError as exc:
        path.unlink(missing_ok=True)
        raise _cannot_write(path, exc) from exc


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


def _cannot_write(path: Path, exc: OSError) -> ColabdevError:
    return ColabdevError(
        f"cannot write {path}: {exc.strerror}", hint="colabdev doctor --bundle FILE, elsewhere"
    )


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _end_of(path: Path) -> str:
    """The last of the file, from the beginning of a line on; why not, when it cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _MOST_BYTES, 0))
            content = file.read()
    except OSError as exc:
        return f"cannot be read: {exc.strerror}\n"
    if size > _MOST_BYTES:
        # A line without its beginning could be a secret without its name.
        content = b"[the beginning is left out]\n" + content.partition(b"\n")[2]
    return content.decode("utf-8", "backslashreplace")
