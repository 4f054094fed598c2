//! Modbus/TCP against pymodbus (PyPI), and against PLCs that are unplugged, silent or talk garbage.

use ota_testkit::peers::{Plc, babbler, free_port};

use crate::{
    reading::{Fault, Value},
    sources::test_feed::Followed,
};

fn follow(port: u16, more: &str) -> Followed {
    Followed::new(&format!(
        "name = \"x\"\nmodbus = {{ host = \"127.0.0.1\", port = {port}, every = \"20ms\", timeout = \"300ms\", {more} }}"
    ))
}

#[tokio::test]
async fn coils_and_registers_are_read_as_the_plc_wrote_them() {
    let port = free_port();
    let mut plc = Plc::start(port);
    let cases = [
        ("1 3 BIT 1 big", "table = \"coil\", address = 3", Value::Bool(true)),
        ("2 4 BIT 1 big", "table = \"discrete_input\", address = 4", Value::Bool(true)),
        ("3 5 WORD 65535 big", "table = \"holding_register\", address = 5", Value::Number(65535.0)),
        (
            "3 6 WORD 65535 big",
            "table = \"holding_register\", address = 6, number = \"i16\"",
            Value::Number(-1.0),
        ),
        ("4 7 WORD 8 big", "table = \"input_register\", address = 7, bit = 3", Value::Bool(true)),
        (
            "3 8 FLOAT32 12.5 big",
            "table = \"holding_register\", address = 8, number = \"f32\"",
            Value::Number(12.5),
        ),
        (
            "3 10 INT32 -70000 little",
            "table = \"holding_register\", address = 10, number = \"i32\", words = \"low_first\"",
            Value::Number(-70000.0),
        ),
        (
            "3 12 UINT32 4000000000 big",
            "table = \"holding_register\", address = 12, number = \"u32\"",
            Value::Number(4e9),
        ),
    ];
    for (written, config, value) in cases {
        plc.set(written);
        follow(port, config).until_value(value).await;
    }
}

#[tokio::test]
async fn the_raw_number_of_a_register_is_scaled_and_moved_to_the_unit_of_the_rules() {
    let port = free_port();
    let mut plc = Plc::start(port);
    // 0 to 1000 for -40 to 85 °C.
    plc.set("3 20 WORD 640 big");
    let mut scaled = Followed::new(&format!(
        "name = \"x\"\nscale = 0.125\noffset = -40.0\nmodbus = {{ host = \"127.0.0.1\", port = {port}, every = \"20ms\", \
         table = \"holding_register\", address = 20 }}"
    ));
    scaled.until_value(Value::Number(40.0)).await;
    plc.set("3 20 WORD 0 big");
    scaled.until_value(Value::Number(-40.0)).await;
}

#[tokio::test]
async fn a_plc_that_is_unplugged_is_a_fault_and_heals_by_itself() {
    let port = free_port();
    let mut first = Plc::start(port);
    first.set("3 1 WORD 7 big");
    let mut source = follow(port, "table = \"holding_register\", address = 1");
    source.until_value(Value::Number(7.0)).await;
    first.kill();
    source.until("disconnected", |o| matches!(o, Err(Fault::Disconnected(_)))).await;
    let mut second = Plc::start(port);
    second.set("3 1 WORD 8 big");
    source.until_value(Value::Number(8.0)).await;
}

#[tokio::test]
async fn a_plc_that_refuses_is_silent_or_talks_garbage_is_a_fault() {
    // Transaction 0, unit 255, holding registers, "illegal data address".
    let refusing = babbler(0, &[0, 0, 0, 0, 0, 3, 255, 0x83, 2]);
    let mut beyond = follow(refusing.port(), "table = \"holding_register\", address = 5000");
    beyond.until("an exception", |o| matches!(o, Err(Fault::Unreadable(_)))).await;
    let silent = babbler(0, b"");
    let mut silent = follow(silent.port(), "table = \"coil\", address = 0");
    silent.until("time-out", |o| *o == Err(Fault::TimedOut)).await;
    for garbage in
        [b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(), &[0xff; 64], &[0; 64], &[0, 0, 0, 0, 0, 3, 255, 1]]
    {
        let address = babbler(0, garbage);
        let mut source = follow(address.port(), "table = \"coil\", address = 0");
        source.until("a fault", |o| o.is_err()).await;
        assert!(!source.says_a_value_within(std::time::Duration::from_millis(100)).await, "{garbage:?}");
    }
}
