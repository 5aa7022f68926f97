"""What `doctor` looks at on this computer. Each function looks at one thing."""

from __future__ import annotations

import shlex
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from colabdev.core import openssh
from colabdev.core.editors import EDITORS
from colabdev.core.sizes import format_size
from colabdev.errors import ColabdevError
from colabdev.models import Editor, RuntimeRecord
from colabdev.ports import Computer, EntryFiles, WindowsSide
from colabdev.services.checks import Check, bad, warning, well

LITTLE_ROOM_BYTES = 1 << 30
NO_ROOM_BYTES = 64 << 20
_CLOCK_TOLERANCE_S = 5.0


def check_ssh(computer: Computer) -> Iterator[Check]:
    """The system's OpenSSH client, which editors and `colabdev ssh` use."""
    said = computer.ssh_version()
    version = openssh.parse_version(said or "")
    if said is None:
        yield bad("ssh", "no ssh on the PATH", "install OpenSSH's client (openssh-client)")
    elif version is None:
        yield warning("ssh", f"it is not OpenSSH: {said}", "put OpenSSH's ssh first on the PATH")
    elif version < openssh.OLDEST:
        oldest = ".".join(map(str, openssh.OLDEST))
        yield bad("ssh", f"{said} is too old", f"install OpenSSH {oldest} or newer")
    else:
        yield well("ssh", said)


def check_include(files: EntryFiles, records: Sequence[RuntimeRecord]) -> Iterator[Check]:
    """Plain ssh and editors reach our entries: the Include stands first, and ssh takes our stanzas."""
    if not files.is_included():
        saw = f"{files.main_file} does not begin with our Include"
        if records:
            advice = f"add this at its very top: {files.include_line()}"
            yield warning("ssh config", f"{saw}; editors do not know our runtimes", advice)
        else:
            yield well("ssh config", f"{saw}; the first connect adds it")
        return
    strange = [record.name for record in records if not files.is_taken(record.name)]
    for name in strange:
        yield warning(
            "ssh config",
            f"`ssh {name}` does not do what our entry says: something in {files.main_file} or in the "
            "system's configuration is stronger",
            f"colabdev connect {name} writes the entry again; ssh -G {name} shows what ssh makes of it",
        )
    if not strange:
        names = ", ".join(record.name for record in records)
        saw = f"{files.main_file} begins with our Include"
        yield well("ssh config", saw + (f", and ssh takes our entries: {names}" if names else ""))


def check_permissions(computer: Computer, files: EntryFiles) -> Iterator[Check]:
    """What ssh refuses: configuration that others may write, and a key that others may read."""
    if sys.platform == "win32":
        yield well("permissions", "Windows' own are not looked at")
        return
    complaints = list(_loose(computer, files))
    yield from complaints
    if not complaints:
        yield well("permissions", f"private enough in {files.main_file.parent}")


def _loose(computer: Computer, files: EntryFiles) -> Iterator[Check]:
    for path in files.paths():
        mode = computer.mode(path)
        shown = shlex.quote(str(path))
        if mode is None:
            continue
        if path == files.private_key_file and mode & (stat.S_IRWXG | stat.S_IRWXO):
            saw = f"{path} may be used by others ({mode:04o}); ssh refuses such a key"
            yield bad("permissions", saw, f"chmod 600 {shown}")
        elif mode & (stat.S_IWGRP | stat.S_IWOTH):
            saw = f"{path} may be written by others ({mode:04o}); ssh refuses that"
            yield bad("permissions", saw, f"chmod go-w {shown}")


def check_clock(computer: Computer, state_dir: Path) -> Iterator[Check]:
    """This computer's clock against the times of files."""
    try:
        ahead_s = computer.clock_ahead_s(state_dir)
    except OSError as exc:
        advice = "give write access there, or set COLABDEV_STATE_DIR"
        yield bad("state", f"{state_dir} cannot be written: {exc.strerror}", advice)
        return
    newest_s = computer.newest_s(state_dir / "runtimes")
    if abs(ahead_s) > _CLOCK_TOLERANCE_S:
        yield warning(
            "clock",
            f"files in {state_dir} get a time {ahead_s:+.0f} s beside this computer's clock",
            "set both computers' clocks by NTP, or keep the state on a disk of this one",
        )
    elif newest_s is not None and newest_s < -_CLOCK_TOLERANCE_S:
        saw = f"a state file is {-newest_s:.0f} s from the future: the clock was set back"
        yield warning("clock", saw, "set the clock (timedatectl set-ntp true)")
    else:
        yield well("clock", "agrees with the times of files")


def check_secrets(config_dir: Path) -> Iterator[Check]:
    """Where secrets are kept."""
    yield well(
        "secrets",
        "a Google login and an ngrok token are kept in the system's keyring if that answers, else in "
        f"a private file in {config_dir}; colabdev auth status says where. run --secret asks the "
        "keyring, the environment, then you, and keeps nothing",
    )


def check_disk(computer: Computer, state_dir: Path) -> Iterator[Check]:
    """Room for state and logs."""
    yield room("disk", state_dir, computer.free_bytes(state_dir))


def room(subject: str, place: object, free_bytes: int) -> Check:
    """How much room there is, and whether it is enough."""
    saw = f"{format_size(free_bytes)} free at {place}"
    if free_bytes < NO_ROOM_BYTES:
        return bad(subject, saw, "make room there")
    if free_bytes < LITTLE_ROOM_BYTES:
        return warning(subject, saw, "make room there")
    return well(subject, saw)


def check_loopback(computer: Computer) -> Iterator[Check]:
    """Keepers listen on 127.0.0.1."""
    try:
        computer.listen_on_loopback()
    except OSError as exc:
        advice = "look at the firewall's rules for 127.0.0.1, and at the sandbox this runs in"
        yield bad("ports", f"cannot use a port of 127.0.0.1: {exc}", advice)
    else:
        yield well("ports", "127.0.0.1 can be listened on and reached")


def check_editors(computer: Computer, *, beside_windows: bool) -> Iterator[Check]:
    """The editors on the PATH, and whether they can go to a runtime."""
    editors = computer.editors()
    for editor in editors:
        yield _editor_check(editor, beside_windows=beside_windows)
    if not editors:
        advice = "in VS Code: F1, then: Shell Command: Install 'code' command in PATH"
        yield warning("editor", "no editor's command on the PATH; the others need none", advice)


def _editor_check(editor: Editor, *, beside_windows: bool) -> Check:
    subject = f"editor {editor.command}"
    wanted = EDITORS[editor.command].extensions
    version = editor.version or "no version"
    if beside_windows:
        # There it lists the extensions inside of the WSL, and this one is outside.
        return well(
            subject, f"{version}; it is Windows': look for Remote-SSH in its Extensions view"
        )
    if editor.extensions is None:
        return warning(
            subject, "does not list its extensions", f"{editor.command} --list-extensions"
        )
    if editor.extensions.isdisjoint(wanted):
        advice = f"{editor.command} --install-extension {wanted[0]}"
        return warning(subject, f"{version}, without Remote-SSH", advice)
    return well(subject, f"{version}, with Remote-SSH")


def check_windows(
    find_side: Callable[[], WindowsSide], records: Sequence[RuntimeRecord]
) -> Iterable[Check]:
    """In a WSL: what Windows' editors know of our runtimes."""
    try:
        side = find_side()
        complaints = side.complaints(records)
    except (ColabdevError, OSError) as exc:
        hint = exc.hint if isinstance(exc, ColabdevError) else ""
        return [warning("windows", str(exc), hint or "give access there, then connect again")]
    if complaints:
        saw = f"Windows' editors and ssh.exe read {side.main_file}: {'; '.join(complaints)}"
        return [warning("windows", saw, "colabdev connect NAME writes it again")]
    return [
        well("windows", f"Windows' editors and ssh.exe read {side.main_file}, and it is in order")
    ]
