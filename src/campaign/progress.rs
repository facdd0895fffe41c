//! How a campaign goes: trials, their rate, what they found so far, and the time left.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use faults::journal::Entry;
use faults::{Outcome, Rate};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// How often the interval is computed anew.
const EVERY: Duration = Duration::from_millis(500);

/// A progress bar on stderr; nothing without a terminal.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    confidence: f64,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    trials: u64,
    sdc: u64,
    shown: Instant,
}

impl Progress {
    /// A bar of the trials that a shard has, those of `present` done.
    pub(super) fn new(trials: u64, present: &[Entry], confidence: f64, show: bool) -> Self {
        let bar = ProgressBar::new(trials);
        if !show {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = "[{bar:24}] {pos}/{len} {rate} {eta} left  {msg}";
        let style = ProgressStyle::with_template(style).expect("a valid template");
        let style = style.with_key("rate", |state: &ProgressState, out: &mut dyn fmt::Write| {
            // What it is shown on may be gone; the campaign goes on.
            let _ = write!(out, "{:.1}/s", state.per_sec());
        });
        bar.set_style(style.progress_chars("=> "));
        bar.set_position(present.len() as u64);
        bar.reset_eta();
        let sdc = present.iter().filter(|entry| is_sdc(entry)).count() as u64;
        let counts = Counts { trials: present.len() as u64, sdc, shown: Instant::now() };
        Self { bar, confidence, counts: Mutex::new(counts) }
    }

    /// Some trials have ended.
    pub(super) fn add(&self, entries: &[Entry]) {
        self.bar.inc(entries.len() as u64);
        let mut counts = self.counts.lock().expect("no holder panics");
        counts.trials += entries.len() as u64;
        counts.sdc += entries.iter().filter(|entry| is_sdc(entry)).count() as u64;
        if counts.shown.elapsed() >= EVERY {
            counts.shown = Instant::now();
            self.bar.set_message(said(counts.sdc, counts.trials, self.confidence));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn is_sdc(entry: &Entry) -> bool {
    entry.trial.outcome == Outcome::Sdc
}

/// A rate and its interval, in words; its ends are rounded outward.
pub(super) fn said(sdc: u64, trials: u64, confidence: f64) -> String {
    let Rate { share, interval } = Rate::of(sdc, trials, confidence);
    let low = (interval.low * 1e5).floor() / 1e3;
    let high = (interval.high * 1e5).ceil() / 1e3;
    format!("sdc {:.3} % ({low:.3} to {high:.3} %)", 100.0 * share)
}
