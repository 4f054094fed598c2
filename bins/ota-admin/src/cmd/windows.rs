//! `ota-admin windows`.

use ota_api::{text, windows::WindowList};

use super::Context;
use crate::{exit::Failure, output::table};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// How many openings to show.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) limit: u32,
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let windows = context.client()?.windows(Some(args.limit)).await?;
    if !windows.clock_trusted {
        context.out.note("the gateway's clock is not trusted: no window is open until it is")?;
    }
    context.out.show(&windows, shown)
}

fn shown(list: &WindowList) -> String {
    if list.windows.is_empty() {
        return "no windows are configured".into();
    }
    let rows = list.windows.iter().map(|window| {
        [
            window.name.clone(),
            window.kind.to_string(),
            window.opens_at.to_string(),
            window.closes_at.to_string(),
            text::hms(window.duration_seconds),
        ]
    });
    table(["WINDOW", "KIND", "OPENS", "CLOSES", "LASTS"], rows)
}
