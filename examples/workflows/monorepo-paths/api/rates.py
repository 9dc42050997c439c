"""Exchange rates."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal


class Rates:
    """What one unit of a currency is worth, in a common unit that nobody sees."""

    def __init__(self, worth: dict[str, str]) -> None:
        self.worth = {currency: Decimal(value) for currency, value in worth.items()}

    def convert(self, amount: str, source: str, target: str) -> Decimal:
        """An amount in another currency, to the cent. Raises KeyError for a currency that is not known."""
        value = Decimal(amount) * self.worth[source] / self.worth[target]
        return value.quantize(Decimal("0.01"), rounding=ROUND_HALF_EVEN)
