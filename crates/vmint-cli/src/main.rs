//! The `vmint` command.
fn main() {}
