"""Aureus Sentinel: watches Prometheus and Loki streams, decides, and repairs. `engine.flow` is the page to start at."""

from importlib.metadata import version

__version__ = version("aureus-sentinel")
