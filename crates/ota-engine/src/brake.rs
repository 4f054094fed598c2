//! How long blocking work is told to stop, or to stand still for a while.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use ota_core::ports::Flow;

/// Between the runner and the device thread, which looks at it after every chunk.
#[derive(Debug, Default)]
pub(crate) struct Brake {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Go,
    Paused,
    Stopped,
}

impl Brake {
    /// The work ends at the next chunk. For good.
    pub(crate) fn stop(&self) {
        self.set(State::Stopped);
    }

    /// The work stands still at the next chunk.
    pub(crate) fn pause(&self) {
        self.set(State::Paused);
    }

    /// The work goes on.
    pub(crate) fn release(&self) {
        self.set(State::Go);
    }

    /// What the work is to do now; blocks while it is to stand still.
    pub(crate) fn flow(&self) -> Flow {
        let state = self.changed.wait_while(self.lock(), |state| *state == State::Paused);
        match *state.unwrap_or_else(PoisonError::into_inner) {
            State::Stopped => Flow::Stop,
            State::Go | State::Paused => Flow::Continue,
        }
    }

    fn set(&self, to: State) {
        let mut state = self.lock();
        if *state != State::Stopped {
            *state = to;
        }
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;

    #[test]
    fn paused_work_stands_still_until_it_is_let_go_on_or_stopped() {
        let brake = Arc::new(Brake::default());
        assert_eq!(brake.flow(), Flow::Continue);
        for (end, expected) in [
            (Brake::release as fn(&Brake), Flow::Continue),
            (Brake::stop, Flow::Stop),
            (Brake::release, Flow::Stop),
        ] {
            brake.pause();
            let (tell, told) = mpsc::channel();
            let work = Arc::clone(&brake);
            let thread = std::thread::spawn(move || tell.send(work.flow()));
            if expected == Flow::Continue {
                assert!(told.try_recv().is_err());
            }
            end(&brake);
            assert_eq!(told.recv().unwrap(), expected);
            thread.join().unwrap().unwrap();
        }
    }
}
