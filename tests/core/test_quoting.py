"""Every argument list reaches a program through a shell unchanged, byte for byte."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colabdev.core.quoting import quote_command

SHELLS = ["/bin/sh", "bash"]

# A literal NUL cannot be an argument; everything else can.
ARGUMENTS = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.text(alphabet="\\'\"$`!*?[]{}()<>|&;#~=% \t\r\n-a\udcff\udc80é", max_size=40).map(
            os.fsencode
        ),
    )
    .map(lambda raw: raw.replace(b"\0", b""))
    .map(os.fsdecode),
    max_size=6,
)

HOSTILE = [
    "",
    " ",
    "\n",
    "\n\n",
    "trailing\n",
    "-n",
    "$HOME",
    "$(id)",
    "`id`",
    "'",
    '"',
    "\\",
    "'\\''",
    "!!",
    "~",
    "*",
    "a=b",
    "%s%n",
    os.fsdecode(b"\xff"),
    os.fsdecode(b"\xff\n"),
    os.fsdecode(b"\n\xff"),
    os.fsdecode(b"1\xff2"),  # The digit must not become part of the octal escape.
    os.fsdecode(b"\x80\x81\xfe\xff" * 3),
    os.fsdecode(bytes(range(1, 256))),
]


def arguments_seen(shell: str, lists: Sequence[Sequence[str]]) -> list[list[str]]:
    """What `shell` makes of each quoted list; all of them in one process."""
    report = 'printf "%d\\0" "$#"; for a; do printf "%s\\0" "$a"; done'
    lines = [f"set -- {quote_command(argv)}; {report}" for argv in lists]
    script = "\n".join(lines).encode("utf-8")  # Strict: the line must be UTF-8.
    done = subprocess.run([shell, "-c", script], capture_output=True, check=True, timeout=20)
    words = iter(os.fsdecode(done.stdout).split("\0"))
    return [[next(words) for _ in range(int(next(words)))] for _ in lists]


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=40, deadline=None)
@given(lists=st.lists(ARGUMENTS, min_size=1, max_size=20))
def test_quote_command_keeps_every_list(shell: str, lists: list[list[str]]) -> None:
    assert arguments_seen(shell, lists) == lists


@pytest.mark.parametrize("shell", SHELLS)
def test_quote_command_keeps_hostile_arguments(shell: str) -> None:
    lists = [[argument] for argument in HOSTILE] + [HOSTILE]
    assert arguments_seen(shell, lists) == lists


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", ["a=b", "if", "while", "time", "{", "!", "spa ce", "[["])
def test_quote_command_starts_the_program_of_that_name(
    tmp_path: Path, shell: str, name: str
) -> None:
    # A word that a shell would take for an assignment or for its own grammar is a name like another.
    program = tmp_path / name
    program.write_text('#!/bin/sh\nprintf "%s" "ran with $1"\n')
    program.chmod(0o755)
    path = f"{tmp_path}:{os.defpath}"

    done = subprocess.run(
        [shutil.which(shell) or shell, "-c", quote_command([name, "echo"])],
        env={"PATH": path},
        capture_output=True,
        check=False,
        timeout=20,
    )

    assert (done.stdout, done.stderr) == (b"ran with echo", b"")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ([], ""),
        (["ls"], "ls"),
        (["ls", ""], "ls ''"),
        (["echo", "it's"], "echo 'it'\"'\"'s'"),
        (["cat", os.fsdecode(b"\xff")], "cat \"$(printf '\\377')\""),
        (["python3", "-I", "/content/x y"], "python3 -I '/content/x y'"),
    ],
)
def test_quote_command_is_readable(argv: list[str], line: str) -> None:
    assert quote_command(argv) == line
