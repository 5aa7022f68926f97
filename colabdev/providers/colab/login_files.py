"""Where logins are, for those who only want to know whether there is one: this loads no library."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

LOGIN_NAME = "google"


def own_login(config_dir: Path) -> Path:
    """What `auth login` keeps."""
    return config_dir / f"{LOGIN_NAME}.json"


def gcloud_login(environment: Mapping[str, str]) -> Path:
    """Application default credentials of a user, where every client of Google's looks for them."""
    named = environment.get("GOOGLE_APPLICATION_CREDENTIALS")
    if named:
        return Path(named)
    name = "application_default_credentials.json"
    if environment.get("CLOUDSDK_CONFIG"):
        return Path(environment["CLOUDSDK_CONFIG"]) / name
    if sys.platform == "win32":
        return Path(environment.get("APPDATA", ""), "gcloud", name)
    return Path(os.path.expanduser("~/.config/gcloud")) / name
