//! `ota-admin bandwidth`.

use ota_api::{settings::Bandwidth, text};

use super::Context;
use crate::exit::Failure;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum What {
    /// Show the limit.
    Get,
    /// Change it, also for a download that is under way; it stays over a restart.
    Set {
        /// Bytes a second, also with k or M behind the number (500k, 2M); `none` lifts the limit.
        #[arg(value_parser = limit)]
        limit: Limit,
    },
}

/// A limit as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(Option<u64>);

fn limit(text: &str) -> Result<Limit, String> {
    if text == "none" {
        return Ok(Limit(None));
    }
    let (digits, unit) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1_000),
        None => text.strip_suffix('M').map_or((text, 1), |digits| (digits, 1_000_000)),
    };
    let number: u64 =
        digits.parse().map_err(|_| "a number of bytes a second like 500k or 2M, or none".to_owned())?;
    number.checked_mul(unit).map(|limit| Limit(Some(limit))).ok_or_else(|| "too large".to_owned())
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let bandwidth = match args.what {
        What::Get => client.bandwidth().await?,
        What::Set { limit: Limit(limit) } => client.set_bandwidth(limit).await?,
    };
    context.out.show(&bandwidth, shown)
}

fn shown(bandwidth: &Bandwidth) -> String {
    match bandwidth.bytes_per_second {
        None => "no limit".into(),
        Some(limit) => format!("{} ({limit} bytes a second)", text::speed(limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_typed_as_people_say_it() {
        for (typed, meant) in
            [("500k", Some(500_000)), ("2M", Some(2_000_000)), ("4096", Some(4096)), ("none", None)]
        {
            assert_eq!(limit(typed), Ok(Limit(meant)));
        }
        for wrong in ["", "fast", "2G", "-1", "99999999999999999M"] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }
}
