"""A user's computer of its own (`tests.support.house`) whose Google is the stand-in."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from colabdev.models import RuntimeRecord
from colabdev.providers.colab.client import ColabClient
from colabdev.providers.colab.login import GoogleLogin
from colabdev.providers.colab.notes import Notes
from colabdev.providers.colab.provider import ColabProvider
from colabdev.providers.colab.wire import Hosts
from tests.support.colab import Colab
from tests.support.house import House

CLIENT_ID = "mine.apps.googleusercontent.com"
CLIENT_SECRET = "GOCSPX-planted-client-secret"


class ColabHouse(House):
    """Isolated from the real Google; `browser` is the command that opens a page."""

    def __init__(self, root: Path, colab: Colab, *, browser: str) -> None:
        super().__init__(root)
        self.colab = colab
        self.root = root
        self.environment |= {
            "COLABDEV_COLAB_URL": colab.base_url,
            "COLABDEV_OAUTH_URL": colab.base_url,
            "BROWSER": browser,
            "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
        }

    @property
    def login_file(self) -> Path:
        """Where a login without a keyring is kept."""
        return self.places.config_dir / "google.json"

    @property
    def gcloud_file(self) -> Path:
        """Where gcloud keeps the login of programs."""
        return self.home / ".config/gcloud/application_default_credentials.json"

    def client_file(self, kind: str = "installed") -> Path:
        """An OAuth client as Google's console makes them."""
        path = self.root / "client.json"
        client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        path.write_text(json.dumps({kind: client}))
        return path

    def log_in(self) -> None:
        """`auth login`, by a browser in which the user says yes."""
        done = self.colabdev("auth", "login", "--client", self.client_file())
        assert done.returncode == 0, done.stderr

    def log_in_by_gcloud(self, scopes: list[str] | None = None) -> Path:
        """What `gcloud auth application-default login` leaves behind."""
        given = self.colab.tokens(client_id="gcloud", scopes=scopes)
        path = self.gcloud_file
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "type": "authorized_user",
            "client_id": "gcloud",
            "client_secret": "gcloud's",
            "refresh_token": given["refresh_token"],
        }
        path.write_text(json.dumps(document))
        return path

    def colab_notes(self) -> Notes:
        """What was asked of Colab from here."""
        return Notes(self.places.colab_dir)

    def colab_provider(self, *, wait_first_s: float = 15.0) -> ColabProvider:
        """The provider that its commands have, in this process."""
        hosts = Hosts.from_environment(self.environment)
        # Not this process's own home.
        found = {**self.environment, "GOOGLE_APPLICATION_CREDENTIALS": str(self.gcloud_file)}
        login = GoogleLogin(self.places.config_dir, hosts, found)
        return ColabProvider(
            ColabClient(hosts, login),
            self.colab_notes(),
            accepts_free_tier_terms=lambda: False,
            wait_first_s=wait_first_s,
        )

    def colabdev_json(self, *arguments: str, code: int = 0) -> Any:
        """What the command prints with --json."""
        done = self.colabdev(*arguments, "--json")
        assert done.returncode == code, done.stderr + done.stdout
        return json.loads(done.stdout)

    def connect_colab(self, *options: str) -> RuntimeRecord:
        """A runtime of Colab's, ready; the house must be logged in."""
        done = self.colabdev("connect", "--provider", "colab", *options, timeout_s=120)
        assert done.returncode == 0, done.stderr
        return self.record("colab")

    def assert_nothing_is_billed(self) -> None:
        """Colab has no runtime of ours, and nothing here speaks of one."""
        assert self.colab.describe()["runtimes"] == []
        assert self.store.names() == []
        assert list(self.places.colab_dir.glob("*")) == []
        config = self.ssh_files.config_file
        assert not config.exists() or "HostName" not in config.read_text()

    def type(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """One command line, with these variables, too."""
        return self.colabdev(*arguments, env=variables)


def files_with(secret: str, directory: Path) -> list[str]:
    """The files below `directory` in which the secret stands."""
    found = []
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and secret.encode() in path.read_bytes():
                found.append(str(path.relative_to(directory)))
    return sorted(found)
