//! One-file images: manifest and signature appended to a copy of the image.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use ota_core::{
    ByteCount, Version,
    release::{DetachedSignature, ImageKind, SignatureKind},
};
use ota_release::{SignMethod, sign_detached};
use ota_verify::{Manifest, Trailer, trailer::ManifestKind};

use super::file;
use crate::exit::Failure;

/// What the manifest says of the image.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ManifestArgs {
    /// With --embed: version that the image brings.
    #[arg(long, value_name = "VERSION", requires = "embed")]
    pub(crate) release_version: Option<Version>,
    /// With --embed: device model that it is made for; may be given several times.
    #[arg(long, requires = "embed")]
    pub(crate) model: Vec<String>,
    /// With --embed: format of the image; else its name says it.
    #[arg(long, value_enum, requires = "embed")]
    pub(crate) kind: Option<super::repo::KindArg>,
    /// With --embed: a line of release notes; may be given several times.
    #[arg(long, requires = "embed")]
    pub(crate) note: Vec<String>,
    /// With --embed: bytes of a block, a power of two from 65536.
    #[arg(long, requires = "embed", default_value = "1048576")]
    pub(crate) block_size: u64,
}

/// Encoding of a signature, as it is typed.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Encoding {
    Cms,
    Openpgp,
}

impl From<Encoding> for SignatureKind {
    fn from(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Cms => Self::Cms,
            Encoding::Openpgp => Self::Openpgp,
        }
    }
}

/// Writes `image` with its trailer to `to`, all or nothing.
pub(super) fn embed(
    image: &Path,
    to: &Path,
    args: &ManifestArgs,
    method: &SignMethod,
) -> Result<Manifest, Failure> {
    let version =
        args.release_version.clone().ok_or_else(|| Failure::Usage("give --release-version".into()))?;
    let (tail, length) = file::tail(image)?;
    if !matches!(Trailer::decode(&tail, length), Ok(None)) {
        let has = format!("{} has a trailer already; --add adds a signature to it", image.display());
        return Err(Failure::Usage(has));
    }
    let measured = file::measure(image)?;
    let manifest = Manifest {
        version,
        models: args.model.clone(),
        kind: ManifestKind(args.kind.map_or_else(|| kind_by_name(image), ImageKind::from)),
        size: measured.size,
        sha256: measured.sha256,
        unpacked_size: file::unpacked_size(image, || Ok(measured))?,
        requires_reboot: true,
        block_size: args.block_size,
        blocks: file::blocks(image, measured.size, args.block_size.max(1 << 16))?,
        notes: args.note.clone(),
    };
    let text = manifest.encode();
    // What a device would not read is not signed either.
    Manifest::decode(text.as_bytes()).map_err(|refusal| Failure::Usage(refusal.to_string()))?;
    let signatures = vec![signature_over(text.as_bytes(), method)?];
    let trailer = Trailer { manifest: text.into_bytes(), signatures };
    append(image, to, measured.size, &trailer)?;
    Ok(manifest)
}

/// Writes a one-file image with one more signature over its manifest to `to`, all or nothing.
pub(super) fn add(image: &Path, to: &Path, method: &SignMethod) -> Result<Manifest, Failure> {
    let usage = |what: String| Failure::Usage(format!("{}: {what}", image.display()));
    let (tail, length) = file::tail(image)?;
    let found = Trailer::decode(&tail, length).map_err(|refusal| usage(refusal.to_string()))?;
    let (mut trailer, front) = found.ok_or_else(|| usage("has no trailer; --embed makes one".into()))?;
    let manifest = Manifest::decode(&trailer.manifest).map_err(|refusal| usage(refusal.to_string()))?;
    let measured = file::measure_front(image, front)?;
    if (measured.size, measured.sha256) != (manifest.size, manifest.sha256) {
        return Err(usage("is not the image of its manifest; it was changed since it was signed".into()));
    }
    trailer.signatures.push(signature_over(&trailer.manifest, method)?);
    append(image, to, manifest.size, &trailer)?;
    Ok(manifest)
}

fn signature_over(manifest: &[u8], method: &SignMethod) -> Result<DetachedSignature, Failure> {
    let folder = tempfile::tempdir().context("making a folder for the manifest")?;
    let path = folder.path().join("manifest");
    fs::write(&path, manifest).context("writing the manifest")?;
    let signature = sign_detached(&path, method, Some(&folder.path().join("signature")))?;
    let bytes = fs::read(&signature).context("reading the signature")?;
    Ok(DetachedSignature { kind: method.kind(), bytes })
}

/// The first `size` bytes of `image` with the trailer behind them.
fn append(image: &Path, to: &Path, size: ByteCount, trailer: &Trailer) -> Result<(), Failure> {
    let trailer = trailer.encode(size.get()).map_err(|refusal| Failure::Usage(refusal.to_string()))?;
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let written = || -> std::io::Result<()> {
        fs::copy(image, &part)?;
        let mut file = OpenOptions::new().append(true).open(&part)?;
        file.set_len(size.get())?;
        file.write_all(&trailer)?;
        file.sync_all()?;
        fs::rename(&part, to)?;
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    };
    written()
        .inspect_err(|_| drop(fs::remove_file(&part)))
        .with_context(|| format!("writing {}", to.display()))?;
    Ok(())
}

fn kind_by_name(image: &Path) -> ImageKind {
    let name = image.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if name.contains(".tar.") || name.ends_with(".tgz") {
        ImageKind::TarGz
    } else if name.contains(".squashfs") {
        ImageKind::Squashfs
    } else {
        ImageKind::Raw
    }
}
