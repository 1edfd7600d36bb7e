//! The ppspp command.
fn main() {}
