//! What has happened, and which workflows it starts.
