"use strict";

/** Whether a path matches a pattern: `*` within a folder, `**` across folders, `?` one character. */
function matches(pattern, path) {
  const source = pattern.replace(/\*\*\/|\*\*|\*|\?|[.+^${}()|[\]\\]/g, (part) => {
    switch (part) {
      case "**/":
        return "(?:.*/)?";
      case "**":
        return ".*";
      case "*":
        return "[^/]*";
      case "?":
        return "[^/]";
      default:
        return `\\${part}`;
    }
  });
  return new RegExp(`^${source}$`).test(path);
}

module.exports = { matches };
