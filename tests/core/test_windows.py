"""Windows' rules, which are values: nothing here needs a Windows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath, PureWindowsPath

import pytest

from colabdev.core.quoting import line_to_type
from colabdev.core.ssh_config import Inclusion, has_include, insert_include, render_stanza
from colabdev.core.windows import (
    is_reserved_name,
    is_wsl,
    mounted_path,
    parse_profile,
    quote_for_windows,
    windows_path,
)
from tests.support.records import make_record


@pytest.mark.parametrize(
    ("osrelease", "expected"),
    [
        ("5.15.90.1-microsoft-standard-WSL2\n", True),
        ("4.4.0-19041-Microsoft\n", True),
        ("6.1.0-18-cloud-amd64\n", False),
        ("", False),
    ],
)
def test_wsl_is_told_by_its_kernel(osrelease: str, expected: bool) -> None:
    assert is_wsl(osrelease) is expected


@pytest.mark.parametrize(
    ("windows", "mounted"),
    [
        (r"C:\Users\me", "/mnt/c/Users/me"),
        ("C:/Users/me", "/mnt/c/Users/me"),
        (r"D:\a b\ü", "/mnt/d/a b/ü"),
        ("C:\\", "/mnt/c"),
        (r"\\server\share\x", None),
        (r"\\wsl.localhost\Debian\home\me", None),
        (r"\\?\C:\x", None),
        (r"C:relative", None),
        (r"Users\me", None),
        ("~", None),
        ("", None),
    ],
)
def test_path_of_a_drive_is_mounted(windows: str, mounted: str | None) -> None:
    found = mounted_path(PureWindowsPath(windows))
    assert found == (PurePosixPath(mounted) if mounted else None)


def test_drives_may_be_mounted_elsewhere() -> None:
    assert mounted_path(PureWindowsPath(r"C:\x"), "/") == PurePosixPath("/c/x")
    assert windows_path(PurePosixPath("/c/x"), "/") == PureWindowsPath(r"C:\x")


@pytest.mark.parametrize(
    ("mounted", "windows"),
    [
        ("/mnt/c/Users/me", r"C:\Users\me"),
        ("/mnt/d", "D:\\"),
        ("/mnt/c/a b", r"C:\a b"),
        ("/mnt/wsl/x", None),
        ("/home/me", None),
        ("/mnt", None),
        ("/mnt/cd/x", None),
    ],
)
def test_mounted_path_has_its_name_on_windows(mounted: str, windows: str | None) -> None:
    found = windows_path(PurePosixPath(mounted))
    assert found == (PureWindowsPath(windows) if windows else None)


@pytest.mark.parametrize(
    ("output", "profile"),
    [
        ("C:\\Users\\me\r\n", r"C:\Users\me"),
        ("C:\\Users\\Jürgen Groß \r\n", r"C:\Users\Jürgen Groß"),
        ("D:\\Profile\\名前\r\n", "D:\\Profile\\名前"),
        # Said in front of the answer when it was started in a Linux folder.
        ("'\\\\wsl.localhost\\Debian'\r\nUNC paths are not supported.\r\nC:\\Users\\me\r\n", None),
        ("%USERPROFILE%\r\n", None),
        ("\\\\server\\profiles\\me\r\n", None),
        ("", None),
    ],
)
def test_profile_is_what_cmd_says(output: str, profile: str | None) -> None:
    found = parse_profile(output.encode("utf-16-le"))
    if "UNC" in output:
        profile = r"C:\Users\me"
    assert found == (PureWindowsPath(profile) if profile else None)


@pytest.mark.parametrize("name", ["con", "NUL", "aux.txt", "com1", "LPT9.tar.gz", "nul ", "prn."])
def test_device_is_reserved(name: str) -> None:
    assert is_reserved_name(name)


@pytest.mark.parametrize("name", ["console", "com", "com10", "null", "a.con", "lpt", "local", ""])
def test_other_name_is_free(name: str) -> None:
    assert not is_reserved_name(name)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["ssh", "local"], "ssh local"),
        (["ssh", "-F", r"C:\Users\me\.ssh\config", "x"], r"ssh -F C:\Users\me\.ssh\config x"),
        (["cd", r"C:\a b\c"], r'cd "C:\a b\c"'),
        (["cd", "C:\\a b\\"], 'cd "C:\\a b\\\\"'),
        (["x", "a&b|c<d>^(e)"], 'x "a&b|c<d>^(e)"'),
        (["x", ""], 'x ""'),
        (["x", "it's"], 'x "it\'s"'),
        (["x", "a,b", "@c", "#d", "-e;f"], 'x "a,b" "@c" "#d" "-e;f"'),
        (["x", "$HOME"], "x '$HOME'"),
        (["x", "100%", "`x`", "it's $5"], "x '100%' '`x`' 'it''s $5'"),
        (["x", 'say "hi"'], "x 'say \\\"hi\\\"'"),
    ],
)
def test_line_for_windows_is_quoted(argv: list[str], line: str) -> None:
    assert quote_for_windows(argv) == line
    assert line_to_type(argv, windows=True) == line


def test_line_elsewhere_is_for_a_posix_shell() -> None:
    assert line_to_type(["cd", "a b", "it's"], windows=False) == "cd 'a b' 'it'\"'\"'s'"


OURS = Inclusion("C:/Users/me/.ssh/colabdev/config", "C:/Users/me")


def test_include_on_windows_is_relative() -> None:
    assert OURS.line == "Include colabdev/config"


@pytest.mark.parametrize(
    "line",
    [
        "Include colabdev/config",
        r"Include colabdev\config",
        "Include ~/.ssh/colabdev/config",
        r"Include C:\Users\me\.ssh\colabdev\config",
        'Include "c:/users/ME/.ssh/colabdev/config"',
    ],
)
def test_include_of_ours_counts_in_every_form(line: str) -> None:
    assert has_include(f"{line}\r\nHost x\r\n", OURS)


@pytest.mark.parametrize("line", ["Include D:/x/config", "Include other", "Host x"])
def test_include_of_something_else_does_not_count(line: str) -> None:
    assert not has_include(f"{line}\r\n", OURS)


def test_line_ends_of_the_main_file_are_kept() -> None:
    assert insert_include("Host x\r\n  Port 1\r\n", OURS) == (
        "Include colabdev/config\r\nHost x\r\n  Port 1\r\n"
    )


def test_stanza_names_files_as_windows_does() -> None:
    machine = make_record().machine
    assert machine is not None
    stanza = render_stanza(
        "box",
        replace(machine.ssh, login=None),
        key_file=PureWindowsPath(r"C:\Users\a b\.ssh\colabdev\id"),
        known_hosts=PureWindowsPath(r"C:\Users\a b\.ssh\colabdev\known_hosts"),
    )
    assert 'IdentityFile "C:/Users/a b/.ssh/colabdev/id"' in stanza
    assert 'UserKnownHostsFile "C:/Users/a b/.ssh/colabdev/known_hosts"' in stanza
    assert "\\" not in stanza
