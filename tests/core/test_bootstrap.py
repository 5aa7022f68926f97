"""The cell that sets a Colab VM up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from colabdev.core.bootstrap import parse_bootstrap, render_bootstrap

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBRFczrG4bSPDHJyhzTIh0zVZFlHsZLk4VTXgnoHVbqY"
ANSWER = {
    "port": 40022,
    "host_key": KEY,
    "colab_host_keys": ["ssh-rsa AAAAB3Nz", "ecdsa-sha2-nistp256 AAAAE2Vj", KEY],
    "hostname": "gpu-t4-s-1",
    "steps": [["OpenSSH", 0.5]],
}
GOLDEN = """\
def _colabdev():
    import json
    names = {"__name__": "colabdev_vm"}
    exec(compile('def main(it):\\n    return {"it\\'s": it}\\n', "<colabdev>", "exec"), names)
    print('colabdev-vm ' + json.dumps(names["main"](json.loads('{"public_key": "ssh-ed25519 AAAA"}'))))
_colabdev()
del _colabdev
"""


def test_cell_is_rendered_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    source = 'def main(it):\n    return {"it\'s": it}\n'
    cell = render_bootstrap(source, "ssh-ed25519 AAAA")
    assert cell == GOLDEN
    notebook: dict[str, Any] = {}
    exec(cell, notebook)
    assert capsys.readouterr().out == 'colabdev-vm {"it\'s": {"public_key": "ssh-ed25519 AAAA"}}\n'
    assert set(notebook) == {"__builtins__"}


def test_answer_is_found_behind_whatever_else_was_printed() -> None:
    told = parse_bootstrap(f"Reading package lists...\ncolabdev-vm {json.dumps(ANSWER)}\nbye\n")
    assert (told.port, told.host_key, told.hostname) == (40022, KEY, "gpu-t4-s-1")
    assert [key.split()[0] for key in told.colab_host_keys] == [
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ssh-rsa",
    ]
    assert told.steps == (("OpenSSH", 0.5),)


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": "22"},
        {"port": 0},
        {"port": 70000},
        {"host_key": f"{KEY}\nHost *"},
        {"host_key": "ssh-dss AAAA"},
        {"colab_host_keys": ["@cert-authority *"]},
        {"colab_host_keys": None},
        {"steps": [["one"]]},
    ],
)
def test_answer_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_bootstrap("colabdev-vm " + json.dumps({**ANSWER, **wrong}))


@pytest.mark.parametrize("printed", ["", "colabdev-vm {", "colabdev-vm []", "colabdev-vm {}"])
def test_no_answer_is_refused(printed: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_bootstrap(printed)
