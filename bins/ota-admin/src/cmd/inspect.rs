//! `ota-admin inspect`: what an image file is. For people who made it; a device looks at nothing before the signature holds.

use std::path::PathBuf;

use ota_core::{ByteCount, release::SignatureKind};
use ota_verify::{Manifest, Trailer};
use serde_json::{Value, json};

use super::{Context, file, verify::table};
use crate::exit::Failure;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Image file.
    pub(crate) file: PathBuf,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let (tail, length) = file::tail(&args.file)?;
    let trailer = Trailer::decode(&tail, length);
    let front = match &trailer {
        Ok(Some((_, image))) => *image,
        _ => length,
    };
    let mut document = json!({"image": args.file, "file_size": length, "size": front});
    let fields = match trailer {
        Ok(None) => json!({"trailer": "none"}),
        Ok(Some((trailer, _))) => of_trailer(&args, &trailer, ByteCount(front))?,
        Err(refusal) => json!({"trailer": refusal.to_string()}),
    };
    let format = match format(&args, ByteCount(front)) {
        Ok(fields) => fields,
        Err(error) => json!({"format": format!("{error:#}")}),
    };
    for fields in [fields, format] {
        document
            .as_object_mut()
            .into_iter()
            .for_each(|to| to.extend(fields.as_object().cloned().unwrap_or_default()));
    }
    context.out.show(&document, table)
}

fn of_trailer(args: &Args, trailer: &Trailer, size: ByteCount) -> Result<Value, Failure> {
    let kinds = trailer.signatures.iter().map(|signature| match signature.kind {
        SignatureKind::Cms => "cms",
        SignatureKind::Openpgp => "openpgp",
    });
    let signatures: Vec<&str> = kinds.collect();
    let manifest = match Manifest::decode(&trailer.manifest) {
        Ok(manifest) => manifest,
        Err(refusal) => return Ok(json!({"trailer": refusal.to_string(), "signatures": signatures})),
    };
    let found = file::blocks(&args.file, size, manifest.block_size)?;
    let block_size = manifest.block_size;
    let pairs = found.iter().zip(&manifest.blocks).enumerate();
    let damaged: Vec<String> = pairs
        .filter(|(_, (found, promised))| found != promised)
        .map(|(number, _)| format!("{number} (from byte {})", number as u64 * block_size))
        .collect();
    Ok(json!({
        "trailer": "version 1, signatures not checked", "signatures": signatures,
        "version": manifest.version.to_string(), "models": manifest.models, "kind": manifest.kind.to_string(),
        "sha256": manifest.sha256.to_string(), "requires_reboot": manifest.requires_reboot,
        "notes": manifest.notes, "blocks": manifest.blocks.len(), "block_size": block_size,
        "size_matches": manifest.size == size, "damaged_blocks": damaged,
    }))
}

fn format(args: &Args, size: ByteCount) -> anyhow::Result<Value> {
    let image = file::measure_front(&args.file, size.get())?;
    let facts = file::facts(&args.file, image)?;
    Ok(json!({
        "format": facts.format, "partition_layout": facts.partition_layout, "actual_sha256": image.sha256.to_string(),
        "unpacked_size": facts.unpacked.as_ref().map(|unpacked| unpacked.size),
        "unpacked_sha256": facts.unpacked.as_ref().map(|unpacked| unpacked.sha256.to_string()),
    }))
}
