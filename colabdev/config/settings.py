"""`colabdev.toml`: what it may say. Unknown keys are errors that name the nearest known one."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from colabdev.agent.jobdir import ASK_FILE, ASK_SIGNALS
from colabdev.config.project import SETTINGS_FILE
from colabdev.errors import SettingsError, unknown_word
from colabdev.models import SyncedSettings

ProviderName = Literal["colab", "notebook", "local", "ssh"]
TunnelName = Literal["auto", "ngrok", "colab", "cloudflared", "direct", "colab-ssh"]
StoreName = Literal["drivefs", "driveapi", "pull", "local"]
Duration = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*[smhd]$")]
Pattern = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]


def _check_folder(text: str) -> str:
    parts = text.rstrip("/").split("/")
    if "\0" in text or any(part in ("", ".", "..") for part in parts):
        raise PydanticCustomError(
            "folder", "it takes a folder below the project, such as runs/*/checkpoints"
        )
    return text


Folder = Annotated[str, AfterValidator(_check_folder)]


def _check_ask(text: str) -> str:
    if text.startswith(ASK_FILE):
        return ASK_FILE + _check_folder(text.removeprefix(ASK_FILE))
    if text not in ASK_SIGNALS:
        raise PydanticCustomError(
            "ask", f"it takes one of {', '.join(ASK_SIGNALS)}, or file:PATH below the project"
        )
    return text


Ask = Annotated[str, AfterValidator(_check_ask)]

_WORDS = {
    "dict_type": "it takes a table",
    "model_type": "it takes a section",
    "string_type": "it takes a text in quotes",
    "tuple_type": "it takes a list",
}
"""pydantic's errors that speak of Python, for people who write TOML."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProjectSettings(_Section):
    """The project itself."""

    name: str | None = Field(None, min_length=1, description="Its name; default: the folder's.")


class RuntimeSettings(_Section):
    """The runtime that the project runs on."""

    provider: ProviderName | None = None
    host: str | None = Field(
        None, description="The host of your own that provider ssh uses: ALIAS or USER@HOST[:PORT]."
    )
    gpu: tuple[str, ...] = Field((), description="In this order; what comes must be one of them.")
    tunnel: TunnelName = "auto"
    ttl: Duration | None = Field(
        None,
        description="How long a rented runtime lives; at its end what `down` does: 30m, 8h, 1d.",
    )
    max_units: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        strict=True,
        description="Compute units that unattended work may cost.",
    )

    keep_editor: bool = Field(
        False,
        strict=True,
        description="Keep VS Code's server and its extensions on Drive, for the next machine.",
    )

    @property
    def ttl_s(self) -> int | None:
        """`ttl` in seconds."""
        if self.ttl is None:
            return None
        return int(self.ttl[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[self.ttl[-1]]


class SyncSettings(_Section):
    """What is kept in step."""

    exclude: tuple[Pattern, ...] = Field((), description="Patterns as in .gitignore.")
    outputs: tuple[Pattern, ...] = Field((), description="Brought back, never sent.")
    watch: bool = Field(
        True, strict=True, description="Sync by itself while an editor is connected to the runtime."
    )


class JobSettings(_Section):
    """How jobs are started."""

    requirements: str | None = None
    env: dict[str, str] = Field(default_factory=dict)
    keep_environment: bool = Field(
        True, strict=True, description="Keep what was installed on Drive, for the next machine."
    )
    progress: Folder | None = Field(
        None,
        description="A file of JSON lines with `step` that jobs write: `runs/*/metrics.jsonl`.",
    )
    steps: int | None = Field(
        None, gt=0, strict=True, description="How many steps a job makes, if it tells that nowhere."
    )


class CheckpointSettings(_Section):
    """Where checkpoints appear and when they count as safe."""

    dir: Folder | None = Field(
        None, description="Where jobs write them: a pattern from the project, `runs/*/checkpoints`."
    )
    keep: int = Field(3, ge=2, strict=True)
    stores: tuple[StoreName, ...] = ("drivefs", "pull")
    accept: Literal["confirmed", "published"] = "confirmed"
    resume: str | None = Field(None, description="How the script takes it: `--resume {path}`.")
    ask: Ask | None = Field(
        None,
        description="How a job is asked to save soon and go on: a signal, `USR1`, or a file, "
        "`file:PATH`, that appears in the work dir.",
    )


class Settings(_Section):
    """The whole of `colabdev.toml`."""

    project: ProjectSettings = ProjectSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    sync: SyncSettings = SyncSettings()
    job: JobSettings = JobSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()


def load_settings(file: Path) -> Settings:
    """The settings in `file`; `SettingsError` says what is wrong and where."""
    try:
        if not file.is_file():
            raise SettingsError(
                f"cannot read {file}: it is not a file", hint="move it out of the way"
            )
        document = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as exc:
        raise SettingsError(
            f"cannot read {file}: it is not UTF-8 text", hint="save it as UTF-8"
        ) from exc
    except OSError as exc:
        raise SettingsError(
            f"cannot read {file}: {exc}", hint="give read access, or move it out of the way"
        ) from exc
    except RecursionError as exc:
        raise SettingsError(
            f"{file} is not TOML that can be read: it is nested too deeply", hint="mend that file"
        ) from exc
    except tomllib.TOMLDecodeError as exc:
        raise SettingsError(f"{file} is not TOML: {exc}", hint="mend that line") from exc
    try:
        return Settings.model_validate(document)
    except ValidationError as exc:
        raise _settings_error(file, exc) from exc


def load_synced_settings(file: Path) -> SyncedSettings:
    """Those in `file` that a sync needs, all of it checked."""
    settings = load_settings(file)
    outputs, place = settings.sync.outputs, settings.checkpoints.dir
    if place is not None:
        # Checkpoints are carried in their own way; what a job writes there is nobody's edit.
        outputs = (*outputs, f"/{place}")
    return SyncedSettings(
        settings.project.name, settings.sync.exclude, outputs, settings.sync.watch
    )


def settings_schema() -> dict[str, Any]:
    """The JSON Schema of `colabdev.toml`, for editors."""
    return Settings.model_json_schema()


def _settings_error(file: Path, exc: ValidationError) -> SettingsError:
    """The first fault in words; the rest is found when that one is mended."""
    fault = exc.errors(include_url=False)[0]
    place = [str(part) for part in fault["loc"]]
    if fault["type"] == "extra_forbidden":
        section, word = place[:-1], place[-1]
        sentence = unknown_word("key" if section else "section", word, _known_keys(section))
        where = f" in [{'.'.join(section)}]" if section else ""
        return SettingsError(f"{file}{where}: {sentence}", hint="colabdev config schema lists all")
    given = fault["input"]
    takes = _WORDS.get(fault["type"], fault["msg"].lower())
    return SettingsError(
        f"{file}: {'.'.join(place)} = {given!r}: {takes}",
        hint=f"mend that line of {SETTINGS_FILE}; colabdev config schema says what it takes",
    )


def _known_keys(section: list[str]) -> list[str]:
    model: Any = Settings
    for part in section:
        model = model.model_fields[part].annotation
    return list(model.model_fields)
