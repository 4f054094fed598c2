//! The event stream: order, gaps, reboots, refusals.

use std::time::Duration;

use axum::http::StatusCode;
use ota_api::ws::Message;

use super::fake::{Fake, Script};
use crate::{
    ClientError,
    ws::{EventStream, Happening, Patience},
};

const QUICK: Patience = Patience {
    first_wait: Duration::from_millis(5),
    longest_wait: Duration::from_millis(20),
    give_up: Duration::from_secs(20),
    silence: Duration::from_secs(10),
};

fn event(seq: u64) -> String {
    format!(
        r#"{{"type":"system_event","event":"e{seq}","message":"m","timestamp":"2025-03-15T10:26:00Z","seq":{seq},"more":1}}"#
    )
}

fn script(numbers: &[u64], keep_open: bool) -> Script {
    Script { messages: numbers.iter().map(|n| event(*n)).collect(), keep_open }
}

/// The next happening in a word.
async fn word(stream: &mut EventStream) -> String {
    match stream.next().await.unwrap() {
        Happening::Message { message, .. } => match *message {
            Message::SystemEvent(event) => event.event,
            other => format!("{other:?}"),
        },
        Happening::Unknown(raw) => format!("unknown {}", raw["type"]),
        Happening::Lost { .. } => "lost".into(),
        Happening::Back => "back".into(),
    }
}

async fn words<const N: usize>(stream: &mut EventStream) -> [String; N] {
    let mut all = [const { String::new() }; N];
    for slot in &mut all {
        *slot = word(stream).await;
    }
    all
}

#[tokio::test]
async fn a_reboot_is_survived_and_the_stream_goes_on_after_the_last_seen_event() {
    let fake = Fake::start().await;
    fake.world.scripts.lock().unwrap().push(script(&[6], false));
    let mut stream = EventStream::open(&fake.client(), Some(5), QUICK).await.unwrap();
    assert_eq!(words(&mut stream).await, ["e6", "lost"]);
    assert_eq!(fake.requests(), ["WS /api/v1/ota/ws?since=5"]);

    // Off: several tries fail, none is told.
    let (address, world) = fake.stop().await;
    let failing = tokio::time::timeout(Duration::from_millis(100), stream.next()).await;
    assert!(failing.is_err(), "{failing:?}");
    world.scripts.lock().unwrap().push(script(&[5, 6, 7], true));
    let fake = Fake::start_at(address, world).await;
    assert_eq!(words(&mut stream).await, ["back", "e7"]);
    assert_eq!(stream.seen(), Some(7));
    let last = fake.requests().pop().unwrap();
    assert_eq!(last, "WS /api/v1/ota/ws?since=6");
}

#[tokio::test]
async fn unknown_types_and_known_ones_of_another_shape_are_passed_on_as_they_are() {
    let fake = Fake::start().await;
    let messages = vec![
        r#"{"type":"moon_phase","seq":1}"#.into(),
        r#"{"type":"system_event","seq":2}"#.into(),
        "not json".into(),
        event(3),
    ];
    fake.world.scripts.lock().unwrap().push(Script { messages, keep_open: true });
    let mut stream = EventStream::open(&fake.client(), None, QUICK).await.unwrap();
    assert_eq!(words(&mut stream).await, ["unknown \"moon_phase\"", "unknown \"system_event\"", "e3"]);
}

#[tokio::test]
async fn fields_that_this_version_does_not_know_stay_in_the_raw_message() {
    let fake = Fake::start().await;
    fake.world.scripts.lock().unwrap().push(script(&[1], true));
    let mut stream = EventStream::open(&fake.client(), None, QUICK).await.unwrap();
    let Happening::Message { seq, raw, .. } = stream.next().await.unwrap() else { panic!("no message") };
    assert_eq!((seq, raw["more"].as_u64()), (Some(1), Some(1)));
}

#[tokio::test]
async fn the_token_is_sent_and_a_refusal_ends_the_stream() {
    let fake = Fake::start().await;
    fake.world.scripts.lock().unwrap().push(script(&[1], false));
    let mut stream = EventStream::open(&fake.client(), None, QUICK).await.unwrap();
    assert_eq!(fake.world.headers.lock().unwrap()[0]["authorization"], "Bearer s3cret");
    assert_eq!(words(&mut stream).await, ["e1", "lost"]);

    // The token was revoked meanwhile.
    *fake.world.refusal.lock().unwrap() = Some((StatusCode::UNAUTHORIZED, "no".into()));
    let error = stream.next().await.unwrap_err();
    assert_eq!(error.api().unwrap().code, "UNAUTHORIZED");
}

/// A stream of a gateway that was lost and is starting again.
async fn of_one_that_is_starting(patience: Patience) -> (Fake, EventStream) {
    let fake = Fake::start().await;
    fake.world.scripts.lock().unwrap().push(script(&[1], false));
    let mut stream = EventStream::open(&fake.client(), None, patience).await.unwrap();
    assert_eq!(words(&mut stream).await, ["e1", "lost"]);
    *fake.world.refusal.lock().unwrap() = Some((StatusCode::SERVICE_UNAVAILABLE, "starting".into()));
    (fake, stream)
}

#[tokio::test]
async fn a_gateway_that_is_starting_is_asked_again_until_the_deadline() {
    let (fake, mut stream) = of_one_that_is_starting(QUICK).await;
    let asked_again = async {
        while fake.requests().len() <= 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        happening = stream.next() => panic!("{happening:?} after {:?}", fake.requests()),
        () = asked_again => {}
    }
    // With a deadline that comes, however often it was asked by then.
    let patience = Patience { give_up: Duration::from_millis(150), ..QUICK };
    let (_fake, mut stream) = of_one_that_is_starting(patience).await;
    let error = stream.next().await.unwrap_err();
    assert!(matches!(error, ClientError::NotAGateway { status: 503, .. }), "{error:?}");
}

#[tokio::test]
async fn a_silent_connection_counts_as_lost_even_when_the_caller_keeps_cancelling() {
    let fake = Fake::start().await;
    fake.world.scripts.lock().unwrap().push(script(&[1], true));
    let mut stream = EventStream::open(&fake.client(), None, QUICK).await.unwrap();
    assert_eq!(word(&mut stream).await, "e1");
    // Only now, so that it does not count as lost before.
    stream.patience.silence = Duration::from_millis(120);
    let happening = loop {
        if let Ok(happening) = tokio::time::timeout(Duration::from_millis(30), stream.next()).await {
            break happening.unwrap();
        }
    };
    assert!(matches!(&happening, Happening::Lost { why } if why.contains("silent")), "{happening:?}");
}

#[tokio::test]
async fn the_first_connection_is_tried_once() {
    let fake = Fake::start().await;
    let client = fake.client();
    fake.stop().await;
    let error = EventStream::open(&client, None, QUICK).await.unwrap_err();
    assert!(matches!(error, ClientError::Stream { .. }), "{error:?}");
}
