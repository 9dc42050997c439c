//! The engine: jobs in sessions, steps in jobs.
