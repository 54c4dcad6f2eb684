"""Go's template language (text/template), with Prometheus's functions for alerts and Loki's for log lines.

Reading order: `scanner` (text to tokens), `parser` (tokens to the tree of `tree`), `execution` and `calls` (tree to
Python functions), `printing` and `printf` (Go's `fmt`), then `prometheus` and `loki`, which rule files and log queries
use. `values` says how Go's values stand in Python.
"""

from engine.core.gotemplate.prometheus import Template, compile_template

__all__ = ["Template", "compile_template"]
