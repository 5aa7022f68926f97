"""What all parts of the stand-in share."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.support.colab_server.accounts import Accounts
from tests.support.colab_server.clock import Clock
from tests.support.colab_server.drive_cloud import Clouds
from tests.support.colab_server.facts import Facts
from tests.support.colab_server.faults import Faults
from tests.support.colab_server.journal import Journal


@dataclass(slots=True)
class World:
    state: Path
    """Where it keeps what it keeps, for as long as it runs."""
    clock: Clock = field(default_factory=Clock)
    facts: Facts = field(default_factory=Facts)
    faults: Faults = field(default_factory=Faults)
    journal: Journal = field(default_factory=Journal)
    accounts: Accounts = field(init=False)
    clouds: Clouds = field(init=False)
    base_url: str = field(init=False)

    def reset(self) -> None:
        """As at the start; but tokens that were given stay good."""
        self.clock.reset()
        self.facts.change(asdict(Facts()))
        self.faults.clear()
        self.journal.clear()
        self.accounts.forget_changes()
        self.clouds.clear()

    def __post_init__(self) -> None:
        self.accounts = Accounts(self.clock, self.facts)
        self.clouds = Clouds(self.state / "drive", self.clock)
