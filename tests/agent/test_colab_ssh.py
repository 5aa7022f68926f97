"""The real colab-ssh package, in a root of its own: it succeeds, opens nothing early, leaves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.colab_server.conftest import namespaces
from tests.support.isolated import run_isolated

__all__ = ["namespaces"]

pytestmark = pytest.mark.usefixtures("namespaces")


def test_launch_ssh_succeeds_and_leaves_nothing(tmp_path: Path) -> None:
    told = run_isolated(tmp_path, ["tests.agent.inside_launch"])
    before = told["before"]

    assert told["logged_in"] == "/usr/lib64-nvidia"
    for said in told["said"]:
        assert "Successfully running 127.0.0.1:" in said

    # While it ran it did its worst, and nobody could have logged in by it.
    assert len(told["at_endpoint"]) == 2
    for then in told["at_endpoint"]:
        assert then["password"] == before["password"] == "*"
        assert then["keys"].strip() == told["public_key"]
        assert "PasswordAuthentication no" in first_words(then["sshd_config"])
        assert "PasswordAuthentication yes" in then["sshd_config"]
        assert all(address.startswith("0100007F:") for address in then["listeners"])
        assert any("tcp --authtoken placeholder" in line for line in then["processes"])

    assert told["after"] == {**before, "folder": sorted([*before["folder"], "launch.lock"])}
    assert told["refused"] == "ZeroDivisionError: division by zero"
    assert told["after_refusal"] == told["after"]
    assert told["port_taken"].startswith("LaunchFailed: port 4040 is taken there")

    assert told["after_kill"]["sshd_config"] != before["sshd_config"]
    assert told["mended"] == told["after"]


def first_words(config: str) -> list[str]:
    """The lines that count for sshd: of each option the first."""
    first: dict[str, str] = {}
    for line in config.splitlines():
        first.setdefault(line.partition(" ")[0], line)
    return list(first.values())
