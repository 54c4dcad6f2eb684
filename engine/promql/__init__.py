"""PromQL: compiled from the parser's tree, evaluated columnar over metric windows."""

from engine.promql.compile import compile  # noqa: A004  # the name every rule language's entry has

__all__ = ["compile"]
