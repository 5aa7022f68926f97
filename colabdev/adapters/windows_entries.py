"""Host entries for a WSL: ours, and a second set where Windows' editors and ssh.exe look.

They cannot read WSL's files, so `%USERPROFILE%\\.ssh\\colabdev\\` has everything once more, under
Windows' names. A key there is private because what is made below a profile inherits its permissions.
"""

from __future__ import annotations

import getpass
import hashlib
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePath

from filelock import FileLock, Timeout

from colabdev.adapters.files import write_atomic
from colabdev.adapters.host_entries import SshFiles, proxy_words
from colabdev.adapters.user_ssh_config import UserSshConfig
from colabdev.adapters.windows import WindowsHome, find_windows_home, is_beside_windows
from colabdev.config.places import Places
from colabdev.core import ssh_config
from colabdev.errors import ColabdevError
from colabdev.models import RuntimeRecord
from colabdev.ports import HostEntries

_LOCK_TIMEOUT_S = 10.0


class WindowsEntries:
    """Our files below a Windows profile. Every call may raise OSError: the disk is not ours."""

    def __init__(
        self, home: WindowsHome, private_key_file: Path, environment: Mapping[str, str]
    ) -> None:
        self._home = home
        self._environment = environment
        self._private_key_file = private_key_file
        self.main_file = home.here / ".ssh" / "config"
        self._directory = home.here / ".ssh" / "colabdev"
        self._config = self._directory / "config"
        self._known_hosts = self._directory / "known_hosts"
        self._inclusion = ssh_config.Inclusion(
            self._named(self._config).as_posix(), home.there.as_posix()
        )

    def write(self, record: RuntimeRecord) -> None:
        """Make Windows' ssh reach the runtime, which must have a machine."""
        assert record.machine is not None, "written when the runtime has an address"
        if _is_linux_alone(record):
            raise ColabdevError(
                f"{record.name} is reached with this Linux's own keys and programs",
                hint="give Windows' ssh a Host of its own for it",
            )
        self._directory.mkdir(parents=True, exist_ok=True)
        private_key = self._private_key_file.read_bytes()
        key_file = self._key_file(private_key)
        if not key_file.exists() or key_file.read_bytes() != private_key:
            write_atomic(key_file, private_key)
        host_key = record.machine.ssh.host_key  # A tunnel's is the same.
        self._edit(
            self._known_hosts, lambda text: ssh_config.put_known_host(text, record.name, host_key)
        )
        stanza = self._stanza(record, key_file)
        self._edit(self._config, lambda text: ssh_config.put_stanza(text, record.name, stanza))

    def remove(self, name: str) -> None:
        """Take the stanza and the pinned key out. Harmless when they are out already."""
        if self._directory.exists():
            self._edit(self._config, lambda text: ssh_config.drop_stanza(text, name))
            self._edit(self._known_hosts, lambda text: ssh_config.drop_known_host(text, name))

    def include(self) -> str:
        """As `UserSshConfig.include`, in Windows' main file."""
        return self._user_config().include()

    def exclude(self) -> str:
        """As `UserSshConfig.exclude`, in Windows' main file."""
        return self._user_config().exclude()

    def names(self) -> Sequence[str]:
        """The names that have a stanza there."""
        return ssh_config.names_of(_text(self._config))

    def taken_by(self, name: str) -> str:
        """Where Windows' main file has a `Host` of that very name; "" when nowhere or ours already.
        Its own Includes are not followed: no ssh here reads them as Windows' does."""
        if ssh_config.stanza_of(_text(self._config), name):
            return ""
        line = ssh_config.host_line(_text(self.main_file), name)
        return "" if line is None else f"{self.main_file} line {line}"

    def complaints(self, records: Sequence[RuntimeRecord]) -> Sequence[str]:
        """`ports.WindowsSide`."""
        found = []
        # `write` says of the others that Windows cannot reach them.
        records = [record for record in records if not _is_linux_alone(record)]
        if records and not ssh_config.has_include(_text(self.main_file), self._inclusion):
            found.append(f"its first line is not {self._inclusion.line!r}")
        ours = _text(self._config)
        for record in records:
            private_key = self._private_key_file.read_bytes()
            key_file = self._key_file(private_key)
            if ssh_config.stanza_of(ours, record.name) != self._stanza(record, key_file):
                found.append(f"{record.name} is missing, or not as it is now")
            elif not key_file.exists() or key_file.read_bytes() != private_key:
                found.append(f"the key of {record.name} is missing")
        return found

    def _user_config(self) -> UserSshConfig:
        return UserSshConfig(
            self.main_file, self._config, home=self._home.here, inclusion=self._inclusion
        )

    def _key_file(self, private_key: bytes) -> Path:
        """A native colabdev and other WSLs keep their keys in the same folder."""
        digest = hashlib.sha256(private_key).hexdigest()
        return self._directory / f"id_ed25519-wsl-{digest[:8]}"

    def _stanza(self, record: RuntimeRecord, key_file: Path) -> str:
        address = record.ssh
        assert address is not None, "only such a record has a host entry"
        return ssh_config.render_stanza(
            record.name,
            address,
            key_file=self._named(key_file),
            known_hosts=self._named(self._known_hosts),
            own_proxy=_proxy_through_wsl(record.name, self._environment),
        )

    def _named(self, path: Path) -> PurePath:
        return self._home.there / path.relative_to(self._home.here)

    def _edit(self, path: Path, change: Callable[[str], str]) -> None:
        before = _text(path)
        after = change(before)
        if after != before:
            write_atomic(path, after.encode("utf-8", "surrogateescape"))


class WslHostEntries:
    """`ports.HostEntries` for this Linux and for the Windows around it.

    This Linux comes first: whatever keeps Windows from knowing a runtime is said, and is never in the
    way of `connect` and `down`.
    """

    def __init__(
        self,
        linux: SshFiles,
        find_home: Callable[[], WindowsHome],
        environment: Mapping[str, str],
    ) -> None:
        self._linux = linux
        self._environment = environment
        self._find_home = find_home
        self._obstacle = ""

    def public_key(self) -> str:
        return self._linux.public_key()

    def taken_by(self, name: str) -> str:
        place = self._linux.taken_by(name)
        return place or self._on_windows(lambda windows: windows.taken_by(name))

    def write(self, record: RuntimeRecord) -> None:
        self._linux.write(record)
        self._on_windows(lambda windows: windows.write(record))

    def include(self) -> str:
        on_linux = self._linux.include()
        # Where nothing could be written there is nothing to include.
        on_windows = "" if self._obstacle else self._on_windows(lambda windows: windows.include())
        return "; ".join(filter(None, [on_linux, on_windows, self._obstacle]))

    def remove(self, name: str) -> None:
        self._linux.remove(name)
        self._on_windows(lambda windows: windows.remove(name))

    def exclude(self) -> str:
        on_linux = self._linux.exclude()
        on_windows = self._on_windows(lambda windows: windows.exclude())
        return "; ".join(filter(None, [on_linux, on_windows, self._obstacle]))

    def names(self) -> Sequence[str]:
        on_windows = self._on_windows(lambda windows: " ".join(windows.names()))
        return sorted({*self._linux.names(), *on_windows.split()})

    def command(self, name: str, arguments: Sequence[str]) -> Sequence[str]:
        return self._linux.command(name, arguments)

    def short_command(self, name: str) -> Sequence[str]:
        return self._linux.short_command(name)

    def _on_windows(self, act: Callable[[WindowsEntries], str | None]) -> str:
        """What `act` says; "" when Windows cannot be reached, and `include` says so then."""
        try:
            key_file = self._linux.private_key_file
            windows = WindowsEntries(self._find_home(), key_file, self._environment)
            # Our own lock: whether locks work on Windows' drives depends on how they are mounted.
            with FileLock(self._linux.directory / ".windows.lock", timeout=_LOCK_TIMEOUT_S):
                return act(windows) or ""
        except (ColabdevError, OSError, Timeout) as exc:
            hint = f"; {exc.hint}" if isinstance(exc, ColabdevError) else ""
            self._obstacle = f"Windows' editors will not know this runtime: {exc}{hint}"
            return ""


def open_host_entries(linux: SshFiles, environment: Mapping[str, str]) -> HostEntries:
    """The entries of this computer: ours alone, or Windows', too."""
    if not is_beside_windows(environment):
        return linux
    return WslHostEntries(linux, cache(lambda: find_windows_home(environment)), environment)


def _is_linux_alone(record: RuntimeRecord) -> bool:
    """It is reached by what only this Linux has: the user's keys, or another's program."""
    address = record.ssh
    if address is None:
        return False
    return address.proxy_command is not None or address.login is not None


def _proxy_through_wsl(name: str, environment: Mapping[str, str]) -> str:
    """The command by which Windows' ssh reaches a runtime behind a tunnel: our own `proxy`, in this
    Linux, where none of Windows' variables are."""
    distribution = environment.get("WSL_DISTRO_NAME")
    variables = Places.from_environment(environment).variables()
    return subprocess.list2cmdline(
        [
            "wsl.exe",
            *(["-d", distribution] if distribution else []),
            *("-u", getpass.getuser(), "--exec", "/usr/bin/env"),
            *(f"{variable}={value}" for variable, value in variables.items()),
            *proxy_words(name),
        ]
    )


def _text(path: Path) -> str:
    """The text of a file in any encoding that survives the way back; "" without a file."""
    return path.read_bytes().decode("utf-8", "surrogateescape") if path.exists() else ""
