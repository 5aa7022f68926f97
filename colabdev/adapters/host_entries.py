"""Our files beside the user's OpenSSH configuration: `colabdev/{config,known_hosts,id_ed25519}`."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from filelock import FileLock, Timeout

from colabdev.adapters.files import make_private_directory, not_writable, write_atomic
from colabdev.adapters.user_ssh_config import UserSshConfig
from colabdev.core import ssh_config
from colabdev.errors import ColabdevError
from colabdev.models import RuntimeRecord

SSH_CONFIG_VARIABLE = "COLABDEV_SSH_CONFIG"
_LOCK_TIMEOUT_S = 30.0
_WHAT = "the SSH host entry"


class SshFiles:
    """`ports.HostEntries` in a directory of our own beside the user's main configuration."""

    def __init__(self, main_config: Path) -> None:
        self.directory = main_config.parent / "colabdev"
        self.config_file = self.directory / "config"
        self.private_key_file = self.directory / "id_ed25519"
        self._public_key_file = self.directory / "id_ed25519.pub"
        self._known_hosts = self.directory / "known_hosts"
        self.main_file = main_config
        self.user_config = UserSshConfig(main_config, self.config_file)

    @property
    def is_plain(self) -> bool:
        """`ports.EntryFiles`."""
        return not self.user_config.ssh_options

    def public_key(self) -> str:
        with self._locked():
            if not self.private_key_file.exists():
                self._make_key()
            try:
                public = self._private_key_line()
            except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as exc:
                # TypeError is what cryptography raises for a key with a passphrase.
                raise ColabdevError(
                    f"cannot use this computer's key {self.private_key_file}: {exc}",
                    hint="rename that file; the next connect makes a new key",
                ) from exc
            # ssh offers what stands in the .pub file, whatever the private key is.
            self._edit(self._public_key_file, lambda _: f"{public} colabdev\n")
            return public

    def private_key(self) -> bytes:
        """This computer's key, as its file has it."""
        try:
            return self.private_key_file.read_bytes()
        except OSError as exc:
            raise ColabdevError(
                f"cannot read this computer's key {self.private_key_file}: {exc.strerror}",
                hint="colabdev connect makes a new one when it is gone",
            ) from exc

    def write(self, record: RuntimeRecord) -> None:
        address = record.ssh
        assert address is not None, "written when the runtime has an address"
        stanza = ssh_config.render_stanza(
            record.name,
            address,
            key_file=self.private_key_file,
            known_hosts=self._known_hosts,
            own_proxy=_proxy_command(record.name),
        )
        # The pinned key first: a stanza without one would refuse every connection.
        edits: list[tuple[Path, Callable[[str], str]]] = [
            (
                self._known_hosts,
                lambda text: ssh_config.put_known_host(text, record.name, address.host_key),
            ),
            (self.config_file, lambda text: ssh_config.put_stanza(text, record.name, stanza)),
        ]
        # What is as it should be needs no lock, which cannot be had where nothing can be written.
        if all(change(text := self._read(path)) == text for path, change in edits):
            return
        with self._locked():
            for path, change in edits:
                self._edit(path, change)

    def taken_by(self, name: str) -> str:
        ssh_config.check_expressible(self.directory)
        # With a stanza of ours the name is ours; a Host of the user's then adds options to it.
        if self._stanza(name):
            return ""
        return self.user_config.host_named(name)

    def include(self) -> str:
        with self._locked():
            return self.user_config.include()

    def remove(self, name: str) -> None:
        if not self.directory.exists():
            return
        with self._locked():
            self._edit(self.config_file, lambda text: ssh_config.drop_stanza(text, name))
            self._edit(self._known_hosts, lambda text: ssh_config.drop_known_host(text, name))

    def exclude(self) -> str:
        if not self.directory.exists():
            return ""
        with self._locked():
            return self.user_config.exclude()

    def names(self) -> Sequence[str]:
        return ssh_config.names_of(self._read(self.config_file))

    def stanza(self, name: str) -> str:
        """Our entry of that name, as ssh reads it; "" without one. `ports.EntryFiles`."""
        return self._stanza(name)

    def tighten(self) -> None:
        """Nobody else may write our files or read our key, or ssh takes neither. `ports.EntryFiles`."""
        for path, mode in (
            (self.directory, 0o700),
            (self.config_file, 0o600),
            (self._known_hosts, 0o600),
            (self.private_key_file, 0o600),
        ):
            try:
                if path.exists() and path.stat().st_mode & 0o077:
                    path.chmod(mode)
            except OSError as exc:
                raise not_writable(
                    self.directory, exc, what=_WHAT, variable=SSH_CONFIG_VARIABLE
                ) from exc

    def command(self, name: str, arguments: Sequence[str]) -> list[str]:
        return ["ssh", "-F", str(self.config_file), name, *arguments]

    def short_command(self, name: str) -> list[str]:
        if self.is_taken(name):
            return ["ssh", *self.user_config.ssh_options, name]
        return self.command(name, [])

    def paths(self) -> Sequence[Path]:
        """What ssh reads; `ports.EntryFiles`, as what follows."""
        files = (self.main_file, self.config_file, self._known_hosts, self.private_key_file)
        return (self.directory.parent, self.directory, *files)

    def include_line(self) -> str:
        return self.user_config.include_line

    def is_included(self) -> bool:
        return self.user_config.is_included()

    def is_taken(self, name: str) -> bool:
        return self.user_config.takes(name, self._stanza(name), self.config_file)

    def _make_key(self) -> None:
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        self._write(self.private_key_file, private)

    def _private_key_line(self) -> str:
        content = self.private_key_file.read_bytes()
        key = serialization.load_ssh_private_key(content, password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("it is not an ed25519 key")
        return _public_line(key)

    def _stanza(self, name: str) -> str:
        return ssh_config.stanza_of(self._read(self.config_file), name)

    def _edit(self, path: Path, change: Callable[[str], str]) -> None:
        before = self._read(path)
        after = change(before)
        if after != before:
            self._write(path, os.fsencode(after))  # Paths in it may be no UTF-8.

    def _read(self, path: Path) -> str:
        try:
            return os.fsdecode(path.read_bytes()) if path.exists() else ""
        except OSError as exc:
            raise ColabdevError(
                f"cannot read {_WHAT} in {path}: {exc.strerror}",
                hint=f"move {path.name} there out of the way; the next connect writes it anew",
            ) from exc

    def _write(self, path: Path, content: bytes) -> None:
        try:
            write_atomic(path, content)
        except OSError as exc:
            raise not_writable(
                self.directory, exc, what=_WHAT, variable=SSH_CONFIG_VARIABLE
            ) from exc

    @contextmanager
    def _locked(self) -> Iterator[None]:
        for directory in (self.directory.parent, self.directory):  # ~/.ssh may be new, too.
            make_private_directory(directory, what=_WHAT, variable=SSH_CONFIG_VARIABLE)
        lock = FileLock(self.directory / ".lock", mode=0o600)
        try:
            lock.acquire(timeout=_LOCK_TIMEOUT_S)
        except Timeout as exc:
            raise ColabdevError(
                f"cannot change {_WHAT}: another colabdev command has held it for "
                f"{_LOCK_TIMEOUT_S:.0f} s",
                hint="wait for that command or end it, then try again",
            ) from exc
        except OSError as exc:
            raise not_writable(
                self.directory, exc, what=_WHAT, variable=SSH_CONFIG_VARIABLE
            ) from exc
        try:
            yield
        finally:
            lock.release()


def proxy_words(name: str) -> list[str]:
    """What leads to a runtime behind a tunnel. -P, because ssh may be started in any directory, one with
    a `colabdev` in it, too."""
    return [sys.executable, "-P", "-m", "colabdev", "proxy", name]


def _proxy_command(name: str) -> str:
    """The command by which ssh reaches a runtime behind a tunnel, for the shell that ssh gives it to."""
    words = proxy_words(name)
    if sys.platform == "win32":
        words[0] = words[0].replace("\\", "/")
        return subprocess.list2cmdline(words)
    return shlex.join(words)


def _public_line(key: Ed25519PrivateKey) -> str:
    line = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return line.decode("ascii")
