//! What `cargo xtask bench verify` runs: one verification of a file, as the daemon does it.
//!
//! `bench_verify KEYS IMAGE SHA256 [SIGNATURE]`. Exit code 1 when it is refused.

use std::{
    fs::File,
    io::Read as _,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use ota_core::{
    ByteCount, Timestamp,
    error::PortError,
    ports::{Clock, Flow, ImageExpectation, ImageReader, VerifyPolicy},
    release::{DetachedSignature, Evidence, SignatureKind},
};
use ota_verify::{Keyring, KeyringVerifier, VerifyConfig};

struct Now(Timestamp);

impl Clock for Now {
    fn wall(&self) -> Timestamp {
        self.0
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn wall_is_trusted(&self) -> bool {
        true
    }
}

struct Image(File);

impl ImageReader for Image {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, PortError> {
        self.0.read(buf).map_err(|error| PortError::io("the image cannot be read", error))
    }
}

fn run(arguments: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let [keys, image, sha256, signature @ ..] = arguments else {
        return Err("bench_verify KEYS IMAGE SHA256 [SIGNATURE]".into());
    };
    let signatures: Result<Vec<_>, std::io::Error> = signature
        .iter()
        .map(|path| Ok(DetachedSignature { kind: SignatureKind::Cms, bytes: std::fs::read(path)? }))
        .collect();
    let evidence = Evidence::signatures(signatures?);
    let file = File::open(image)?;
    let expect = ImageExpectation { size: ByteCount(file.metadata()?.len()), sha256: sha256.parse()? };
    #[expect(clippy::disallowed_methods, reason = "the certificate was made by openssl a moment ago")]
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let clock = Arc::new(Now(Timestamp::from_secs(i64::try_from(now)?)));
    let config = VerifyConfig::new(clock, Timestamp::from_secs(0));
    let verifier = KeyringVerifier::new(Keyring::load(Path::new(keys))?, config);
    let policy = VerifyPolicy { require_signature: !evidence.is_empty() };
    verifier.verify_image(&mut Image(file), expect, &evidence, policy, &mut |_| Flow::Continue)?;
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the bench shows why it failed")]
            {
                eprintln!("bench_verify: {error}");
            }
            ExitCode::FAILURE
        }
    }
}
