"""What every way to obtain a program needs: to run a command, and to say why it cannot be had."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

COMMAND_TIMEOUT_S = 1_500  # a build of Loki from nothing takes most of it


class UnavailableError(Exception):
    """A part cannot be had here; the message is the reason, on one line."""


def run(command: list[str], folder: Path) -> str:
    """Run a command and return its output. Raises UnavailableError with the line that says why it failed."""
    try:
        done = subprocess.run(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=COMMAND_TIMEOUT_S
        )
    except FileNotFoundError:
        raise UnavailableError(f"there is no {command[0]} on this machine") from None
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{command[0]} did not end within {COMMAND_TIMEOUT_S} s") from None
    if done.returncode:
        lines = [re.sub(r"\x1b\[[\d;]*m", "", line).strip() for line in done.stdout.splitlines() if line.strip()]
        told = [line for line in lines if re.match(r"\[ERROR\]|E:|[Ee]rror", line)] or lines[-1:] or ["no output"]
        raise UnavailableError(f"{command[0]} failed with status {done.returncode}: {told[0][:300]}")
    return done.stdout
