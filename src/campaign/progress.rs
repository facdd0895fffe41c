//! How a campaign goes: trials, their rate, what they found so far, and the time left.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use faults::journal::Entry;
use faults::{Outcome, Rate};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// How often the interval is computed anew.
const EVERY: Duration = Duration::from_millis(500);

/// What is said of silent corruptions among trials.
type Say = Box<dyn Fn(u64, u64) -> String + Send + Sync>;

/// A progress bar on stderr; nothing without a terminal.
pub(super) struct Progress {
    bar: ProgressBar,
    say: Say,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    trials: u64,
    sdc: u64,
    shown: Instant,
}

impl Progress {
    /// A bar of so many trials, of which some are there with so many silent corruptions.
    pub(super) fn new(trials: u64, there: (u64, u64), show: bool, say: Say) -> Self {
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
        bar.set_position(there.0);
        bar.reset_eta();
        let counts = Counts { trials: there.0, sdc: there.1, shown: Instant::now() };
        Self { bar, say, counts: Mutex::new(counts) }
    }

    /// Some trials have ended, with so many silent corruptions.
    pub(super) fn add(&self, (trials, sdc): (u64, u64)) {
        self.bar.inc(trials);
        let mut counts = self.counts.lock().expect("no holder panics");
        counts.trials += trials;
        counts.sdc += sdc;
        if counts.shown.elapsed() >= EVERY {
            counts.shown = Instant::now();
            self.bar.set_message((self.say)(counts.sdc, counts.trials));
        }
    }

    /// Writes a line beside the bar.
    pub(super) fn note(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Trials and silent corruptions among entries.
pub(super) fn counted(entries: &[Entry]) -> (u64, u64) {
    let sdc = entries.iter().filter(|entry| entry.trial.outcome == Outcome::Sdc).count();
    (entries.len() as u64, sdc as u64)
}

/// A rate and its interval, in words; its ends are rounded outward.
pub(super) fn said(sdc: u64, trials: u64, confidence: f64) -> String {
    let Rate { share, interval } = Rate::of(sdc, trials, confidence);
    let low = (interval.low * 1e5).floor() / 1e3;
    let high = (interval.high * 1e5).ceil() / 1e3;
    format!("sdc {:.3} % ({low:.3} to {high:.3} %)", 100.0 * share)
}
