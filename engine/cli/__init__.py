"""The `sentinel` command: `app` puts it together from one module for each group of commands."""

from engine.cli.app import main

__all__ = ["main"]
