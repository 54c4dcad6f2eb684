"""LogQL metric queries on streams of lines: `compile` is the whole interface (`engine.core.expression`)."""

from engine.logql.compile import compile  # noqa: A004  # the name of the contract

__all__ = ["compile"]
