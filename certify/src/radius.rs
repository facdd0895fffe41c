//! Certified radii: the largest epsilon that a method proves, by a search that tries each it
//! reports.
//!
//! A radius is only ever an epsilon for which a proof was found, so the search may be as coarse as
//! it likes without a claim that is not proven. Proofs are monotone in the set that they speak of:
//! what holds on a ball holds on every smaller one.

/// How a radius is searched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Search {
    /// Where the search begins.
    pub start: f64,
    /// No epsilon below this is tried: the radius is then 0.
    pub least: f64,
    /// No epsilon above this is tried.
    pub most: f64,
    /// The search ends when the bracket is within this factor (above 1).
    pub ratio: f64,
}

/// The largest epsilon tried that `proves`; 0 if none did.
///
/// Grows or shrinks from the start by a factor of 4 until the answer changes, then bisects the
/// logarithm of the bracket.
pub fn search(settings: Search, mut proves: impl FnMut(f64) -> bool) -> f64 {
    let Search { start, least, most, ratio } = settings;
    assert!(0.0 < least && least <= start && start <= most && ratio > 1.0, "{settings:?}");
    let (mut good, mut bad);
    if proves(start) {
        (good, bad) = (start, f64::INFINITY);
        while good < most {
            let next = if good * 4.0 < most { good * 4.0 } else { most };
            if !proves(next) {
                bad = next;
                break;
            }
            good = next;
        }
    } else {
        (good, bad) = (0.0, start);
        while bad > least {
            let next = if bad / 4.0 > least { bad / 4.0 } else { least };
            if proves(next) {
                good = next;
                break;
            }
            bad = next;
        }
    }
    while good > 0.0 && bad.is_finite() && bad / good > ratio {
        let middle = (good * bad).sqrt();
        if proves(middle) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_finds_thresholds_from_either_side_and_never_exceeds_them() {
        let settings = Search { start: 1e-3, least: 1e-9, most: 10.0, ratio: 1.01 };
        for threshold in [1e-8, 3.3e-5, 1e-3, 0.02, 7.0] {
            let found = search(settings, |epsilon| epsilon <= threshold);
            assert!(found <= threshold && found * 1.011 >= threshold, "{found} {threshold}");
        }
        assert_eq!(search(settings, |_| true), 10.0);
        assert_eq!(search(settings, |_| false), 0.0);
    }
}
