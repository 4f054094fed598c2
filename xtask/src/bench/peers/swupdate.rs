//! SWUpdate: one process, a signed archive, the raw handler streaming into the device.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;

use super::{Installer, keys, require};
use crate::{
    bench::{
        media::Medium,
        meter::{Cost, measured, urgent},
    },
    process,
};

/// What the archive begins with; its name in the archive is fixed.
const DESCRIPTION: &str = "sw-description";
const SIGNATURE: &str = "sw-description.sig";

pub(super) struct Swupdate {
    dir: PathBuf,
}

impl Swupdate {
    pub(super) fn prepare(medium: &Medium) -> anyhow::Result<Self> {
        require("swupdate", "swupdate")?;
        let dir = medium.dir.join("swupdate");
        fs::create_dir_all(&dir)?;
        keys(&dir)?;
        fs::write(dir.join(DESCRIPTION), description(medium))?;
        let mut openssl = process::command("openssl");
        openssl.args(["cms", "-sign", "-binary", "-nosmimecap", "-outform", "DER", "-signer", "cert.pem"]);
        openssl.args(["-inkey", "key.pem", "-in", DESCRIPTION, "-out", SIGNATURE]);
        process::read(openssl.current_dir(&dir))?;
        archive(&dir, &medium.image)?;
        Ok(Self { dir })
    }
}

impl Installer for Swupdate {
    fn install(&self, medium: &Medium) -> anyhow::Result<Cost> {
        let mut command = urgent("swupdate");
        // No bootloader here, so neither of its markers.
        command.args([
            "--no-transaction-marker",
            "--no-state-marker",
            "-H",
            "bench:1.0",
            "-e",
            "stable,main",
        ]);
        command.args(["-k", "cert.pem", "-i", "image.swu"]).current_dir(&self.dir);
        measured(&mut command, &[], &medium.dir.join("log"))
    }
}

fn description(medium: &Medium) -> String {
    format!(
        r#"software = {{
  version = "1.0"; hardware-compatibility = [ "1.0" ];
  stable = {{ main = {{ images: ( {{
    filename = "image.img"; type = "raw"; device = "{}"; sha256 = "{}"; installed-directly = true;
  }} ); }}; }};
}};
"#,
        medium.slot.display(),
        medium.sha256
    )
}

/// A cpio archive in the format "newc". Source: cpio(5).
fn archive(dir: &Path, image: &Path) -> anyhow::Result<()> {
    let mut out = File::create(dir.join("image.swu"))?;
    for (name, path) in
        [(DESCRIPTION, dir.join(DESCRIPTION)), (SIGNATURE, dir.join(SIGNATURE)), ("image.img", image.into())]
    {
        let mut file = File::open(&path).with_context(|| path.display().to_string())?;
        let size = file.metadata()?.len();
        header(&mut out, name, size)?;
        io::copy(&mut file, &mut out)?;
        pad(&mut out, size)?;
    }
    header(&mut out, "TRAILER!!!", 0)?;
    Ok(out.sync_all()?)
}

fn header(out: &mut File, name: &str, size: u64) -> io::Result<()> {
    // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
    let fields = [1, 0o100_644, 0, 0, 1, 0, size, 0, 0, 0, 0, name.len() as u64 + 1, 0];
    let text: String = fields.iter().map(|field| format!("{field:08x}")).collect();
    write!(out, "070701{text}{name}\0")?;
    pad(out, 110 + name.len() as u64 + 1)
}

/// To the next multiple of four.
fn pad(out: &mut File, written: u64) -> io::Result<()> {
    (0..(4 - written % 4) % 4).try_for_each(|_| out.write_all(&[0]))
}
