"""What stands in a command line here about a tunnel that a runtime told of."""

from __future__ import annotations

import shlex

import pytest

from colabdev.core.cloudflared import access_command, checked_host, how_to_install

HOST = "red-fox-2.trycloudflare.com"
WORDS = ["access", "ssh", "--hostname", HOST]


@pytest.mark.parametrize("program", ["/usr/bin/cloudflared", "/home/it's mine/$x/cloudflared"])
def test_command_is_for_a_shell(program: str) -> None:
    assert shlex.split(access_command(program, HOST, windows=False)) == [program, *WORDS]


@pytest.mark.parametrize(
    ("program", "written"),
    [
        (r"C:\tools\cloudflared.exe", "C:/tools/cloudflared.exe"),
        (
            r"C:\Program Files (x86)\cloudflared\cloudflared.exe",
            '"C:/Program Files (x86)/cloudflared/cloudflared.exe"',
        ),
    ],
)
def test_command_on_windows_has_slashes_and_quotes_spaces(program: str, written: str) -> None:
    assert access_command(program, HOST, windows=True) == " ".join([written, *WORDS])


@pytest.mark.parametrize(
    "host",
    [
        "",
        "trycloudflare.com",
        "a.example.com",
        "a.b.trycloudflare.com",
        "a;id.trycloudflare.com",
        "$(id).trycloudflare.com",
        "-oProxyCommand=id.trycloudflare.com",
        "A.trycloudflare.com",
        f"{HOST}\n",
        f"{'a' * 250}.trycloudflare.com",
    ],
)
def test_other_names_never_get_into_a_command(host: str) -> None:
    with pytest.raises(ValueError, match="not the name of a quick tunnel"):
        checked_host(host)


def test_every_system_is_told_how_to_get_the_program() -> None:
    assert how_to_install("win32").startswith("winget install")
    assert how_to_install("darwin") == "brew install cloudflared"
    assert how_to_install("linux").startswith("get it from https://developers.cloudflare.com/")
