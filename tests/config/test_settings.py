"""`colabdev.toml`: what it may say, and what is said when it cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from colabdev.config.settings import (
    CheckpointSettings,
    JobSettings,
    ProjectSettings,
    RuntimeSettings,
    Settings,
    SyncSettings,
    load_settings,
    settings_schema,
)
from colabdev.errors import ExitCode, SettingsError

# As in the design.
EXAMPLE = """
[project]
name = "digits"
[runtime]
provider = "colab"            # colab | notebook | local | ssh
gpu = ["T4", "L4"]            # in this order; what comes must be one of them
tunnel = "auto"
ttl = "8h"                    # at its end: what `down` does
max_units = 20                # what unattended work may cost
[sync]
exclude = ["data/raw/"]
outputs = ["runs/"]           # brought back, never sent
[job]
requirements = "requirements.txt"
env = { PYTHONHASHSEED = "0" }
[checkpoints]
dir = "runs/*/checkpoints"
keep = 3
stores = ["drivefs", "pull"]
accept = "confirmed"          # or "published"
resume = "--resume {path}"    # how the script takes it
"""


def write(directory: Path, content: str | bytes) -> Path:
    file = directory / "colabdev.toml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def refusal(file: Path) -> SettingsError:
    """The error that `file` meets, which names the file and the next step."""
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    assert caught.value.exit_code is ExitCode.USAGE
    assert str(file) in caught.value.message
    assert caught.value.hint
    return caught.value


def test_example_of_the_design_loads(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, EXAMPLE)) == Settings(
        project=ProjectSettings(name="digits"),
        runtime=RuntimeSettings(
            provider="colab", gpu=("T4", "L4"), tunnel="auto", ttl="8h", max_units=20.0
        ),
        sync=SyncSettings(exclude=("data/raw/",), outputs=("runs/",)),
        job=JobSettings(requirements="requirements.txt", env={"PYTHONHASHSEED": "0"}),
        checkpoints=CheckpointSettings(
            dir="runs/*/checkpoints",
            keep=3,
            stores=("drivefs", "pull"),
            accept="confirmed",
            resume="--resume {path}",
        ),
    )


def test_empty_file_means_the_defaults(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, "")) == Settings(
        project=ProjectSettings(name=None),
        runtime=RuntimeSettings(provider=None, gpu=(), tunnel="auto", ttl=None, max_units=None),
        sync=SyncSettings(exclude=(), outputs=()),
        job=JobSettings(requirements=None, env={}),
        checkpoints=CheckpointSettings(
            dir=None, keep=3, stores=("drivefs", "pull"), accept="confirmed", resume=None
        ),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[projct]\n", "unknown section 'projct'; did you mean 'project'?"),
        ("[checkpoint]\n", "unknown section 'checkpoint'; did you mean 'checkpoints'?"),
        ("[zzz]\n", "unknown section 'zzz'; known: checkpoints, job, project, runtime, sync"),
        ("[runtime]\ngpus = []\n", "in [runtime]: unknown key 'gpus'; did you mean 'gpu'?"),
        ("[project]\nnmae = 'x'\n", "in [project]: unknown key 'nmae'; did you mean 'name'?"),
        ("[sync]\nzzz = 1\n", "in [sync]: unknown key 'zzz'; known: exclude, outputs, watch"),
        ("[checkpoints]\nstore = []\n", "unknown key 'store'; did you mean 'stores'?"),
        (
            "[job.extra]\nx = 1\n",
            "in [job]: unknown key 'extra'; known: env, keep_environment, progress, requirements, steps",
        ),
    ],
)
def test_unknown_word_is_said_with_the_nearest(tmp_path: Path, text: str, said: str) -> None:
    assert refusal(write(tmp_path, text)).message.endswith(said)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("project = 3", "project = 3"),
        ("project = []", "project = []"),
        ("[project]\nname = 3", "project.name = 3"),
        ("[runtime]\nprovider = 'aws'", "runtime.provider = 'aws'"),
        ("[runtime]\ntunnel = true", "runtime.tunnel = True"),
        ("[runtime]\ngpu = 'T4'", "runtime.gpu = 'T4'"),
        ("[runtime]\ngpu = ['T4', 4]", "runtime.gpu.1 = 4"),
        ("[runtime]\nttl = '8 hours'", "runtime.ttl = '8 hours'"),
        ("[runtime]\nttl = '0h'", "runtime.ttl = '0h'"),
        ('[runtime]\nttl = "8h\\n"', "runtime.ttl = '8h\\n'"),
        ("[runtime]\nttl = 8", "runtime.ttl = 8"),
        ("[runtime]\nmax_units = 0", "runtime.max_units = 0"),
        ("[runtime]\nmax_units = 'many'", "runtime.max_units = 'many'"),
        ("[runtime]\nmax_units = nan", "runtime.max_units = nan"),
        ("[sync]\nexclude = [['x']]", "sync.exclude.0 = ['x']"),
        ("[job]\nenv = { A = 1 }", "job.env.A = 1"),
        ("[job]\nprogress = '../x'", "job.progress = '../x'"),
        ("[job]\nsteps = 0", "job.steps = 0"),
        ("[job]\nsteps = 'all'", "job.steps = 'all'"),
        ("[checkpoints]\nask = 'KILL'", "checkpoints.ask = 'KILL'"),
        ("[checkpoints]\nask = 'file:/x'", "checkpoints.ask = 'file:/x'"),
        ("[checkpoints]\nkeep = 1", "checkpoints.keep = 1"),
        ("[checkpoints]\nkeep = 2.5", "checkpoints.keep = 2.5"),
        ("[checkpoints]\nstores = ['s3']", "checkpoints.stores.0 = 's3'"),
        ("[checkpoints]\naccept = 'local'", "checkpoints.accept = 'local'"),
    ],
)
def test_wrong_value_is_said_with_its_place(tmp_path: Path, text: str, place: str) -> None:
    file = write(tmp_path, text)
    assert refusal(file).message.startswith(f"{file}: {place}: ")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[project\n", "line 1"),
        ("[project]\nname = \n", "line 2"),
        ("[project]\nname = 'a'\nname = 'b'\n", "line 3"),
        ("[project]\n\n\nname = digits\n", "line 4"),
    ],
)
def test_bad_toml_is_said_with_its_line(tmp_path: Path, text: str, line: str) -> None:
    error = refusal(write(tmp_path, text))
    assert "is not TOML" in error.message
    assert line in error.message


def test_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    assert "cannot read" in refusal(write(tmp_path, b'[project]\nname = "\xff"\n')).message


def test_file_of_a_windows_editor_is_read(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf[project]\r\nname = "digits"\r\n'
    assert load_settings(write(tmp_path, content)).project.name == "digits"


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "colabdev.toml"
    folder.mkdir()  # Root may read every file, but no directory as one.
    assert "cannot read" in refusal(folder).message


def test_missing_file_is_refused(tmp_path: Path) -> None:
    assert "cannot read" in refusal(tmp_path / "colabdev.toml").message


def test_schema_lists_every_section_and_key() -> None:
    schema = json.loads(json.dumps(settings_schema()))
    assert schema["additionalProperties"] is False
    keys = {}
    for section, reference in schema["properties"].items():
        definition = schema["$defs"][reference["$ref"].rpartition("/")[2]]
        assert definition["additionalProperties"] is False
        keys[section] = sorted(definition["properties"])
    assert keys == {
        "project": ["name"],
        "runtime": ["gpu", "host", "keep_editor", "max_units", "provider", "ttl", "tunnel"],
        "sync": ["exclude", "outputs", "watch"],
        "job": ["env", "keep_environment", "progress", "requirements", "steps"],
        "checkpoints": ["accept", "ask", "dir", "keep", "resume", "stores"],
    }
