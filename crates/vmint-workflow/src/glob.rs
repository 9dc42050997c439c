//! Patterns for paths, as in `hashFiles` and in the paths of artifacts and caches.
