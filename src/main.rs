//! The `losparse` command.
fn main() {}
