//! Thousands of generated environments against Debian's own `fw_printenv` and `fw_setenv` (package `libubootenv-tool`).

use std::{fs, path::Path, process::Command, sync::Arc};

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use tempfile::TempDir;

use super::*;
use crate::device::OsDevices;

const ROUNDS: usize = 1200;
/// Of an environment that has one copy only.
const ROUNDS_SINGLE: usize = 300;

/// Distinct names with values. Line ends are left out: the tools print and read lines.
fn variables(value: &'static str) -> impl Strategy<Value = Vec<(String, String)>> {
    // `.flags` and its like have a meaning of their own for the tools.
    prop::collection::btree_map("[A-Za-z_][A-Za-z0-9_.-]{0,12}", value, 0..24)
        .prop_map(|m| m.into_iter().collect())
}

fn runner(seed: u8) -> TestRunner {
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]))
}

/// In memory: thousands of syncs of a disk would measure the disk.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

fn store(dir: &Path, format: Format) -> EnvStore {
    let env = dir.join("env");
    let mut lines = format!("{} 0x0 0x2000\n", env.display());
    if format == Format::Redundant {
        lines.push_str(&format!("{} 0x2000 0x2000\n", env.display()));
    }
    fs::write(dir.join("fw_env.config"), lines).unwrap();
    let settings = EnvSettings {
        fw_env_config: dir.join("fw_env.config"),
        lock: dir.join("lock"),
        allow_single_copy: format == Format::Single,
    };
    EnvStore::new(settings, Arc::new(OsDevices::default()))
}

fn tool(name: &str, dir: &Path, arguments: &[&str]) -> Vec<u8> {
    #[expect(clippy::disallowed_methods, reason = "the independent reader and writer of the environment")]
    let output = Command::new(name)
        .arg("-c")
        .arg(dir.join("fw_env.config"))
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("{name}: {e}; install the Debian package libubootenv-tool"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A first environment, as a factory would have written it.
fn factory(dir: &Path, format: Format) {
    let copies = if format == Format::Redundant { 2 } else { 1 };
    let data = Environment::default().serialise(0x2000 - format.header()).unwrap();
    fs::write(dir.join("env"), format.seal(0, &data).repeat(copies)).unwrap();
}

fn sorted(mut lines: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    lines.sort();
    lines
}

#[test]
fn what_we_write_the_tools_read() {
    we_write(Format::Redundant, ROUNDS);
}

#[test]
fn what_we_write_to_a_single_copy_the_tools_read() {
    we_write(Format::Single, ROUNDS_SINGLE);
}

fn we_write(format: Format, rounds: usize) {
    let dir = folder();
    let store = store(dir.path(), format);
    factory(dir.path(), format);
    let mut runner = runner(1);
    for round in 0..rounds {
        let wanted = variables("[^\u{0}\n]{0,40}").new_tree(&mut runner).unwrap().current();
        store
            .update(|environment| {
                *environment = Environment::default();
                wanted.iter().for_each(|(name, value)| environment.set(name, value));
                Ok(())
            })
            .unwrap();
        let printed = tool("fw_printenv", dir.path(), &[]);
        let printed = printed.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(<[_]>::to_vec).collect();
        let wanted = wanted.iter().map(|(name, value)| format!("{name}={value}").into_bytes()).collect();
        assert_eq!(sorted(printed), sorted(wanted), "round {round}");
    }
}

#[test]
fn what_the_tools_write_we_read_and_keep_byte_for_byte() {
    tools_write(Format::Redundant, ROUNDS);
}

#[test]
fn what_the_tools_write_to_a_single_copy_we_read_and_keep_byte_for_byte() {
    tools_write(Format::Single, ROUNDS_SINGLE);
}

fn tools_write(format: Format, rounds: usize) {
    let dir = folder();
    let store = store(dir.path(), format);
    factory(dir.path(), format);
    let defaults = dir.path().join("defaults");
    fs::write(&defaults, "").unwrap();
    let mut runner = runner(2);
    for round in 0..rounds {
        let wanted = variables("[!-~]([ -~]{0,40}[!-~])?").new_tree(&mut runner).unwrap().current();
        let script = dir.path().join("script");
        // A name alone removes; the tools take `name=value` lines only, so the old ones go by an empty start.
        factory(dir.path(), format);
        fs::write(&script, wanted.iter().map(|(n, v)| format!("{n}={v}\n")).collect::<String>()).unwrap();
        tool("fw_setenv", dir.path(), &["-f", defaults.to_str().unwrap(), "-s", script.to_str().unwrap()]);
        let wanted: Vec<Vec<u8>> =
            sorted(wanted.iter().map(|(n, v)| format!("{n}={v}").into_bytes()).collect());
        let read = store.read().unwrap().environment;
        assert_eq!(sorted(read.entries().map(<[_]>::to_vec).collect()), wanted, "round {round}");
        store
            .update(|environment| {
                environment.set("ota_interop", "1");
                Ok(())
            })
            .unwrap();
        let mut kept = store.read().unwrap().environment;
        kept.unset("ota_interop");
        assert_eq!(kept, read, "round {round}");
    }
}
