"""LogQL on streams of lines: `compile` for rules (`engine.core.expression`), `compile_log_query` for lines alone."""

from engine.logql.compile import compile  # noqa: A004  # the name of the contract
from engine.logql.log_query import LogQuery, compile_log_query

__all__ = ["LogQuery", "compile", "compile_log_query"]
