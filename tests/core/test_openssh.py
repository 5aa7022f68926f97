"""OpenSSH's versions, as its builds say them."""

from __future__ import annotations

import pytest

from colabdev.core.openssh import OLDEST, parse_version


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("OpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL 3.0.19", (9, 2)),
        ("OpenSSH_for_Windows_8.1p1, LibreSSL 3.0.2", (8, 1)),
        ("OpenSSH_10.0p2, LibreSSL 3.3.6", (10, 0)),
        ("OpenSSH_7.4p1, OpenSSL 1.0.2k-fips", (7, 4)),
        ("Dropbear v2022.83", None),
        ("", None),
    ],
)
def test_version_is_parsed(said: str, version: tuple[int, int] | None) -> None:
    assert parse_version(said) == version


def test_oldest_is_the_one_whose_options_we_use() -> None:
    assert (7, 4) < OLDEST <= (7, 6)
