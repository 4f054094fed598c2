//! The form of an upload: its parts in any order, each within its limits.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{DefaultBodyLimit, FromRequest, Multipart, Request, multipart::Field},
};
use bytes::Bytes;
use http::{HeaderMap, header};
use ota_core::{
    ByteCount, ImageName, OtaError, Sha256Digest, Version,
    ports::UploadWriter,
    release::{
        ChecksumFile, DetachedSignature, Evidence, SIGNATURES_OF_AN_ENDING, SignatureKind, StagedImage,
    },
};

use super::{
    pace::Pace,
    sink::Sink,
    stream::{Meter, Metered},
};
use crate::{
    app::{App, blocking},
    status::{Refusal, Transport},
};

/// Longest text of a part.
const TEXT: usize = 4096;
/// Longest description, in characters.
const DESCRIPTION: usize = 1000;
/// Largest signature.
const SIGNATURE: usize = 64 * 1024;
/// Most signatures over the image, and over the checksum file.
const SIGNATURES: usize = SIGNATURES_OF_AN_ENDING;
/// Largest checksum file. The verifier and staging have the same limit.
const CHECKSUMS: usize = 1 << 20;
/// Most parts of a form.
const PARTS: usize = 32;
/// What a form may have beside its file: the other parts and the boundaries.
const BESIDE: u64 = (CHECKSUMS + 2 * SIGNATURES * SIGNATURE + 256 * 1024) as u64;
/// What a one-file image may have behind the bytes that go into the slot. Source: `docs/image-trailer.md`.
const TRAILER: u64 = 2 << 20;
/// How long a refused client may go on sending before it gets its answer, so that it is reading when it comes.
const LINGER: Duration = Duration::from_secs(2);

/// A whole upload that is not committed yet. Dropped, nothing of it is left.
pub(crate) struct Received {
    pub(crate) writer: Box<dyn UploadWriter>,
    pub(crate) image: StagedImage,
    pub(crate) version: Version,
    pub(crate) description: Option<String>,
    pub(crate) signatures: Vec<DetachedSignature>,
    pub(crate) checksums: Option<ChecksumFile>,
}

impl Received {
    /// What came with it to vouch for it; none where nothing did.
    pub(crate) fn evidence(&self) -> Option<Evidence> {
        let evidence = Evidence { signatures: self.signatures.clone(), checksums: self.checksums.clone() };
        (!evidence.is_empty()).then_some(evidence)
    }
}

/// Takes an upload from a request.
///
/// # Errors
/// `INVALID_REQUEST` naming the part, `UNSUPPORTED_MEDIA_TYPE`, `PAYLOAD_TOO_LARGE`, `REQUEST_TIMEOUT`,
/// `TOO_MANY_REQUESTS`; `InsufficientSpace` (OTA_003), `ChecksumMismatch` (OTA_007). Nothing is left of it then.
pub(crate) async fn receive(app: &App, request: Request) -> Result<Received, Refusal> {
    if !is_form(request.headers()) {
        return Err(Transport::UnsupportedMediaType { expected: "multipart/form-data" }.into());
    }
    let _turn = app.uploading.try_acquire().map_err(|_| Transport::TooManyRequests {
        what: "too many uploads at once",
        retry_after: Duration::from_secs(10),
    })?;
    let limits = &app.config.limits;
    let announced = announced(request.headers());
    let most = Most::of(app).await?;
    most.check(announced.unwrap_or_default().saturating_sub(BESIDE))?;
    let meter = Meter::default();
    let (parts, body) = request.into_parts();
    let body = Body::from_stream(Metered::new(body.into_data_stream(), meter.clone()));
    let mut request = Request::from_parts(parts, body);
    // Ours is the limit: the sum of what the parts may have.
    DefaultBodyLimit::disable().apply(&mut request);
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|_| invalid(None, "the boundary of the form is missing or malformed"))?;
    let pace = Pace::new(limits.upload_bytes_per_second, limits.upload_window);
    let mut reading = Reading { app, most, announced, meter, pace, found: Found::default(), sink: None };
    match reading.parts(&mut form).await {
        Ok(()) => reading.whole().await,
        Err(refusal) => {
            reading.give_up(form).await;
            Err(refusal)
        }
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("multipart/form-data")
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn invalid(part: Option<&str>, what: impl Into<String>) -> Refusal {
    Transport::InvalidRequest { path: part.map(str::to_owned), what: what.into() }.into()
}

/// How long a file may be.
struct Most {
    /// As configured.
    limit: Option<u64>,
    /// What fits into the slot it would go to, where that is known.
    slot: Option<(String, u64)>,
}

impl Most {
    async fn of(app: &App) -> Result<Self, Refusal> {
        let inactive = app.engine.status().await?.inactive;
        let slot = inactive.and_then(|slot| Some((format!("slot {}", slot.slot), slot.capacity?.get())));
        Ok(Self { limit: app.config.limits.upload_bytes, slot })
    }

    fn check(&self, length: u64) -> Result<(), Refusal> {
        if let Some(limit) = self.limit.filter(|limit| length > *limit) {
            return Err(Transport::PayloadTooLarge { limit }.into());
        }
        match &self.slot {
            Some((place, capacity)) if length > capacity.saturating_add(TRAILER) => {
                let (required, available) = (ByteCount(length), ByteCount(*capacity));
                Err(OtaError::InsufficientSpace { place: place.clone(), required, available }.into())
            }
            _ => Ok(()),
        }
    }
}

/// The parts that have come.
#[derive(Default)]
struct Found {
    version: Option<Version>,
    description: Option<String>,
    signatures: Vec<DetachedSignature>,
    checksums: Option<Vec<u8>>,
    checksums_signatures: Vec<DetachedSignature>,
    sha256: Option<Sha256Digest>,
}

/// A form that is being read.
struct Reading<'a> {
    app: &'a App,
    most: Most,
    announced: Option<u64>,
    meter: Meter,
    pace: Pace,
    found: Found,
    sink: Option<Sink>,
}

impl Reading<'_> {
    async fn parts(&mut self, form: &mut Multipart) -> Result<(), Refusal> {
        for _ in 0..PARTS {
            let Some(part) = self.pace.wait(form.next_field()).await?.map_err(broken)? else {
                return Ok(());
            };
            self.part(part).await?;
        }
        Err(invalid(None, format!("a form has at most {PARTS} parts")))
    }

    async fn part(&mut self, part: Field<'_>) -> Result<(), Refusal> {
        match part.name().unwrap_or_default() {
            "file" => self.file(part).await,
            "version" => {
                let text = self.text(part, "version").await?;
                label(&text, "version")?;
                let version = text.parse().map_err(|error| invalid(Some("version"), format!("{error}")))?;
                once(&mut self.found.version, version, "version")
            }
            "description" => {
                let text = self.text(part, "description").await?;
                once(&mut self.found.description, description(text)?, "description")
            }
            "sha256" => {
                let text = self.text(part, "sha256").await?;
                let digest =
                    text.trim().parse().map_err(|error| invalid(Some("sha256"), format!("{error}")))?;
                once(&mut self.found.sha256, digest, "sha256")
            }
            "signature" => {
                let bytes = self.beside(part, "signature", SIGNATURE).await?;
                another(&mut self.found.signatures, bytes, "signature")
            }
            "checksums" => {
                let bytes = self.beside(part, "checksums", CHECKSUMS).await?;
                fill(&mut self.found.checksums, bytes, "checksums")
            }
            "checksums_signature" => {
                let bytes = self.beside(part, "checksums_signature", SIGNATURE).await?;
                another(&mut self.found.checksums_signatures, bytes, "checksums_signature")
            }
            // As with JSON: what is not known is not looked at.
            other => {
                let other = other.chars().take(40).collect::<String>();
                self.small(part, &other, SIGNATURE).await.map(drop)
            }
        }
    }

    async fn file(&mut self, mut part: Field<'_>) -> Result<(), Refusal> {
        if self.sink.is_some() {
            return Err(twice("file"));
        }
        let given = part.file_name().ok_or_else(|| invalid(Some("file"), "must be a file with a name"))?;
        let name: ImageName = given.parse().map_err(|error| invalid(Some("file"), format!("{error}")))?;
        refuse_in_use(self.app, &name)?;
        let (store, announced) = (std::sync::Arc::clone(&self.app.uploads), self.announced.map(ByteCount));
        let writer = blocking(move || store.begin(&name, announced)).await??;
        self.sink = Some(Sink::new(writer));
        let mut length = 0_u64;
        while let Some(bytes) = self.chunk(&mut part).await? {
            length = length.saturating_add(bytes.len() as u64);
            self.most.check(length)?;
            if let Some(sink) = &mut self.sink {
                sink.push(&bytes).await?;
            }
        }
        if length == 0 { Err(invalid(Some("file"), "is empty")) } else { Ok(()) }
    }

    async fn chunk(&mut self, part: &mut Field<'_>) -> Result<Option<Bytes>, Refusal> {
        let bytes = self.pace.wait(part.chunk()).await?.map_err(broken)?;
        let length = bytes.as_ref().map_or(0, Bytes::len);
        self.pace.arrived(length);
        self.meter.took(length);
        Ok(bytes)
    }

    async fn small(&mut self, mut part: Field<'_>, name: &str, most: usize) -> Result<Vec<u8>, Refusal> {
        let mut all = Vec::new();
        while let Some(bytes) = self.chunk(&mut part).await? {
            if all.len() + bytes.len() > most {
                return Err(invalid(Some(name), format!("is longer than {most} bytes")));
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }

    /// A file that goes with the image. A browser sends a file part that nobody filled as an empty one without a name.
    async fn beside(&mut self, part: Field<'_>, name: &str, most: usize) -> Result<Option<Vec<u8>>, Refusal> {
        let filled = part.file_name().is_some_and(|name| !name.is_empty());
        let bytes = self.small(part, name, most).await?;
        Ok((filled || !bytes.is_empty()).then_some(bytes))
    }

    async fn text(&mut self, part: Field<'_>, name: &str) -> Result<String, Refusal> {
        let bytes = self.small(part, name, TEXT).await?;
        String::from_utf8(bytes).map_err(|_| invalid(Some(name), "is not text in UTF-8"))
    }

    /// All parts are there: whether they are what an upload needs.
    async fn whole(self) -> Result<Received, Refusal> {
        let Some(sink) = self.sink else { return Err(invalid(Some("file"), "is missing")) };
        let Some(version) = self.found.version else {
            sink.abort().await;
            return Err(invalid(Some("version"), "is missing"));
        };
        let Found { description, signatures, checksums, checksums_signatures, sha256, .. } = self.found;
        if checksums.is_none() && !checksums_signatures.is_empty() {
            sink.abort().await;
            return Err(invalid(Some("checksums_signature"), "is there without checksums"));
        }
        let (writer, image) = sink.seal().await?;
        if let Some(expected) = sha256.filter(|expected| *expected != image.sha256) {
            blocking(move || drop(writer)).await?;
            return Err(OtaError::digest_mismatch(&expected, &image.sha256).into());
        }
        let name = image.name.to_string();
        let checksums = checksums.map(|text| ChecksumFile { text, signatures: checksums_signatures, name });
        Ok(Received { writer, image, version, description, signatures, checksums })
    }

    /// Removes what has arrived, and lets the client go on for a moment, so that it sees why.
    async fn give_up(self, mut form: Multipart) {
        if let Some(sink) = self.sink {
            sink.abort().await;
        }
        self.meter.discard();
        let rest = async { while let Ok(Some(_)) = form.next_field().await {} };
        let _ = tokio::time::timeout(LINGER, rest).await;
    }
}

/// A running deployment reads its image: it is not replaced or removed under its hands.
pub(crate) fn refuse_in_use(app: &App, name: &ImageName) -> Result<(), Refusal> {
    let active = app.engine.active();
    let active = active.borrow();
    let user = active.as_ref().filter(|job| job.image.as_ref().is_some_and(|image| image.name == *name));
    match user {
        Some(job) => {
            let with = format!("job {}, which deploys {name}", job.id);
            Err(OtaError::SystemBusy { with }.into())
        }
        None => Ok(()),
    }
}

fn once<T>(place: &mut Option<T>, value: T, part: &str) -> Result<(), Refusal> {
    if place.replace(value).is_some() { Err(twice(part)) } else { Ok(()) }
}

fn fill<T>(place: &mut Option<T>, value: Option<T>, part: &str) -> Result<(), Refusal> {
    value.map_or(Ok(()), |value| once(place, value, part))
}

fn another(known: &mut Vec<DetachedSignature>, bytes: Option<Vec<u8>>, part: &str) -> Result<(), Refusal> {
    let Some(bytes) = bytes else { return Ok(()) };
    if known.len() == SIGNATURES {
        return Err(invalid(Some(part), format!("is there more than {SIGNATURES} times")));
    }
    known.push(DetachedSignature { kind: SignatureKind::of(&bytes), bytes });
    Ok(())
}

fn twice(part: &str) -> Refusal {
    invalid(Some(part), "is there twice")
}

/// Whatever breaks the form off is the client's doing: the parser does no IO of its own.
fn broken(error: axum::extract::multipart::MultipartError) -> Refusal {
    let what = match error.status() {
        http::StatusCode::BAD_REQUEST => error.body_text(),
        _ => "the form ended early, or a part of it has a head that is too long".into(),
    };
    invalid(None, what)
}

/// A label is one line that can stand behind a name and an equals sign, wherever it is written down.
fn label(text: &str, part: &str) -> Result<(), Refusal> {
    let what = match text.chars().find(|c| c.is_control() || *c == '=') {
        None => return Ok(()),
        Some('\0') => "has a NUL".into(),
        Some('\r' | '\n') => "has a line break; it is one line".into(),
        Some('=') => "has an equals sign (=), which no label may have".into(),
        Some(other) => format!("has the control character U+{:04X}", u32::from(other)),
    };
    Err(invalid(Some(part), what))
}

fn description(text: String) -> Result<String, Refusal> {
    if text.chars().count() > DESCRIPTION {
        return Err(invalid(Some("description"), format!("is longer than {DESCRIPTION} characters")));
    }
    label(&text, "description")?;
    Ok(text)
}
