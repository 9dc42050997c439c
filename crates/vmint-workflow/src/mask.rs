//! Secrets, hidden in whatever is shown.
