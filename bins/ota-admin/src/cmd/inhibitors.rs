//! `ota-admin inhibitors`.

use ota_api::inhibitors::InhibitorList;

use super::Context;
use crate::{exit::Failure, output::table};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Give this one back instead; that of somebody else needs the role admin.
    #[arg(long, value_name = "ID")]
    pub(crate) release: Option<u64>,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    match args.release {
        Some(id) => {
            let done = client.release_inhibitor(id).await?;
            context.out.show(&done, |done| done.message.clone())
        }
        None => {
            let list = client.inhibitors().await?;
            context.out.show(&list, shown)
        }
    }
}

fn shown(list: &InhibitorList) -> String {
    if list.inhibitors.is_empty() {
        return "nobody holds updates back".into();
    }
    let rows = list.inhibitors.iter().map(|lease| {
        let scope: Vec<&str> = lease.scope.iter().map(|step| step.as_str()).collect();
        [
            lease.id.to_string(),
            lease.owner.clone(),
            scope.join(","),
            lease.expires_at.to_string(),
            lease.reason.clone(),
        ]
    });
    table(["ID", "OWNER", "HOLDS BACK", "RUNS OUT", "REASON"], rows)
}
