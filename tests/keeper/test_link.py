"""How often the keeper tries again where trying costs somebody something."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

from colabdev.errors import AuthNeeded
from colabdev.keeper.link import REFUSED_RETRY_CAP_S, Link


class Connection:
    """One that is dead as soon as it is there."""

    def is_alive(self) -> bool:
        return False

    def wait_dead(self, timeout_s: float) -> bool:
        return True

    def close(self) -> None:
        pass


class Door:
    """Refuses whoever knocks until it is opened."""

    def __init__(self) -> None:
        self.is_open = False

    def knock(self) -> Connection:
        if self.is_open:
            return Connection()
        raise AuthNeeded("no such key")


def refused_delays(link: Link[Connection], count: int) -> list[float | None]:
    delays: Iterator[float] = repeat(0.0)
    return [link._hold_once(delays) for _ in range(count)]


def test_refused_login_is_tried_ever_more_seldom_and_anew_after_a_good_one() -> None:
    door = Door()
    link: Link[Connection] = Link(
        "box",
        connect=door.knock,
        is_gone=lambda: False,
        delays=lambda: repeat(0.0),
        connected=lambda connection: None,
    )
    assert refused_delays(link, 9) == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert REFUSED_RETRY_CAP_S == 300
    door.is_open = True
    assert refused_delays(link, 1) == [None]
    door.is_open = False
    assert refused_delays(link, 2) == [5, 10]
