"""Where things are kept, and the environment variables that move them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from colabdev.errors import ColabdevError


@dataclass(frozen=True, slots=True)
class Places:
    """Absolute paths of everything colabdev keeps on this computer."""

    state_dir: Path
    config_dir: Path
    ssh_config: Path
    """The user's main OpenSSH configuration; our own files stand in `colabdev/` beside it."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Places:
        """The places as COLABDEV_STATE_DIR, COLABDEV_CONFIG_DIR and COLABDEV_SSH_CONFIG say, else
        where this operating system keeps such things."""

        def place(variable: str, default: Callable[[], Path]) -> Path:
            # Asked only when it is needed: without a home there is no default.
            return Path(environment.get(variable) or default()).expanduser().absolute()

        try:
            return cls(
                state_dir=place(
                    "COLABDEV_STATE_DIR",
                    lambda: platformdirs.user_state_path("colabdev", appauthor=False),
                ),
                config_dir=place(
                    "COLABDEV_CONFIG_DIR",
                    lambda: platformdirs.user_config_path("colabdev", appauthor=False),
                ),
                ssh_config=place("COLABDEV_SSH_CONFIG", lambda: Path("~/.ssh/config")),
            )
        except RuntimeError as exc:
            raise ColabdevError(
                f"cannot tell where your home directory is: {exc}",
                hint="set HOME, or COLABDEV_STATE_DIR, COLABDEV_CONFIG_DIR and COLABDEV_SSH_CONFIG",
            ) from exc

    @property
    def log_dir(self) -> Path:
        return self.state_dir / "logs"

    @property
    def local_dir(self) -> Path:
        """The local provider's sandboxes and their Drive."""
        return self.state_dir / "local"

    @property
    def hosts_dir(self) -> Path:
        """The hosts of the user's own that are runtimes now."""
        return self.state_dir / "hosts"

    @property
    def colab_dir(self) -> Path:
        """The runtimes of Colab's that were asked for from here."""
        return self.state_dir / "colab"

    @property
    def notebooks_dir(self) -> Path:
        """The machines that were started in a browser, and are runtimes by their code."""
        return self.state_dir / "notebooks"

    def variables(self) -> dict[str, str]:
        """The environment that leads a child process to the same places from any directory."""
        return {
            "COLABDEV_STATE_DIR": str(self.state_dir),
            "COLABDEV_CONFIG_DIR": str(self.config_dir),
            "COLABDEV_SSH_CONFIG": str(self.ssh_config),
        }


def drive_api_url(environment: Mapping[str, str]) -> str:
    """Where the Drive API is."""
    return environment.get("COLABDEV_DRIVE_URL") or "https://www.googleapis.com"
