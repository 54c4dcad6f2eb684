"""Kubernetes quantities: `500m`, `1Gi`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

from msgspec import Meta

_QUANTITY = r"^([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
_FACTORS = {"": Decimal(1), "m": Decimal("0.001")}
_FACTORS |= {sign: Decimal(1000) ** power for power, sign in enumerate("kMGTPE", 1)}
_FACTORS |= {f"{sign}i": Decimal(1024) ** power for power, sign in enumerate("KMGTPE", 1)}
Quantity = Annotated[str, Meta(pattern=_QUANTITY)]


def amount(quantity: str) -> Decimal:
    """A Kubernetes quantity as a number, of bytes or processors. Raises `ValueError` for other texts.

    Read here and not by the client's library, which is optional: parameters are checked without a cluster as well.
    Source: Kubernetes API reference, Quantity; its exponents ("1e3") are not taken in parameters.
    """
    found = re.match(_QUANTITY, quantity)
    if found:
        return Decimal(found[1]) * _FACTORS[found[2] or ""]
    try:
        return Decimal(quantity)
    except ArithmeticError:
        raise ValueError(f"{quantity!r} is not a quantity such as 500m or 1Gi") from None
