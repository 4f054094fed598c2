//! The over-the-air update daemon of the gateway.

fn main() {}
