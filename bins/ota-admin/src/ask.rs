//! The only place that reads what the user types: yes or no, and the PIN, which is never an argument.

use std::{
    fs,
    io::{self, BufRead as _, Read as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};
use ota_api::auth::Secret;
use ota_client::ClientError;
use ota_core::ErrorCode;

use crate::{exit::Failure, follow::Limit, output::Output};

/// Most that is read of a PIN file.
const PIN_MAX: u64 = 1024;

/// What a refusal for want of a PIN says where nobody can be asked.
const WITHOUT_A_TERMINAL: &str =
    "Give the PIN with --pin-file FILE (/dev/fd/N for a descriptor); it is asked for at a terminal";
/// What an interrupted question for the PIN says.
const NOT_TYPED: &str = "; no PIN was typed";

/// What is said when the limit is over before the PIN was asked for.
const TOO_LATE: &str = "; the gateway wants the PIN, which is not asked for any more: nothing was begun";

/// Where the PIN comes from.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct PinArgs {
    /// File that holds the PIN (`/dev/fd/N` for a descriptor); it is asked for at the terminal otherwise.
    #[arg(long, value_name = "FILE")]
    pub(crate) pin_file: Option<PathBuf>,
}

impl PinArgs {
    /// The PIN: from the file, else typed without echo.
    pub(crate) fn read(&self, out: &Output, prompt: &str) -> Result<Secret, Failure> {
        pin(self.pin_file.as_deref(), "--pin-file", out, prompt)
    }
}

/// The PIN in `file`, else typed without echo; `option` is how the file is named.
pub(crate) fn pin(file: Option<&Path>, option: &str, out: &Output, prompt: &str) -> Result<Secret, Failure> {
    match file {
        Some(path) => pin_in(path),
        None if out.is_answered() => typed(prompt),
        None => Err(Failure::Usage(format!("there is no terminal to ask for the PIN: give {option}"))),
    }
}

/// The PIN where the gateway may want it.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct OptionalPin {
    /// File that holds the PIN (`/dev/fd/N` for a descriptor); it is asked for at the terminal where the gateway wants it.
    #[arg(long, value_name = "FILE")]
    pub(crate) pin_file: Option<PathBuf>,
}

impl OptionalPin {
    /// The PIN in the file, if one is named.
    pub(crate) fn given(&self) -> Result<Option<Secret>, Failure> {
        self.pin_file.as_deref().map(pin_in).transpose()
    }
}

/// What `send` gives with the PIN that is given. Where none is and the gateway wants one, it is asked for at the terminal and the
/// same request is sent once more: the gateway looks at the PIN before it begins anything. `limit` stands still while it is typed.
pub(crate) async fn with_pin<T>(
    given: Option<Secret>,
    out: &Output,
    limit: &mut Limit,
    send: impl AsyncFn(Option<Secret>) -> Result<T, ClientError>,
) -> Result<T, Failure> {
    let is_given = given.is_some();
    match send(given).await {
        Err(ClientError::Api(mut refusal))
            if !is_given && refusal.ota_code() == Some(ErrorCode::InvalidPin) =>
        {
            if !out.is_answered() {
                refusal.suggested_actions.insert(0, WITHOUT_A_TERMINAL.into());
                return Err(ClientError::Api(refusal).into());
            }
            // Nobody types a PIN for a request that is not sent.
            limit.not_over(TOO_LATE.into())?;
            let pin = limit.aside(|| typed("The gateway wants the PIN for this. PIN: "))?;
            Ok(send(Some(pin)).await?)
        }
        outcome => Ok(outcome?),
    }
}

/// The PIN as it is typed, without echo. An empty one is not sent: the gateway would count it as a try.
fn typed(prompt: &str) -> Result<Secret, Failure> {
    // On Ctrl-C rpassword raises SIGINT while the terminal is still its own: the signal waits until it is given back.
    let mut interrupt = SigSet::empty();
    interrupt.add(Signal::SIGINT);
    interrupt.thread_block().map_err(anyhow::Error::new)?;
    let answer = rpassword::prompt_password(prompt);
    interrupt.thread_unblock().map_err(anyhow::Error::new)?;
    let pin = match answer {
        Ok(pin) => pin,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            return Err(Failure::Interrupted(NOT_TYPED.into()));
        }
        Err(error) => return Err(anyhow::Error::new(error).context("cannot ask for the PIN").into()),
    };
    match pin.trim() {
        "" => Err(Failure::Usage("no PIN was typed".into())),
        pin => Ok(pin.into()),
    }
}

fn pin_in(path: &Path) -> Result<Secret, Failure> {
    let named = || format!("cannot read the PIN file {}", path.display());
    let mut text = String::new();
    fs::File::open(path).with_context(named)?.take(PIN_MAX).read_to_string(&mut text).with_context(named)?;
    // What else stands there is no part of it, and a wrong PIN costs a try.
    let pin = text.lines().next().unwrap_or_default().trim();
    if pin.is_empty() {
        return Err(Failure::Usage(format!("the PIN file {} is empty", path.display())));
    }
    Ok(pin.into())
}

/// Asks for a line at the terminal; `instead` names the option that says it without one.
pub(crate) fn line(out: &mut Output, question: &str, instead: &str) -> Result<String, Failure> {
    if !out.is_asked() {
        return Err(Failure::Usage(format!("there is no terminal to ask at: give {instead}")));
    }
    out.ask(question)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim_end_matches(['\r', '\n']).into())
}

/// Asks `question` at the terminal; anything but a clear yes is a no.
pub(crate) fn yes(out: &mut Output, question: &str) -> Result<bool, Failure> {
    if !out.is_asked() {
        return Err(Failure::Usage(format!("{question} There is no terminal to ask at: give --yes")));
    }
    out.ask(&format!("{question} [y/N]"))?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use ota_client::ApiError;

    use super::*;
    use crate::output::Format;

    #[test]
    fn the_pin_is_the_first_line_of_its_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let args = PinArgs { pin_file: Some(file.path().into()) };
        let (out, _) = Output::captured(Format::Table);
        for text in ["9471\n", "9471 \r\n", "9471\n0815\n"] {
            fs::write(file.path(), text).unwrap();
            assert_eq!(args.read(&out, "").unwrap().expose(), "9471", "{text:?}");
        }
        fs::write(file.path(), "\n").unwrap();
        assert_eq!(args.read(&out, "").unwrap_err().exit().number(), 2);
    }

    #[tokio::test]
    async fn no_pin_is_asked_for_when_the_limit_is_over() {
        let (out, _) = Output::at_a_terminal(Format::Table);
        let wanted = ApiError { status: 403, code: ErrorCode::InvalidPin.to_string(), ..ApiError::default() };
        let sent = Cell::new(0);
        let send = async |_: Option<Secret>| {
            sent.set(sent.get() + 1);
            Err::<(), _>(ClientError::Api(Box::new(wanted.clone())))
        };
        let late = with_pin(None, &out, &mut Limit::start(Some(0)), send).await.unwrap_err();
        assert_eq!((late.exit().number(), sent.get()), (124, 1), "{late}");
    }
}
