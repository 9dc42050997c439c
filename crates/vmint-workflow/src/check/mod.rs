//! All that is wrong with a workflow or cannot be run, before anything runs.
