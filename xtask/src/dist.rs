//! `cargo xtask dist`: what is installed on a gateway, as a folder and as a Debian package.
//!
//! Owns the list of files and the package around them. The same sources and the same tool chain give the same bytes: times
//! are those of the last commit (or `SOURCE_DATE_EPOCH`), owners are root, paths of the builder are taken out of the programs.
//! `twin` proves it.

mod twin;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use crate::{
    process, proven, tools,
    workspace::{Workspace, files_below},
};

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
    /// Builds the last commit again, in another folder and another environment, and fails unless it gives the same bytes.
    #[arg(long, conflicts_with = "development")]
    pub(crate) twice: bool,
}

/// The programs.
const PROGRAMS: [&str; 2] = ["ota-gatewayd", "ota-admin"];

/// Files of the repository and where they are installed.
const FILES: [(&str, &str); 13] = [
    ("dist/config/gateway.toml", "usr/share/ota-gateway/gateway.toml"),
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
    ("LICENSE-APACHE", "usr/share/doc/ota-gateway/LICENSE-APACHE"),
];

/// What of the book is for those who have a gateway, below `docs` and as such below [`BOOK`].
const PAGES: [&str; 15] = [
    "cli.md",
    "factory-reset.md",
    "image-trailer.md",
    "images.md",
    "install.md",
    "monitoring.md",
    "operations.md",
    "power-safety.md",
    "recovery.md",
    "safety.md",
    "security.md",
    "snapshots.md",
    "troubleshooting.md",
    "reference/configuration.md",
    "reference/gateway.schema.json",
];

/// Where the pages are installed.
const BOOK: &str = "usr/share/doc/ota-gateway";

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
    process::run(process::command("dpkg-deb").arg("--info").arg(&package))?;
    if args.twice { twin::prove(&package, &args.suffix) } else { Ok(()) }
}

/// The same, unless it was built with this very compiler, of these packages of others, with these files: the programs themselves
/// are tested as they are developed.
pub(crate) fn once() -> anyhow::Result<()> {
    let root = process::root();
    let mut parts: Vec<PathBuf> =
        ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml"].map(|name| root.join(name)).into();
    parts.push(root.join("xtask/src/dist.rs"));
    for folder in ["xtask/src/dist", "dist"] {
        parts.extend(files_below(&root.join(folder))?);
    }
    parts.sort();
    proven::once("dist", &parts, |page| {
        run(&Args::default())?;
        let told = process::read(process::command("date").args(["--utc", "+dist: built on %F %H:%M UTC"]))?;
        Ok(fs::write(page, told)?)
    })
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
    let_everybody_read(&root)?;
    let arch = text(process::command("dpkg").arg("--print-architecture"))?;
    let package = out.join(format!("ota-gateway_{version}_{arch}.deb"));
    // Packing what is only tried would take longer than trying it.
    pack(&root, &package, if args.development { "-Znone" } else { "-Zxz" })?;
    Ok(package)
}

/// Makes the package of a folder; `packing` is the option of `dpkg-deb` that says how it is compressed.
pub(crate) fn pack(root: &Path, package: &Path, packing: &str) -> anyhow::Result<()> {
    let mut build = process::command("dpkg-deb");
    build.args(["--root-owner-group", "--uniform-compression", packing, "--build"]).arg(root).arg(package);
    process::read(build.env("SOURCE_DATE_EPOCH", commit_time())).map(drop)
}

/// The optimised programs, without the builder's paths in them.
fn release(target: &Path) -> anyhow::Result<PathBuf> {
    let (sources, crates, target) = (process::root(), cargo_home(), target.join("dist-compiled"));
    // The last that fits counts, and the target directory may stand inside of the sources.
    let mut folders = vec![(sources.as_path(), "/ota-gateway")];
    folders.extend(crates.as_deref().map(|crates| (crates, "/cargo")));
    folders.push((target.as_path(), "/target"));
    let remaps = |option: &str| -> Vec<String> {
        folders.iter().map(|(folder, name)| format!("{option}{}={name}", folder.display())).collect()
    };
    let mut build = process::cargo();
    // A wrapper of one machine is not on another.
    build.env_remove("RUSTC_WORKSPACE_WRAPPER").env_remove("RUSTC_WRAPPER");
    build.args(["build", "--release", "--locked", "--target-dir"]).arg(&target);
    for program in PROGRAMS {
        build.args(["-p", program]);
    }
    build.env("CARGO_ENCODED_RUSTFLAGS", remaps("--remap-path-prefix=").join("\u{1f}"));
    // The C of SQLite, ring and zstd: `assert` names its file. In quotes, for folders with blanks.
    let quoted: Vec<String> =
        remaps("-ffile-prefix-map=").iter().map(|option| format!("'{option}'")).collect();
    build.env("CFLAGS", quoted.join(" ")).env("CC_SHELL_ESCAPED_FLAGS", "1").env("CARGO_INCREMENTAL", "0");
    // Macros of others (rust-embed's, by way of age) put this time into what they make, unseen by cargo, which then keeps it for the
    // next commit: it is always the same one. The time of the commit is for our own code, which cargo compiles anew for it.
    build.env("SOURCE_DATE_EPOCH", NO_COMMIT).env("OTA_BUILT", commit_time());
    process::run(&mut build)?;
    let programs = target.join("release");
    for program in PROGRAMS.map(|program| programs.join(program)) {
        says_nothing_of_its_builder(&program, folders.iter().map(|(folder, _)| *folder))?;
        let sections = text(process::command("readelf").args(["--section-headers", "--wide"]).arg(&program))?;
        let left = not_stripped(&sections);
        ensure!(left.is_none(), "{} has {}: it is not stripped", program.display(), left.unwrap_or_default());
    }
    Ok(programs)
}

/// Where cargo has the sources of others.
fn cargo_home() -> Option<PathBuf> {
    let home = || process::variable("HOME").map(|home| home + "/.cargo");
    process::variable("CARGO_HOME").or_else(home).map(PathBuf::from)
}

/// Refuses a program that names a folder it was made in: elsewhere it would be another one.
fn says_nothing_of_its_builder<'a>(
    program: &Path,
    folders: impl Iterator<Item = &'a Path>,
) -> anyhow::Result<()> {
    let bytes = fs::read(program).with_context(|| program.display().to_string())?;
    // One right below the root, `/src`, has a name that stands in anybody's paths.
    for folder in folders.filter(|folder| folder.components().count() > 2) {
        let name = folder.as_os_str().as_encoded_bytes();
        let found = bytes.windows(name.len()).any(|window| window == name);
        ensure!(!found, "{} names {}: it is not reproducible", program.display(), folder.display());
    }
    Ok(())
}

/// A section of what `readelf` shows that is for debuggers only.
fn not_stripped(sections: &str) -> Option<&str> {
    let for_debuggers =
        |word: &&str| *word == ".symtab" || word.starts_with(".debug_") || word.starts_with(".zdebug_");
    sections.split_whitespace().find(for_debuggers)
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
    for page in PAGES {
        install(&process::root().join("docs").join(page), &root.join(BOOK).join(page), 0o644)?;
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
    for script in ["preinst", "postinst", "prerm", "postrm"] {
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
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).with_context(|| to.display().to_string())
}

/// Folders and files as a package has them, whatever the umask of whoever builds; what can be run stays so.
fn let_everybody_read(dir: &Path) -> anyhow::Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, about) = (entry.path(), entry.metadata()?);
        if about.is_dir() {
            let_everybody_read(&path)?;
        } else {
            let mode = if about.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(())
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

    fn read(path: &str) -> String {
        fs::read_to_string(process::root().join(path)).unwrap()
    }

    fn recipe() -> String {
        read("dist/yocto/recipes-support/ota-gateway/ota-gateway_git.bb")
    }

    #[test]
    fn what_the_daemon_needs_is_installed_by_every_way_to_install() {
        let (recipe, makefile) = (recipe(), read("dist/buildroot/package/ota-gateway/ota-gateway.mk"));
        // Beside the daemon: for people, and for the server that watches gateways.
        let beside = ["dist/prometheus", "dist/grafana", "dist/u-boot/README.md", "LICENSE"];
        let mut files: Vec<String> = FILES.iter().map(|(from, _)| (*from).to_owned()).collect();
        files.retain(|file| !beside.iter().any(|start| file.starts_with(start)));
        for folder in ["dist/systemd", "dist/sysusers.d", "dist/tmpfiles.d", "dist/keys", "dist/config"] {
            for entry in fs::read_dir(process::root().join(folder)).unwrap() {
                let file = format!("{folder}/{}", entry.unwrap().file_name().into_string().unwrap());
                assert!(files.contains(&file), "the Debian package leaves out {file}");
            }
        }
        assert!(files.len() >= 8, "{files:?}");
        for file in &files {
            assert!(recipe.contains(&format!("${{S}}/{file} ")), "the Yocto recipe leaves out {file}");
            assert!(makefile.contains(&format!("$(@D)/{file} ")), "the Buildroot package leaves out {file}");
        }
        for unit in files.iter().filter_map(|file| file.strip_prefix("dist/systemd/")) {
            let enabled = recipe.lines().find(|line| line.starts_with("SYSTEMD_SERVICE:")).unwrap();
            assert!(enabled.contains(unit), "the Yocto recipe does not enable {unit}");
        }
        let group = "ota-admin";
        assert!(read("dist/sysusers.d/ota-gateway.conf").contains(&format!("\ng {group} -")));
        assert!(recipe.contains(&format!("GROUPADD_PARAM:${{PN}} = \"--system {group}\"")));
        assert!(makefile.contains(&format!("define OTA_GATEWAY_USERS\n\t- - {group} -1 ")));
    }

    #[test]
    fn every_way_to_install_asks_for_the_programs_and_authorities_of_others() {
        let (control, recipe) = (read("dist/debian/control.in"), recipe());
        let options = read("dist/buildroot/package/ota-gateway/Config.in");
        let line = |text: &str, start: &str| {
            text.lines()
                .find(|line| line.starts_with(start))
                .unwrap_or_else(|| panic!("no {start}"))
                .to_owned()
        };
        let (debian, yocto) = (line(&control, "Recommends:"), line(&recipe, "RDEPENDS:"));
        for (text, package) in [
            (&debian, "e2fsprogs"),
            (&debian, "ca-certificates"),
            (&yocto, "e2fsprogs-mke2fs"),
            (&yocto, "e2fsprogs-e2fsck"),
            (&yocto, "ca-certificates"),
            (&options, "select BR2_PACKAGE_E2FSPROGS"),
            (&options, "select BR2_PACKAGE_CA_CERTIFICATES"),
        ] {
            assert!(text.contains(package), "{package} is not asked for: {text}");
        }
    }

    #[test]
    fn where_the_programs_are_built_the_compiler_that_they_need_is_told() {
        let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
        let wanted = manifest["workspace"]["package"]["rust-version"].as_str().unwrap().to_owned();
        for (name, text) in [
            ("recipe", recipe()),
            ("Buildroot package", read("dist/buildroot/package/ota-gateway/Config.in")),
            ("page", read("docs/install.md")),
        ] {
            let told: Vec<&str> = text.split("Rust >= ").skip(1).collect();
            assert!(!told.is_empty(), "the {name} does not tell the version of Rust");
            for told in told {
                let told = told.split(|c: char| !(c.is_ascii_digit() || c == '.')).next().unwrap();
                assert_eq!(told.trim_end_matches('.'), wanted, "the {name} tells another version of Rust");
            }
        }
        // An error since Yocto 5.3.
        assert!(!recipe().contains("${WORKDIR}/git"));
    }

    /// What links of installed pages lead to and is not on a gateway: for those who have the sources. The interface is shown by
    /// the gateway itself, at `/docs`.
    const ONLY_IN_THE_SOURCES: [&str; 5] = [
        "quick-start.md",
        "power-safety-evidence.md",
        "design/threat-model.md",
        "design/durable-steps.md",
        "reference/api.md",
    ];

    #[test]
    fn every_link_of_an_installed_page_leads_to_what_is_installed_in_the_same_place() {
        let mut left_out: Vec<&str> = ONLY_IN_THE_SOURCES.into();
        for page in PAGES.iter().filter(|page| page.ends_with(".md")) {
            let text = read(&format!("docs/{page}"));
            let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
            for target in targets.filter(|target| !target.is_empty() && !target.contains("://")) {
                // From `reference` upwards, or below the page's own folder.
                let to = target.strip_prefix("../").map_or_else(
                    || Path::new(page).with_file_name(target),
                    |above| Path::new(above).to_path_buf(),
                );
                let to = to.to_str().unwrap();
                left_out.retain(|known| *known != to);
                let known = PAGES.contains(&to) || ONLY_IN_THE_SOURCES.contains(&to);
                assert!(known, "docs/{page} leads to {to}, which is not installed");
            }
        }
        assert!(left_out.is_empty(), "nothing leads to {left_out:?} any more");
        let recipe = recipe().replace(['\\', ';'], " ");
        let words: Vec<&str> = recipe.split_whitespace().collect();
        for page in PAGES {
            let name = page.strip_suffix(".md").filter(|name| !name.contains('/'));
            let name = name.map_or_else(|| format!("${{S}}/docs/{page}"), str::to_owned);
            assert!(words.contains(&&*name), "the Yocto recipe leaves out docs/{page}");
        }
    }

    #[test]
    fn what_the_shipped_configuration_points_to_is_installed() {
        let text = read("dist/config/gateway.toml");
        let names = text.split(|c: char| c.is_whitespace() || c == ':');
        let pages: Vec<&str> = names
            .filter_map(|name| name.strip_prefix("/usr/share/doc/ota-gateway/"))
            .map(|page| page.trim_end_matches('.'))
            .collect();
        assert!(pages.len() >= 2 && pages.iter().all(|page| PAGES.contains(page)), "{pages:?}");
        assert!(!text.contains("docs/"), "it names a page as the sources have it");
    }

    #[test]
    fn a_program_that_names_its_folder_or_keeps_what_is_for_debuggers_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        fs::write(&program, "\0/home/ada/.cargo/registry/ring/a.c\0").unwrap();
        let says = |folder: &str| says_nothing_of_its_builder(&program, [Path::new(folder)].into_iter());
        assert!(says("/home/ada/.cargo").unwrap_err().to_string().contains("not reproducible"));
        says("/home/eve").unwrap();
        says("/home").unwrap();
        let stripped = "  [ 1] .interp   PROGBITS  00318 000318\n  [27] .shstrtab STRTAB 00000 0083b0\n";
        assert_eq!(not_stripped(stripped), None);
        for section in [".symtab", ".debug_info", ".zdebug_line"] {
            assert_eq!(not_stripped(&format!("{stripped}  [28] {section} PROGBITS 0\n")), Some(section));
        }
    }

    #[test]
    fn the_umask_of_whoever_builds_is_not_in_the_package() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("usr/bin");
        fs::create_dir_all(&folder).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        for (name, mode) in [("program", 0o700), ("page", 0o600)] {
            fs::write(folder.join(name), "").unwrap();
            set(&folder.join(name), mode);
        }
        set(&folder, 0o700);
        let_everybody_read(dir.path()).unwrap();
        let modes = ["", "program", "page"].map(|name| mode(&folder.join(name)));
        assert_eq!(modes, [0o755, 0o755, 0o644]);
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
