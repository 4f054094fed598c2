//! A value that can be waited for without sleeping and without a runtime.

use std::{
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

/// A value behind a lock; who waits for it is woken at every change. Works under any async runtime.
#[derive(Debug, Default)]
pub struct Watch<T> {
    inner: Mutex<Inner<T>>,
}

#[derive(Debug, Default)]
struct Inner<T> {
    value: T,
    waiting: Vec<Waker>,
}

impl<T> Watch<T> {
    /// With a first value.
    pub const fn new(value: T) -> Self {
        Self { inner: Mutex::new(Inner { value, waiting: Vec::new() }) }
    }

    /// Looks at the value, or changes it without waking anybody.
    pub fn with<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        look(&mut self.lock().value)
    }

    /// Changes the value and wakes everybody who waits.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut inner = self.lock();
        let result = change(&mut inner.value);
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        waiting.into_iter().for_each(Waker::wake);
        result
    }

    /// Waits until `check` gives something.
    pub async fn until<R>(&self, mut check: impl FnMut(&mut T) -> Option<R>) -> R {
        poll_fn(|cx| {
            let mut inner = self.lock();
            if let Some(result) = check(&mut inner.value) {
                return Poll::Ready(result);
            }
            if !inner.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                inner.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
