"""Structured logs on standard error: JSON lines or a console form, with secrets scrubbed from every event.

Own code logs with `structlog.get_logger(__name__).info("subject.what_happened", key=value)`; libraries that use the
standard `logging` come out in the same form.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from engine.core.masking import MASK, is_secret_name, mask_text
from engine.edge.settings import LogSettings

# Libraries that say at "info" what is only of interest to their authors.
_CHATTY = ("aiokafka", "asyncio", "faust", "httpx", "httpcore", "kafka", "mode", "aiohttp.access")


def configure(settings: LogSettings, instance: str, stream: TextIO | None = None) -> None:
    """Set up logging for the whole process; may be called again, the last call counts."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.StackInfoRenderer(),
    ]
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(settings, instance, colors=handler.stream.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING) if level > logging.DEBUG else level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )


def _renderers(settings: LogSettings, instance: str, *, colors: bool) -> list[Processor]:
    """The last steps of an event. Exceptions become text before scrubbing, so that they are scrubbed too."""
    if settings.format == "console":
        plain = structlog.dev.plain_traceback
        return [
            structlog.processors.format_exc_info,
            scrub,
            structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain),
        ]

    def name_instance(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["instance"] = instance
        return event

    json = structlog.processors.JSONRenderer(sort_keys=True, ensure_ascii=False)
    return [structlog.processors.format_exc_info, name_instance, scrub, json]


def scrub(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A structlog processor: masks values under secret names, and secrets inside any text."""
    for name, value in event.items():
        event[name] = _scrubbed(name, value)
    return event


def _scrubbed(name: str, value: object) -> object:
    if isinstance(value, dict):
        return {key: _scrubbed(str(key), inner) for key, inner in value.items()}
    if is_secret_name(name):
        return MASK
    if isinstance(value, list | tuple):
        return [_scrubbed(name, inner) for inner in value]
    if isinstance(value, str):
        return mask_text(value)
    return mask_text(str(value)) if isinstance(value, BaseException) else value
