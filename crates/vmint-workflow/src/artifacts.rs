//! Artifacts, kept with the run.
