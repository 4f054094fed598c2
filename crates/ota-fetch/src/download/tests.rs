//! The download loop against a scripted server, in paused time, with an oracle: whatever the server does, the file is the
//! signed one or there is none, and no byte is asked for twice without need.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use futures_util::{StreamExt as _, stream};
use ota_core::ports::BoxFuture;
use proptest::prelude::*;
use reqwest::{StatusCode, header::HeaderMap};
use tokio::time::Instant;

use super::*;

/// What the server does with one question.
#[derive(Clone, Debug)]
enum Act {
    /// The honest answer, cut off after so many bytes.
    Serve(u64),
    /// The whole file whatever was asked, cut off after so many bytes.
    Whole(u64),
    /// Another file under another ETag.
    Changed(u64),
    /// A part from elsewhere.
    WrongPart,
    Status(u16, Option<u64>),
    /// Never answers.
    Silence,
    /// No connection.
    Refuse,
}

struct Script {
    file: Vec<u8>,
    acts: Mutex<VecDeque<Act>>,
    asked: Mutex<Vec<(Instant, u64)>>,
}

impl Script {
    fn new(length: usize, acts: impl IntoIterator<Item = Act>) -> Arc<Self> {
        let file = (0..length).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect();
        Arc::new(Self { file, acts: Mutex::new(acts.into_iter().collect()), asked: Mutex::default() })
    }

    fn serve(&self, ask: &Ask, act: Act) -> Result<Answer, TransferError> {
        let total = self.file.len();
        let from = usize::try_from(ask.from).unwrap();
        let mut headers = HeaderMap::new();
        let mut put = |name: &'static str, value: String| headers.insert(name, value.parse().unwrap());
        let (status, body, cut) = match act {
            Act::Serve(cut) if from > 0 && ask.if_range.as_deref() == Some("\"1\"") => {
                put("etag", "\"1\"".into());
                put("content-range", format!("bytes {from}-{}/{total}", total - 1));
                (206, self.file[from..].to_vec(), cut)
            }
            Act::Serve(cut) | Act::Whole(cut) => {
                put("etag", "\"1\"".into());
                (200, self.file.clone(), cut)
            }
            Act::Changed(cut) => {
                put("etag", "\"2\"".into());
                let other = self.file.iter().map(|byte| byte ^ 0xff).collect();
                (200, other, cut)
            }
            Act::WrongPart => {
                put("content-range", format!("bytes 1-{}/{total}", total - 1));
                (206, self.file[1..].to_vec(), u64::MAX)
            }
            Act::Status(code, wait) => {
                if let Some(wait) = wait {
                    put("retry-after", wait.to_string());
                }
                (code, Vec::new(), 0)
            }
            Act::Silence => unreachable!("handled by the caller"),
            Act::Refuse => return Err(TransferError::new(&ask.url, TransferFault::Connect)),
        };
        let sent = body.len().min(usize::try_from(cut).unwrap_or(usize::MAX));
        let whole = sent == body.len();
        let pieces: Vec<_> =
            body[..sent].chunks(50_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let url = ask.url.clone();
        let end = (!whole).then(|| Err(TransferError::new(&url, TransferFault::Reset)));
        let body = stream::iter(pieces.into_iter().chain(end)).boxed();
        Ok(Answer { status: StatusCode::from_u16(status).unwrap(), headers, body })
    }
}

impl Transport for Script {
    fn get(&self, ask: Ask) -> BoxFuture<'_, Result<Answer, TransferError>> {
        Box::pin(async move {
            self.asked.lock().unwrap().push((Instant::now(), ask.from));
            let act = self.acts.lock().unwrap().pop_front().unwrap_or(Act::Serve(u64::MAX));
            if let Act::Silence = act {
                std::future::pending::<()>().await;
            }
            self.serve(&ask, act)
        })
    }
}

struct Quiet;

impl FetchObserver for Quiet {
    fn durable(&self, _: ByteCount) {}
    fn arrived(&self, _: ByteCount) {}
}

/// Downloads by the script; gives back the outcome and what was staged.
async fn run(script: &Script) -> (Result<(), FetchError>, Option<Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    let staging = Staging::open(dir.path().join("staging")).unwrap();
    let name = "fw.img".parse().unwrap();
    let speed = SpeedLimit::default();
    let downloader = Downloader {
        transport: script,
        staging: &staging,
        stall: StallPolicy::default(),
        retry: RetryPolicy::default(),
        speed: &speed,
    };
    let wanted = Wanted {
        url: "http://server.example/fw.img".parse().unwrap(),
        size: script.file.len() as u64,
        sha256: Sha256Digest::of(&script.file),
        name: &name,
        priority: Priority::Normal,
        signatures: Vec::new(),
    };
    let outcome = downloader.fetch(&wanted, &Quiet).await;
    (outcome, std::fs::read(staging.path().join("fw.img")).ok())
}

/// Seconds between the questions, rounded down.
fn gaps(script: &Script) -> Vec<u64> {
    let asked = script.asked.lock().unwrap();
    asked.windows(2).map(|pair| (pair[1].0 - pair[0].0).as_secs()).collect()
}

#[tokio::test(start_paused = true)]
async fn delays_double_with_jitter_up_to_five_minutes_and_end() {
    let script = Script::new(1000, std::iter::repeat_n(Act::Refuse, 50));
    let (outcome, staged) = run(&script).await;
    assert!(matches!(outcome, Err(FetchError::GivenUp { tries: 10, .. })), "{outcome:?}");
    assert!(staged.is_none());
    let gaps = gaps(&script);
    assert_eq!(gaps.len(), 9);
    for (i, gap) in gaps.iter().enumerate() {
        let least = (1 << i).min(300);
        assert!((least..=2 * least).contains(gap), "gap {i}: {gap} s");
    }
}

#[tokio::test(start_paused = true)]
async fn progress_renews_the_tries_and_retry_after_is_honoured() {
    let mut acts = vec![Act::Status(503, Some(120)), Act::Status(429, Some(1_000_000))];
    acts.extend(std::iter::repeat_n(Act::Serve(100_000), 15));
    let script = Script::new(2_000_000, acts);
    let (outcome, staged) = run(&script).await;
    outcome.unwrap();
    assert_eq!(staged.unwrap(), script.file);
    let gaps = gaps(&script);
    assert_eq!(gaps[0], 120);
    assert_eq!(gaps[1], 300, "a server may not hold us for ever");
    assert!(gaps[2..].iter().all(|gap| *gap <= 2), "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_asked_again_after_a_minute() {
    let script = Script::new(1000, [Act::Silence]);
    run(&script).await.0.unwrap();
    assert!((61..=62).contains(&gaps(&script)[0]), "{:?}", gaps(&script));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_gets_further_is_given_up() {
    let script = Script::new(2_000_000, std::iter::repeat_n(Act::Whole(1_000_000), 1000));
    let (outcome, _) = run(&script).await;
    assert!(matches!(outcome, Err(FetchError::GivenUp { .. })), "{outcome:?}");
    assert_eq!(
        script.asked.lock().unwrap().len(),
        10,
        "the first counts as progress, the repetitions do not"
    );
    let script = Script::new(
        2_000_000,
        std::iter::once(Act::Serve(500_000)).chain(std::iter::repeat_n(Act::WrongPart, 1000)),
    );
    assert!(run(&script).await.0.is_err());
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let cut = prop_oneof![0..10_u64, 0..600_000_u64, Just(u64::MAX)];
    let act = prop_oneof![
        6 => cut.clone().prop_map(Act::Serve),
        1 => cut.clone().prop_map(Act::Whole),
        1 => cut.prop_map(Act::Changed),
        1 => Just(Act::WrongPart),
        1 => Just(Act::Status(503, None)),
        1 => Just(Act::Silence),
        1 => Just(Act::Refuse),
    ];
    proptest::collection::vec(act, 0..14)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn whatever_the_server_does_the_staged_file_is_the_signed_one_or_there_is_none(
        acts in acts(),
        length in prop_oneof![Just(0_usize), Just(1), 100_000..700_000_usize],
    ) {
        let honest = acts.iter().all(|act| matches!(act, Act::Serve(_)));
        let script = Script::new(length, acts);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (outcome, staged) = runtime.block_on(run(&script));
        prop_assert_eq!(outcome.is_ok(), staged.is_some());
        if let Some(staged) = staged {
            prop_assert!(staged == script.file);
        }
        if honest && outcome.is_ok() {
            let asked = script.asked.lock().unwrap();
            prop_assert!(asked.windows(2).all(|pair| pair[0].1 <= pair[1].1), "went back: {asked:?}");
        }
    }
}
