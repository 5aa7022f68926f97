"""The part of the command line's composition root that has to do with Colab; see `cli.wiring`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from colabdev.errors import AuthNeeded

if TYPE_CHECKING:
    from colabdev.config.places import Places
    from colabdev.core.outlook import Prices
    from colabdev.providers.colab.login import GoogleLogin, LoginStatus
    from colabdev.providers.colab.provider import ColabProvider, Overview

OVERVIEW_TIMEOUT_S = 4.0

_WAYS_IN = """cannot start a Colab runtime: there is no Google login on this computer. The ways in:
  local      colabdev connect --provider local   a sandbox on this computer, no account
  own host   colabdev connect NAME --provider ssh --host HOST   a machine you reach by SSH
  Google     colabdev auth login                 a GPU of Colab's, with an account of yours
  notebook   colabdev notebook                   one cell that you run in a browser"""


class ColabWiring:
    """Builds what a command asks of Colab, once it asks."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def provider(self, *, timeout_s: float = 30.0) -> ColabProvider:
        from colabdev.providers.colab.client import ColabClient
        from colabdev.providers.colab.notes import Notes
        from colabdev.providers.colab.provider import ColabProvider
        from colabdev.providers.colab.wire import Hosts

        login = self.login(timeout_s=timeout_s)
        client = ColabClient(Hosts.from_environment(os.environ), login, timeout_s=timeout_s)
        notes = Notes(self._places.colab_dir)
        return ColabProvider(client, notes, accepts_free_tier_terms=self.accepts_free_tier_terms)

    def overview(self) -> Overview | None:
        """How the Colab account stands; None where nobody uses one: gcloud's login alone may be for
        anything. It raises soon, for it is only told beside the rest."""
        from colabdev.providers.colab.login_files import own_login

        # os.path, which takes what may not be looked at for absent.
        signs = (own_login(self._places.config_dir), self._places.colab_dir)
        if not any(map(os.path.exists, signs)):
            return None
        return self.provider(timeout_s=OVERVIEW_TIMEOUT_S).overview()

    def prices(self, overview: Overview | None = None) -> Prices:
        """What runtimes cost, and, by an overview of the account, what there is for that."""
        from colabdev.core.outlook import Prices
        from colabdev.providers.colab.wire import HOURLY_RATES

        if overview is None:
            return Prices(HOURLY_RATES)
        account = overview.account
        only_rate = account.hourly_rate if account.runtimes == 1 else None
        return Prices(HOURLY_RATES, only_rate, account.balance)

    def check_login(self) -> None:
        """Explain the ways in where there is no Google login at all."""
        from colabdev.providers.colab.login_files import gcloud_login, own_login

        logins = (own_login(self._places.config_dir), gcloud_login(os.environ))
        if not any(map(os.path.exists, logins)):
            raise AuthNeeded(_WAYS_IN, hint="colabdev auth login")

    def login(self, *, timeout_s: float = 30.0) -> GoogleLogin:
        from colabdev.providers.colab.login import GoogleLogin
        from colabdev.providers.colab.wire import Hosts

        hosts = Hosts.from_environment(os.environ)
        return GoogleLogin(self._places.config_dir, hosts, os.environ, timeout_s=timeout_s)

    def log_in(self, client_file: Path | None, ask: Callable[[str], str] | None) -> LoginStatus:
        """Ask the user's Google account for a login. `ask` shows a page's address and returns where
        that ended; without it the page opens in a browser here."""
        from colabdev.cli import output
        from colabdev.providers.colab.consent import load_client
        from colabdev.providers.colab.login_page import LoginPage
        from colabdev.providers.colab.wire import Hosts

        login = self.login()
        client = login.known_client() if client_file is None else load_client(client_file)
        if client is None:
            raise login.no_client()
        page = LoginPage(Hosts.from_environment(os.environ), client, output.progress)
        return login.keep(client, page.pasted(ask) if ask else page.in_browser())

    def accepts_free_tier_terms(self) -> bool:
        from colabdev.config.user_settings import load_user_settings

        return load_user_settings(self._places.config_dir).accept_free_tier_terms

    def set_free_tier_terms(self, *, accept: bool) -> None:
        from colabdev.adapters.settings_file import write_user_settings
        from colabdev.config.user_settings import UserSettings

        settings = UserSettings(accept_free_tier_terms=accept)
        write_user_settings(self._places.config_dir, settings)

    def terms_text(self) -> str:
        from colabdev.providers.colab.wire import FREE_TIER_TERMS

        return FREE_TIER_TERMS
