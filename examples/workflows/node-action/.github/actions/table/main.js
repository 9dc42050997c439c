const fs = require("node:fs");

// As the toolkit does it: names in upper case, spaces become underscores, and nothing else changes.
const input = (name) => (process.env[`INPUT_${name.replace(/ /g, "_").toUpperCase()}`] || "").trim();
const append = (file, text) => fs.appendFileSync(process.env[file], text);

const report = input("report");
if (!fs.existsSync(report)) {
  console.log(`::error title=table::there is no ${report}`);
  process.exit(1);
}
const results = [...fs.readFileSync(report, "utf8").matchAll(/^ {4}(not ok|ok) \d+ - (.+)$/gm)];
const failed = results.filter(([, verdict]) => verdict === "not ok");
for (const [, , name] of failed) {
  console.log(`::error title=${name.replace(/[%:,\r\n]/g, " ")}::failed`);
}
const rows = results.map(([, verdict, name]) => `| ${name.replace(/\|/g, "\\|")} | ${verdict} |\n`);
append("GITHUB_STEP_SUMMARY", `## ${input("title")}\n\n| test | result |\n|---|---|\n${rows.join("")}\n`);
append("GITHUB_OUTPUT", `passed=${results.length - failed.length}\nfailed=${failed.length}\n`);
append("GITHUB_STATE", `report=${report}\n`);
