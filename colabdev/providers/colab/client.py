"""Colab's session backend: the account, its runtimes, and the credentials that they are given."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import requests

from colabdev.errors import AuthNeeded, ColabdevError, NoCapacity, RuntimeUnreachable
from colabdev.providers.colab.login import GoogleLogin
from colabdev.providers.colab.wire import (
    AGENT_HEADER,
    COMMON_QUERY,
    XSRF_HEADER,
    XSSI_PREFIX,
    Hosts,
)

TIMEOUT_S = 30.0
ASSIGN_TIMEOUT_S = 240.0
"""The server itself gives up after three minutes."""

_SUCCESS_OUTCOMES = (None, 0, 4)
_OUTCOMES = {
    1: "the account's quota for it is used up",
    2: "the account has used its time; Colab says nothing of when it gets more",
    5: "Colab has blocked the account",
}
_OFFLINE_HINT = "is this computer online? then type the command again"


class Refused(RuntimeUnreachable):
    """A status of which the caller may know more."""

    def __init__(self, status: int) -> None:
        super().__init__(f"Colab answered with {status}", hint="type the command again in a minute")
        self.status = status


class NoneFree(NoCapacity):
    """There is none to be had now; in a while there may be."""


class Unclear(RuntimeUnreachable):
    """Whether a request was carried out is not known: the connection broke, or a gateway gave up."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A runtime that is the account's now, with a token for its proxy that is good for a while."""

    endpoint: str
    accelerator: str
    high_memory: bool
    url: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Account:
    """What the account has, in compute units and runtimes."""

    balance: float
    hourly_rate: float
    runtimes: int
    eligible: Mapping[str, str]
    """Accelerators that it may have, with their variant: GPU or TPU."""
    ineligible: Mapping[str, str]

    @property
    def hours_left(self) -> float | None:
        """How long the balance lasts for all that runs now; None when nothing costs anything."""
        return max(self.balance, 0) / self.hourly_rate if self.hourly_rate > 0 else None


@dataclass(frozen=True, slots=True)
class Accelerator:
    """What is asked for; `none` of variant DEFAULT is a machine without."""

    name: str
    variant: str


class ColabClient:
    """Every call may raise `AuthNeeded` and `RuntimeUnreachable`."""

    def __init__(self, hosts: Hosts, login: GoogleLogin, *, timeout_s: float = TIMEOUT_S) -> None:
        self._hosts = hosts
        self._login = login
        self._timeout_s = timeout_s
        self._session = requests.Session()
        self._lock = threading.Lock()

    def account(self) -> Account:
        """Balance and what may be had."""
        told = self._get("/tun/m/ccu-info")
        return Account(
            balance=_number(told.get("currentBalance")),
            hourly_rate=_number(told.get("consumptionRateHourly")),
            runtimes=int(_number(told.get("assignmentsCount"))),
            eligible=_accelerators(told, "eligible"),
            ineligible=_accelerators(told, "ineligible"),
        )

    def assignments(self) -> list[Assignment]:
        """All runtimes of the account, whoever made them; each with a new token."""
        return [found for row in self._rows() if (found := _parse_assignment(row)) is not None]

    def find(self, endpoint: str) -> Assignment | None:
        """The runtime as listed now, with a new token; None when it is gone."""
        row = next((row for row in self._rows() if row.get("endpoint") == endpoint), None)
        return None if row is None else _understood(row)

    def is_gone(self, endpoint: str) -> bool:
        """Whether Colab says so; that it cannot be asked says nothing."""
        with suppress(ColabdevError):
            return self.find(endpoint) is None
        return False

    def look_up(self, notebook_hash: str) -> Assignment | None:
        """The runtime that was asked for by that name, if one came of it."""
        told = self._get("/tun/m/assign", {"nbh": notebook_hash})
        return _understood(told) if "endpoint" in told else None

    def assign(
        self, notebook_hash: str, accelerator: Accelerator, *, high_memory: bool
    ) -> Assignment:
        """The runtime of that name, made if there is none. `NoneFree` when there is none now,
        `NoCapacity` when there is none for this account, `Unclear` when nobody knows whether one
        was made: then ask again, by the same name."""
        query = {"nbh": notebook_hash}
        if accelerator.variant != "DEFAULT":
            query |= {"variant": accelerator.variant, "accelerator": accelerator.name}
        if high_memory:
            query["shape"] = "hm"
        try:
            looked_up = self._get("/tun/m/assign", query)
            known = _parse_assignment(looked_up)
            if known is not None:
                return known
            if looked_up.get("p") is True:
                raise _person_wanted()
            told = self._post("/tun/m/assign", looked_up, query, timeout_s=ASSIGN_TIMEOUT_S)
        except Refused as exc:
            raise _not_assigned(exc, accelerator.name) from exc
        made = _parse_assignment(told)
        outcome = told.get("outcome")
        if made is None or outcome not in _SUCCESS_OUTCOMES:
            cause = _OUTCOMES.get(outcome if isinstance(outcome, int) else 0)
            raise NoCapacity(
                f"Colab gives no runtime with {accelerator.name}: "
                f"{cause or f'it answered with outcome {outcome!r}'}",
                hint="another accelerator (--gpu L4,T4), or the same later",
            )
        return made

    def unassign(self, endpoint: str) -> None:
        """End the runtime. Harmless when it is gone; the proof is that it is not listed any more."""
        path = f"/tun/m/unassign/{endpoint}"
        try:
            self._post(path, self._get(path))
        except Refused as exc:
            if exc.status != 404:
                raise RuntimeUnreachable(
                    f"Colab does not release {endpoint}: it answered with {exc.status}",
                    hint="type the command again in a minute",
                ) from exc

    def propagate(self, endpoint: str, *, dry_run: bool) -> str | None:
        """Give the runtime the user's Drive, or with `dry_run` find out whether that is allowed. None
        when it is, else the page on which the user says yes."""
        path = f"/tun/m/credentials-propagation/{endpoint}"
        query = {
            "authtype": "dfs_ephemeral",
            "version": "2",
            "dryrun": str(dry_run).lower(),
            "propagate": "true",
            "record": "false",
        }
        try:
            told = self._post(path, self._get(path, query), query)
        except Refused as exc:
            cause = "the browser's account is another one" if exc.status == 400 else str(exc.status)
            raise ColabdevError(
                f"Colab does not give the runtime your Drive: {cause}",
                hint="colabdev auth status says which account is meant",
            ) from exc
        if told.get("success") is True:
            return None
        page = told.get("unauthorized_redirect_uri")
        if not isinstance(page, str) or not page.startswith(("https://", "http://127.0.0.1:")):
            raise ColabdevError(
                "Colab does not give the runtime your Drive, and does not say why",
                hint="colabdev connect tries again",
            )
        return page

    def _rows(self) -> list[dict[str, Any]]:
        """Of all runtimes. An answer of any other form does not say that there are none."""
        listed = self._get("/tun/m/assignments").get("assignments", [])
        if not isinstance(listed, list):
            raise _no_sense("it lists no runtimes")
        return [row for row in listed if isinstance(row, dict)]

    def _get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        return self._ask(_Question("GET", path, query or {}, {}, self._timeout_s))

    def _post(
        self,
        path: str,
        answer: Mapping[str, Any],
        query: Mapping[str, str] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """POST where `answer` came from by GET: its token shows that we are not a page's script."""
        headers = {XSRF_HEADER: str(answer.get("token", ""))}
        return self._ask(
            _Question("POST", path, query or {}, headers, timeout_s or self._timeout_s)
        )

    def _ask(self, question: _Question) -> dict[str, Any]:
        answer = self._send(question)
        if answer.status_code == 401:
            self._login.access_token(fresh=True)
            answer = self._send(question)
        if answer.status_code == 401:
            self._login.check_scopes()
            raise self._login.refused()
        if answer.status_code == 403:
            what = question.path.split("/")[3]
            raise AuthNeeded(
                f"Colab does not let this login use {what} (403)",
                hint="colabdev auth status; an OAuth client of an organisation may be barred by it",
            )
        if answer.status_code in (502, 504):
            raise Unclear(f"Colab's gateway answered with {answer.status_code}", hint=_OFFLINE_HINT)
        if not 200 <= answer.status_code < 300:
            raise Refused(answer.status_code)
        if not answer.content and question.method == "GET":
            raise _no_sense("it is empty")  # Not even that there is nothing.
        return _parse_body(answer.text)

    def _send(self, question: _Question) -> requests.Response:
        authorization = {"Authorization": f"Bearer {self._login.access_token()}"}
        try:
            with self._lock:
                return self._session.request(
                    question.method,
                    f"{self._hosts.colab}{question.path}",
                    params={**COMMON_QUERY, **question.query},
                    headers={
                        "Accept": "application/json",
                        **AGENT_HEADER,
                        **question.headers,
                        **authorization,
                    },
                    timeout=question.timeout_s,
                    allow_redirects=False,
                )
        except requests.RequestException as exc:
            raise Unclear(f"cannot reach Colab: {type(exc).__name__}", hint=_OFFLINE_HINT) from exc


@dataclass(frozen=True, slots=True)
class _Question:
    """One request, but for who asks."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    timeout_s: float


def _not_assigned(exc: Refused, accelerator: str) -> ColabdevError:
    if exc.status == 400:
        return NoCapacity(
            f"Colab does not let this account have {accelerator}",
            hint="colabdev connect --gpu T4, or a plan that has it",
        )
    if exc.status == 412:
        return NoCapacity(
            "Colab gives no more runtimes: the account has as many as it may have now",
            hint="colabdev status lists them; colabdev down --all gives back those made here",
        )
    if exc.status == 429:
        return NoneFree("Colab wants to be asked less often", hint="try again in some minutes")
    if exc.status == 503:
        return NoneFree(
            f"Colab has no {accelerator} free now",
            hint="colabdev connect --wait asks until there is one; --gpu L4,T4 takes the first free",
        )
    return RuntimeUnreachable(
        f"Colab does not give a runtime: it answered with {exc.status}", hint="try again later"
    )


def _person_wanted() -> NoCapacity:
    return NoCapacity(
        "Colab wants to see a person before it gives another runtime: it asks for a CAPTCHA",
        hint="run a cell at https://colab.research.google.com, then type the command again",
    )


def _parse_body(text: str) -> dict[str, Any]:
    text = text.removeprefix(XSSI_PREFIX).strip()
    if not text:
        return {}
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise _no_sense("it is no JSON object")
    return document


def _no_sense(cause: str) -> RuntimeUnreachable:
    return RuntimeUnreachable(
        f"cannot make sense of what Colab answers: {cause}",
        hint="its protocol may have changed; is there a newer colabdev?",
    )


def _understood(row: Mapping[str, Any]) -> Assignment:
    """One that is listed is there, also when it is not understood."""
    found = _parse_assignment(row)
    if found is None:
        raise _no_sense(f"it lists {row.get('endpoint')} in a form that is new to us")
    return found


def _parse_assignment(row: object) -> Assignment | None:
    """Leniently: one runtime of a kind that is new to us must not hide the others."""
    if not isinstance(row, dict):
        return None
    endpoint, proxy = row.get("endpoint"), row.get("runtimeProxyInfo")
    if not isinstance(endpoint, str) or not isinstance(proxy, dict):
        return None
    url, token = proxy.get("url"), proxy.get("token")
    if not isinstance(url, str) or not isinstance(token, str) or not url.startswith("http"):
        return None
    name = row.get("accelerator")
    accelerator = name if isinstance(name, str) and name != "NONE" else "none"
    return Assignment(endpoint, accelerator, row.get("machineShape") == 1, url.rstrip("/"), token)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _accelerators(told: Mapping[str, Any], verdict: str) -> dict[str, str]:
    found = {}
    for kind, variant in (("Gpus", "GPU"), ("Tpus", "TPU")):
        listed = told.get(f"{verdict}{kind}")
        for name in listed if isinstance(listed, list) else ():
            if isinstance(name, str):
                found[name] = variant
    return found
