const fs = require("node:fs");

const started = process.env.STATE_started;
if (!started) {
  console.log("::error title=stopwatch::pre has not run");
  process.exit(1);
}
fs.appendFileSync(process.env.GITHUB_OUTPUT, `started=${started}\n`);
console.log(`${process.env.INPUT_LABEL}: ${Math.floor(Date.now() / 1000) - started} s so far`);
