//! A run as a page, as JUnit XML and as JSON.
