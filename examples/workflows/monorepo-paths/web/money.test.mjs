import assert from "node:assert";
import { money } from "./money.mjs";

assert.strictEqual(money(1234.5, "EUR"), "€1,234.50");
assert.strictEqual(money(1234.5, "EUR", "de-DE"), "1.234,50\u00a0€");
assert.strictEqual(money(1234.5, "JPY"), "JP¥1,235");
assert.throws(() => money(NaN, "EUR"), RangeError);
console.log("4 assertions hold");
