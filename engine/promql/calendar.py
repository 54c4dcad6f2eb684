"""Parts of a date in UTC, from seconds since 1970, for many times at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.core.expression import Values

_DAY_S = 86_400
_THURSDAY = 4  # 1970-01-01; Sunday is 0


def _moments(seconds: Values) -> NDArray[np.datetime64]:
    whole = np.trunc(np.nan_to_num(seconds, nan=0.0, posinf=0.0, neginf=0.0))
    return whole.astype(np.int64).astype("datetime64[s]")


def _number(part: NDArray[np.timedelta64]) -> Values:
    return part.astype(np.int64).astype(np.float64)


def year(seconds: Values) -> Values:
    """The year."""
    return _number(_moments(seconds).astype("datetime64[Y]") - np.datetime64(0, "Y")) + 1970


def month(seconds: Values) -> Values:
    """1 to 12."""
    return _number(_moments(seconds).astype("datetime64[M]") - np.datetime64(0, "M")) % 12 + 1


def day_of_month(seconds: Values) -> Values:
    """1 to 31."""
    moments = _moments(seconds)
    return _number(moments.astype("datetime64[D]") - moments.astype("datetime64[M]").astype("datetime64[D]")) + 1


def day_of_year(seconds: Values) -> Values:
    """1 to 366."""
    moments = _moments(seconds)
    return _number(moments.astype("datetime64[D]") - moments.astype("datetime64[Y]").astype("datetime64[D]")) + 1


def day_of_week(seconds: Values) -> Values:
    """0 (Sunday) to 6."""
    return (_number(_moments(seconds).astype("datetime64[D]") - np.datetime64(0, "D")) + _THURSDAY) % 7


def days_in_month(seconds: Values) -> Values:
    """28 to 31."""
    months = _moments(seconds).astype("datetime64[M]")
    return _number((months + 1).astype("datetime64[D]") - months.astype("datetime64[D]"))


def hour(seconds: Values) -> Values:
    """0 to 23."""
    return _number(_moments(seconds) - np.datetime64(0, "s")) % _DAY_S // 3600


def minute(seconds: Values) -> Values:
    """0 to 59."""
    return _number(_moments(seconds) - np.datetime64(0, "s")) % 3600 // 60
