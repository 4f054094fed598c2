//! Command line for operators and release engineers.

fn main() {}
