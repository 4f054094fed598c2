//! `ota-admin check`.

use ota_api::{
    text::megabytes,
    updates::{CheckResponse, UpdateInfo},
};
use ota_core::ByteCount;

use super::Context;
use crate::{exit::Failure, output::table};

pub(crate) async fn run(context: &mut Context) -> Result<(), Failure> {
    let answer = context.client()?.check().await?;
    context.out.show(&answer, text)
}

fn text(answer: &CheckResponse) -> String {
    if answer.updates.is_empty() {
        return "no update is on offer".into();
    }
    list(&answer.updates)
}

/// Releases as a table.
pub(super) fn list(updates: &[UpdateInfo]) -> String {
    let rows = updates.iter().map(|update| {
        [
            update.id.clone(),
            update.version.clone(),
            megabytes(ByteCount(update.size)),
            update.release_date.map(|at| at.to_string()).unwrap_or_default(),
            if update.critical { "yes".into() } else { String::new() },
            update.description.clone(),
        ]
    });
    table(["UPDATE", "VERSION", "SIZE", "RELEASED", "CRITICAL", "DESCRIPTION"], rows)
}
