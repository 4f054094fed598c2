//! Downloads over real HTTP: cuts, stalls, lies about ranges, changed files, redirects, credentials.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use ota_core::{ErrorCode, ports::UpdateSource as _};

use super::{
    World, named, noise,
    server::{Reply, UpdateServer, is_image},
};
use crate::TufConfig;

const MIB: usize = 1 << 20;

/// Sum of the bytes that the image's answers carried, given where each began and was cut.
fn counter() -> (Arc<AtomicUsize>, Arc<AtomicUsize>) {
    (Arc::default(), Arc::default())
}

#[tokio::test]
async fn a_download_cut_at_every_mebibyte_costs_little_and_ends_whole() {
    let image = noise(12 * MIB + 17, 3);
    let world = World::offering(&image).await;
    world.server.rule(|asked| is_image(asked).then(|| Reply { cut: Some(MIB), ..Reply::default() }));
    world.fetch().await.unwrap();
    assert_eq!(world.staged(), image);
    let asked = world.server.asked_for_image();
    assert_eq!(asked.len(), 13, "one question for each piece, none twice");
    for (i, asked) in asked.iter().enumerate() {
        assert_eq!(asked.from.unwrap_or(0), (i * MIB) as u64);
        assert_eq!(asked.headers["accept-encoding"], "identity");
        assert_eq!(asked.headers.contains_key("if-range"), i > 0);
    }
    assert_eq!(world.in_staging(), ["fw.squashfs"]);
}

#[tokio::test]
async fn a_dropped_fetch_goes_on_in_the_next_one_from_the_last_durable_byte() {
    let image = noise(20 * MIB, 4);
    let world = World::offering(&image).await;
    world.server.rule(|asked| is_image(asked).then(|| Reply { stall: Some(14 * MIB), ..Reply::default() }));
    let release = world.check().await.unwrap().remove(0);
    let order = super::FetchOrder {
        release: release.clone(),
        name: "fw.squashfs".parse().unwrap(),
        priority: super::Priority::Normal,
    };
    let source = world.source();
    let seen = super::Seen::default();
    {
        let fetch = source.fetch(&order, &seen);
        tokio::pin!(fetch);
        let all_here = async {
            while seen.arrived.lock().unwrap().last() != Some(&(14 * MIB as u64)) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            outcome = &mut fetch => panic!("ended: {outcome:?}"),
            () = all_here => {}
        }
    }
    assert_eq!(world.in_staging(), [".fw.squashfs.part", ".fw.squashfs.part.log"]);
    world.server.honest();
    world.server.forget();
    let seen = world.fetch_release(release).await.unwrap();
    assert_eq!(world.staged(), image);
    // The writer was asked to end, not killed: everything that had arrived is there.
    assert_eq!(world.server.asked_for_image()[0].from, Some(14 * MIB as u64));
    assert_eq!(seen.durable.into_inner().unwrap()[0], 14 * MIB as u64);
}

#[tokio::test]
async fn a_power_cut_costs_no_more_than_eight_mebibytes_and_a_killed_process_nothing() {
    let image = noise(20 * MIB, 5);
    for power_cut in [false, true] {
        let world = World::offering(&image).await;
        world.server.rule(|asked| {
            let status = asked.from.map(|_| 404);
            is_image(asked).then(|| Reply { cut: Some(15 * MIB), status, ..Reply::default() })
        });
        assert_eq!(named(&world.fetch().await.unwrap_err()).0, ErrorCode::NetworkError);
        let staging = world.dir.path().join("staging");
        let (part, log) = (staging.join(".fw.squashfs.part"), staging.join(".fw.squashfs.part.log"));
        // Both lose the last record; the power cut also what was not synced: garbage stands where blocks were allocated.
        let text = fs::read_to_string(&log).unwrap();
        let mut kept: Vec<_> = text.split_inclusive('\n').collect();
        kept.pop();
        if power_cut {
            kept.retain(|line| !line.starts_with("boot "));
            let mut bytes = fs::read(&part).unwrap();
            assert_eq!(bytes.len(), 15 * MIB);
            bytes[12 * MIB + 300_000..].fill(0);
            fs::write(&part, bytes).unwrap();
        }
        fs::write(&log, kept.concat()).unwrap();

        world.server.honest();
        world.server.forget();
        world.fetch().await.unwrap();
        assert_eq!(world.staged(), image);
        let asked = world.server.asked_for_image();
        assert_eq!(asked.len(), 1, "nothing is fetched afresh");
        let from = asked[0].from.unwrap();
        let least = if power_cut { 15 - 8 } else { 15 };
        assert!(from >= least * MIB as u64, "{from}");
    }
}

#[tokio::test]
async fn a_server_without_ranges_starts_over_and_a_file_that_changed_is_never_joined() {
    let image = noise(3 * MIB, 6);
    let world = World::offering(&image).await;
    let (tries, _) = counter();
    for lie in [
        Reply { no_ranges: true, ..Reply::default() },
        Reply { headers: vec![("etag", "\"another\"".into())], ..Reply::default() },
        Reply {
            headers: vec![("content-range", format!("bytes 0-{}/{}", 3 * MIB - 1, 3 * MIB))],
            ..Reply::default()
        },
        Reply { headers: vec![("content-range", "nonsense".into())], ..Reply::default() },
        Reply {
            status: Some(416),
            headers: vec![("content-range", format!("*/{}", 3 * MIB))],
            ..Reply::default()
        },
    ] {
        tries.store(0, Ordering::SeqCst);
        let (tries, lie, shown) = (Arc::clone(&tries), lie.clone(), format!("{lie:?}"));
        world.server.rule(move |asked| {
            if !is_image(asked) {
                return None;
            }
            match (tries.fetch_add(1, Ordering::SeqCst), asked.from) {
                (0, _) => Some(Reply { cut: Some(MIB), ..Reply::default() }),
                (_, Some(_)) => Some(lie.clone()),
                _ => None,
            }
        });
        world.fetch().await.unwrap_or_else(|error| panic!("{shown}: {error}"));
        assert_eq!(world.staged(), image, "{shown}");
        fs::remove_file(world.dir.path().join("staging/fw.squashfs")).unwrap();
    }
}

#[tokio::test]
async fn bytes_that_are_not_the_signed_ones_are_deleted_and_a_resumed_file_gets_one_fresh_try() {
    let image = noise(2 * MIB, 7);
    let world = World::offering(&image).await;
    let mut wrong = image.clone();
    wrong[5] ^= 1;
    let body = wrong.clone();
    world
        .server
        .rule(move |asked| is_image(asked).then(|| Reply { body: Some(body.clone()), ..Reply::default() }));
    assert_eq!(named(&world.fetch().await.unwrap_err()).0, ErrorCode::ChecksumMismatch);
    assert_eq!(
        world.server.asked_for_image().len(),
        1,
        "no second try for a file that was fetched in one go"
    );
    assert!(world.in_staging().is_empty());

    // Damaged first half, honest second half.
    world.server.forget();
    let mut first = true;
    world.server.rule(move |asked| {
        (is_image(asked) && std::mem::take(&mut first)).then(|| Reply {
            body: Some(wrong.clone()),
            cut: Some(MIB),
            ..Reply::default()
        })
    });
    world.fetch().await.unwrap();
    assert_eq!(world.staged(), image);
    let from: Vec<_> = world.server.asked_for_image().iter().map(|asked| asked.from).collect();
    assert_eq!(from, [None, Some(MIB as u64), None]);
}

#[tokio::test]
async fn nothing_is_written_beyond_the_signed_length() {
    let image = noise(MIB, 8);
    let world = World::offering(&image).await;
    world.server.rule(|asked| is_image(asked).then(|| Reply { endless: true, ..Reply::default() }));
    world.fetch().await.unwrap();
    assert_eq!(world.staged(), image, "what goes on behind the signed end is not read");

    fs::remove_file(world.dir.path().join("staging/fw.squashfs")).unwrap();
    world.server.rule(|asked| {
        is_image(asked).then(|| Reply { endless: true, body: Some(vec![]), ..Reply::default() })
    });
    assert_eq!(named(&world.fetch().await.unwrap_err()).0, ErrorCode::ChecksumMismatch);

    world
        .server
        .rule(|asked| is_image(asked).then(|| Reply { body: Some(vec![0; MIB + 1]), ..Reply::default() }));
    let error = world.fetch().await.unwrap_err();
    assert_eq!(named(&error).0, ErrorCode::ChecksumMismatch);
    assert!(error.to_string().contains("1048577 bytes"), "{error}");
    assert!(world.in_staging().iter().all(|name| name.starts_with('.')));
}

#[tokio::test]
async fn a_compressed_answer_is_refused_and_client_errors_are_final() {
    let world = World::offering(&noise(MIB, 9)).await;
    world.server.rule(|asked| {
        is_image(asked)
            .then(|| Reply { headers: vec![("content-encoding", "gzip".into())], ..Reply::default() })
    });
    assert_eq!(named(&world.fetch().await.unwrap_err()).0, ErrorCode::NetworkError);
    for (status, questions) in [(403, 1), (404, 1), (410, 1), (500, 5), (429, 5), (408, 5)] {
        world.server.forget();
        world
            .server
            .rule(move |asked| is_image(asked).then(|| Reply { status: Some(status), ..Reply::default() }));
        let error = world.fetch().await.unwrap_err();
        assert_eq!(named(&error).0, ErrorCode::NetworkError);
        assert!(error.to_string().contains(&status.to_string()), "{error}");
        assert_eq!(world.server.asked_for_image().len(), questions, "{status}");
    }
}

#[tokio::test]
async fn a_stalled_transfer_is_resumed_and_one_that_always_stalls_fails() {
    let image = noise(2 * MIB, 10);
    let mut world = World::offering(&image).await;
    world.stall.window = std::time::Duration::from_millis(500);
    // Every answer from the start: on a busy machine one may count as stalled before its first byte.
    world.server.rule(|asked| {
        (is_image(asked) && asked.from.is_none()).then(|| Reply { stall: Some(MIB), ..Reply::default() })
    });
    world.fetch().await.unwrap();
    assert_eq!(world.staged(), image);
    let resumed = world.server.asked_for_image().iter().find_map(|asked| asked.from);
    assert_eq!(resumed, Some(MIB as u64));
}

#[tokio::test]
async fn an_image_that_does_not_fit_is_refused_before_its_first_byte() {
    let world = World::offering(b"small").await;
    let mut release = world.check().await.unwrap().remove(0);
    // Metadata may promise any size; the file need not exist.
    let staging = world.config().staging;
    let wanted = crate::download::Wanted {
        url: world.server.url.parse().unwrap(),
        size: 1 << 60,
        sha256: release.sha256,
        name: &"big.img".parse().unwrap(),
        priority: super::Priority::Normal,
        signatures: Vec::new(),
    };
    let config = world.config();
    let web = crate::transport::http::Web::new(&crate::transport::http::WebOptions {
        origins: vec![],
        ca: None,
        client_cert: None,
        headers: &[],
        proxy: &config.proxy,
        stall: config.stall,
    })
    .unwrap();
    let downloader = crate::download::Downloader {
        transport: &web,
        staging: &staging,
        stall: config.stall,
        retry: config.retry,
        speed: &config.speed,
    };
    world.server.forget();
    let error = downloader.fetch(&wanted, &super::Seen::default()).await.unwrap_err();
    let error = super::domain(error.into_port(crate::error::During::Fetch));
    assert_eq!(named(&error).0, ErrorCode::InsufficientSpace);
    assert!(world.server.asked().is_empty());
    assert!(world.in_staging().is_empty());

    // A release that trusted metadata no longer describes as it was seen.
    release.size = ota_core::ByteCount(6);
    let error = world.fetch_release(release).await.unwrap_err();
    assert_eq!(named(&error).0, ErrorCode::SignatureInvalid);
}

#[tokio::test]
async fn redirects_are_followed_five_times_and_credentials_stay_with_their_origin() {
    let image = noise(MIB, 11);
    let world = World::offering(&image).await;
    let other = UpdateServer::serving(world.dir.path().join("repo")).await;
    let to = other.url.clone();
    world.server.rule(move |asked| {
        is_image(asked).then(|| Reply {
            status: Some(302),
            headers: vec![("location", format!("{to}{}", asked.path))],
            ..Reply::default()
        })
    });
    let config = TufConfig { headers: vec![("x-api-key".into(), "s3cret".into())], ..world.config() };
    let source = world.source_of(config);
    let release = source.check(&"v5.0.4".parse().unwrap()).await.unwrap().remove(0);
    let order = super::FetchOrder {
        release,
        name: "fw.squashfs".parse().unwrap(),
        priority: super::Priority::Normal,
    };
    source.fetch(&order, &super::Seen::default()).await.unwrap();
    assert_eq!(world.staged(), image);
    assert!(world.server.asked().iter().all(|asked| asked.headers["x-api-key"] == "s3cret"));
    assert!(!other.asked().is_empty());
    assert!(other.asked().iter().all(|asked| !asked.headers.contains_key("x-api-key")));

    let ours = TufConfig { headers: vec![("Range".into(), "bytes=7-".into())], ..world.config() };
    assert!(crate::TufSource::new(ours, world.clock.clone()).is_err());

    fs::remove_file(world.dir.path().join("staging/fw.squashfs")).unwrap();
    world.server.rule(|asked| {
        is_image(asked).then(|| Reply {
            status: Some(307),
            headers: vec![("location", asked.path.clone())],
            ..Reply::default()
        })
    });
    world.server.forget();
    assert_eq!(named(&world.fetch().await.unwrap_err()).0, ErrorCode::NetworkError);
    assert_eq!(world.server.asked_for_image().len(), 6);
}
