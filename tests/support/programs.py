"""Small programs that tests put where a user has large ones."""

from __future__ import annotations

from pathlib import Path


def put_program(folder: Path, name: str, script: str) -> Path:
    """A shell script of that name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def put_recorder(folder: Path, name: str, answers: str = "") -> Path:
    """A program that writes down its arguments, a line for each, and an empty line behind them;
    returns where. `answers` is a shell script that may say something before."""
    record = folder / f"{name}.argv"
    put_program(folder, name, f'{answers}\nprintf "%s\\n" "$@" "" >> \'{record}\'')
    return record


def recorded(record: Path) -> list[list[str]]:
    """The argument lists so far."""
    text = record.read_text() if record.exists() else ""
    return [call.split("\n") for call in text.split("\n\n") if call]
