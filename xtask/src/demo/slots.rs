//! What lies in a slot, seen from outside.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

use anyhow::{Context, bail};

/// Compares the front of `slot` with all of `image`; how many bytes were equal.
pub(super) fn compare(slot: &Path, image: &Path) -> anyhow::Result<u64> {
    let open = |path: &Path| {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        anyhow::Ok(BufReader::with_capacity(1 << 20, file))
    };
    let (mut slot, mut image) = (open(slot)?, open(image)?);
    let (mut ours, mut theirs) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut at = 0;
    loop {
        let read = image.read(&mut theirs)?;
        if read == 0 {
            return Ok(at);
        }
        slot.read_exact(&mut ours[..read]).context("the slot is shorter than the image")?;
        if ours[..read] != theirs[..read] {
            let n = (0..read).take_while(|n| ours[*n] == theirs[*n]).count();
            bail!("byte {} of the slot differs from the image", at + n as u64);
        }
        at += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    fn file(name: &str, bytes: &[u8]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("xtask-slots-{}-{name}", std::process::id()));
        fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn a_slot_that_begins_with_the_image_is_equal_and_the_first_other_byte_is_named() {
        let slot = file("slot", &[7; 100]);
        assert_eq!(compare(&slot, &file("same", &[7; 90])).unwrap(), 90);
        let mut other = vec![7; 90];
        other[80] = 8;
        let error = compare(&slot, &file("other", &other)).unwrap_err().to_string();
        assert!(error.contains("byte 80"), "{error}");
        assert!(compare(&slot, &file("long", &[7; 101])).is_err());
    }
}
