//! What a run can fail with, and the exit code of each. Documented in `docs/cli.md` and at the end of `--help`.

use std::{fmt, io};

use ota_client::{ApiError, ClientError};
use ota_core::{ErrorCode, job::JobStatus};
use ota_release::ReleaseError;

/// Table of exit codes, shown below `--help`.
pub(crate) const TABLE: &str = "\
Exit codes:
    0  done; for `update`: the new version is confirmed
    1  failed for a reason on this machine
    2  the command line or an option is wrong
    3  the gateway cannot be reached, or something else answers in its place
    4  no token, a wrong one, or one without the right to do this
    5  the gateway cannot do it now (starting, too many requests) or failed inside
    6  the gateway refused the request as malformed or does not know the endpoint
    7  the job failed for a reason without an OTA code
    8  the job was rolled back: the previous version runs
    9  the job was cancelled
   10  nothing to do: no update is on offer
 10+N  the gateway's condition OTA_N, also for `verify`:
       11 update in progress   12 blocked by safety   13 not enough space   14 network
       15 invalid image        16 signature           17 checksum           18 partition
       19 update server        20 PIN                 21 factory reset      22 rollback
       23 job not found        24 busy                25 maintenance window
  124  not done within --wait-timeout; a job that was started goes on at the gateway
  130  interrupted; a job that was started goes on at the gateway
  141  nobody reads the lines of a job any more; it goes on at the gateway
    N  of `inhibit`: what the command ended with, 128 and the signal when one ended it";

/// Why a run did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The gateway refused or could not be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Keys, signatures or the repository could not be made.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// The command line asks for something that does not go together.
    #[error("{0}")]
    Usage(String),
    /// The job that was followed did not succeed.
    #[error(transparent)]
    Job(#[from] Box<JobEnded>),
    /// A device would refuse the image.
    #[error("a device would refuse it: {0} ({code})", code = .0.code())]
    Verdict(ota_core::OtaError),
    /// No update is on offer.
    #[error("no update is on offer")]
    NothingToDo,
    /// The command of `inhibit` did not end well.
    #[error("the command ended with {code}")]
    Command {
        /// Its exit code, as a shell has it.
        code: u8,
    },
    /// The user pressed Ctrl-C.
    #[error("interrupted{0}")]
    Interrupted(Left),
    /// A signal ended what owned the terminal.
    #[error("ended by signal {signal}")]
    Killed {
        /// Its number.
        signal: u8,
    },
    /// The user did not want to wait any longer.
    #[error("not done after {seconds} s{left}")]
    TimedOut {
        /// How long it was waited.
        seconds: u64,
        /// What is left behind.
        left: Left,
    },
    /// Who read the lines about a job went away before it was done.
    #[error("nobody reads the lines any more{0}")]
    Unread(Left),
    /// The job that was followed could not be looked at any more: the gateway refused, or did not come back.
    #[error("{why}")]
    Lost {
        /// Name of the job.
        job: String,
        /// What became of the looks.
        why: String,
        /// The last one.
        source: Box<ClientError>,
    },
    /// `update` ended before it knew its installation accepted.
    #[error("{failure}")]
    NotInstalled {
        /// Why.
        failure: Box<Failure>,
        /// Name of the job.
        job: String,
        /// How to go on with it.
        next: String,
    },
    /// Who reads the result has enough of it.
    #[error("nobody reads the result")]
    Closed,
    /// The result could not be printed.
    #[error("cannot print the result")]
    Output(#[from] io::Error),
    /// Something on this machine.
    #[error(transparent)]
    Local(#[from] anyhow::Error),
}

/// What is left behind when nobody waits any more: its job, and in words what becomes of it.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Name of the job, when there is one.
    pub(crate) job: Option<String>,
    /// The rest of the sentence, from its semicolon on.
    pub(crate) next: String,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.next)
    }
}

impl From<&str> for Left {
    fn from(next: &str) -> Self {
        Self { job: None, next: next.into() }
    }
}

/// A job that ended otherwise than in success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobEnded {
    /// Its name.
    pub(crate) job: String,
    /// How it ended.
    pub(crate) status: JobStatus,
    /// Code of the public table, when it failed with one.
    pub(crate) code: Option<ErrorCode>,
    /// Why, in the gateway's words.
    pub(crate) why: String,
    /// What can be done about it, in the gateway's words.
    pub(crate) actions: Vec<String>,
    /// Id of the request that asked for it, as the gateway's log and audit have it.
    pub(crate) request_id: Option<String>,
}

impl fmt::Display for JobEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.status {
            JobStatus::RolledBack => "was rolled back, the previous version runs",
            JobStatus::Cancelled => "was cancelled",
            JobStatus::Confirming => "is unhealthy and waits to be judged (ota-admin confirm or reject)",
            _ => "failed",
        };
        write!(f, "job {} {how}", self.job)?;
        if !self.why.is_empty() {
            write!(f, ": {}", self.why)?;
        }
        match self.code {
            Some(code) => write!(f, " ({code})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for JobEnded {}

/// The exit code. Numbers are frozen: append, never reuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Failed on this machine.
    General,
    /// The command line is wrong.
    Usage,
    /// The gateway cannot be reached.
    Unreachable,
    /// Not allowed.
    Auth,
    /// The gateway cannot do it now, or failed inside.
    Unavailable,
    /// The gateway refused the request as such.
    Refused,
    /// The job failed without a code.
    JobFailed,
    /// The job was rolled back.
    RolledBack,
    /// The job was cancelled.
    Cancelled,
    /// No update on offer.
    NothingToDo,
    /// A condition of the public table.
    Ota(ErrorCode),
    /// `--wait-timeout` is over.
    TimedOut,
    /// Ctrl-C.
    Interrupted,
    /// The reader of a job's lines went away: 128 and the number of SIGPIPE.
    Unread,
    /// What the command of `inhibit` ended with.
    Command(u8),
    /// A signal, as a shell has it.
    Killed(u8),
}

impl Exit {
    /// The number that the shell sees.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::General => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Auth => 4,
            Self::Unavailable => 5,
            Self::Refused => 6,
            Self::JobFailed => 7,
            Self::RolledBack => 8,
            Self::Cancelled => 9,
            Self::NothingToDo => 10,
            Self::Ota(code) => 10 + code.number(),
            Self::TimedOut => 124,
            Self::Interrupted => 130,
            Self::Unread => 141,
            Self::Command(code) => code,
            Self::Killed(signal) => 128 + signal,
        }
    }
}

impl Failure {
    /// Name of the job that it is about, when there is one.
    pub(crate) fn job(&self) -> Option<&str> {
        match self {
            Self::Interrupted(left) | Self::Unread(left) | Self::TimedOut { left, .. } => left.job.as_deref(),
            Self::Lost { job, .. } | Self::NotInstalled { job, .. } => Some(job),
            Self::Job(ended) => Some(&ended.job),
            Self::Client(_)
            | Self::Release(_)
            | Self::Usage(_)
            | Self::Verdict(_)
            | Self::NothingToDo
            | Self::Command { .. }
            | Self::Closed
            | Self::Output(_)
            | Self::Killed { .. }
            | Self::Local(_) => None,
        }
    }

    /// The exit code of this failure.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Client(error) => client(error),
            Self::Lost { source, .. } => client(source),
            Self::NotInstalled { failure, .. } => failure.exit(),
            Self::Release(ReleaseError::BadName { .. } | ReleaseError::Options(_)) | Self::Usage(_) => {
                Exit::Usage
            }
            Self::Release(_) | Self::Output(_) | Self::Local(_) => Exit::General,
            Self::Job(ended) => job(ended),
            Self::Verdict(error) => Exit::Ota(error.code()),
            Self::NothingToDo => Exit::NothingToDo,
            Self::TimedOut { .. } => Exit::TimedOut,
            Self::Interrupted(_) => Exit::Interrupted,
            Self::Unread(_) | Self::Closed => Exit::Unread,
            Self::Command { code } => Exit::Command(*code),
            Self::Killed { signal } => Exit::Killed(*signal),
        }
    }
}

fn client(error: &ClientError) -> Exit {
    match error {
        ClientError::Api(error) => api(error),
        ClientError::NotAGateway { status: 401 | 403 | 407, .. } => Exit::Auth,
        ClientError::Unreachable { .. }
        | ClientError::TimedOut { .. }
        | ClientError::Broken { .. }
        | ClientError::NotAGateway { .. }
        | ClientError::Answer { .. }
        | ClientError::TooLarge { .. }
        | ClientError::Stream { .. }
        | ClientError::StreamEnded { .. } => Exit::Unreachable,
        ClientError::File { .. }
        | ClientError::Sink(_)
        | ClientError::Encode(_)
        | ClientError::Tls(_)
        | ClientError::Setup(_) => Exit::General,
    }
}

fn api(error: &ApiError) -> Exit {
    match error.ota_code() {
        Some(code) => Exit::Ota(code),
        None => match error.status {
            401 | 403 => Exit::Auth,
            408 | 429 | 500..=599 => Exit::Unavailable,
            _ => Exit::Refused,
        },
    }
}

fn job(ended: &JobEnded) -> Exit {
    match (ended.status, ended.code) {
        (JobStatus::RolledBack, _) => Exit::RolledBack,
        (JobStatus::Cancelled, _) => Exit::Cancelled,
        (_, Some(code)) => Exit::Ota(code),
        (_, None) => Exit::JobFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_public_code_has_its_own_exit_code_and_a_place_in_the_table() {
        for code in ErrorCode::ALL {
            let error = ApiError { code: code.to_string(), status: 400, ..ApiError::default() };
            let number = Failure::from(ClientError::Api(Box::new(error))).exit().number();
            assert_eq!(number, 10 + code.number());
            assert!(TABLE.contains(&format!(" {number} ")), "{number}");
        }
    }

    #[test]
    fn every_other_exit_code_is_in_the_table() {
        use Exit::*;
        let all = [
            General,
            Usage,
            Unreachable,
            Auth,
            Unavailable,
            Refused,
            JobFailed,
            RolledBack,
            Cancelled,
            NothingToDo,
            TimedOut,
            Interrupted,
            Unread,
        ];
        for exit in all {
            let row = format!("\n{:>5}  ", exit.number());
            assert!(TABLE.contains(&row), "{exit:?}");
        }
    }

    #[test]
    fn a_rolled_back_job_is_told_from_a_failed_one() {
        let ended = |status, code| {
            let job = "OTA-JOB-8821X".into();
            let (why, actions) = (String::new(), Vec::new());
            let ended = JobEnded { job, status, code, why, actions, request_id: None };
            Failure::from(Box::new(ended)).exit().number()
        };
        assert_eq!(ended(JobStatus::RolledBack, None), 8);
        assert_eq!(ended(JobStatus::Cancelled, None), 9);
        assert_eq!(ended(JobStatus::Failed, None), 7);
        assert_eq!(ended(JobStatus::Failed, Some(ErrorCode::SignatureInvalid)), 16);
    }
}
