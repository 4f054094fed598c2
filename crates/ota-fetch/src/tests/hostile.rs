//! Metadata that is replayed, expired, mixed, endless, slow or wrongly signed: refused by name, not stored, and a good
//! server works again at once (threat model S3).

use std::{fs, time::Duration};

use ota_core::{ErrorCode, OtaError};
use ota_release::{Expiries, RoleName, RotateOptions};
use serde_json::Value;

use super::{
    NOW, World, named, noise,
    server::{Asked, Reply},
};
use crate::{TufConfig, Url};

/// What the device holds after a good check, to see that a bad one leaves it alone.
fn stored(world: &World) -> Vec<Option<Vec<u8>>> {
    ["root.json", "timestamp.json", "snapshot.json", "targets.json", "time_floor"]
        .map(|name| world.stored(name))
        .into()
}

/// A check against `rule` fails as `expected`, changes nothing that is stored, and the next honest one works.
async fn refused(
    world: &World,
    expected: (ErrorCode, &str),
    rule: impl FnMut(&Asked) -> Option<Reply> + Send + 'static,
) -> OtaError {
    let before = stored(world);
    world.server.rule(rule);
    let error = world.check().await.unwrap_err();
    assert_eq!(named(&error), expected, "{error}");
    assert_eq!(stored(world), before);
    world.server.honest();
    assert_eq!(world.check().await.unwrap().len(), 1);
    error
}

fn bytes(name: &'static str, body: Vec<u8>) -> impl FnMut(&Asked) -> Option<Reply> + Send + 'static {
    move |asked| {
        asked.path.ends_with(name).then(|| Reply {
            body: Some(body.clone()),
            status: Some(200),
            ..Reply::default()
        })
    }
}

fn metadata(world: &World, name: &str) -> Vec<u8> {
    fs::read(world.repo.metadata().join(name)).unwrap()
}

fn edited(file: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(file).unwrap();
    edit(&mut value);
    serde_json::to_vec(&value).unwrap()
}

#[tokio::test]
async fn replayed_metadata_is_a_rollback() {
    let world = World::offering(b"image").await;
    let old = metadata(&world, "timestamp.json");
    world.repo.refresh_timestamp(NOW).unwrap();
    world.check().await.unwrap();
    refused(&world, (ErrorCode::SignatureInvalid, "metadata_rollback"), bytes("timestamp.json", old)).await;
}

#[tokio::test]
async fn a_wrong_signature_is_a_missed_threshold_and_a_bad_extra_one_is_no_error() {
    let world = World::offering(b"image").await;
    world.check().await.unwrap();
    world.repo.refresh_timestamp(NOW).unwrap();
    let file = metadata(&world, "timestamp.json");
    let threshold = (ErrorCode::SignatureInvalid, "threshold");
    let flipped = edited(&file, |v| v["signed"]["version"] = 77.into());
    refused(&world, threshold, bytes("timestamp.json", flipped)).await;

    world.repo.refresh_timestamp(NOW).unwrap();
    let unsigned = edited(&metadata(&world, "timestamp.json"), |v| v["signatures"] = Value::Array(vec![]));
    refused(&world, threshold, bytes("timestamp.json", unsigned)).await;

    world.repo.refresh_timestamp(NOW).unwrap();
    let extra = edited(&metadata(&world, "timestamp.json"), |v| {
        v["signatures"].as_array_mut().unwrap().push(serde_json::json!({"keyid": "00", "sig": "beef"}));
    });
    world.server.rule(bytes("timestamp.json", extra));
    world.check().await.unwrap();
}

#[tokio::test]
async fn snapshot_and_targets_that_do_not_belong_together_are_a_mix() {
    let world = World::offering(b"image").await;
    world.check().await.unwrap();
    let (snapshot, targets) = (metadata(&world, "2.snapshot.json"), metadata(&world, "2.targets.json"));
    world.repo.publish(NOW).unwrap();
    let mixed = (ErrorCode::SignatureInvalid, "mix_and_match");
    world.server.rule(bytes("3.snapshot.json", snapshot));
    assert_eq!(named(&world.check().await.unwrap_err()), mixed);
    world.server.rule(bytes("3.targets.json", targets));
    assert_eq!(named(&world.check().await.unwrap_err()), mixed);
    world.server.honest();
    assert_eq!(world.check().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_root_that_old_and_new_keys_did_not_sign_breaks_the_chain() {
    let world = World::offering(b"image").await;
    world.check().await.unwrap();
    let chain = (ErrorCode::SignatureInvalid, "root_chain");
    let skipped = edited(&metadata(&world, "1.root.json"), |v| v["signed"]["version"] = 3.into());
    refused(&world, chain, bytes("2.root.json", skipped)).await;
    let again = metadata(&world, "1.root.json");
    refused(&world, chain, bytes("2.root.json", again)).await;

    let rotated = RotateOptions { roles: vec![RoleName::Root], ..RotateOptions::default() };
    world.repo.rotate(&rotated, NOW).unwrap();
    let mut unsigned = 0;
    let half = edited(&metadata(&world, "2.root.json"), |v| {
        let signatures = v["signatures"].as_array_mut().unwrap();
        unsigned = signatures.len();
        // The old keys come first: leave one of them out.
        signatures.drain(..2);
    });
    assert_eq!(unsigned, 6);
    refused(&world, chain, bytes("2.root.json", half)).await;
    assert_eq!(world.stored("root.json").unwrap(), metadata(&world, "2.root.json"));
}

#[tokio::test]
async fn one_key_under_two_ids_does_not_make_two_signatures() {
    let world = World::offering(b"image").await;
    let root = edited(&metadata(&world, "1.root.json"), |v| {
        let ids: Vec<String> =
            serde_json::from_value(v["signed"]["roles"]["root"]["keyids"].clone()).unwrap();
        let key = v["signed"]["keys"][&ids[0]].clone();
        v["signed"]["keys"][&ids[1]] = key;
    });
    let source = world.source_of(TufConfig { initial_root: root, ..world.config() });
    let error = super::check(&source).await.unwrap_err();
    assert_eq!(named(&error), (ErrorCode::SignatureInvalid, "root_chain"), "{error}");
}

#[tokio::test]
async fn expired_metadata_is_refused_and_a_clock_set_back_does_not_revive_it() {
    let world = World::offering(b"image").await;
    world.check().await.unwrap();
    let day = Duration::from_secs(24 * 3600);
    world.clock.set_wall(NOW + 13 * day);
    world.check().await.unwrap();
    world.clock.set_wall(NOW + 15 * day);
    let error = world.check().await.unwrap_err();
    assert_eq!(named(&error), (ErrorCode::SignatureInvalid, "metadata_expired"));

    // Fresh for two days only, seen valid on day 16: the floor stands there from then on.
    let short = Expiries { timestamp: 2 * day, ..Expiries::default() };
    world.repo.clone().with_expiries(short).refresh_timestamp(NOW + 15 * day).unwrap();
    world.clock.set_wall(NOW + 16 * day);
    world.check().await.unwrap();
    assert_eq!(crate::time_floor(&world.store("")), Some(NOW + 16 * day));
    let frozen = metadata(&world, "timestamp.json");
    world
        .repo
        .clone()
        .with_expiries(Expiries { timestamp: day / 2, ..short })
        .refresh_timestamp(NOW + 15 * day)
        .unwrap();
    world.clock.set_wall(NOW);
    let error = world.check().await.unwrap_err();
    assert_eq!(
        named(&error),
        (ErrorCode::SignatureInvalid, "metadata_expired"),
        "a clock at the start counts as day 16"
    );
    // The same version again is nothing new, but its expiry is looked at again.
    world.clock.set_wall(NOW + 18 * day);
    world.server.rule(bytes("timestamp.json", frozen));
    let error = world.check().await.unwrap_err();
    assert_eq!(named(&error), (ErrorCode::SignatureInvalid, "metadata_expired"));
    world.repo.refresh_timestamp(NOW + 18 * day).unwrap();
    world.server.honest();
    assert_eq!(world.check().await.unwrap().len(), 1);
}

#[tokio::test]
async fn endless_slow_and_failing_answers_are_named() {
    let mut world = World::offering(b"image").await;
    world.check().await.unwrap();
    world.repo.publish(NOW).unwrap();
    for name in ["timestamp.json", "3.snapshot.json", "3.targets.json", "2.root.json"] {
        world.server.rule(move |asked| {
            asked.path.ends_with(name).then(|| Reply { endless: true, status: Some(200), ..Reply::default() })
        });
        let error = world.check().await.unwrap_err();
        assert_eq!(named(&error), (ErrorCode::ServerUnreachable, "too_large"), "{name}: {error}");
    }
    let patient = world.stall.metadata;
    let cases: [(Reply, &str); 4] = [
        (Reply { stall: Some(10), ..Reply::default() }, "too_slow"),
        (Reply { status: Some(503), ..Reply::default() }, "status"),
        (Reply { status: Some(404), ..Reply::default() }, "status"),
        (
            Reply { status: Some(302), headers: vec![("location", "ftp://x/".into())], ..Reply::default() },
            "redirect",
        ),
    ];
    for (reply, reason) in cases {
        // Only where nothing more comes: any other answer may take its time on a busy machine.
        let patience = if reply.stall.is_some() { Duration::from_millis(500) } else { patient };
        world.stall.metadata = patience;
        world.server.rule(move |asked| asked.path.ends_with("timestamp.json").then(|| reply.clone()));
        let error = world.check().await.unwrap_err();
        assert_eq!(named(&error), (ErrorCode::ServerUnreachable, reason), "{error}");
    }
    world.stall.metadata = patient;
    // The server was reached, and then the network was lost.
    world.server.rule(|asked| {
        asked.path.ends_with("timestamp.json").then(|| Reply { cut: Some(10), ..Reply::default() })
    });
    assert_eq!(named(&world.check().await.unwrap_err()), (ErrorCode::NetworkError, ""));
    for status in [403, 404, 410] {
        world.server.rule(move |asked| {
            asked.path.ends_with("2.root.json").then(|| Reply { status: Some(status), ..Reply::default() })
        });
        world.check().await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_or_speaks_no_tls_is_named() {
    let world = World::offering(b"image").await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, reason) in [
        (format!("http://{closed}/metadata"), "connect"),
        (world.server.url.replace("http:", "https:"), "tls"),
        ("http://no-such-host.invalid/metadata".into(), "dns"),
    ] {
        let metadata_url: Url = url.parse().unwrap();
        let config = TufConfig { metadata_url, proxy: crate::Proxy::Direct, ..world.config() };
        let error = super::check(&world.source_of(config)).await.unwrap_err();
        assert_eq!(named(&error), (ErrorCode::ServerUnreachable, reason), "{error}");
        assert!(!error.to_string().contains("s3cret"));
    }
}

#[tokio::test]
async fn any_damaged_byte_of_the_metadata_is_refused_or_changes_nothing() {
    let world = World::offering(&noise(1000, 12)).await;
    let honest = world.check().await.unwrap();
    for name in ["timestamp.json", "2.snapshot.json", "2.targets.json"] {
        let file = metadata(&world, name);
        for at in (0..file.len()).step_by(file.len() / 25) {
            let mut damaged = file.clone();
            damaged[at] ^= 0x04;
            // A device without anything stored has to look at every file.
            fs::remove_dir_all(world.store("")).unwrap();
            world.server.rule(bytes(name, damaged));
            match world.check().await {
                Ok(found) => assert_eq!(found, honest, "{name} at {at}"),
                Err(error) => {
                    assert_eq!(error.code(), ErrorCode::SignatureInvalid, "{name} at {at}: {error}")
                }
            }
        }
    }
}

#[tokio::test]
async fn rotations_are_followed_and_new_online_keys_recover_from_a_fast_forward() {
    let world = World::offering(b"image").await;
    for _ in 0..5 {
        world.repo.refresh_timestamp(NOW).unwrap();
    }
    world.check().await.unwrap();
    for roles in
        [vec![RoleName::Root], vec![RoleName::Targets], vec![], vec![RoleName::Snapshot, RoleName::Timestamp]]
    {
        world.repo.rotate(&RotateOptions { roles, ..RotateOptions::default() }, NOW).unwrap();
    }
    assert_eq!(world.check().await.unwrap().len(), 1);
    assert_eq!(world.stored("root.json").unwrap(), metadata(&world, "5.root.json"));
    for version in 2..=5 {
        let name = format!("{version}.root.json");
        assert_eq!(world.stored(&format!("root_history/{name}")).unwrap(), metadata(&world, &name));
    }
    // A device that was away for all of it starts from its shipped root.
    fs::remove_dir_all(world.store("")).unwrap();
    assert_eq!(world.check().await.unwrap().len(), 1);
    // A damaged stored root is set aside for the shipped one.
    fs::write(world.store("root.json"), "torn").unwrap();
    assert_eq!(world.check().await.unwrap().len(), 1);

    // Fast-forward: a thief of the online keys published version 1000; the owners rotate them and go on at a low one.
    let thief = world.repo.metadata().join("timestamp.json");
    let low = fs::read(&thief).unwrap();
    for _ in 0..20 {
        world.repo.refresh_timestamp(NOW).unwrap();
    }
    world.check().await.unwrap();
    fs::write(&thief, low).unwrap();
    let error = world.check().await.unwrap_err();
    assert_eq!(named(&error), (ErrorCode::SignatureInvalid, "metadata_rollback"));
    let online = RotateOptions { roles: vec![RoleName::Timestamp], ..RotateOptions::default() };
    world.repo.rotate(&online, NOW).unwrap();
    assert_eq!(world.check().await.unwrap().len(), 1);
}
