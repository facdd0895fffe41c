//! How faults were decided.

/// What became of the faults that a simulator was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Faults.
    pub faults: u64,
    /// Those that were known to be masked.
    pub proven: u64,
    /// Those that a checking reader refused, or that change no weight.
    pub still: u64,
    /// Those with the effect of another one.
    pub collapsed: u64,
    /// Those that went to [`crate::run_trial`].
    pub alone: u64,
    /// Those that were run here.
    pub executed: u64,
    /// Those of them whose state was clean again before the read-out, so that they ended there.
    pub early: u64,
}

/// How a fault was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It was known to be masked.
    Proven,
    /// A checking reader refused it, or it changes no sum.
    Still,
    /// By [`crate::run_trial`].
    Alone,
    /// By the run of another one with its effect.
    Collapsed,
    /// By a run of its own.
    Executed {
        /// Whether that ended before the read-out.
        early: bool,
    },
}

impl Counts {
    fn by(&self, other: &Self, f: fn(u64, u64) -> u64) -> Self {
        Self {
            faults: f(self.faults, other.faults),
            proven: f(self.proven, other.proven),
            still: f(self.still, other.still),
            collapsed: f(self.collapsed, other.collapsed),
            alone: f(self.alone, other.alone),
            executed: f(self.executed, other.executed),
            early: f(self.early, other.early),
        }
    }

    /// Counts one more fault.
    pub(crate) fn count(&mut self, way: Way) {
        self.faults += 1;
        match way {
            Way::Proven => self.proven += 1,
            Way::Still => self.still += 1,
            Way::Alone => self.alone += 1,
            Way::Collapsed => self.collapsed += 1,
            Way::Executed { early } => {
                self.executed += 1;
                self.early += u64::from(early);
            }
        }
    }

    /// What came since an earlier count.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        self.by(before, |now, then| now - then)
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        *self = self.by(other, |a, b| a + b);
    }
}
