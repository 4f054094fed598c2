//! Sources against the programs that plants really run: Debian's mosquitto, pymodbus' server, and peers that misbehave.

mod http;
mod modbus;
mod mqtt;
