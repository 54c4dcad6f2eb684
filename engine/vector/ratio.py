"""Which series `limit_ratio` keeps: a share of them chosen by a hash of their labels, as Prometheus chooses."""

from __future__ import annotations

import numpy as np
import xxhash

from engine.core.expression import Values
from engine.core.labels import Labels
from engine.core.series import Mask, SeriesSet

_LONG = 255


def chosen(series: SeriesSet, ratio: float) -> Mask:
    """The rows within the ratio: below it if it is positive, else those that `1 + ratio` leaves over."""
    offsets = series.memo("ratio offsets", lambda: _offsets(series))
    return offsets < ratio if ratio >= 0 else offsets >= 1.0 + ratio


def _offsets(series: SeriesSet) -> Values:
    return np.array([xxhash.xxh64_intdigest(_bytes(labels)) / 2.0**64 for labels in series.labels], dtype=np.float64)


def _bytes(labels: Labels) -> bytes:
    """A label set as Prometheus holds and hashes it (`model/labels/labels_stringlabels.go`): sizes before texts."""
    texts = [text.encode() for pair in sorted(labels.items()) for text in pair]
    return b"".join(_size(len(text)) + text for text in texts)


def _size(length: int) -> bytes:
    return bytes([length]) if length < _LONG else bytes([_LONG]) + length.to_bytes(3, "little")
