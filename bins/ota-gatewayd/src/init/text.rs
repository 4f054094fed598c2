//! The text of a first configuration: every section that a gateway needs, with the remarks that tell what to change.

use std::fmt::{Display, Write as _};

use clap::ValueEnum as _;

use super::Args;

/// As TOML writes a text.
fn quoted(text: impl Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}

/// The file.
pub(super) fn render(args: &Args) -> String {
    let text = |given: &Option<String>| quoted(given.as_deref().unwrap_or("unset"));
    let device = |given: &Option<std::path::PathBuf>, usual: &str| {
        quoted(given.as_ref().map_or_else(|| usual.to_owned(), |path| path.display().to_string()))
    };
    let mut out = format!(
        r#"# /etc/ota-gateway/gateway.toml: what this gateway is and what it may do.
# `ota-gatewayd check-config` reads it and says what is wrong; every key stands in
# /usr/share/doc/ota-gateway/reference/configuration.md.

[gateway]
name = {name}
# Releases name the models they are for; this must be one of them.
model = {model}
serial = {serial}
version_file = "/etc/os-release"

[slots]
a = {a}
b = {b}

[state]
# On a partition that both slots share.
dir = {state}

[boot]
# Two lines: both copies of the U-Boot environment.
fw_env_config = {env}
tries = 3
"#,
        name = text(&args.name),
        model = text(&args.model),
        serial = text(&args.serial),
        a = device(&args.slot_a, "/dev/disk/by-partlabel/root-a"),
        b = device(&args.slot_b, "/dev/disk/by-partlabel/root-b"),
        state = quoted(args.state_dir.display()),
        env = quoted(args.fw_env_config.display()),
    );
    http(&mut out, args);
    let _ = write!(
        out,
        r"
[verify]
# Certificates and OpenPGP keys that may sign images, in the read-only root file system.
keys = {}
",
        quoted(args.keys.display())
    );
    source(&mut out, args);
    safety(&mut out, args);
    health(&mut out, args);
    out.push_str(LOG);
    out
}

const LOG: &str = r#"
[log]
format = "journald"
level = "info"
"#;

fn http(out: &mut String, args: &Args) {
    let listen = args.listen.map_or_else(|| "127.0.0.1:8080".to_owned(), |listen| listen.to_string());
    let _ = write!(
        out,
        "\n[http]\n# Loopback until you decide otherwise. Off loopback the gateway speaks TLS only: with a certificate of its own \
         making\n# unless one is named here.\nlisten = {}\n",
        quoted(listen)
    );
    match (&args.certificate, &args.key) {
        (Some(certificate), Some(key)) => {
            let _ = writeln!(
                out,
                "certificate = {}\nkey = {}",
                quoted(certificate.display()),
                quoted(key.display())
            );
        }
        _ => out
            .push_str("# certificate = \"/etc/ota-gateway/tls.pem\"\n# key = \"/etc/ota-gateway/tls.key\"\n"),
    }
    if args.host.is_empty() {
        out.push_str("# Names by which clients call it, beside its own, addresses and localhost.\n# hosts = [\"gw-17.plant.example\"]\n");
    } else {
        let hosts: Vec<String> = args.host.iter().map(quoted).collect();
        let _ = writeln!(out, "hosts = [{}]", hosts.join(", "));
    }
}

fn source(out: &mut String, args: &Args) {
    let mark = if args.source.is_some() { "" } else { "# " };
    let base = args.source.as_deref().unwrap_or("https://updates.example").trim_end_matches('/');
    let policy = args.policy.to_possible_value();
    let policy = policy.as_ref().map_or("notify", |value| value.get_name());
    let _ = write!(
        out,
        r#"
# Where updates come from. What `policy` says happens by itself: notify, download, install_in_window, install.
{mark}[[source]]
{mark}name = "vendor"
{mark}metadata_url = {}
{mark}targets_url = {}
{mark}initial_root = {}
{mark}channel = {}
{mark}policy = {{ normal = {policy}, critical = {policy} }}
"#,
        quoted(format_args!("{base}/metadata/")),
        quoted(format_args!("{base}/targets/")),
        quoted(args.initial_root.display()),
        quoted(&args.channel),
        policy = quoted(policy),
    );
}

fn safety(out: &mut String, args: &Args) {
    out.push_str(
        "\n# Nothing is irreversible while a constraint is violated, stale or absent: /usr/share/doc/ota-gateway/safety.md.\n",
    );
    if args.constraint.is_empty() {
        out.push_str(
            r#"# [[safety.sources]]
# name = "crane"
# file = { path = "/run/plc/crane_motion" }
# [[safety.constraints]]
# name = "crane_motion"
# source = "crane"
# condition = { equals = "stopped" }
"#,
        );
    }
    for constraint in &args.constraint {
        let name = quoted(&constraint.name);
        let _ = write!(
            out,
            "[[safety.sources]]\nname = {name}\nfile = {{ path = {} }}\n[[safety.constraints]]\nname = {name}\nsource = {name}\n\
             condition = {{ equals = {} }}\n",
            quoted(&constraint.file),
            quoted(&constraint.value),
        );
    }
}

fn health(out: &mut String, args: &Args) {
    out.push_str("\n# What a new version must show before it is confirmed.\n");
    if args.health_unit.is_empty() {
        out.push_str("# [[health.check]]\n# name = \"plc-link\"\n# unit = \"plc-link.service\"\n");
    }
    for unit in &args.health_unit {
        let _ = writeln!(out, "[[health.check]]\nname = {0}\nunit = {0}", quoted(unit));
    }
}
