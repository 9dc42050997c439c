//! `needs`: which job comes after which.
