"""Logs: one JSON object per line, whoever logs, and never a secret."""

from __future__ import annotations

import io
import json
import logging

import pytest
import structlog

from engine.edge.logging import configure
from engine.edge.settings import LogSettings


@pytest.fixture
def log():
    stream = io.StringIO()
    root = logging.getLogger()
    before = (root.handlers[:], root.level)

    def _configure(**settings) -> io.StringIO:
        configure(LogSettings(**settings), "test", stream)
        return stream

    yield _configure
    root.handlers[:], root.level = before
    structlog.reset_defaults()


def test_an_event_is_one_line_of_json_with_time_level_logger_and_instance(log):
    stream = log()
    structlog.get_logger("engine.x").info("database.away", attempt=2)
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {
        "event": "database.away",
        "attempt": 2,
        "level": "info",
        "logger": "engine.x",
        "instance": "test",
    }


def test_a_library_that_uses_standard_logging_comes_out_the_same(log):
    stream = log()
    logging.getLogger("aiokafka").warning("lost %s", "broker", extra={"node": 1})
    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"], line["logger"], line["node"]) == ("lost broker", "warning", "aiokafka", 1)


@pytest.mark.parametrize(("level", "lines"), [("debug", 3), ("info", 2), ("error", 1)])
def test_events_below_the_level_are_left_out(log, level, lines):
    stream = log(level=level)
    logger = structlog.get_logger("engine.x")
    logger.debug("a")
    logger.info("b")
    logger.error("c")
    assert len(stream.getvalue().splitlines()) == lines


@pytest.mark.parametrize("form", ["json", "console"])
def test_secrets_are_scrubbed_wherever_they_stand(log, form):
    stream = log(format=form)
    logger = structlog.get_logger("engine.x")
    logger.info(
        "a", url="postgresql://u:hunter2@h/d", token="hunter2", nested={"headers": {"Authorization": "hunter2"}}
    )
    logger.warning("b Bearer hunter2", error=ValueError("password=hunter2"))
    try:
        raise RuntimeError("postgresql://u:hunter2@h/d")
    except RuntimeError:
        logging.getLogger("x").exception("failed for %s", "http://u:hunter2@h")
    assert "hunter2" not in stream.getvalue()
    assert "RuntimeError" in stream.getvalue()
