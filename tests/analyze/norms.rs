//! The Euclidean norm: joint over the rows that move, in certificates and in attacks.

use crate::terminal::{Desk, at, numbers, one};

#[test]
fn a_euclidean_ball_lies_in_the_cube_and_its_attack_needs_less_than_the_corner() {
    let desk = Desk::new();
    for scope in ["all", "3"] {
        let run = |norm: &str| {
            let few = "--no-faults --limit 8 --attack-budget 200 --epsilon 1e-6";
            desk.report(&format!("{few} --scope {scope} --norm {norm}"))
        };
        let (cube, sphere) = (run("linf"), run("l2"));
        assert_eq!(one(&sphere, "certification.norm"), "l2");
        assert_eq!(one(&sphere, "request.norm"), "l2");
        let radii = |report| numbers(report, "certification.samples[].certified_radius");
        // What holds on the cube holds on the ball in it; searches end within a factor of 1.01.
        let holds =
            radii(&sphere).into_iter().zip(radii(&cube)).all(|(l2, linf)| l2 * 1.02 >= linf);
        assert!(holds, "{:?} {:?}", radii(&sphere), radii(&cube));
        let attacks = |report| -> Vec<Option<f64>> {
            let samples = at(report, "certification.samples[]");
            samples.iter().map(|sample| sample["attack_radius"].as_f64()).collect()
        };
        let coordinates: f64 = if scope == "all" { 9.0 * 16.0 } else { 16.0 };
        let (mut nearer, mut compared) = (0, 0);
        for (sample, linf) in at(&sphere, "certification.samples[]").iter().zip(attacks(&cube)) {
            // A robust net may withstand a short attack that moves one token.
            let (Some(l2), Some(linf)) = (sample["attack_radius"].as_f64(), linf) else { continue };
            compared += 1;
            assert!(l2 > sample["certified_radius"].as_f64().expect("a radius"), "{sample}");
            // The Euclidean length of a change is at least that of its largest coordinate.
            assert!(l2 > 0.8 * linf, "{l2} beside {linf}");
            nearer += usize::from(l2 < coordinates.sqrt() * linf);
        }
        assert!(compared >= 4, "{compared} of 8 attacks succeeded at scope {scope}");
        assert!(nearer + 1 >= compared, "{nearer} of {compared} at scope {scope}");
    }
}
