//! `ota-admin health`, `metrics`, `openapi` and `events`: what monitoring and programs ask a gateway for.

use ota_api::ws::EventsQuery;
use serde_json::{Value, json};

use super::{Context, watch};
use crate::{exit::Failure, output::Format};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Events {
    /// Only what came after this event.
    #[arg(long, value_name = "SEQ")]
    pub(crate) since: Option<u64>,
    /// Most events to show, 1 to 1000: the newest ones, or the first after --since.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: Option<u32>,
}

/// Whether it answers, and whether it can install; the second is a failure when it cannot.
pub(crate) async fn health(context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let alive = client.alive().await?;
    let ready = client.ready().await?;
    let both = json!({"healthz": alive.status, "readyz": ready.status});
    context.out.show(&both, |_| format!("answers: {}\ncan install: {}", alive.status, ready.status))
}

/// The text of `/metrics`, the same in every format.
pub(crate) async fn metrics(context: &mut Context) -> Result<(), Failure> {
    let text = context.client()?.metrics().await?;
    context.out.foreign(&text)
}

/// The OpenAPI document of the gateway.
pub(crate) async fn openapi(context: &mut Context) -> Result<(), Failure> {
    let document: Value = context.client()?.openapi().await?;
    context.out.show(&document, |document| format!("{document:#}"))
}

/// What is still in the ring, oldest first.
pub(crate) async fn events(args: Events, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let since = args.since;
    let page = match args {
        Events { since: Some(_), limit: Some(_) } => {
            client.events(&EventsQuery { since: args.since, limit: args.limit }).await?
        }
        Events { since, limit } => {
            let mut page = client.all_events(since).await?;
            let most = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
            page.events.drain(..page.events.len().saturating_sub(most));
            page
        }
    };
    if let Some(since) = since.filter(|_| page.missed > 0 && context.out.format() == Format::Table) {
        context.out.note(&format!("{} events after {since} are gone", page.missed))?;
    }
    context.out.show(&page, |page| match page.events.as_slice() {
        [] => "no events".into(),
        events => events.iter().map(|event| watch::line(event) + "\n").collect(),
    })
}
