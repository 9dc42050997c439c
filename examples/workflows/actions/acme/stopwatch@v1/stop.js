// After the job's last step, whatever came of it.
const fs = require("node:fs");

const seconds = Math.floor(Date.now() / 1000) - process.env.STATE_started;
const label = process.env.INPUT_LABEL;
const limit = Number(process.env["INPUT_LIMIT-SECONDS"]);
if (seconds > limit) {
  console.log(`::warning title=stopwatch::${label} took ${seconds} s, more than ${limit}`);
}
fs.appendFileSync(process.env.GITHUB_STEP_SUMMARY, `${label} took ${seconds} s.\n`);
console.log(`${label}: ${seconds} s`);
