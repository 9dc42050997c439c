import unittest
from decimal import Decimal

from rates import Rates


class RatesTest(unittest.TestCase):
    rates = Rates({"EUR": "1", "USD": "0.8", "JPY": "0.00625"})

    def test_there_and_back(self) -> None:
        self.assertEqual(self.rates.convert("10", "EUR", "USD"), Decimal("12.50"))
        self.assertEqual(self.rates.convert("12.50", "USD", "EUR"), Decimal("10.00"))

    def test_half_a_cent_goes_to_the_even_one(self) -> None:
        self.assertEqual(self.rates.convert("0.125", "EUR", "EUR"), Decimal("0.12"))

    def test_an_unknown_currency_is_an_error(self) -> None:
        with self.assertRaises(KeyError):
            self.rates.convert("1", "EUR", "XXX")


if __name__ == "__main__":
    unittest.main()
