//! A medium in memory that keeps what was synced and loses, keeps or tears the rest when the power is cut.
//!
//! Owns the bytes and the choice among everything that a cut can leave of un-synced blocks. Who writes, in which order,
//! and what it means is left to the harness that puts a device trait in front of it.

use std::sync::Arc;

use fastrand::Rng;

/// Bytes of a slot, or of a file, that are lost, kept or torn together.
pub(crate) const BLOCK: usize = 4096;
/// The same of the environment, whose copies are small: a finer grain leaves more outcomes.
pub(crate) const ENV_BLOCK: usize = 1024;

/// What a cut leaves of a block that was written and not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fate {
    /// The old content.
    Lost,
    /// The new content.
    Kept,
    /// New content in front of old content, or behind it.
    Torn,
}

/// A part of one block that was written and not synced.
#[derive(Clone, Debug)]
struct Piece {
    offset: usize,
    bytes: Arc<[u8]>,
}

/// What is on a medium, and what its cache has taken on top.
#[derive(Clone, Debug)]
pub(crate) struct Medium {
    block: usize,
    durable: Vec<u8>,
    seen: Vec<u8>,
    pending: Vec<Piece>,
}

impl Fate {
    /// Everything that can happen to a block.
    pub(crate) const ALL: [Self; 3] = [Self::Lost, Self::Kept, Self::Torn];
}

impl Medium {
    /// With this content, durable.
    #[must_use]
    pub(crate) fn new(content: Vec<u8>, block: usize) -> Self {
        Self { block, seen: content.clone(), durable: content, pending: Vec::new() }
    }

    /// What a reader sees while the power is on.
    #[must_use]
    pub(crate) fn seen(&self) -> &[u8] {
        &self.seen
    }

    /// What is there after a cut that loses all that it can.
    #[must_use]
    pub(crate) fn durable(&self) -> &[u8] {
        &self.durable
    }

    /// How many blocks a cut decides about.
    #[must_use]
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Takes `bytes` at `offset` into the cache.
    ///
    /// # Panics
    /// When they lie beyond the end.
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.seen[offset..offset + bytes.len()].copy_from_slice(bytes);
        let mut at = 0;
        while at < bytes.len() {
            let len = (self.block - (offset + at) % self.block).min(bytes.len() - at);
            self.pending.push(Piece { offset: offset + at, bytes: bytes[at..at + len].into() });
            at += len;
        }
    }

    /// Makes all that was written durable.
    pub(crate) fn sync(&mut self) {
        for piece in self.pending.drain(..) {
            self.durable[piece.offset..piece.offset + piece.bytes.len()].copy_from_slice(&piece.bytes);
        }
    }

    /// A sync fails: Linux reports that once, takes what was waiting for written, and goes on showing it. Source: the
    /// PostgreSQL project's findings on `fsync` of 2018, `durable-steps.md` section 1.
    pub(crate) fn fail_sync(&mut self) {
        self.pending.clear();
    }

    /// Forgets what was read or written and waits for nothing: the next read comes from the medium.
    pub(crate) fn drop_cache(&mut self) {
        self.seen.clone_from(&self.durable);
        for piece in &self.pending {
            self.seen[piece.offset..piece.offset + piece.bytes.len()].copy_from_slice(&piece.bytes);
        }
    }

    /// The medium after a cut that has left this of each pending block, in the order they were written.
    #[must_use]
    pub(crate) fn cut(&self, fates: &[Fate], random: &mut Rng) -> Self {
        let mut bytes = self.durable.clone();
        for (piece, fate) in self.pending.iter().zip(fates) {
            let old = &mut bytes[piece.offset..piece.offset + piece.bytes.len()];
            match fate {
                Fate::Lost => {}
                Fate::Kept => old.copy_from_slice(&piece.bytes),
                Fate::Torn => tear(old, &piece.bytes, random),
            }
        }
        Self::new(bytes, self.block)
    }
}

/// Bytes that a medium writes from front to back, or not at all.
const SECTOR: usize = 512;

/// Mixes old and new: of the sectors that differ, which may reach the medium in any order, some are new and some old; one is
/// new, or new up to some byte and old behind it. A tear is visible where that is possible at all.
fn tear(old: &mut [u8], new: &[u8], random: &mut Rng) {
    let sectors: Vec<usize> =
        (0..old.len()).step_by(SECTOR).filter(|at| sector(old, *at) != sector(new, *at)).collect();
    if sectors.is_empty() {
        return;
    }
    let chosen = random.usize(..sectors.len());
    let torn = sectors[chosen];
    let whole = sectors.len() > 1 && random.bool();
    // With a whole new one beside it, one has to be old.
    let spared = sectors[(chosen + 1) % sectors.len()];
    for at in sectors {
        let (before, after) = (sector(old, at), sector(new, at));
        let len = match at {
            _ if at == torn && !whole => random_front(before, after, random),
            _ if at == torn => after.len(),
            _ if at == spared && whole => 0,
            _ => after.len() * random.usize(..2),
        };
        old[at..at + len].copy_from_slice(&new[at..at + len]);
    }
}

/// Bytes of `after` that are there in front of those of `before`: some that differ and not all of them, where there are two.
fn random_front(before: &[u8], after: &[u8], random: &mut Rng) -> usize {
    let differ = |(a, b): (&u8, &u8)| a != b;
    let first = before.iter().zip(after).position(differ).unwrap_or(0);
    let last = before.iter().zip(after).rposition(differ).unwrap_or(first);
    if first == last { last } else { first + 1 + random.usize(..last - first) }
}

fn sector(bytes: &[u8], at: usize) -> &[u8] {
    &bytes[at..bytes.len().min(at + SECTOR)]
}

/// Every choice of fates for `blocks` blocks, or `most` of them by chance where there are more; with all lost and all
/// kept among them in any case.
#[must_use]
pub(crate) fn choices(blocks: usize, most: usize, random: &mut Rng) -> Vec<Vec<Fate>> {
    let all = u32::try_from(blocks).ok().and_then(|n| 3_usize.checked_pow(n)).filter(|all| *all <= most);
    if let Some(all) = all {
        let nth = |mut n: usize| {
            let mut fates = Vec::with_capacity(blocks);
            for _ in 0..blocks {
                fates.push(Fate::ALL[n % 3]);
                n /= 3;
            }
            fates
        };
        return (0..all).map(nth).collect();
    }
    let mut some = vec![vec![Fate::Lost; blocks], vec![Fate::Kept; blocks]];
    while some.len() < most {
        some.push((0..blocks).map(|_| Fate::ALL[random.usize(..3)]).collect());
    }
    some
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_stays_and_the_rest_is_decided_block_by_block() {
        let mut random = Rng::with_seed(1);
        let mut medium = Medium::new(vec![0; 3 * BLOCK], BLOCK);
        medium.write(0, &[1; BLOCK]);
        medium.sync();
        medium.write(BLOCK, &vec![2; 2 * BLOCK]);
        assert_eq!((medium.pending(), medium.seen()[BLOCK], medium.durable()[BLOCK]), (2, 2, 0));
        let after = medium.cut(&[Fate::Lost, Fate::Torn], &mut random);
        assert_eq!((after.durable()[0], after.durable()[BLOCK], after.pending()), (1, 0, 0));
        let torn = &after.durable()[2 * BLOCK..];
        assert!(torn.contains(&0) && torn.contains(&2));
    }

    #[test]
    fn what_a_failed_sync_lost_is_shown_until_the_cache_is_dropped_and_no_second_sync_brings_it_back() {
        let mut medium = Medium::new(vec![0; 2 * BLOCK], BLOCK);
        medium.write(0, &[1; BLOCK]);
        medium.fail_sync();
        medium.write(BLOCK, &[2; BLOCK]);
        medium.sync();
        assert_eq!((medium.seen()[0], medium.durable()[0], medium.durable()[BLOCK]), (1, 0, 2));
        medium.drop_cache();
        assert_eq!((medium.seen()[0], medium.seen()[BLOCK]), (0, 2));
    }

    #[test]
    fn a_tear_is_visible_whenever_two_bytes_differ() {
        let mut random = Rng::with_seed(7);
        for _ in 0..200 {
            let (old, new) = ([5, 1, 5, 2, 5], [5, 3, 5, 4, 5]);
            let mut torn = old;
            tear(&mut torn, &new, &mut random);
            assert!(torn != old && torn != new, "{torn:?}");
        }
    }

    #[test]
    fn all_choices_are_made_where_they_fit_and_as_many_as_allowed_where_not() {
        let mut random = Rng::with_seed(3);
        let all = choices(4, 729, &mut random);
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!((all.len(), distinct.len()), (81, 81));
        assert_eq!(choices(0, 729, &mut random), [Vec::<Fate>::new()]);
        let some = choices(9, 729, &mut random);
        assert_eq!((some.len(), some[0][0], some[1][8]), (729, Fate::Lost, Fate::Kept));
    }
}
