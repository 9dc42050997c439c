//! The repository of this host: what it says of itself, and its files as a tar for `checkout`.
