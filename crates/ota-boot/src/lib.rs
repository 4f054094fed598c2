//! Partitions, slots and the U-Boot environment.
