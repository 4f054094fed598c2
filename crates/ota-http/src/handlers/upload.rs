//! `upload`, `upload/verify`, `upload/deploy`: images that people bring themselves.

use std::sync::{Arc, atomic::Ordering};

use axum::{
    extract::{FromRequest, Path, Request, State},
    http::header,
};
use ota_api::{
    auth::Done,
    upload::{
        DeployRequest, DeployResponse, UploadForm, UploadList, UploadResponse, UploadSummary, UploadedFile,
        VerifiedFile, VerifyRequest, VerifyResponse,
    },
};
use ota_core::{
    ImageName, Slot,
    job::{InstallOptions, Strategy},
    ports::{Role, Upload, UploadLabel, Verification},
    release::{Release, StagedImage},
};
use ota_engine::ExamineRequest;
use utoipa_axum::routes;

use crate::{
    app::{App, blocking},
    auth::Caller,
    config::PinOperation,
    extract::{Answer, Json},
    handlers::updates::partition,
    router::Routes,
    status::{Refusal, Transport},
    upload::{Received, receive, refuse_in_use},
};

pub(crate) fn routes() -> Routes {
    Routes::new()
        .change(Role::Operator, "upload", routes!(upload))
        .read(Role::Viewer, routes!(uploads))
        .change(Role::Operator, "upload.remove", routes!(remove_upload))
        .change(Role::Operator, "upload.verify", routes!(verify_upload))
        .change(Role::Admin, "upload.deploy", routes!(deploy_upload))
}

/// Takes an image. It replaces one of the same name once it is whole.
#[utoipa::path(post, path = "/upload", tag = "upload",
    request_body(content = UploadForm, content_type = "multipart/form-data"), responses(
    (status = 200, body = UploadResponse),
    (status = 409, description = "OTA_014: a running deployment uses the image of this name"),
    (status = 422, description = "OTA_007: not the bytes of the given sha256"),
    (status = 507, description = "OTA_003"),
))]
async fn upload(State(app): State<App>, request: Request) -> Result<Answer<UploadResponse>, Refusal> {
    let received = receive(&app, request).await?;
    let upload = commit(&app, received, None).await?;
    let told = told(&upload);
    let response = UploadResponse {
        status: "uploaded".into(),
        file: UploadedFile::from(upload),
        verification_required: true,
    };
    Ok(Answer::noted(response, None, Some(told)))
}

/// What the audit says of an upload.
fn told(upload: &Upload) -> String {
    format!("{} {} {}", upload.image.name, upload.version, checksum(&upload.image))
}

fn checksum(image: &StagedImage) -> String {
    format!("sha256:{}", image.sha256)
}

async fn commit(
    app: &App,
    received: Received,
    verification: Option<Verification>,
) -> Result<Upload, Refusal> {
    refuse_in_use(app, &received.image.name)?;
    let Received { writer, version, description, signatures, checksums, image } = received;
    app.metrics.uploaded_bytes.fetch_add(image.size.get(), Ordering::Relaxed);
    let stored = app.clock.wall();
    let label = UploadLabel { version, description, signatures, checksums, verification, stored };
    Ok(blocking(move || writer.commit(label)).await??)
}

/// The images that were uploaded.
#[utoipa::path(get, path = "/upload", tag = "upload", responses((status = 200, body = UploadList)))]
async fn uploads(State(app): State<App>) -> Result<Answer<UploadList>, Refusal> {
    let store = Arc::clone(&app.uploads);
    let uploads = blocking(move || store.list()).await??;
    let uploads = uploads.into_iter().map(|upload| UploadSummary::from(as_trusted_now(&app, upload)));
    Ok(Answer::new(UploadList { uploads: uploads.collect() }))
}

/// Removes an uploaded image with its signatures.
#[utoipa::path(delete, path = "/upload/{filename}", tag = "upload",
    params(("filename" = String, Path, description = "Base name of the staged file")), responses(
    (status = 200, body = Done),
    (status = 404, description = "There is no upload of this name"),
    (status = 409, description = "OTA_014: a running deployment uses it"),
))]
async fn remove_upload(
    State(app): State<App>,
    Path(filename): Path<String>,
) -> Result<Answer<Done>, Refusal> {
    let name = image_name("path.filename", &filename)?;
    refuse_in_use(&app, &name)?;
    let (store, gone) = (Arc::clone(&app.uploads), name.clone());
    if !blocking(move || store.remove(&gone)).await?? {
        return Err(unknown(&name));
    }
    let done = Done { status: "upload_removed".into(), message: format!("{name} removed") };
    Ok(Answer::noted(done, None, Some(filename)))
}

fn image_name(path: &str, text: &str) -> Result<ImageName, Refusal> {
    text.parse().map_err(|error| Refusal::field(path, format!("{error}")))
}

fn unknown(name: &ImageName) -> Refusal {
    Transport::NotFound(format!("there is no upload with the name {name}")).into()
}

async fn find(app: &App, name: &ImageName) -> Result<Upload, Refusal> {
    let (store, wanted) = (Arc::clone(&app.uploads), name.clone());
    let found = blocking(move || store.find(&wanted)).await??;
    found.map(|upload| as_trusted_now(app, upload)).ok_or_else(|| unknown(name))
}

/// A verification counts as long as this gateway has the keys and the rules that it was made with.
fn as_trusted_now(app: &App, mut upload: Upload) -> Upload {
    let verification = upload.verification.take();
    upload.verification = verification.filter(|found| found.vouched.trust == app.engine.trust());
    upload
}

/// Verifies an uploaded image: its signature, then its format, then whether it fits this gateway. As a form, uploads and
/// verifies in one; what is refused is then not kept.
#[utoipa::path(post, path = "/upload/verify", tag = "upload",
    request_body(content((VerifyRequest = "application/json"), (UploadForm = "multipart/form-data"))), responses(
    (status = 200, body = VerifyResponse),
    (status = 404, description = "There is no upload of this name"),
    (status = 409, description = "OTA_014: another image is being verified, or a running deployment uses the image of this name"),
    (status = 422, description = "OTA_005, OTA_006, OTA_007"),
    (status = 507, description = "OTA_003"),
))]
async fn verify_upload(State(app): State<App>, request: Request) -> Result<Answer<VerifyResponse>, Refusal> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let form = kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("multipart/"));
    let (upload, verification) = if form {
        verify_new(&app, request).await?
    } else {
        let Json(body) = Json::<VerifyRequest>::from_request(request, &app).await?;
        verify_staged(&app, &body).await?
    };
    let told = told(&upload);
    Ok(Answer::noted(verified(&upload, &verification), None, Some(told)))
}

/// The bytes are verified before they get their name, so that what is refused replaces nothing.
async fn verify_new(app: &App, request: Request) -> Result<(Upload, Verification), Refusal> {
    let received = receive(app, request).await?;
    let given = received.evidence();
    let writer = received.writer;
    let (writer, bytes, evidence) = blocking(move || {
        let beside = given.map_or_else(|| writer.evidence(), Ok);
        let opened = beside.and_then(|evidence| Ok(([writer.reader()?, writer.reader()?], evidence)));
        opened.map(|(bytes, evidence)| (writer, bytes, evidence))
    })
    .await??;
    let received = Received { writer, ..received };
    let request = ExamineRequest {
        image: received.image.clone(),
        version: received.version.clone(),
        bytes: Some(bytes),
        evidence: Some(evidence),
        verify_signature: true,
        check_compatibility: true,
    };
    let verification = match app.engine.examine(request).await {
        Ok(verification) => verification,
        Err(refused) => {
            blocking(move || drop(received)).await?;
            return Err(refused.into());
        }
    };
    let upload = commit(app, received, Some(verification.clone())).await?;
    Ok((upload, verification))
}

async fn verify_staged(app: &App, body: &VerifyRequest) -> Result<(Upload, Verification), Refusal> {
    let name = image_name("$.filename", &body.filename)?;
    let upload = find(app, &name).await?;
    let request = ExamineRequest {
        image: upload.image.clone(),
        version: upload.version.clone(),
        bytes: None,
        evidence: None,
        verify_signature: body.verify_signature,
        check_compatibility: body.check_compatibility,
    };
    let verification = app.engine.examine(request).await?;
    let (store, image, found) = (Arc::clone(&app.uploads), upload.image.clone(), verification.clone());
    if !blocking(move || store.record_verification(&image, &found)).await?? {
        let with = format!("another upload of {name}, which came during the verification");
        return Err(ota_core::OtaError::SystemBusy { with }.into());
    }
    Ok((upload, verification))
}

fn verified(upload: &Upload, verification: &Verification) -> VerifyResponse {
    let facts = verification.facts.as_ref();
    VerifyResponse {
        status: "verified".into(),
        file: VerifiedFile {
            name: upload.image.name.to_string(),
            version: upload.version.to_string(),
            signature_valid: verification.signed(),
            assurance: verification.vouched.assurance().as_str().into(),
            compatible: facts.is_some(),
            partition_layout: facts.map_or_else(|| "unknown".into(), |facts| facts.partition_layout.clone()),
            checksum: checksum(&upload.image),
            size: upload.image.size.get(),
        },
        ready_for_deployment: facts.is_some(),
    }
}

/// Deploys a verified image: writes exactly the bytes that were verified, and starts them on trial.
#[utoipa::path(post, path = "/upload/deploy", tag = "upload", request_body = DeployRequest, responses(
    (status = 200, body = DeployResponse),
    (status = 400, description = "INVALID_REQUEST (also: not verified as it is now), OTA_002, OTA_008"),
    (status = 403, description = "FORBIDDEN, OTA_010"),
    (status = 404, description = "There is no upload of this name"),
    (status = 409, description = "OTA_001, OTA_014, OTA_015"),
    (status = 422, description = "OTA_005, OTA_006"),
    (status = 503, description = "UNAVAILABLE"),
    (status = 507, description = "OTA_003"),
))]
async fn deploy_upload(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<DeployRequest>,
) -> Result<Answer<DeployResponse>, Refusal> {
    let wanted = Wanted::parse(&body)?;
    // A PIN that is given, or needed in any case, is checked before anything else is told.
    app.pin.demand(&[PinOperation::Deploy], body.pin.as_ref()).await?;
    let upload = find(&app, &wanted.name).await?;
    let request = wanted.command(&upload)?;
    if body.pin.is_none() && request.vouched.signers.is_empty() {
        app.pin.demand(&[PinOperation::DeployUnverified], None).await?;
    }
    let told = told(&upload);
    app.auditor.intent(&caller, "upload.deploy", Some(told.clone())).await?;
    let job = app.engine.deploy(&caller.actor(), request).await?;
    let deployment =
        job.deployment.as_ref().ok_or_else(|| Refusal::internal("a deployment without a number"))?;
    let response = DeployResponse {
        status: "deployment_started".into(),
        deployment_id: deployment.to_string(),
        job_id: job.id.to_string(),
        message: "Custom image deployment in progress".into(),
    };
    Ok(Answer::noted(response, Some(job.id), Some(told)))
}

/// A deployment as it was asked for, parsed.
struct Wanted {
    name: ImageName,
    version: Option<ota_core::Version>,
    target: Option<Slot>,
    options: InstallOptions,
}

impl Wanted {
    fn parse(body: &DeployRequest) -> Result<Self, Refusal> {
        let version = body.version.as_deref().map(str::parse).transpose();
        Ok(Self {
            name: image_name("$.filename", &body.filename)?,
            version: version.map_err(|error| Refusal::field("$.version", format!("{error}")))?,
            target: body.target_partition.as_deref().map(partition).transpose()?,
            options: InstallOptions {
                strategy: body.strategy.map(Strategy::from).unwrap_or_default(),
                reboot_after: body.reboot_after,
                rollback_on_failure: body.rollback_on_failure,
            },
        })
    }

    /// The command, if the upload was verified as it is now.
    fn command(self, upload: &Upload) -> Result<ota_engine::DeployRequest, Refusal> {
        if let Some(version) = self.version.filter(|version| *version != upload.version) {
            let what = format!("{} was uploaded as {}, not {version}", self.name, upload.version);
            return Err(Refusal::field("$.version", what));
        }
        let unverified = |why: &str| {
            Refusal::field("$.filename", format!("{} {why}; call upload/verify first", self.name))
        };
        let verification = upload
            .verification
            .clone()
            .ok_or_else(|| unverified("was not verified since it, or the keys of this gateway, changed"))?;
        let facts = verification.facts.ok_or_else(|| unverified("was not found to fit this gateway"))?;
        let vouched = verification.vouched;
        // The name is the digest's: a deployment of other bytes is another release.
        let digest = vouched.sha256.to_string();
        let id = format!("upload:{}", digest.get(..16).unwrap_or_default());
        let release = Release {
            id: id.parse().map_err(|error| Refusal::internal(format!("{error}")))?,
            version: upload.version.clone(),
            description: upload.description.clone().unwrap_or_default(),
            size: vouched.size,
            sha256: vouched.sha256,
            release_date: Some(upload.stored),
            critical: false,
            requires_reboot: true,
            kind: facts.kind,
            source: "upload".into(),
            deltas: Vec::new(),
            unpacked_size: None,
        };
        let (image, target) = (upload.image.clone(), self.target);
        Ok(ota_engine::DeployRequest { release, image, vouched, target, options: self.options })
    }
}
