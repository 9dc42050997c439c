// The report has been shown, and nobody needs it any more.
require("node:fs").rmSync(process.env.STATE_report);
console.log(`removed ${process.env.STATE_report}`);
