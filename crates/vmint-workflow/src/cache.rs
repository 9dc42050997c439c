//! Caches, kept on this host.
