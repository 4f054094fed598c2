//! `upload`, `upload/verify`, `upload/deploy`. The form of an upload is multipart; its parts are named in the contract.

use jiff::Timestamp;
use ota_core::ports::{Upload, Verification};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{auth::Secret, text, words::Strategy};

/// The parts of an upload, for the document only: the server streams them.
#[derive(Clone, Debug, ToSchema)]
pub struct UploadForm {
    /// The firmware image file.
    #[schema(value_type = String, format = Binary)]
    pub file: Vec<u8>,
    /// Version label for the image.
    pub version: String,
    /// Optional description.
    pub description: Option<String>,
    /// Detached signature, a file part. May be there up to eight times, for gateways that ask for several keys.
    #[schema(value_type = Option<String>, format = Binary)]
    pub signature: Option<Vec<u8>>,
    /// Checksum file (`SHA256SUMS`, `SHA512SUMS`) that lists the image by its file name, a file part.
    #[schema(value_type = Option<String>, format = Binary)]
    pub checksums: Option<Vec<u8>>,
    /// Detached signature over the checksum file, a file part. May be there up to eight times.
    #[schema(value_type = Option<String>, format = Binary)]
    pub checksums_signature: Option<Vec<u8>>,
    /// Expected digest, 64 hexadecimal digits.
    pub sha256: Option<String>,
}

/// Answer of `upload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadResponse {
    /// `uploaded`.
    pub status: String,
    /// The staged file.
    pub file: UploadedFile,
    /// Always `true`: an upload says nothing about authenticity.
    pub verification_required: bool,
}

/// A staged file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadedFile {
    /// Base name.
    pub name: String,
    /// Length in bytes.
    pub size: u64,
    /// Version label.
    pub version: String,
    /// `sha256:` and the digest.
    pub checksum: String,
    /// Description, if one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Answer of `GET upload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadList {
    /// All uploads, by name.
    pub uploads: Vec<UploadSummary>,
}

/// An upload as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadSummary {
    /// The staged file.
    #[serde(flatten)]
    pub file: UploadedFile,
    /// When it was whole.
    pub uploaded_at: Timestamp,
    /// When exactly these bytes were last verified; absent when they were not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<Timestamp>,
    /// Whether a trusted key signed them, by that verification.
    pub signature_valid: bool,
    /// Whether `upload/deploy` would take it.
    pub ready_for_deployment: bool,
}

impl From<Upload> for UploadSummary {
    fn from(upload: Upload) -> Self {
        let verification = upload.verification.as_ref();
        Self {
            uploaded_at: text::time(upload.stored),
            verified_at: verification.map(|found| text::time(found.at)),
            signature_valid: verification.is_some_and(Verification::signed),
            ready_for_deployment: verification.is_some_and(|found| found.facts.is_some()),
            file: UploadedFile::from(upload),
        }
    }
}

impl From<Upload> for UploadedFile {
    fn from(upload: Upload) -> Self {
        Self {
            name: upload.image.name.to_string(),
            size: upload.image.size.get(),
            version: upload.version.to_string(),
            checksum: format!("sha256:{}", upload.image.sha256),
            description: upload.description,
        }
    }
}

const fn yes() -> bool {
    true
}

/// Body of `upload/verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerifyRequest {
    /// Base name of the staged file.
    #[schema(pattern = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}$")]
    pub filename: String,
    /// Whether a trusted signature is required.
    #[serde(default = "yes")]
    pub verify_signature: bool,
    /// Whether format, model and version are checked.
    #[serde(default = "yes")]
    pub check_compatibility: bool,
}

/// Answer of `upload/verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerifyResponse {
    /// `verified`.
    pub status: String,
    /// What was found.
    pub file: VerifiedFile,
    /// Whether `upload/deploy` would take it.
    pub ready_for_deployment: bool,
}

/// A staged file after its verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerifiedFile {
    /// Base name.
    pub name: String,
    /// Version label.
    pub version: String,
    /// Whether a trusted key signed exactly these bytes.
    pub signature_valid: bool,
    /// `authenticity`: trusted keys say who made it; `integrity`: a checksum file names its digest, and nobody says who made it;
    /// `none`. A `sha256` field is compared when the upload arrives and is not told here again.
    #[serde(default)]
    pub assurance: String,
    /// Whether it fits this device.
    pub compatible: bool,
    /// `standard`.
    pub partition_layout: String,
    /// `sha256:` and the digest of the bytes that were checked.
    pub checksum: String,
    /// Length in bytes.
    pub size: u64,
}

/// Body of `upload/deploy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeployRequest {
    /// Base name of the staged file.
    #[schema(pattern = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}$")]
    pub filename: String,
    /// If given, must be the label of the upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `A` or `B`; the inactive partition when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_partition: Option<String>,
    /// When and how; `seamless` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// The PIN; needed for an image that no trusted key signed, checked whenever it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Secret>,
    /// Whether the gateway restarts by itself once the partition is switched. Unlike `updates/install` it does unless
    /// told otherwise: a deployment is one call.
    #[serde(default = "yes")]
    pub reboot_after: bool,
    /// Whether a failed health check brings the old partition back.
    #[serde(default = "yes")]
    pub rollback_on_failure: bool,
}

/// Answer of `upload/deploy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeployResponse {
    /// `deployment_started`.
    pub status: String,
    /// Name of the deployment; also accepted where a `job_id` is.
    pub deployment_id: String,
    /// Its name as a job.
    pub job_id: String,
    /// A sentence for people.
    pub message: String,
}
