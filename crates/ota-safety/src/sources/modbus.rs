//! A coil or register of a PLC over Modbus/TCP.

use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use ota_core::ports::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio_modbus::{
    Slave,
    client::{Context, Reader, tcp},
};

use super::{Opened, Polled, Probe, Taken, check_period, dial::Names};
use crate::reading::{Fault, Value};

/// One coil, input or number of a PLC and how often it is asked. One connection each, kept open.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModbusConfig {
    /// Name or address of the PLC.
    pub host: String,
    /// Default 502.
    #[serde(default = "default_port")]
    pub port: u16,
    /// Unit behind the address, default 255.
    #[serde(default = "default_unit")]
    pub unit: u8,
    /// Which table.
    pub table: Table,
    /// Address in the table, from 0, as on the wire (register 40001 of a manual is holding 0).
    pub address: u16,
    /// How registers make a number; coils and discrete inputs are `true` or `false`.
    #[serde(default)]
    pub number: Number,
    /// Order of the registers of a 32-bit number.
    #[serde(default)]
    pub words: WordOrder,
    /// Of a register, this bit only (0 is the lowest), as `true` or `false`.
    #[serde(default)]
    pub bit: Option<u8>,
    /// Pause between two requests, default 200 ms.
    #[serde(with = "duration", default = "default_every")]
    pub every: Duration,
    /// Longest request, default 1 s.
    #[serde(with = "duration", default = "default_timeout")]
    pub timeout: Duration,
}

/// One of Modbus' four tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are Modbus' own")]
pub enum Table {
    Coil,
    DiscreteInput,
    HoldingRegister,
    InputRegister,
}

/// How registers make a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are their own description")]
pub enum Number {
    #[default]
    U16,
    I16,
    U32,
    I32,
    F32,
}

/// Which register of two comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WordOrder {
    /// The high one.
    #[default]
    HighFirst,
    /// The low one.
    LowFirst,
}

fn default_port() -> u16 {
    502
}

fn default_unit() -> u8 {
    255
}

fn default_every() -> Duration {
    Duration::from_millis(200)
}

fn default_timeout() -> Duration {
    Duration::from_secs(1)
}

impl ModbusConfig {
    pub(super) fn source(&self) -> Result<Opened, String> {
        check_period(self.every, self.timeout)?;
        if self.bit.is_some_and(|bit| bit > 15 || self.number != Number::U16 || !self.in_registers()) {
            return Err("bit is 0 to 15, of a single register".into());
        }
        if self.in_registers() && self.address.checked_add(self.number.registers() - 1).is_none() {
            return Err("the number reaches beyond the last register".into());
        }
        let probe = ModbusProbe { config: self.clone(), names: Names::default(), connection: None };
        Ok(Polled { probe, every: self.every, timeout: self.timeout, back_off: true }.into())
    }

    fn in_registers(&self) -> bool {
        matches!(self.table, Table::HoldingRegister | Table::InputRegister)
    }

    fn value(&self, words: &[u16]) -> Result<Value, Fault> {
        if let (Some(bit), [word]) = (self.bit, words) {
            return Ok(Value::Bool(word >> bit & 1 == 1));
        }
        self.number.join(words, self.words).map(Value::Number)
    }
}

impl Number {
    const fn registers(self) -> u16 {
        match self {
            Self::U16 | Self::I16 => 1,
            Self::U32 | Self::I32 | Self::F32 => 2,
        }
    }

    fn join(self, words: &[u16], order: WordOrder) -> Result<f64, Fault> {
        match (words, order) {
            ([word], _) => Ok(match self {
                Self::I16 => f64::from(word.cast_signed()),
                _ => f64::from(*word),
            }),
            ([high, low], WordOrder::HighFirst) | ([low, high], WordOrder::LowFirst) => {
                let bits = u32::from(*high) << 16 | u32::from(*low);
                Ok(match self {
                    Self::I32 => f64::from(bits.cast_signed()),
                    Self::F32 => f64::from(f32::from_bits(bits)),
                    _ => f64::from(bits),
                })
            }
            _ => Err(Fault::Malformed(format!("{} registers", words.len()))),
        }
    }
}

struct ModbusProbe {
    config: ModbusConfig,
    names: Names,
    connection: Option<Context>,
}

impl Probe for ModbusProbe {
    fn read(&mut self) -> BoxFuture<'_, Result<Taken, Fault>> {
        Box::pin(async {
            // Taken out: after a time-out half an answer may be under way, which must not meet the next request.
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => connect(&self.config, &self.names).await?,
            };
            let value = ask(&mut connection, &self.config).await?;
            self.connection = Some(connection);
            Ok(value.into())
        })
    }
}

async fn connect(config: &ModbusConfig, names: &Names) -> Result<Context, Fault> {
    let lost =
        |error: std::io::Error| Fault::Disconnected(format!("{}:{}: {error}", config.host, config.port));
    let stream = names.connect(&config.host, config.port).await.map_err(lost)?;
    Ok(tcp::attach_slave(stream, Slave(config.unit)))
}

async fn ask(connection: &mut Context, config: &ModbusConfig) -> Result<Value, Fault> {
    let (address, registers) = (config.address, config.number.registers());
    match config.table {
        Table::Coil => flag(answer(connection.read_coils(address, 1).await)?),
        Table::DiscreteInput => flag(answer(connection.read_discrete_inputs(address, 1).await)?),
        Table::HoldingRegister => {
            config.value(&answer(connection.read_holding_registers(address, registers).await)?)
        }
        Table::InputRegister => {
            config.value(&answer(connection.read_input_registers(address, registers).await)?)
        }
    }
}

fn answer<T>(outcome: tokio_modbus::Result<T>) -> Result<T, Fault> {
    match outcome {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(exception)) => Err(Fault::Unreadable(exception.to_string())),
        Err(tokio_modbus::Error::Protocol(error)) => Err(Fault::Malformed(error.to_string())),
        Err(tokio_modbus::Error::Transport(error)) => Err(Fault::Disconnected(error.to_string())),
    }
}

fn flag(flags: Vec<bool>) -> Result<Value, Fault> {
    flags.first().copied().map(Value::Bool).ok_or_else(|| Fault::Malformed("no coil in the answer".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_registers_make_a_number_in_either_order() {
        let words = [0x0001, 0xfffe];
        assert_eq!(Number::U32.join(&words, WordOrder::HighFirst), Ok(131_070.0));
        assert_eq!(Number::U32.join(&words, WordOrder::LowFirst), Ok(4_294_836_225.0));
        assert_eq!(Number::I32.join(&[0xffff, 0xffff], WordOrder::HighFirst), Ok(-1.0));
        assert_eq!(Number::F32.join(&[0x4148, 0], WordOrder::HighFirst), Ok(12.5));
        assert_eq!(Number::I16.join(&[0x8000], WordOrder::HighFirst), Ok(-32768.0));
        assert!(Number::U32.join(&[1, 2, 3], WordOrder::HighFirst).is_err());
    }

    #[test]
    fn a_bit_is_of_one_register() {
        let config = |text: &str| {
            let text = format!("host = \"plc\"\naddress = 1\n{text}");
            toml::from_str::<ModbusConfig>(&text).unwrap().source().is_ok()
        };
        assert!(config("table = \"holding_register\"\nbit = 15"));
        assert!(!config("table = \"holding_register\"\nbit = 16"));
        assert!(!config("table = \"coil\"\nbit = 1"));
        assert!(!config("table = \"holding_register\"\nnumber = \"u32\"\nbit = 1"));
    }
}
