// Before the job's first step.
const fs = require("node:fs");

fs.appendFileSync(process.env.GITHUB_STATE, `started=${Math.floor(Date.now() / 1000)}\n`);
console.log("::debug::the watch runs");
