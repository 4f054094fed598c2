//! `ota-admin status`.

use ota_api::system::{PartitionInfo, SystemStatus};

use super::Context;
use crate::{
    exit::Failure,
    output::{facts, table},
};

pub(crate) async fn run(context: &mut Context) -> Result<(), Failure> {
    let status = context.client()?.status().await?;
    context.out.show(&status, text)
}

fn text(status: &SystemStatus) -> String {
    let gateway = &status.gateway;
    let resources = &status.resources;
    let mut rows = vec![
        ("Gateway", format!("{} ({}, serial {})", gateway.name, gateway.model, gateway.serial)),
        ("State", status.system_status.to_string()),
    ];
    rows.extend(status.degraded.iter().map(|d| ("Degraded", format!("{} ({})", d.message, d.reason))));
    if let Some(job) = &status.active_job {
        rows.push(("Job", job.clone()));
    }
    if let Some(reset) = &status.factory_reset {
        let by = reset.requested_by.as_ref().map_or_else(String::new, |by| format!(" (asked for by {by})"));
        rows.push(("Factory reset", format!("{}{by}", reset.message)));
    }
    if let Some(last) = &status.last_update {
        rows.push(("Last update", format!("{} {} at {}", last.version, last.status, last.timestamp)));
    }
    let checked = status.last_good_check.map_or_else(|| "never".into(), |at| at.to_string());
    rows.push(("Last check", checked));
    rows.push((
        "Resources",
        format!(
            "{} of disk and {} of memory free, load {:.2}",
            ota_api::text::megabytes(ota_core::ByteCount(resources.disk_free)),
            ota_api::text::megabytes(ota_core::ByteCount(resources.memory_free)),
            resources.cpu_load
        ),
    ));
    if status.allow_unsigned {
        rows.push(("Policy", "unsigned images are allowed".into()));
    }
    format!("{}\n\n{}", facts(rows), partitions(status))
}

fn partitions(status: &SystemStatus) -> String {
    let slots = [("running", &status.partitions.active), ("other", &status.partitions.inactive)];
    let rows = slots.into_iter().filter_map(|(role, slot)| Some(partition(role, slot.as_ref()?, status)));
    table(["PARTITION", "ROLE", "VERSION", "STATE", "BOOTS", "LAST BOOT", "NEXT"], rows)
}

fn partition(role: &str, slot: &PartitionInfo, status: &SystemStatus) -> [String; 7] {
    [
        slot.name.to_string(),
        role.into(),
        slot.version.clone().unwrap_or_else(|| "unknown".into()),
        slot.state.to_string(),
        slot.boot_count.to_string(),
        slot.last_boot.map(|at| at.to_string()).unwrap_or_default(),
        next(slot, status).into(),
    ]
}

/// What the boot loader does with a slot at the next boot.
pub(super) fn next(slot: &PartitionInfo, status: &SystemStatus) -> &'static str {
    match &status.boot {
        Some(boot) if boot.trial == Some(slot.name) => "trial",
        Some(boot) if boot.first == slot.name => "boots next",
        _ => "",
    }
}
