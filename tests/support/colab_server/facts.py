"""What nobody has verified against live Colab, in one place, each overridable by `POST /facts`.

Everything else that the stand-in does was read in the source of Google's own clients.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Facts:
    """Times are seconds, of the stand-in's clock where one can wait for them."""

    access_token_life_s: float = 3599
    proxy_token_life_s: float = 3600
    expired_proxy_token_status: int = 404
    """401 was seen as well."""
    idle_timeout_s: float = 21 * 60
    """A runtime without a kernel websocket for this long is reclaimed."""
    lifetime_s: float = 12 * 3600
    boot_delay_s: float = 0
    """How long a new machine only hangs, beyond what it really takes to start."""
    max_assignments: int = 5
    bad_xsrf_status: int = 403
    wrong_authuser_status: int = 400
    drive_credentials_life_s: float = 47 * 60
    ssh_token_in_header: bool = True
    """Whether `/colab/ssh` takes the proxy token from the header alone; it does in the query."""
    ssh_slot_lingers_s: float = 0
    """How long after a connection that broke, without a close frame, `/colab/ssh` says 429."""
    max_put_bytes: int = 100 * 2**20
    """A larger request to the proxy dies with its connection; 20 MB pass and 125 MB did not."""
    drive_upload_delay_s: float = 0.2
    """How long a file written on a mount waits, unchanged, until it is in the cloud. Real ones were
    seen to wait from seconds to half an hour."""
    drive_list_lag_s: float = 0
    """How long a new file is missing from listings; it can be had by its id at once."""
    drive_quota_bytes: int = 15 * 2**30

    def change(self, wanted: Mapping[str, Any]) -> None:
        """Set what is named; KeyError when there is no such fact."""
        known = {field.name for field in dataclasses.fields(self)}
        for name in wanted:
            if name not in known:
                raise KeyError(name)
        for name, value in wanted.items():
            setattr(self, name, type(getattr(self, name))(value))
