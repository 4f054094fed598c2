//! The simulated device: slots, boot environment, boot loader stand-in, update server.
