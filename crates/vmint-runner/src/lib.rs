//! vmint-runner
