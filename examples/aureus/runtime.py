"""Process matters of the stand-in: open-file limit, when to stop, and following one's parent."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import stat
import sys

FILES_NEEDED = 2_600  # the largest connection leak, twice the ordinary load, and some room

_console = logging.getLogger(__name__)


def configure_console() -> None:
    """What a person should read goes to standard error; standard output carries the one ready line."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="aureus: %(levelname)s: %(message)s")


def raise_open_file_limit() -> int:
    """Raise the soft limit of open files to the hard one and return it; too low a limit is said aloud."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    files_max = sys.maxsize if hard == resource.RLIM_INFINITY else hard
    if files_max < FILES_NEEDED:
        _console.warning(
            "at most %d files may be open here; the fault connection-leak needs %d (raise `ulimit -Hn`)",
            files_max,
            FILES_NEEDED,
        )
    return files_max


def stop_requested(*, follow_stdin: bool) -> asyncio.Event:
    """An event set by SIGTERM, SIGINT and, with `follow_stdin`, by the end of standard input.

    Whoever starts this process with a pipe as its standard input thereby takes it along when dying, however that
    happens. Raises ValueError when standard input is no pipe.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if follow_stdin:
        if not stat.S_ISFIFO(os.fstat(0).st_mode) and not stat.S_ISSOCK(os.fstat(0).st_mode):
            raise ValueError("--follow-stdin needs a pipe as standard input")
        loop.add_reader(0, _read_stdin, loop, stop)
    return stop


def _read_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    if not os.read(0, 1024):
        loop.remove_reader(0)
        stop.set()
