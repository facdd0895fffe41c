//! Local Lipschitz bounds against pairs of points: never exceeded, on every kind of net and store.

use certify::interval::Boxes;
use certify::lipschitz::of_layer;
use engine::kernels;
use engine::model::random::{SplitMix, Style, random_model, random_rows, small_config};
use engine::model::{FloatType, Gate, KvKind};
use engine::walk::{self, Exact, Read};
use ndarray::Array2;

fn distance(a: &Array2<f32>, b: &Array2<f32>) -> f64 {
    let gaps = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs());
    gaps.fold(0.0, |most, gap| if gap > most { gap } else { most })
}

#[test]
fn pairs_of_points_never_part_faster_than_bound_and_slack_allow() {
    let mut rng = SplitMix(11);
    let mut tightest = 0f64;
    let mut finite = 0;
    for (seed, gate) in [(1, Gate::Relu2), (2, Gate::Silu)] {
        for sub_norms in [true, false] {
            let mut config = small_config(1, 16, 4, 2);
            config.gate = gate;
            let style = Style { sub_norms, stored: FloatType::F32, ..Style::BITNET };
            let model = random_model(&config, style, seed);
            for kv in [KvKind::F32, KvKind::F16, KvKind::Int8, KvKind::OneBit] {
                for epsilon in [1e-4, 1e-3, 1e-2, 0.1] {
                    let x = random_rows(4, 16, rng.next_u64());
                    let boxes = Boxes::ball(&x, epsilon, &(0..4));
                    let Ok((response, _)) = of_layer(kernels::best(), &model, kv, 0, &boxes) else {
                        continue;
                    };
                    finite += 1;
                    let mut point = || {
                        Array2::from_shape_fn((4, 16), |at| {
                            let share = [0.0, 1.0, rng.below(1025) as f32 / 1024.0][rng.below(3)];
                            let (lo, hi) = (boxes.lo[at], boxes.hi[at]);
                            (lo + (hi - lo) * share).clamp(lo, hi)
                        })
                    };
                    let run = |x: &Array2<f32>| {
                        let mut domain = Exact::new(kernels::best(), &model, kv);
                        walk::layer(&mut domain, &model, 0, x, 0, Read::All)
                    };
                    for _ in 0..20 {
                        let (a, b) = (point(), point());
                        let (moved, parted) = (distance(&a, &b), distance(&run(&a), &run(&b)));
                        let allowed = response.bound * moved + response.slack;
                        assert!(
                            parted <= allowed,
                            "{gate:?} {kv:?} {epsilon}: {parted} > {allowed}"
                        );
                        let share = parted / allowed;

                        tightest = if share > tightest { share } else { tightest };
                    }
                }
            }
        }
    }
    assert!(finite > 20, "{finite} finite bounds are too few to show anything");
    assert!(tightest > 0.01, "bounds of which only {tightest} is reached say nothing");
}
