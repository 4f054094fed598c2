//! Programs, and what they make.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// A program as the tests run it.
fn program(name: &str, arguments: &[&str], folder: &Path) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the tests are the owner of these programs")]
    let mut command = Command::new(name);
    command
        .args(arguments)
        .current_dir(folder)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .env("LC_ALL", "C");
    command
}

/// Runs a program and gives what it said; fails with the name of its Debian package.
#[track_caller]
pub(super) fn run(package: &str, name: &str, arguments: &[&str], folder: &Path) -> String {
    let output = program(name, arguments, folder).output();
    let output = output.unwrap_or_else(|e| panic!("cannot run {name} ({e}): install the package {package}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {said}; this test needs root and loop devices");
    String::from_utf8(output.stdout).unwrap()
}

/// Packs a tree as it is read; ends when nobody reads any more.
pub(super) fn packing(folder: &Path, format: &str) -> Child {
    let arguments = ["--create", "--file", "-", "--directory", "root", "--format", format, "."];
    let mut command = program("tar", &arguments, folder);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    child.unwrap_or_else(|e| panic!("cannot run tar ({e}): install the package tar"))
}

/// A folder with a tree `root` that has everything that a root file system has, but for device nodes.
pub(super) fn tree() -> TempDir {
    let dir = TempDir::new().unwrap();
    let script = r#"
        umask 022; mkdir -p root/usr/bin root/etc root/var/empty root/dev; cd root
        head -c 3000000 /dev/urandom > usr/bin/big; printf 'VERSION_ID=5.0.5\n' > etc/os-release
        : > etc/empty; ln usr/bin/big usr/bin/big2; ln -s usr/bin bin; ln -s /proc/self/mounts etc/mtab
        ln -s ../usr/bin/big etc/big; mkfifo var/pipe; ln etc/mtab etc/mtab2
        long=$(printf 'n%.0s' $(seq 120)); mkdir -p "var/$long/$long"; echo deep > "var/$long/$long/file"
        chmod 4755 usr/bin/big; chmod 1777 var/empty; chmod 0600 etc/empty
        chown 1000:2000 etc/os-release; chown -h 7:8 etc/mtab; chown 70000:3000000 var/empty
        touch -d '2001-02-03 04:05:06.123456789' etc/os-release; touch -h -d '1999-01-01' bin
        touch -d '2010-10-10' etc usr usr/bin .
    "#;
    run("coreutils", "sh", &["-ec", script], dir.path());
    let path = dir.path().join("root/usr/bin/big2");
    // No setfattr on a small machine: the system call does it.
    for (name, value) in [(c"user.key", &b"a\n=value\0"[..]), (c"security.capability", CAPABILITY)] {
        crate::tree::set_attribute_of(&path, name, value).unwrap();
    }
    dir
}

/// `cap_net_bind_service=ep`, as setcap writes it.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Packs the tree of a folder as release engineers do.
pub(super) fn pack(dir: &TempDir, format: &str, compress: &str) -> PathBuf {
    let posix: &[&str] = if format == "posix" { &["--xattrs", "--xattrs-include=*"] } else { &[] };
    let fixed = ["--create", "--file", "rootfs.tar", "--directory", "root", "--format", format];
    let rest = ["--numeric-owner", "--sort=name", "."];
    run("tar", "tar", &[&fixed[..], posix, &rest].concat(), dir.path());
    compressed(dir, "rootfs.tar", compress)
}

/// Compresses a file, which stays.
pub(super) fn compressed(dir: &TempDir, name: &str, compress: &str) -> PathBuf {
    let ending = if compress == "gzip" { "gz" } else { "zst" };
    run(compress, compress, &["-k", "-f", "-q", name], dir.path());
    dir.path().join(format!("{name}.{ending}"))
}

/// A slot file, mounted read-only.
pub(super) struct Mounted(TempDir);

impl Mounted {
    pub(super) fn new(slot: &Path) -> Self {
        let point = TempDir::new().unwrap();
        let (slot, at) = (slot.to_str().unwrap(), point.path().to_str().unwrap());
        run("mount", "mount", &["-t", "ext4", "-o", "ro,loop", slot, at], Path::new("/"));
        Self(point)
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Gone from here at once, also while a program that another test is starting still has a copy of what was open.
        run("mount", "umount", &["-l", self.0.path().to_str().unwrap()], Path::new("/"));
    }
}

pub(super) fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}
