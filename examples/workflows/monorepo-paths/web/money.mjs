/** An amount as people of a locale write it. */
export function money(amount, currency, locale = "en-GB") {
  if (!Number.isFinite(amount)) throw new RangeError(`not an amount: ${amount}`);
  return new Intl.NumberFormat(locale, { style: "currency", currency }).format(amount);
}
