//! Client under test of the public TUF conformance suite (theupdateframework/tuf-conformance).
//!
//! `conformance --metadata-dir DIR init ROOT`, `… --metadata-url URL refresh`, `… --target-name NAME (repeatable)
//! --target-base-url URL --target-dir DIR download`. Exit code 0 or 1. Reads the system clock, which the suite fakes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use ota_core::{Sha256Digest, Timestamp};
use ota_fetch::{
    Url,
    tuf::{Trusted, TufClient},
};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[derive(Default)]
struct Arguments {
    metadata_dir: PathBuf,
    metadata_url: String,
    target_names: Vec<String>,
    target_dir: PathBuf,
    target_base_url: String,
    words: Vec<String>,
}

fn arguments() -> Outcome<Arguments> {
    let mut parsed = Arguments::default();
    let mut given = std::env::args().skip(1);
    while let Some(word) = given.next() {
        let mut value = || given.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--metadata-dir" => parsed.metadata_dir = value()?.into(),
            "--metadata-url" => parsed.metadata_url = value()?,
            "--target-name" => parsed.target_names.push(value()?),
            "--target-dir" => parsed.target_dir = value()?.into(),
            "--target-base-url" => parsed.target_base_url = value()?,
            _ => parsed.words.push(word),
        }
    }
    Ok(parsed)
}

async fn refresh(arguments: &Arguments) -> Outcome<Trusted> {
    let metadata: Url = arguments.metadata_url.parse()?;
    let targets = arguments.target_base_url.parse().unwrap_or_else(|_| metadata.clone());
    let root = fs::read(arguments.metadata_dir.join("root.json"))?;
    let client = TufClient::new(metadata, targets, root, arguments.metadata_dir.clone())?;
    #[expect(clippy::disallowed_methods, reason = "the suite fakes the clock of this process")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(client.refresh(Timestamp::from_millis(i64::try_from(now.as_millis())?)).await?)
}

async fn download(arguments: &Arguments) -> Outcome<()> {
    let mut trusted = refresh(arguments).await?;
    for name in &arguments.target_names {
        let file = trusted.find(name).await?.ok_or(format!("{name} is no target"))?;
        trusted.keep().await?;
        let path = arguments.target_dir.join(Path::new(name).file_name().ok_or("no file name")?);
        let here = fs::read(&path).is_ok_and(|bytes| {
            file.hashes.get("sha256").is_some_and(|known| *known == Sha256Digest::of(&bytes).to_string())
        });
        if !here {
            fs::write(&path, trusted.read(&file, name).await?)?;
        }
    }
    Ok(())
}

async fn run() -> Outcome<()> {
    let arguments = arguments()?;
    match arguments.words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["init", root] => {
            fs::create_dir_all(&arguments.metadata_dir)?;
            fs::copy(root, arguments.metadata_dir.join("root.json"))?;
            Ok(())
        }
        ["refresh"] => refresh(&arguments).await.map(drop),
        ["download"] => download(&arguments).await,
        _ => Err("say init ROOT, refresh or download".into()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Err(error) = run().await else { return ExitCode::SUCCESS };
    #[expect(clippy::print_stderr, reason = "the suite shows what a failed client said")]
    {
        eprint!("conformance: {error}");
        let mut next = error.source();
        while let Some(cause) = next {
            eprint!(": {cause}");
            next = cause.source();
        }
        eprintln!();
    }
    ExitCode::FAILURE
}
