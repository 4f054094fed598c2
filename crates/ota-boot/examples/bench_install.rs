//! One measure of installing a staged image, in one process, so that whoever starts it can account for all of it.
//!
//! `stage --image FILE --mib N` writes an image that does not compress and prints its SHA-256; `hash` digests as many
//! bytes and touches no file; `write` writes the slot and hashes; `write_read_back` is the whole of an install. Options:
//! `--slot FILE_OR_DEVICE --sha256 HEX --mib N [--chunk-kib K] [--buffers B] [--writers W] [--sync-mib S]`. Used by `cargo xtask bench install`.

use std::{
    error::Error,
    fs::File,
    io::{Read, Write},
    path::PathBuf,
};

use ota_boot::{
    Pipeline,
    device::{Access, Devices, OsDevices},
    slot_writer::{install_image, write_image},
};
use ota_core::{
    ByteCount, Sha256Digest,
    error::PortError,
    ports::{Flow, ImageExpectation, ImageReader},
};
use ring::digest::{Context, SHA256};

type Outcome<T> = Result<T, Box<dyn Error>>;

#[derive(Default)]
struct Arguments {
    image: PathBuf,
    slot: PathBuf,
    sha256: String,
    mib: u64,
    pipeline: Pipeline,
}

fn main() -> Outcome<()> {
    let mut words = std::env::args().skip(1);
    let measure = words.next().ok_or("which measure? stage, hash, write, write_read_back")?;
    let arguments = parse(words)?;
    match measure.as_str() {
        "stage" => stage(&arguments),
        "hash" => hash(&arguments),
        "write" => install(&arguments, false),
        "write_read_back" => install(&arguments, true),
        _ => Err(format!("unknown measure {measure}").into()),
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Outcome<Arguments> {
    let mut arguments = Arguments { mib: 431, ..Arguments::default() };
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--image" => arguments.image = value.into(),
            "--slot" => arguments.slot = value.into(),
            "--sha256" => arguments.sha256 = value,
            "--mib" => arguments.mib = value.parse()?,
            "--chunk-kib" => arguments.pipeline.chunk = value.parse::<usize>()? << 10,
            "--buffers" => arguments.pipeline.buffers = value.parse()?,
            "--writers" => arguments.pipeline.writers = value.parse()?,
            "--sync-mib" => arguments.pipeline.sync_every = value.parse::<u64>()? << 20,
            _ => return Err(format!("unknown option {word}").into()),
        }
    }
    Ok(arguments)
}

fn stage(arguments: &Arguments) -> Outcome<()> {
    let (mut file, mut hash) = (File::create(&arguments.image)?, Context::new(&SHA256));
    let (mut block, mut state) = (vec![0; 1 << 20], 0x9e37_79b9_7f4a_7c15_u64);
    for _ in 0..arguments.mib {
        for word in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        hash.update(&block);
        file.write_all(&block)?;
    }
    file.sync_all()?;
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(hash.finish().as_ref());
    writeln!(std::io::stdout(), "{}", Sha256Digest(sha256))?;
    Ok(())
}

/// The digest alone, of a buffer that stays hot: the second floor, whatever the medium.
fn hash(arguments: &Arguments) -> Outcome<()> {
    let (mut hash, block) = (Context::new(&SHA256), vec![0x5a; 1 << 20]);
    (0..arguments.mib).for_each(|_| hash.update(&block));
    std::hint::black_box(hash.finish());
    Ok(())
}

fn install(arguments: &Arguments, read_back: bool) -> Outcome<()> {
    let expect = ImageExpectation { size: ByteCount(arguments.mib << 20), sha256: arguments.sha256.parse()? };
    let dev = OsDevices::default().open(&arguments.slot, Access::Exclusive)?;
    let mut image = Staged(File::open(&arguments.image)?);
    let write = if read_back { install_image } else { write_image };
    write(&*dev, &mut image, expect, arguments.pipeline, &mut |_| Flow::Continue)?;
    Ok(())
}

struct Staged(File);

impl ImageReader for Staged {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, PortError> {
        self.0.read(buf).map_err(|e| PortError::io("cannot read the staged image", e))
    }
}
