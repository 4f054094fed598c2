//! Project commands: demo, test, ci, layers, openapi, bench, tidy.

fn main() {}
