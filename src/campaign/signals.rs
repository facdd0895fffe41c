//! Signals that ask a campaign to end: the first lets the running trials finish, the second does
//! not.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::{Exit, Failure};

/// What was asked so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Signals(Arc<AtomicUsize>);

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// If the system lets nobody listen.
    pub(super) fn listen() -> Result<Self, Failure> {
        let signals = Self::default();
        let heard = || -> io::Result<()> {
            let again = Arc::new(AtomicBool::new(false));
            for signal in [SIGINT, SIGTERM] {
                // In this order, so that the first one finds the mark unset.
                flag::register_conditional_shutdown(signal, 128 + signal, again.clone())?;
                flag::register(signal, again.clone())?;
                flag::register_usize(signal, signals.0.clone(), signal as usize)?;
            }
            Ok(())
        };
        heard().map_err(|error| Failure::bug(format!("signals cannot be heard: {error}")))?;
        Ok(signals)
    }

    /// Whether to stop.
    pub(super) fn stop(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// The exit code of whoever was stopped.
    pub(super) fn exit(&self) -> Option<Exit> {
        match self.0.load(Ordering::Relaxed) as i32 {
            0 => None,
            SIGTERM => Some(Exit::Terminated),
            _ => Some(Exit::Interrupted),
        }
    }
}
