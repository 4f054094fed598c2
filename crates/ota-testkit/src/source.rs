//! An update server that follows a script.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use ota_core::{
    ByteCount, ImageName, OtaError, Sha256Digest, UpdateId, Version,
    error::{PortError, PortErrorKind},
    ports::{BoxFuture, FetchObserver, FetchOrder, UpdateSource},
    release::{DetachedSignature, Release, StagedImage},
};

use crate::{faults::Faults, images::MemStaging, watch::Watch};

/// Bytes that become durable at a time.
const CHUNK: usize = 4096;

/// How a fetch goes. Each fetch takes the next one from the script; without any left it goes well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchScript {
    /// To the end.
    Well,
    /// Ends with this error once that many bytes of the image are durable (0: at once).
    FailAt(u64, PortErrorKind),
    /// Stands still once that many bytes of the image are durable, until [`ScriptedSource::go_on`]; then goes to the
    /// end.
    HoldAt(u64),
}

/// The bytes of an image and what is signed over them.
type Image = (Arc<[u8]>, Vec<DetachedSignature>);

/// Releases and images in memory; fetched images land in a [`MemStaging`].
#[derive(Debug)]
pub struct ScriptedSource {
    staging: Arc<MemStaging>,
    state: Watch<State>,
    /// Checks that are to fail.
    pub check_faults: Faults,
}

#[derive(Debug, Default)]
struct State {
    offers: Vec<Release>,
    images: BTreeMap<UpdateId, Image>,
    script: VecDeque<FetchScript>,
    partial: BTreeMap<ImageName, usize>,
    starts: Vec<u64>,
    held: bool,
    permits: u32,
    checks: u32,
}

impl ScriptedSource {
    /// Stages into `staging`.
    #[must_use]
    pub fn new(staging: Arc<MemStaging>) -> Self {
        Self { staging, state: Watch::default(), check_faults: Faults::default() }
    }

    /// Offers a release. Its size and digest are taken as they are, also when they do not fit `image`.
    pub fn offer(&self, release: Release, image: &[u8], signatures: Vec<DetachedSignature>) {
        self.state.update(|state| {
            state.images.insert(release.id.clone(), (image.into(), signatures));
            state.offers.retain(|old| old.id != release.id);
            state.offers.push(release);
        });
    }

    /// Offers nothing any more; images can still be fetched.
    pub fn withdraw_all(&self) {
        self.state.update(|state| state.offers.clear());
    }

    /// Says how the next fetches go, behind those already said.
    pub fn script(&self, steps: impl IntoIterator<Item = FetchScript>) {
        self.state.update(|state| state.script.extend(steps));
    }

    /// Lets a held fetch go on, or the next one not stop at all.
    pub fn go_on(&self) {
        self.state.update(|state| state.permits += 1);
    }

    /// Waits until a fetch stands still.
    pub async fn until_held(&self) {
        self.state.until(|state| state.held.then_some(())).await;
    }

    /// Waits until `n` fetches have been started.
    pub async fn until_fetches(&self, n: usize) {
        self.state.until(|state| (state.starts.len() >= n).then_some(())).await;
    }

    /// The byte at which each fetch started, in order.
    pub fn fetches(&self) -> Vec<u64> {
        self.state.with(|state| state.starts.clone())
    }

    /// How many checks there were.
    pub fn checks(&self) -> u32 {
        self.state.with(|state| state.checks)
    }

    async fn run(&self, order: &FetchOrder, observer: &dyn FetchObserver) -> Result<StagedImage, PortError> {
        let ((image, signatures), mut step) = self.begin(order)?;
        let mut have = self.state.with(|state| state.partial.get(&order.name).copied().unwrap_or(0));
        observer.arrived(ByteCount(have as u64));
        loop {
            match &step {
                FetchScript::FailAt(at, kind) if have as u64 >= *at => return Err(kind.clone().into()),
                FetchScript::HoldAt(at) if have as u64 >= *at => {
                    self.hold().await;
                    step = FetchScript::Well;
                }
                _ => {}
            }
            if have >= image.len() {
                break;
            }
            have = next_stop(have, image.len(), &step);
            self.state.update(|state| state.partial.insert(order.name.clone(), have));
            observer.arrived(ByteCount(have as u64));
            observer.durable(ByteCount(have as u64));
        }
        self.state.update(|state| state.partial.remove(&order.name));
        self.stage(order, &image, signatures)
    }

    fn begin(&self, order: &FetchOrder) -> Result<(Image, FetchScript), PortError> {
        self.state.update(|state| {
            let have = state.partial.get(&order.name).copied().unwrap_or(0);
            state.starts.push(have as u64);
            let step = state.script.pop_front().unwrap_or(FetchScript::Well);
            let found = state.images.get(&order.release.id).cloned();
            let image = found
                .ok_or_else(|| OtaError::Network { what: format!("{} is not there", order.release.id) })?;
            Ok((image, step))
        })
    }

    async fn hold(&self) {
        // Put down again when the fetch is dropped while it stands still.
        struct Held<'a>(&'a ScriptedSource);
        impl Drop for Held<'_> {
            fn drop(&mut self) {
                self.0.state.update(|state| state.held = false);
            }
        }
        self.state.update(|state| state.held = true);
        let _held = Held(self);
        self.state.until(|state| state.permits.checked_sub(1).map(|left| state.permits = left)).await;
    }

    fn stage(
        &self,
        order: &FetchOrder,
        image: &[u8],
        signatures: Vec<DetachedSignature>,
    ) -> Result<StagedImage, PortError> {
        let digest = Sha256Digest::of(image);
        if digest != order.release.sha256 || image.len() as u64 != order.release.size.get() {
            return Err(OtaError::digest_mismatch(&order.release.sha256, &digest).into());
        }
        let staged = self.staging.put(&order.name, image);
        signatures.into_iter().for_each(|signature| self.staging.sign(&order.name, signature));
        Ok(staged)
    }
}

/// The next durable byte: a chunk on, but never past the byte at which the script wants something.
fn next_stop(have: usize, len: usize, step: &FetchScript) -> usize {
    let mut next = (have + CHUNK).min(len);
    if let FetchScript::FailAt(at, _) | FetchScript::HoldAt(at) = step {
        let at = usize::try_from(*at).unwrap_or(usize::MAX);
        if have < at {
            next = next.min(at);
        }
    }
    next
}

impl UpdateSource for ScriptedSource {
    fn check<'a>(&'a self, running: &'a Version) -> BoxFuture<'a, Result<Vec<Release>, PortError>> {
        Box::pin(async move {
            self.state.update(|state| state.checks += 1);
            self.check_faults.call()?;
            Ok(self.state.with(|state| {
                state.offers.iter().filter(|release| release.version > *running).cloned().collect()
            }))
        })
    }

    fn fetch<'a>(
        &'a self,
        order: &'a FetchOrder,
        observer: &'a dyn FetchObserver,
    ) -> BoxFuture<'a, Result<StagedImage, PortError>> {
        Box::pin(self.run(order, observer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Seen(Mutex<Vec<u64>>);
    impl FetchObserver for Seen {
        fn durable(&self, have: ByteCount) {
            self.0.lock().unwrap().push(have.get());
        }
        fn arrived(&self, _: ByteCount) {}
    }

    fn offered() -> (ScriptedSource, FetchOrder, Arc<MemStaging>) {
        let staging = Arc::new(MemStaging::default());
        let source = ScriptedSource::new(staging.clone());
        let image = vec![7; 10_000];
        let release = samples::release("v2.0.0", &image);
        source.offer(release.clone(), &image, Vec::new());
        (
            source,
            FetchOrder { name: samples::image_name(&release), release, priority: Default::default() },
            staging,
        )
    }

    #[tokio::test]
    async fn a_fetch_that_failed_goes_on_at_the_last_durable_byte() {
        let (source, order, staging) = offered();
        source.script([FetchScript::FailAt(5000, PortErrorKind::Io("cut".into()))]);
        let seen = Seen::default();
        source.fetch(&order, &seen).await.unwrap_err();
        assert!(staging.names().is_empty());
        source.fetch(&order, &seen).await.unwrap();
        assert_eq!(*seen.0.lock().unwrap(), [4096, 5000, 9096, 10_000]);
        assert_eq!(source.fetches(), [0, 5000]);
        assert_eq!(staging.names(), [order.name]);
    }

    #[tokio::test]
    async fn a_held_fetch_waits_until_it_is_told_to_go_on_and_can_be_dropped() {
        let (source, order, _) = offered();
        source.script([FetchScript::HoldAt(4096), FetchScript::HoldAt(8000)]);
        let seen = Seen::default();
        tokio::select! {
            _ = source.fetch(&order, &seen) => panic!("was not held"),
            () = source.until_held() => {}
        }
        let (done, ()) = tokio::join!(source.fetch(&order, &seen), async {
            source.until_held().await;
            source.go_on();
        });
        done.unwrap();
        assert_eq!(source.fetches(), [0, 4096]);
    }

    #[tokio::test]
    async fn only_newer_releases_are_offered() {
        let (source, _, _) = offered();
        assert_eq!(source.check(&"1.9.0".parse().unwrap()).await.unwrap().len(), 1);
        assert!(source.check(&"2.0.0".parse().unwrap()).await.unwrap().is_empty());
    }
}
