"use strict";

const assert = require("node:assert");
const { describe, it } = require("node:test");
const { matches } = require("../lib/glob.js");

describe("matches", () => {
  it("keeps a star within its folder", () => {
    assert.ok(matches("*.js", "glob.js"));
    assert.ok(!matches("*.js", "lib/glob.js"));
  });
  it("lets two stars cross folders, and stand for none", () => {
    assert.ok(matches("**/*.js", "a/b/c.js"));
    assert.ok(matches("**/*.js", "c.js"));
    assert.ok(matches("docs/**", "docs/a/b"));
  });
  it("takes all else literally", () => {
    assert.ok(!matches("a.c", "abc"));
    assert.ok(matches("a+(b)", "a+(b)"));
    assert.ok(matches("v?", "v1"));
  });
});
