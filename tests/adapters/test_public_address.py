"""Learning from which addresses this computer is seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from colabdev.adapters.public_address import find_own_networks
from colabdev.errors import RuntimeUnreachable
from tests.support.web import free_port, web_server


def test_addresses_that_are_told_are_networks(tmp_path: Path) -> None:
    told = {"four": "203.0.113.7\n", "six": "2001:db8:1:2:3:4:5:6", "page": "<html>" * 20}
    for name, text in told.items():
        (tmp_path / name).write_text(text)
    with web_server(tmp_path) as port:

        def ask(*names: str) -> list[str]:
            pages = " ".join(f"http://127.0.0.1:{port}/{name}" for name in names)
            return list(find_own_networks({"COLABDEV_ADDRESS_URLS": pages}))

        assert ask("four", "six") == ["203.0.113.7/32", "2001:db8:1:2::/64"]
        assert ask("gone", "four", "page") == ["203.0.113.7/32"]
        with pytest.raises(RuntimeUnreachable, match="did not tell"):
            ask("page", "gone")
    with pytest.raises(RuntimeUnreachable, match="public address"):
        find_own_networks({"COLABDEV_ADDRESS_URLS": f"http://127.0.0.1:{free_port()}"})
