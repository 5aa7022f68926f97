"""The user's own OpenSSH configuration: one line of ours at its top, nothing else, and questions."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from colabdev.adapters.files import write_atomic
from colabdev.adapters.processes import ask_ssh
from colabdev.core import ssh_config

if sys.platform != "win32":
    import pwd

_BACKUP = "before-colabdev"


class UserSshConfig:
    """A main file that includes ours, or is to. `home` is where ssh looks for `.ssh`; `inclusion` has
    the names under which ssh knows them, when they are not those known here."""

    def __init__(
        self,
        main_file: Path,
        our_file: Path,
        *,
        home: Path | None = None,
        inclusion: ssh_config.Inclusion | None = None,
    ) -> None:
        self._main_file = main_file
        home = home or ssh_home()
        self._inclusion = inclusion or ssh_config.Inclusion(our_file.as_posix(), home.as_posix())
        # Plain ssh reads no other file than this one, whatever HOME says.
        plain = main_file.name == "config" and _same(main_file.parent, home / ".ssh")
        self.ssh_options: Sequence[str] = () if plain else ("-F", str(main_file))

    @property
    def include_line(self) -> str:
        """What belongs at the main file's top."""
        return self._inclusion.line

    def is_included(self) -> bool:
        """The main file includes ours in front of everything else."""
        if not self._main_file.exists():
            return False
        return ssh_config.has_include(_decoded(self._main_file.read_bytes()), self._inclusion)

    def include(self) -> str:
        """Make the main file include ours. Returns "", or what keeps us from it and what the user can
        do about it: somebody else may own that file, and everything works without, too.

        The caller holds our lock.
        """
        obstacle = self._change(self._with_include)
        if not obstacle:
            return ""
        return (
            f"cannot change {self._main_file}: {obstacle}; for plain ssh and for editors add this at "
            f"its very top: {self._inclusion.line}"
        )

    def exclude(self) -> str:
        """Take our Include out of the main file. Returns "", or what keeps us from it and what the user
        can do about it. The caller holds our lock."""
        obstacle = self._change(lambda text: ssh_config.drop_include(text, self._inclusion))
        if not obstacle:
            return ""
        return (
            f"cannot change {self._main_file}: {obstacle}; take this line out of it yourself: "
            f"{self._inclusion.line}"
        )

    def host_named(self, name: str) -> str:
        """Where the user's configuration has a `Host` of that very name, "" when nowhere."""
        try:
            text = _decoded(self._main_file.read_bytes()) if self._main_file.is_file() else ""
        except OSError:
            text = ""  # ssh cannot read it either, so there is no such host.
        line = ssh_config.host_line(text, name)
        if line is not None:
            return f"{self._main_file} line {line}"
        # Only ssh knows what the user's other Includes and this computer's own configuration say.
        done = ask_ssh(["-v", "-G", *self.ssh_options, name])
        return ssh_config.parse_applied_host(done.stderr, name) or "" if done else ""

    def takes(self, name: str, stanza: str, our_file: Path) -> bool:
        """ssh, reading all of the user's configuration, does what our stanza says."""
        together, alone = (
            self._options(name, self.ssh_options),
            self._options(name, ("-F", our_file)),
        )
        if not stanza or not together or not alone:
            return False
        return ssh_config.same_login(stanza, alone, together)

    def _options(self, name: str, where: Sequence[str | Path]) -> Mapping[str, str]:
        done = ask_ssh(["-G", *map(str, where), name])
        if done is None or done.returncode != 0:
            return {}
        return ssh_config.parse_options(done.stdout)

    def _with_include(self, text: str) -> str:
        if ssh_config.has_include(text, self._inclusion):
            return text
        return ssh_config.insert_include(text, self._inclusion)

    def _change(self, change: Callable[[str], str]) -> str:
        """Rewrite the main file, or say what is in the way."""
        try:
            return self._try_change(change)
        except OSError as exc:
            return exc.strerror or str(exc)

    def _try_change(self, change: Callable[[str], str]) -> str:
        target = Path(os.path.realpath(self._main_file))
        known = target.stat() if target.exists() else None
        if known is not None and not stat.S_ISREG(known.st_mode):
            return "it is not a file"
        if target.is_symlink():
            return "it is a symbolic link that leads nowhere"
        before = target.read_bytes() if known else b""
        if b"\0" in before:
            return "it is no text that ssh can read"
        after = change(_decoded(before)).encode("utf-8", "surrogateescape")
        if after == before:
            return ""
        if known is not None:
            # Renaming over it would succeed, but whoever made it read-only does not want it changed.
            if not known.st_mode & 0o222 or not os.access(target, os.W_OK):
                return "it is read-only"
            self._back_up(before, mode=stat.S_IMODE(known.st_mode))
        write_atomic(
            target,
            after,
            mode=stat.S_IMODE(known.st_mode) if known else 0o600,
            owner=(known.st_uid, known.st_gid) if known else None,
        )
        return ""

    def _back_up(self, content: bytes, *, mode: int) -> None:
        """Keep `content` beside the main file; what an earlier backup holds is never overwritten."""
        number = 1
        while True:
            suffix = _BACKUP if number == 1 else f"{_BACKUP}-{number}"
            backup = self._main_file.with_name(f"{self._main_file.name}.{suffix}")
            if not os.path.lexists(backup):
                return write_atomic(backup, content, mode=mode)
            if backup.is_file() and backup.read_bytes() == content:
                return None
            number += 1


def _decoded(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")  # Any bytes survive the way back.


def _same(first: Path, second: Path) -> bool:
    return os.path.realpath(first) == os.path.realpath(second)


def ssh_home() -> Path:
    """Where OpenSSH looks for `.ssh`: the password database's home, not HOME."""
    if sys.platform != "win32":
        try:
            return Path(pwd.getpwuid(os.getuid()).pw_dir)
        except KeyError:
            pass  # ssh refuses such a user altogether.
    return Path.home()
