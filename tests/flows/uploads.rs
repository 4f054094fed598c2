//! Images that people bring themselves: the spec's own program, exchanged files, long files.

use std::{fs, path::PathBuf, process::Output};

use ota_api::{
    upload::{DeployRequest, VerifyRequest},
    words::JobStatus,
};
use ota_client::UploadFile;
use ota_core::Slot;

use crate::world::{Offer, TestDevice, device};

/// The name and the label that the spec's example uses.
const NAME: &str = "custom-v5.1.0.img";
const LABEL: &str = "v5.1.0-custom";
/// How much more memory the daemon may need for a long upload than for a short one. KiB.
const GROWTH: u64 = 16 * 1024;

/// The first program below a heading of the spec, as it stands there.
fn program(heading: &str) -> String {
    let spec = include_str!("../spec/ota-api.rst");
    let (_, section) = spec.split_once(&format!("### {heading}\n")).expect("the heading is in the spec");
    let (_, code) = section.split_once(".. code-block:: python\n").expect("a program follows");
    let lines = code.lines().take_while(|line| line.is_empty() || line.starts_with("   "));
    lines.map(|line| line.get(3..).unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Runs it against the device, with nothing changed but host and token.
fn run(device: &TestDevice, program: &str, folder: &std::path::Path) -> Output {
    let url = fs::read_to_string(device.layout.url()).unwrap();
    let token = fs::read_to_string(device.layout.admin_token()).unwrap();
    let text = program.replace("https://api.example.com", url.trim()).replace("your_token", token.trim());
    let script = folder.join("example.py");
    fs::write(&script, text).unwrap();
    #[expect(clippy::disallowed_methods, reason = "cargo xtask test says which interpreter has the packages")]
    let python = std::env::var("OTA_PYTHON").unwrap_or_else(|_| "python3".into());
    #[expect(clippy::disallowed_methods, reason = "the example is a program of its own")]
    let output = std::process::Command::new(&python).arg(&script).current_dir(folder).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        !complaint.contains("ModuleNotFoundError"),
        "{python} lacks a package (PyPI: requests); run `cargo xtask test`: {complaint}"
    );
    output
}

fn signature(device: &TestDevice) -> PathBuf {
    let mut name = device.release.image.clone().into_os_string();
    name.push(".p7s");
    name.into()
}

fn upload(device: &TestDevice) -> UploadFile {
    UploadFile {
        image: device.release.image.clone(),
        version: LABEL.into(),
        description: None,
        signature: Some(signature(device)),
        sha256: None,
    }
}

fn verify(filename: &str) -> VerifyRequest {
    VerifyRequest { filename: filename.into(), verify_signature: true, check_compatibility: true }
}

fn deploy(filename: &str) -> DeployRequest {
    DeployRequest {
        filename: filename.into(),
        version: None,
        target_partition: None,
        strategy: None,
        pin: None,
        reboot_after: true,
        rollback_on_failure: true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_upload_program_of_the_spec_deploys_a_signed_image_to_a_confirmed_boot() {
    let device = device(Offer::Good).await;
    let folder = tempfile::tempdir().unwrap();
    fs::copy(&device.release.image, folder.path().join(NAME)).unwrap();
    // The program sends no signature: it lies beside the image in staging already.
    fs::copy(signature(&device), device.layout.state().join("staging").join(format!("{NAME}.p7s"))).unwrap();
    let output =
        tokio::task::block_in_place(|| run(&device, &program("Python - Manual Image Upload"), folder.path()));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(&format!("Image verified: {LABEL}\nDeployment started: DEP-")), "{said}");
    let job = device.newest().await.unwrap().unwrap().job_id;
    let ended = device.ended(&job).await;
    assert_eq!(ended.status, JobStatus::Succeeded, "{ended:#?}");
    device.check_rests_on(Slot::B).await;
    assert!(device.holds_the_image(Slot::B));
    let staged: Vec<_> = fs::read_dir(device.layout.state().join("staging")).unwrap().collect();
    assert!(staged.is_empty(), "{staged:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_exchanged_after_its_verification_is_never_switched_to() {
    let device = device(Offer::Small).await;
    let stored = device.client.upload(&upload(&device)).await.unwrap();
    let name = stored.file.name;
    assert!(device.client.verify(&verify(&name)).await.unwrap().ready_for_deployment);
    let staged = device.layout.state().join("staging").join(&name);
    let times = fs::metadata(&staged).unwrap().modified().unwrap();
    let mut bytes = fs::read(&staged).unwrap();
    bytes[4096] ^= 1;
    // In place and with its old time, so that only its bytes tell.
    let file = fs::OpenOptions::new().write(true).open(&staged).unwrap();
    std::io::Write::write_all(&mut &file, &bytes).unwrap();
    file.set_modified(times).unwrap();
    let started = device.client.deploy(&deploy(&name)).await.unwrap();
    let ended = device.ended(&started.job_id).await;
    assert_eq!(ended.status, JobStatus::Failed, "{ended:#?}");
    device.check_rests_on(Slot::A).await;
    assert_eq!(device.boots(), [Some(Slot::A)]);
    // Seen without reading it, it is refused at once.
    fs::write(&staged, &bytes).unwrap();
    let refused = device.client.deploy(&deploy(&name)).await.unwrap_err();
    assert!(refused.chain().contains("upload/verify"), "{}", refused.chain());
}

async fn peak_kib(mib: u64) -> u64 {
    let device = device(Offer::Long(mib)).await;
    let stored = device.client.upload(&upload(&device)).await.unwrap();
    assert_eq!(stored.file.size, device.release.size());
    let verified = device.client.verify(&verify(&stored.file.name)).await.unwrap();
    assert!(verified.file.signature_valid && verified.ready_for_deployment);
    device.machine.power_off().await;
    let peak = device.machine.record().borrow().peak_kib;
    println!("upload of {mib} MiB: peak of the daemon's resident memory {peak} KiB");
    peak
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_flat_when_512_mib_are_uploaded() {
    let (short, long) = (peak_kib(16).await, peak_kib(512).await);
    assert!(long <= short + GROWTH, "16 MiB: {short} KiB, 512 MiB: {long} KiB");
}
