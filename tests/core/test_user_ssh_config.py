"""The user's main OpenSSH configuration as text: our Include at its top, and its own hosts."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from colabdev.core.ssh_config import (
    Inclusion,
    drop_include,
    has_include,
    host_line,
    insert_include,
    parse_applied_host,
    parse_options,
    render_stanza,
    same_login,
)
from colabdev.models import SshAddress
from tests.support.records import HOST_KEY

HERE = Inclusion(our_file="/home/ada/.ssh/colabdev/config", home="/home/ada")
ELSEWHERE = Inclusion(our_file="/srv/ssh files/colabdev/config", home="/home/ada")
OURS = "Include colabdev/config"


def test_include_is_relative_in_the_directory_that_ssh_starts_from() -> None:
    assert HERE.line == OURS
    assert ELSEWHERE.line == 'Include "/srv/ssh files/colabdev/config"'


@pytest.mark.parametrize(
    "text",
    ["", "Host a\n  Port 1\n", "Host a\r\n  Port 1\r\n", "\ufeffHost a\r\n", "# no end", "\n\n"],
    ids=ascii,
)
def test_include_that_was_put_in_is_taken_out_again(text: str) -> None:
    assert drop_include(insert_include(text, HERE), HERE) == text
    assert drop_include(text, HERE) == text


def test_only_lines_that_include_ours_alone_are_taken_out() -> None:
    theirs = "Include other\nInclude other colabdev/config\n#Include colabdev/config\n"
    ours = "  include = ~/.ssh/colabdev/config\nMatch all\n\tInclude colabdev/config # ours\n"
    assert drop_include(theirs + ours, HERE) == theirs + "Match all\n"


HOSTILE_FOLDERS = [
    "with space",
    'quo"te',
    "apo's",
    "100%h",
    "a[b]*?",
    "back\\slash",
    "${HOME}",
    "ö",
]


@pytest.mark.parametrize("folder", HOSTILE_FOLDERS)
def test_include_of_a_hostile_path_is_found_by_ssh_and_by_us(tmp_path: Path, folder: str) -> None:
    ours = tmp_path / folder / "config"
    ours.parent.mkdir()
    ours.write_text("Host box\n  Port 77\n")
    inclusion = Inclusion(str(ours), "/home/ada")
    main = tmp_path / "main"
    main.write_text(insert_include("", inclusion), encoding="utf-8")
    assert "port 77" in ssh("-G", "-F", main, "box").stdout.splitlines()
    assert has_include(main.read_text(encoding="utf-8"), inclusion)


INSERTED = {
    "empty": ("", f"{OURS}\n"),
    "a host": ("Host a\n  Port 1\n", f"{OURS}\nHost a\n  Port 1\n"),
    "CRLF": ("Host a\r\n  Port 1\r\n", f"{OURS}\r\nHost a\r\n  Port 1\r\n"),
    "mixed endings": ("Host a\n  Port 1\r\n", f"{OURS}\nHost a\n  Port 1\r\n"),
    "no final newline": ("Host a", f"{OURS}\nHost a"),
    "no final newline, CRLF": ("Host a\r\n Port 1", f"{OURS}\r\nHost a\r\n Port 1"),
    "comments": ("# mine\n\nHost a # b\n", f"{OURS}\n# mine\n\nHost a # b\n"),
    "BOM": ("\ufeffHost a\r\n", f"\ufeff{OURS}\r\nHost a\r\n"),
    "bytes that are no text": ("# \udcff\n", f"{OURS}\n# \udcff\n"),
    "other line ends of Unicode": ("# a\u2028b\x0bc\x85\n", f"{OURS}\n# a\u2028b\x0bc\x85\n"),
    "hostile Host *": ("Host *\n  Port 1\n", f"{OURS}\nHost *\n  Port 1\n"),
    "ours in a Host": ("Host *\n  " + OURS + "\n", f"{OURS}\nHost *\n  {OURS}\n"),
    "somebody else's": ("Include other/config\n", f"{OURS}\nInclude other/config\n"),
}


@pytest.mark.parametrize(("before", "after"), INSERTED.values(), ids=INSERTED)
def test_include_becomes_the_first_line_and_the_rest_stays(before: str, after: str) -> None:
    assert not has_include(before, HERE)
    assert insert_include(before, HERE) == after
    assert has_include(after, HERE)


@pytest.mark.parametrize(
    "text",
    [
        "Include colabdev/config\n",
        "include colabdev/config",
        "  INCLUDE\tcolabdev/config  \r\n",
        "Include=colabdev/config\n",
        'Include = "colabdev/config"\n',
        '"Include" colabdev/config\n',
        "Include 'colabdev/config' # ours\n",
        "Include ./colabdev//config\n",
        "Include ~/.ssh/colabdev/config\n",
        'Include "~/.ssh/colabdev/config"\n',
        "Include /home/ada/.ssh/colabdev/config\n",
        'Include "/home/ada/.ssh/colabdev/config"\n',
        "Include other/config colabdev/config more\n",
        "# mine\n\nInclude other/config\nInclude colabdev/config\nHost *\n",
        "\ufeffInclude colabdev/config\n",
    ],
)
def test_include_in_any_spelling_is_known(text: str) -> None:
    assert has_include(text, HERE)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# Include colabdev/config\n",
        "Include other # colabdev/config\n",
        "Include colabdev/config2\n",
        "Include /elsewhere/colabdev/config\n",
        "Host a\n  Include colabdev/config\n",
        "host=a\nInclude colabdev/config\n",
        "Match all\nInclude colabdev/config\n",
        "Match exec true\n  Include colabdev/config\n",
        # Outside of any block, but what stands in front of it wins.
        "ControlMaster auto\nInclude colabdev/config\n",
    ],
)
def test_include_that_is_not_there_or_conditional_or_late_does_not_count(text: str) -> None:
    assert not has_include(text, HERE)


def test_relative_include_means_the_home_that_ssh_knows() -> None:
    # The main file stands elsewhere; ssh still takes a relative path from ~/.ssh.
    assert not has_include("Include colabdev/config\n", ELSEWHERE)
    assert has_include(insert_include("", ELSEWHERE), ELSEWHERE)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Host box\n", 1),
        ("host=box\r\n", 1),
        ('# c\n\n\tHOST "box"\n', 3),
        ("Host a b box c\n", 1),
        ("Host *\n  Port 1\nMatch all\nHost 'box'\n", 4),
        ("\ufeffHost box", 1),
        ("Host a # box\n", None),
        ("# Host box\n", None),
        ("Host *\n", None),
        ("Host bo?\nHost b*\n", None),
        ("Host box-2 abox Box\n", None),
        ("Host !box *\n", None),
        ("Host box !box\n", None),
        ("HostName box\n", None),
        ("Match host box\n", None),
        ("Match originalhost box\n", None),
        ("", None),
    ],
)
def test_host_is_found_by_its_exact_name(text: str, line: int | None) -> None:
    assert host_line(text, "box") == line


def test_lines_are_split_as_ssh_splits_them(tmp_path: Path) -> None:
    dice = random.Random(4)
    pieces = ["box", "box", " ", "\t", '"', "'", "\\", "#", "a", "=", "!"]
    main = tmp_path / "main"
    compared = {True: 0, False: 0}
    for _ in range(300):
        written = "".join(dice.choice(pieces) for _ in range(dice.randint(1, 9)))
        text = f"Host{dice.choice([' ', '=', ' = '])}{written}\n"
        main.write_text(text)
        done = ssh("-v", "-G", "-F", main, "box")
        if done.returncode == 0:  # ssh refuses open quotes and the like.
            found = parse_applied_host(done.stderr, "box")
            assert found == (f"{main} line 1" if host_line(text, "box") else None), text
            compared[found is not None] += 1
    assert min(compared.values()) >= 20, "both answers must really have been compared"


def test_applied_host_is_found_in_the_file_that_has_it(tmp_path: Path) -> None:
    (tmp_path / "main").write_text(f'Host *\n  Port 1\nInclude "{tmp_path}/more"\n')
    (tmp_path / "more").write_text("\nHost a box\n")
    said = ssh("-v", "-G", "-F", tmp_path / "main", "box").stderr
    assert parse_applied_host(said, "box") == f"{tmp_path}/more line 2"
    said = ssh("-v", "-G", "-F", tmp_path / "main", "bo").stderr
    assert parse_applied_host(said, "bo") is None


@pytest.mark.parametrize(
    ("front", "same"),
    [
        ("", True),
        ("SendEnv FOO", True),
        ("LocalForward 1 b:2", True),
        ("Port 1", False),
        ("HostKeyAlias b", False),
        ("StrictHostKeyChecking no", False),
        ("ControlPath /tmp/%C", False),
        ("ProxyCommand nc b 1", False),
        ("IdentityFile /b", False),
        ("PubkeyAcceptedAlgorithms ssh-rsa", False),
        ("StdinNull yes", False),
        ("KnownHostsCommand /b", False),
        ("BindAddress 10.0.0.1", False),
    ],
)
def test_what_stands_in_front_of_ours_and_opposes_it_is_noticed(
    tmp_path: Path, front: str, same: bool
) -> None:
    address = SshAddress("0.tcp.ngrok.io", 17322, "root", HOST_KEY)
    stanza = render_stanza("box", address, key_file=Path("/k"), known_hosts=Path("/h"))
    (tmp_path / "ours").write_text(stanza)
    (tmp_path / "main").write_text(f"{front}\n{stanza}")
    options = [parse_options(ssh("-G", "-F", tmp_path / n, "box").stdout) for n in ("ours", "main")]
    assert options[0]["port"] == "17322"
    assert same_login(stanza, *options) is same


def ssh(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ssh", *arguments], capture_output=True, text=True, check=False, timeout=20
    )
