//! `ota-gatewayd sandbox`: what this device's configuration needs beyond the sandbox of the shipped unit, as a drop-in.
//!
//! The unit sees the file system read-only but for the state folder. Snapshots are restored elsewhere, a factory reset leaves its
//! order elsewhere, a boot environment may be a file: each of these has to be opened, and nothing else.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use crate::config::Config;

/// The state folder of the shipped unit, which systemd opens by itself.
const STATE: &str = "/var/lib/ota-gateway";

/// What `ProtectHome` is about.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];

const HEAD: &str = "# Made by `ota-gatewayd sandbox` from gateway.toml. Make it again when snapshot.paths, factory_reset, state or boot change,
# or a file that is read in a home:
#   ota-gatewayd sandbox > /etc/systemd/system/ota-gatewayd.service.d/device.conf && systemctl daemon-reload
";

/// The text of the drop-in.
pub(crate) fn drop_in(config: &Config) -> String {
    let mut out = HEAD.to_owned();
    let paths = writable(config);
    let mounts: Vec<String> = paths.iter().map(|path| quoted(path)).collect();
    let _ = writeln!(out, "[Unit]\n{}", lines("RequiresMountsFor=", &mounts));
    out.push_str("[Service]\n");
    let open: Vec<String> = paths.iter().map(|path| format!("-{}", quoted(path))).collect();
    let _ = writeln!(out, "{}", lines("ReadWritePaths=", &open));
    let used = paths.iter().map(PathBuf::as_path).chain(read(config));
    if used.into_iter().any(|path| HOMES.iter().any(|home| path.starts_with(home))) {
        // Below what the shipped unit hides, nothing can be opened.
        out.push_str("ProtectHome=read-only\n");
    }
    for area in boot_areas(config) {
        // The switch of the write protection that Linux puts on it.
        let _ = writeln!(out, "ReadWritePaths=-/sys/block/{area}/force_ro");
    }
    if config.unpack.device_nodes {
        // Only to make nodes: what they stand for stays closed.
        out.push_str("DeviceAllow=block-* m\nDeviceAllow=char-* m\n");
    }
    out.push_str("# Only these devices instead of every block device:\n# DeviceAllow=\n");
    for device in devices(config) {
        let _ = writeln!(out, "# DeviceAllow={} rw", device.display());
    }
    out
}

fn lines(key: &str, values: &[String]) -> String {
    values.iter().map(|value| format!("{key}{value}\n")).collect::<String>().trim_end().to_owned()
}

/// As a unit file writes a path: `%` and white space have a meaning there.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string().replace('%', "%%");
    if text.contains(char::is_whitespace) { format!("\"{text}\"") } else { text }
}

/// What is written outside of the shipped unit's state folder.
fn writable(config: &Config) -> BTreeSet<PathBuf> {
    let mut paths = BTreeSet::from([config.state.dir.clone(), config.staging()]);
    paths.extend(config.snapshot.dir.clone());
    // Files come back as fresh ones under another name, which then take their place.
    paths.extend(config.snapshot.paths.iter().map(|path| {
        let folder = if path.is_dir() { Some(path.as_path()) } else { path.parent() };
        folder.unwrap_or(path).to_owned()
    }));
    paths.extend(config.factory_reset.dir.clone());
    let folder_of = |path: &Option<PathBuf>| path.as_deref().and_then(Path::parent).map(Path::to_owned);
    paths.extend(folder_of(&config.http.address_file));
    paths.extend(folder_of(&config.boot.lock));
    paths.extend(environment(config).into_iter().filter(|path| !path.starts_with("/dev")));
    paths.retain(|path| !path.starts_with(STATE) && !path.starts_with("/run/lock"));
    let all = paths.clone();
    paths.retain(|path| !all.iter().any(|other| other != path && path.starts_with(other)));
    paths
}

/// Files of the site that are only read, and what a reset erases: where that is mounted is noted when it is asked for.
fn read(config: &Config) -> impl Iterator<Item = &Path> {
    let one = [
        &config.snapshot.identity,
        &config.http.certificate,
        &config.http.key,
        &config.http.client_ca,
        &config.verify.key_list,
    ];
    let sources = config.sources.iter().flat_map(|source| {
        let more = [&source.ca, &source.client_cert, &source.headers_file].into_iter().flatten();
        std::iter::once(&source.initial_root).chain(more)
    });
    let sensors =
        config.safety.sources.iter().filter_map(|source| source.file.as_ref()).map(|file| &file.path);
    let paths = one.into_iter().flatten().chain([&config.verify.keys]).chain(sources).chain(sensors);
    paths.chain(&config.factory_reset.paths).map(PathBuf::as_path)
}

/// What is written as a device.
fn devices(config: &Config) -> BTreeSet<PathBuf> {
    let mut devices = BTreeSet::from([config.slots.a.clone(), config.slots.b.clone()]);
    devices.extend(environment(config).into_iter().filter(|path| path.starts_with("/dev")));
    devices
}

/// Names of the boot areas of an eMMC that hold the environment, `mmcblk0boot1`.
fn boot_areas(config: &Config) -> BTreeSet<String> {
    let names = environment(config).into_iter().filter_map(|path| {
        let path = path.canonicalize().unwrap_or(path);
        Some(path.file_name()?.to_str()?.to_owned())
    });
    names.filter(|name| name.starts_with("mmcblk") && name.contains("boot")).collect()
}

/// Where the copies of the boot environment are; none when the file cannot be read.
fn environment(config: &Config) -> BTreeSet<PathBuf> {
    let text = fs::read_to_string(&config.boot.fw_env_config).unwrap_or_default();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter_map(|line| line.split_whitespace().next()).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drop_in_of(more: &str) -> String {
        let minimal = "[gateway]\nname='g'\nmodel='M'\nserial='S'\n[slots]\na='/dev/a'\nb='/dev/b'\n";
        drop_in(&Config::parse(&format!("{minimal}{more}")).unwrap())
    }

    #[test]
    fn a_device_that_writes_its_state_only_needs_nothing_opened() {
        let text = drop_in_of("");
        assert!(!text.contains("\nReadWritePaths=") && !text.contains("ProtectHome"), "{text}");
        assert!(text.contains("# DeviceAllow=/dev/a rw"), "{text}");
    }

    #[test]
    fn settings_in_a_home_are_not_hidden_and_only_they_can_be_written() {
        let text = drop_in_of("[snapshot]\npaths=['/home/operator/plant.toml']\n");
        assert!(text.contains("\nReadWritePaths=-/home/operator\nProtectHome=read-only\n"), "{text}");
    }

    #[test]
    fn a_home_of_which_something_is_only_read_is_not_hidden_either() {
        let source =
            "[[source]]\nname='s'\nmetadata_url='https://x/'\ntargets_url='https://x/'\ninitial_root='/r'\n";
        for more in [
            "[snapshot]\nidentity='/root/age.key'\n",
            "[http]\ncertificate='/c'\nkey='/home/operator/tls.key'\n",
            "[verify]\nkeys='/home/keys'\n",
            &format!("{source}headers_file='/root/headers'\n"),
            "[factory_reset]\npaths=['/home/plant']\n",
        ] {
            let text = drop_in_of(more);
            assert!(text.contains("\nProtectHome=read-only\n"), "{more}: {text}");
            assert!(!text.contains("\nReadWritePaths="), "{more}: {text}");
        }
    }

    #[test]
    fn what_snapshots_the_reset_and_the_boot_environment_write_is_opened_and_nothing_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        fs::create_dir(path("plant")).unwrap();
        fs::write(
            path("env.config"),
            format!("# two\n{} 0 0x4000\n/dev/mmcblk0boot1 0 0x4000\n", path("uboot.env")),
        )
        .unwrap();
        let text = drop_in_of(&format!(
            "[snapshot]\npaths=['{plant}', '/etc/net 1/eth0.conf']\n[factory_reset]\nenabled=true\ndir='/boot/keep%'\npaths=['/var/lib/ota-gateway']\n\
             [boot]\nfw_env_config='{env}'\nlock='/run/lock/x'\n[unpack]\ndevice_nodes=true\n",
            plant = path("plant"),
            env = path("env.config"),
        ));
        for line in [
            format!("ReadWritePaths=-{}", path("plant")),
            "ReadWritePaths=-\"/etc/net 1\"".into(),
            "ReadWritePaths=-/boot/keep%%".into(),
            format!("ReadWritePaths=-{}", path("uboot.env")),
            "# DeviceAllow=/dev/mmcblk0boot1 rw".into(),
            "ReadWritePaths=-/sys/block/mmcblk0boot1/force_ro".into(),
            "DeviceAllow=char-* m".into(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert_eq!(text.matches("\nReadWritePaths=").count(), 5, "{text}");
    }
}
