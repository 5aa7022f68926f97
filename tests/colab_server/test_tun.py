"""The session backend: what clients may ask of it, and every way in which it refuses."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.colab import Colab, Machine, ask, assign_path, new_notebook_hash
from tests.support.waiting import wait_until


@pytest.fixture
def colab(server: Colab) -> Colab:
    """One without runtimes, whose machines take their time: few of these tests wait for any."""
    server.reset()
    server.facts(boot_delay_s=0.7)
    return server


def test_assign_asked_twice_gives_the_same_runtime(colab: Colab) -> None:
    path = assign_path("T4", new_notebook_hash())
    looked_up = colab.call("GET", path)
    made = colab.post(path).json
    again = colab.call("GET", path).json

    assert looked_up.body.startswith(b")]}'\n")
    assert {**looked_up.json, "token": ""} == {
        "acc": "T4",
        "nbh": looked_up.json["nbh"],
        "p": False,
        "token": "",
        "variant": "GPU",
    }
    assert made["endpoint"].startswith("gpu-t4-s-")
    assert (made["outcome"], made["variant"], made["machineShape"]) == (4, 1, 0)
    assert again["endpoint"] == made["endpoint"]
    assert "outcome" not in again
    assert colab.counters()["runtime made"] == 1


def test_posts_at_once_make_one_runtime(colab: Colab) -> None:
    path = assign_path("NONE", new_notebook_hash())
    token = colab.call("GET", path).json["token"]
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(colab.call, "POST", path, X_Goog_Colab_Token=token) for _ in range(8)]
    assert len({one.result().json["endpoint"] for one in asked}) == 1
    assert colab.counters()["runtime made"] == 1


def test_post_again_with_the_same_token_makes_no_second_runtime(colab: Colab) -> None:
    path = assign_path("NONE", new_notebook_hash())
    token = colab.call("GET", path).json["token"]
    answers = [colab.call("POST", path, X_Goog_Colab_Token=token).json for _ in range(2)]

    assert answers[0]["endpoint"] == answers[1]["endpoint"]
    assert answers[0]["endpoint"].startswith("m-s-")


@pytest.mark.parametrize(
    ("query", "endpoint", "shape"),
    [
        ("variant=GPU&accelerator=A100&shape=hm", "gpu-a100-hm-", 1),
        ("variant=GPU&accelerator=L4&shape=hm", "gpu-l4-s-", 0),
        ("variant=TPU&accelerator=V5E1", "tpu-v5e1-s-", 0),
        ("variant=DEFAULT&accelerator=NONE&shape=hm", "m-hm-", 1),
    ],
)
def test_assign_gives_the_shape_that_there_is(
    colab: Colab, query: str, endpoint: str, shape: int
) -> None:
    made = colab.post(f"/tun/m/assign?nbh={new_notebook_hash()}&{query}").json

    assert made["endpoint"].startswith(endpoint)
    assert made["machineShape"] == shape


def test_assignments_gives_a_fresh_token_each_time_and_the_old_ones_stay_good(
    colab: Colab, machine: Machine
) -> None:
    listed = [colab.call("GET", "/tun/m/assignments").json["assignments"][0] for _ in range(2)]

    tokens = {machine.token, *(one["runtimeProxyInfo"]["token"] for one in listed)}
    assert len(tokens) == 3
    for token in tokens:
        machine.token = token
        assert machine.get("/api/colab/build-info").status == 200


def test_proxy_token_is_given_for_the_tunnel_only(colab: Colab, machine: Machine) -> None:
    path = f"/tun/m/runtime-proxy-token?endpoint={machine.endpoint}&port=8080"
    assert colab.call("GET", path).status == 400
    given = colab.call("GET", path, X_Colab_Tunnel="Google").json
    assert (given["url"], given["tokenExpiresInSeconds"]) == (machine.url, 3600)


def test_unassign_ends_it_and_its_address_says_404(colab: Colab, machine: Machine) -> None:
    assert colab.post(f"/tun/m/unassign/{machine.endpoint}").status == 204

    assert colab.call("GET", "/tun/m/assignments").json == {"assignments": []}
    assert machine.get("/api").status == 404
    assert colab.call("GET", f"/tun/m/unassign/{machine.endpoint}").status == 404


def test_ccu_info_counts_what_is_assigned(colab: Colab, machine: Machine) -> None:
    colab.account(balance=3.5)
    info = colab.call("GET", "/tun/m/ccu-info").json

    assert (info["currentBalance"], info["assignmentsCount"]) == (3.5, 1)
    assert info["consumptionRateHourly"] == pytest.approx(1.07)
    assert info["eligibleGpus"] == ["T4", "L4", "A100"]
    assert isinstance(info["freeCcuQuotaInfo"]["remainingTokens"], str)


def test_keep_alive_and_the_mirror_need_the_tunnel_header(colab: Colab, machine: Machine) -> None:
    for path in (
        f"/tun/m/{machine.endpoint}/keep-alive/",
        f"/tun/m/{machine.endpoint}/api/sessions",
    ):
        assert colab.call("GET", path).status == 400
        assert colab.call("GET", path, X_Colab_Tunnel="Google").status == 200


@pytest.mark.parametrize("token", [None, "", "0123:4567"])
def test_post_without_the_right_xsrf_token_is_refused(colab: Colab, token: str | None) -> None:
    path = assign_path("NONE", new_notebook_hash())
    headers = {} if token is None else {"X_Goog_Colab_Token": token}

    assert colab.call("POST", path, **headers).status == 403
    colab.facts(bad_xsrf_status=400)
    assert colab.call("POST", path, **headers).status == 400
    assert colab.describe()["runtimes"] == []


def test_xsrf_token_is_good_for_its_own_path_only(colab: Colab, machine: Machine) -> None:
    token = colab.call("GET", assign_path("NONE", new_notebook_hash())).json["token"]
    path = f"/tun/m/unassign/{machine.endpoint}"
    assert colab.call("POST", path, X_Goog_Colab_Token=token).status == 403


@pytest.mark.parametrize(
    "nbh", ["", "short", "x" * 43, "x" * 45, "x" * 43 + "%21", "x" * 43 + "/", "x" * 44 + "%0A"]
)
def test_notebook_hash_of_another_form_is_refused(colab: Colab, nbh: str) -> None:
    assert colab.call("GET", f"/tun/m/assign?nbh={nbh}").status == 400


@pytest.mark.parametrize("query", ["variant=GPU", "accelerator=T4", "variant=GPU&accelerator=K80"])
def test_accelerator_that_there_is_not_is_refused(colab: Colab, query: str) -> None:
    assert colab.call("GET", f"/tun/m/assign?nbh={new_notebook_hash()}&{query}").status == 400


def test_accelerator_without_entitlement_is_400(colab: Colab) -> None:
    assert colab.post(assign_path("H100", new_notebook_hash())).status == 400


def test_too_many_assignments_are_412(colab: Colab, machine: Machine) -> None:
    colab.facts(max_assignments=1)
    assert colab.post(assign_path("NONE", new_notebook_hash())).status == 412


def test_authuser_is_asked_for(colab: Colab) -> None:
    headers = {"Authorization": f"Bearer {colab.token}"}
    url = f"{colab.base_url}/tun/m/assignments"
    assert ask("GET", url, headers=headers).status == 400
    assert ask("GET", f"{url}?authuser=0", headers=headers).status == 200


@pytest.mark.parametrize("missing", ["userinfo.email", "colaboratory"])
def test_scope_that_is_missing_is_401(colab: Colab, missing: str) -> None:
    scopes = {"userinfo.email", "colaboratory", "drive.file"} - {missing}
    full = ["openid", *(f"https://www.googleapis.com/auth/{scope}" for scope in scopes)]
    token = colab.tokens(scopes=full)["access_token"]
    assert colab.call("GET", "/tun/m/assignments", token=token).status == 401


def test_access_token_expires_by_the_clock(colab: Colab) -> None:
    token = colab.tokens()["access_token"]
    assert colab.call("GET", "/tun/m/assignments", token=token).status == 200
    colab.advance(3600)
    assert colab.call("GET", "/tun/m/assignments", token=token).status == 401


def test_accounts_do_not_see_each_others_runtimes(colab: Colab, machine: Machine) -> None:
    other = colab.tokens(email="other@example.com")["access_token"]
    assert colab.call("GET", "/tun/m/assignments", token=other).json == {"assignments": []}
    assert colab.call("GET", f"/tun/m/unassign/{machine.endpoint}", token=other).status == 404


@pytest.mark.parametrize("status", [400, 412, 429, 502, 503])
def test_assign_can_be_refused_with_any_status(colab: Colab, status: int) -> None:
    path = assign_path("T4", new_notebook_hash())
    colab.fault("assign_status", status, times=1)
    assert colab.post(path).status == status
    assert colab.post(path).status == 200


@pytest.mark.parametrize("outcome", [1, 2, 5])
def test_outcome_comes_with_200_and_without_a_runtime(colab: Colab, outcome: int) -> None:
    colab.fault("assign_outcome", outcome)
    answer = colab.post(assign_path("T4", new_notebook_hash()))
    assert (answer.status, answer.json) == (200, {"outcome": outcome})
    assert colab.call("GET", "/tun/m/assignments").json == {"assignments": []}


def test_ambiguous_post_made_the_runtime_all_the_same(colab: Colab) -> None:
    path = assign_path("T4", new_notebook_hash())
    colab.fault("ambiguous_assign", True, times=1)
    assert colab.post(path).status == 0

    assert colab.call("GET", path).json["endpoint"].startswith("gpu-t4-s-")
    assert colab.counters()["runtime made"] == 1


def test_answers_can_come_without_the_xssi_prefix(colab: Colab) -> None:
    colab.fault("no_xssi", True)
    assert json.loads(colab.call("GET", "/tun/m/assignments").body) == {"assignments": []}


def test_whole_backend_can_be_out_of_order(colab: Colab) -> None:
    colab.fault("backend_status", 503, times=1)
    assert colab.call("GET", "/tun/m/ccu-info").status == 503
    assert colab.call("GET", "/tun/m/ccu-info").status == 200


def test_unassign_can_fail_and_then_the_runtime_lives(colab: Colab, machine: Machine) -> None:
    colab.fault("unassign_status", 500, times=1)
    assert colab.post(f"/tun/m/unassign/{machine.endpoint}").status == 500
    assert len(colab.call("GET", "/tun/m/assignments").json["assignments"]) == 1


def test_slow_assign_and_captcha(colab: Colab) -> None:
    colab.fault("captcha", True, times=1)
    colab.fault("assign_delay_s", 0.3, times=1)
    path = assign_path("NONE", new_notebook_hash())
    assert colab.call("GET", path).json["p"] is True
    assert colab.post(path).status == 200
    assert colab.describe()["struck"] == {"captcha": 1, "assign_delay_s": 1}


def test_idle_runtime_is_taken_however_often_it_is_kept_alive(
    colab: Colab, machine: Machine
) -> None:
    for _ in range(3):
        colab.advance(8 * 60)
        colab.call("GET", f"/tun/m/{machine.endpoint}/keep-alive/", X_Colab_Tunnel="Google")
    _wait_for_end(colab, machine, "idle")
    path = f"/tun/m/{machine.endpoint}/keep-alive/"
    assert colab.call("GET", path, X_Colab_Tunnel="Google").status == 404


def test_old_runtime_is_taken(colab: Colab, machine: Machine) -> None:
    colab.facts(idle_timeout_s=10**6)
    colab.advance(12 * 3600 + 1)
    _wait_for_end(colab, machine, "lifetime")


def test_unknown_fault_and_fact_are_refused(colab: Colab) -> None:
    for path, body in (("/faults", {"name": "x", "value": 1}), ("/facts", {"x": 1})):
        answer = ask("POST", f"{colab.control_url}{path}", body=json.dumps(body).encode())
        assert answer.status == 400


def _wait_for_end(colab: Colab, machine: Machine, why: str) -> None:
    wait_until(
        lambda: colab.describe()["ended"].get(machine.endpoint) == why,
        message=f"the runtime does not end by {why}",
    )
    assert machine.get("/api").status == 404
