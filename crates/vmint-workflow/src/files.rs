//! Files in which a step leaves what others shall know: `GITHUB_ENV`, `GITHUB_OUTPUT` and the others.
