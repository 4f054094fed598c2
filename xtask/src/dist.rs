//! `cargo xtask dist`: what is installed on a gateway, as a folder and as a Debian package.
//!
//! Owns the list of files and the package around them. The same sources and the same tool chain give the same bytes: times
//! are those of the last commit (or `SOURCE_DATE_EPOCH`), owners are root, paths of the builder are taken out of the programs.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use crate::{process, tools, workspace::Workspace};

/// What to build.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Packages the programs that `cargo build` made last: to try the package, not to ship it.
    #[arg(long)]
    pub(crate) development: bool,
    /// Where the package goes; below the target directory by default.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Appended to the version, `+rebuild1` for example.
    #[arg(long, default_value = "")]
    pub(crate) suffix: String,
}

/// The programs.
const PROGRAMS: [&str; 2] = ["ota-gatewayd", "ota-admin"];

/// Files of the repository and where they are installed.
const FILES: [(&str, &str); 17] = [
    ("dist/config/gateway.toml", "etc/ota-gateway/gateway.toml"),
    ("dist/systemd/ota-gatewayd.service", "usr/lib/systemd/system/ota-gatewayd.service"),
    ("dist/systemd/ota-factory-reset.service", "usr/lib/systemd/system/ota-factory-reset.service"),
    ("dist/sysusers.d/ota-gateway.conf", "usr/lib/sysusers.d/ota-gateway.conf"),
    ("dist/tmpfiles.d/ota-gateway.conf", "usr/lib/tmpfiles.d/ota-gateway.conf"),
    ("dist/keys/README", "usr/share/ota-gateway/keys/README"),
    ("dist/u-boot/ota-boot.cmd", "usr/share/ota-gateway/u-boot/ota-boot.cmd"),
    ("dist/u-boot/README.md", "usr/share/ota-gateway/u-boot/README.md"),
    ("dist/prometheus/alerts.yml", "usr/share/ota-gateway/prometheus/alerts.yml"),
    ("dist/grafana/ota-gateway.json", "usr/share/ota-gateway/grafana/ota-gateway.json"),
    ("docs/reference/gateway.schema.json", "usr/share/ota-gateway/gateway.schema.json"),
    ("LICENSE-MIT", "usr/share/doc/ota-gateway/copyright"),
    ("docs/operations.md", "usr/share/doc/ota-gateway/operations.md"),
    ("docs/safety.md", "usr/share/doc/ota-gateway/safety.md"),
    ("docs/factory-reset.md", "usr/share/doc/ota-gateway/factory-reset.md"),
    ("docs/troubleshooting.md", "usr/share/doc/ota-gateway/troubleshooting.md"),
    ("docs/reference/configuration.md", "usr/share/doc/ota-gateway/configuration.md"),
];

/// Shells, and where their completions are found.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/ota-admin"),
    ("zsh", "usr/share/zsh/vendor-completions/_ota-admin"),
    ("fish", "usr/share/fish/vendor_completions.d/ota-admin.fish"),
];

/// Builds the package and says where it is.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    tools::debian_for(&["objdump"])?;
    let package = package(args)?;
    println!("dist: {}", package.display());
    process::run(process::command("dpkg-deb").arg("--info").arg(&package))
}

/// Builds the package.
pub(crate) fn package(args: &Args) -> anyhow::Result<PathBuf> {
    let target = Workspace::read()?.target;
    let programs = if args.development { target.join("debug") } else { release(&target)? };
    let out = args.out.clone().unwrap_or_else(|| target.join("dist"));
    let root = out.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    lay_out(&root, &programs)?;
    let version = format!("{}{}", env!("CARGO_PKG_VERSION"), args.suffix);
    control(&root, &version)?;
    let arch = text(process::command("dpkg").arg("--print-architecture"))?;
    let package = out.join(format!("ota-gateway_{version}_{arch}.deb"));
    let mut build = process::command("dpkg-deb");
    // Packing what is only tried would take longer than trying it.
    let packing = if args.development { "-Znone" } else { "-Zxz" };
    build.args(["--root-owner-group", "--uniform-compression", packing, "--build"]).arg(&root).arg(&package);
    process::read(build.env("SOURCE_DATE_EPOCH", commit_time()))?;
    Ok(package)
}

/// The optimised programs, without the builder's paths in them.
fn release(target: &Path) -> anyhow::Result<PathBuf> {
    let home =
        process::variable("CARGO_HOME").or_else(|| process::variable("HOME").map(|home| home + "/.cargo"));
    let mut flags = vec![format!("--remap-path-prefix={}=/ota-gateway", process::root().display())];
    flags.extend(home.map(|home| format!("--remap-path-prefix={home}=/cargo")));
    let target = target.join("dist-compiled");
    // The last that fits counts, and the target directory may stand inside of the sources.
    flags.push(format!("--remap-path-prefix={}=/target", target.display()));
    let mut build = process::cargo();
    // A wrapper of one machine is not on another.
    build.env_remove("RUSTC_WORKSPACE_WRAPPER").env_remove("RUSTC_WRAPPER");
    build.args(["build", "--release", "--locked", "--target-dir"]).arg(&target);
    for program in PROGRAMS {
        build.args(["-p", program]);
    }
    build.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}")).env("CARGO_INCREMENTAL", "0");
    // Macros of others (rust-embed's, by way of age) put this time into what they make, unseen by cargo, which then keeps it for the
    // next commit: it is always the same one. The time of the commit is for our own code, which cargo compiles anew for it.
    build.env("SOURCE_DATE_EPOCH", NO_COMMIT).env("OTA_BUILT", commit_time());
    process::run(&mut build)?;
    let (programs, sources) = (target.join("release"), process::root());
    for program in PROGRAMS {
        says_nothing_of_its_builder(&programs.join(program), &[&sources, &target])?;
    }
    Ok(programs)
}

/// Refuses a program that names a folder it was made in: elsewhere it would be another one.
fn says_nothing_of_its_builder(program: &Path, folders: &[&Path]) -> anyhow::Result<()> {
    let bytes = fs::read(program).with_context(|| program.display().to_string())?;
    for folder in folders {
        let name = folder.as_os_str().as_encoded_bytes();
        let found = bytes.windows(name.len()).any(|window| window == name);
        ensure!(!found, "{} names {}: it is not reproducible", program.display(), folder.display());
    }
    Ok(())
}

/// Everything but the control files.
fn lay_out(root: &Path, programs: &Path) -> anyhow::Result<()> {
    for program in PROGRAMS {
        let to = root.join("usr/bin").join(program);
        install(&programs.join(program), &to, 0o755)?;
        // Those of a release have nothing to strip any more.
        process::read(process::command("strip").arg("--strip-debug").arg(&to))?;
    }
    for (from, to) in FILES {
        install(&process::root().join(from), &root.join(to), 0o644)?;
    }
    let admin = root.join("usr/bin/ota-admin");
    for (shell, to) in COMPLETIONS {
        let script = process::read(process::command(&admin).args(["completions", shell]))?;
        write(&root.join(to), &script, 0o644)?;
    }
    manuals(root)
}

/// Manual pages, compressed as Debian wants them; the daemon's belong to section 8.
fn manuals(root: &Path) -> anyhow::Result<()> {
    for (program, section) in [("ota-gatewayd", "8"), ("ota-admin", "1")] {
        let dir = root.join("usr/share/man").join(format!("man{section}"));
        fs::create_dir_all(&dir)?;
        let mut made = process::command(root.join("usr/bin").join(program));
        // What stands in a page must not depend on who builds it.
        process::read(made.arg("manual").arg(&dir).env_remove("OTA_URL").env_remove("OTA_TIMEOUT"))?;
        for page in fs::read_dir(&dir)? {
            let path = page?.path();
            let renamed = path.with_extension(section);
            fs::rename(&path, &renamed)?;
            process::read(process::command("gzip").args(["-9nf"]).arg(&renamed))?;
        }
    }
    Ok(())
}

/// `DEBIAN/`: what the package is and what happens when it comes and goes.
fn control(root: &Path, version: &str) -> anyhow::Result<()> {
    let template = fs::read_to_string(process::root().join("dist/debian/control.in"))?;
    let control = template
        .replace("@VERSION@", version)
        .replace("@ARCH@", &text(process::command("dpkg").arg("--print-architecture"))?)
        .replace("@SIZE@", &installed_kib(root)?.to_string())
        .replace("@DEPENDS@", &depends(root)?);
    write(&root.join("DEBIAN/control"), control.as_bytes(), 0o644)?;
    install(&process::root().join("dist/debian/conffiles"), &root.join("DEBIAN/conffiles"), 0o644)?;
    for script in ["postinst", "prerm", "postrm"] {
        install(&process::root().join("dist/debian").join(script), &root.join("DEBIAN").join(script), 0o755)?;
    }
    Ok(())
}

/// What is installed, in KiB as Debian counts it: each file rounded up, one for each folder. Of the lengths alone, because
/// what a folder takes is its file system's affair.
fn installed_kib(dir: &Path) -> anyhow::Result<u64> {
    let mut kib = 1;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let about = entry.metadata()?;
        kib += if about.is_dir() { installed_kib(&entry.path())? } else { about.len().div_ceil(1024) };
    }
    Ok(kib)
}

/// The C library that the programs need at least: the newest of the symbol versions they ask for.
fn depends(root: &Path) -> anyhow::Result<String> {
    let mut newest = (2, 17);
    for program in PROGRAMS {
        let symbols = text(process::command("objdump").arg("-T").arg(root.join("usr/bin").join(program)))?;
        for word in symbols.split(|c: char| !(c.is_alphanumeric() || c == '.' || c == '_')) {
            let Some((major, minor)) = word.strip_prefix("GLIBC_").and_then(|v| v.split_once('.')) else {
                continue;
            };
            if let (Ok(major), Ok(minor)) =
                (major.parse(), minor.split('.').next().unwrap_or_default().parse())
            {
                newest = newest.max((major, minor));
            }
        }
    }
    Ok(format!("libc6 (>= {}.{})", newest.0, newest.1))
}

fn install(from: &Path, to: &Path, mode: u32) -> anyhow::Result<()> {
    let bytes = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    write(to, &bytes, mode)
}

fn write(to: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let dir = to.parent().context("a path without a folder")?;
    fs::create_dir_all(dir)?;
    fs::write(to, bytes)?;
    // The umask of whoever builds is not part of the package.
    for dir in dir.ancestors().take_while(|d| d.components().any(|c| c.as_os_str() == "root")) {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    }
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).with_context(|| to.display().to_string())
}

/// Seconds since 1970 of the last commit; of an archive of the sources, without commits or git, what `SOURCE_DATE_EPOCH` says.
fn commit_time() -> String {
    let commit = text(process::command("git").args(["log", "-1", "--format=%ct"])).unwrap_or_default();
    if !commit.is_empty() {
        return commit;
    }
    process::variable("SOURCE_DATE_EPOCH").unwrap_or_else(|| {
        println!(
            "dist: no commit to take the time from: it is {NO_COMMIT}; SOURCE_DATE_EPOCH sets another one"
        );
        NO_COMMIT.into()
    })
}

/// 2026-01-01: the same for whoever builds.
const NO_COMMIT: &str = "1767225600";

fn text(command: &mut std::process::Command) -> anyhow::Result<String> {
    Ok(String::from_utf8(process::read(command)?)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_is_given_is_installed_by_every_way_to_install() {
        let read = |path: &str| fs::read_to_string(process::root().join(path)).unwrap();
        let recipe = read("dist/yocto/recipes-support/ota-gateway/ota-gateway_git.bb");
        let makefile = read("dist/buildroot/package/ota-gateway/ota-gateway.mk");
        let mut files =
            vec!["docs/reference/gateway.schema.json".to_owned(), "dist/u-boot/ota-boot.cmd".to_owned()];
        for folder in ["dist/systemd", "dist/sysusers.d", "dist/tmpfiles.d"] {
            for entry in fs::read_dir(process::root().join(folder)).unwrap() {
                files.push(format!("{folder}/{}", entry.unwrap().file_name().into_string().unwrap()));
            }
        }
        assert!(files.len() >= 6, "{files:?}");
        for file in &files {
            assert!(FILES.iter().any(|(from, _)| from == file), "the Debian package leaves out {file}");
            assert!(recipe.contains(&format!("${{S}}/{file} ")), "the Yocto recipe leaves out {file}");
            assert!(makefile.contains(&format!("$(@D)/{file} ")), "the Buildroot package leaves out {file}");
        }
        for unit in files.iter().filter_map(|file| file.strip_prefix("dist/systemd/")) {
            let enabled = recipe.lines().find(|line| line.starts_with("SYSTEMD_SERVICE:")).unwrap();
            assert!(enabled.contains(unit), "the Yocto recipe does not enable {unit}");
        }
    }

    #[test]
    fn the_installed_size_is_that_of_the_files_whatever_the_file_system_takes() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("usr")).unwrap();
        fs::write(dir.path().join("usr/small"), [0; 1]).unwrap();
        fs::write(dir.path().join("usr/large"), [0; 2049]).unwrap();
        assert_eq!(installed_kib(dir.path()).unwrap(), 1 + 1 + 1 + 3);
    }
}
