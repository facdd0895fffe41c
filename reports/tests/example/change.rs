//! Made-up Lipschitz bounds, and what made forms wide.

use reports::model::*;

pub(super) fn margin() -> MarginLipschitz {
    MarginLipschitz {
        bound: 310.0,
        slack: 0.4,
        method: Method::Zonotope,
        global_product_power: Some(41),
    }
}

pub(super) fn part(bound: f64) -> LipschitzBound {
    LipschitzBound { bound, slack: 0.01 * bound, method: Method::IntervalBoundPropagation }
}

pub(super) fn forms(layers: u32) -> FormsGrowth {
    let step = |layer: u32| FormsStep {
        layer: Some(layer),
        step: "attention".to_owned(),
        width_median: 0.01 * f64::from(layer + 1),
        symbols_median: 64.0 * f64::from(layer + 1),
    };
    let source = |kind, share| MarginSource {
        layer: (kind != SourceKind::Input).then_some(0),
        step: (kind != SourceKind::Input).then(|| "down_codes".to_owned()),
        kind,
        share,
    };
    FormsGrowth {
        samples: 1,
        steps: (0..layers).map(step).collect(),
        margins: 1,
        sources: vec![
            source(SourceKind::Rounding, 0.5),
            source(SourceKind::Input, 0.375),
            source(SourceKind::Remainder, 0.125),
        ],
    }
}
