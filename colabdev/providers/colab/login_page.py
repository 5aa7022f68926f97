"""Bringing the user to Google's page and the page's answer back here."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable

from colabdev.ports import Progress
from colabdev.providers.colab.consent import Consent, DesktopClient, Grant, Redirect
from colabdev.providers.colab.wire import Hosts


class LoginPage:
    """The page that asks for a login, opened once."""

    def __init__(self, hosts: Hosts, client: DesktopClient, progress: Progress) -> None:
        self._hosts = hosts
        self._client = client
        self._progress = progress

    def in_browser(self) -> Grant:
        """Open it in a browser of this computer, and wait until that comes back to us."""
        with Redirect() as redirect:
            consent = Consent(self._hosts, self._client, redirect.uri)
            redirect.expect(consent)
            self._progress("waiting for your yes in the browser; Ctrl-C ends it")
            open_page(consent.url, self._progress)
            return consent.redeem(redirect.wait())

    def pasted(self, ask: Callable[[str], str]) -> Grant:
        """Have the user open it anywhere, and bring the last address here themselves."""
        with Redirect() as redirect:
            consent = Consent(self._hosts, self._client, redirect.uri)
            return consent.redeem(ask(consent.url))


def open_page(url: str, progress: Progress) -> None:
    """Open a page in the user's browser; its address is shown as well, for where none opens."""
    progress(f"if no page opens, open this one: {url}")
    webbrowser.open(url)
