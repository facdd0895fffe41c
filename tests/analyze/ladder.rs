//! The ladder, several epsilons, and claims about the last layers.

use serde_json::{Value, json};

use crate::terminal::{Desk, at, number, numbers, one};

const FEW: &str = "--no-faults --limit 6 --attack-budget 40";

#[test]
fn a_relative_epsilon_is_a_share_of_each_samples_own_rms_and_both_are_shown() {
    let desk = Desk::new();
    let line = |scale: f64| {
        let sign = |i: usize| if i.is_multiple_of(3) { scale } else { -scale };
        let rows: Vec<Vec<f64>> = (0..9).map(|r| (0..16).map(|i| sign(i + r)).collect()).collect();
        json!({ "inputs_embeds": rows }).to_string()
    };
    desk.put("x.jsonl", format!("{}\n{}\n", line(2.0), line(0.5)));
    let report = desk.report(&format!("--inputs x.jsonl --epsilon 1%rms,0.25 {FEW}"));
    assert_eq!(numbers(&report, "certification.samples[].stream_rms"), [2.0, 0.5]);
    assert_eq!(numbers(&report, "certification.samples[].epsilon_value"), [0.02, 0.005]);
    assert_eq!(numbers(&report, "certification.samples[].epsilon_rel"), [0.01, 0.01]);
    assert_eq!(one(&report, "certification.epsilon"), "1%rms");
    assert_eq!(number(&report, "certification.epsilon_value"), 0.01);
    assert_eq!(one(&report, "certification.epsilon_unit"), "relative-rms");
    assert_eq!(report["request"]["epsilons"], json!(["1%rms", "0.25"]));
    assert_eq!(numbers(&report, "certification.epsilons[].epsilon_value"), [0.01, 0.25]);
    for sample in at(&report, "certification.samples[]") {
        let (radius, rms) = (number(sample, "certified_radius"), number(sample, "stream_rms"));
        assert_eq!(number(sample, "certified_radius_rel"), radius / rms);
    }
}

#[test]
fn each_epsilon_of_a_list_has_the_verdicts_of_a_run_of_its_own_and_lies_on_the_curve() {
    let desk = Desk::new();
    let list = ["1e-2", "1e-6", "3", "1e-5"];
    let report = desk.report(&format!("--epsilon {} {FEW}", list.join(",")));
    let rows = at(&report, "certification.epsilons[]");
    let mut certified = Vec::new();
    for (row, epsilon) in rows.iter().zip(list) {
        let alone = desk.report(&format!("--epsilon {epsilon} {FEW}"));
        assert_eq!(row["epsilon"], epsilon);
        for key in ["certified", "falsified", "unknown", "cert_acc"] {
            assert_eq!(row[key], alone["certification"][key], "{key} at {epsilon}");
        }
        let value = number(row, "epsilon_value");
        let points = at(&report, "certification.curve[]");
        let point = points.iter().find(|point| number(point, "epsilon") == value);
        let point = point.unwrap_or_else(|| panic!("{epsilon} is not on the curve"));
        assert_eq!(number(point, "certified_acc"), number(row, "cert_acc"));
        assert_eq!(number(point, "attacked_acc"), number(row, "attacked_acc"));
        certified.push(number(row, "certified"));
    }
    assert!(certified[1] >= certified[0] && certified[1] > certified[2], "{certified:?}");
    assert_eq!(number(rows[2], "falsified"), 6.0, "a ball of radius 3 holds every digit");
    assert_eq!(one(&report, "certification.epsilon"), "1e-2");
    desk.run("analyze --epsilon 0.1,0.1").ends(2).says(&["0.1 is there twice"]);
    desk.run("analyze --epsilon 1%").ends(2).says(&["1%rms"]);
}

#[test]
fn a_verdict_names_the_method_that_decided_and_a_radius_the_methods_that_proved_it() {
    let desk = Desk::new();
    let report = desk.report(&format!("--epsilon 1e-6 {FEW}"));
    assert_eq!(one(&report, "request.method"), "auto");
    let mut decided = 0.0;
    for sample in at(&report, "certification.samples[]") {
        let certified = sample["verdict"] == "certified";
        decided += f64::from(u8::from(certified));
        assert_eq!(sample["decided_by"].is_string(), certified, "{sample}");
        let tried = at(sample, "methods[]");
        assert_eq!(tried[0]["method"], "interval-bound-propagation");
        assert_eq!(tried.last().expect("a method")["proven"], certified);
        assert!(number(tried[0], "grown_at.factor") > 1.0, "{sample}");
        let radii = numbers(sample, "radius_by_method[].certified_radius");
        let best = radii.iter().copied().fold(0.0, |a: f64, b| if b > a { b } else { a });
        assert_eq!(number(sample, "certified_radius"), best);
    }
    assert!(decided > 0.0);
    let sum: f64 = numbers(&report, "certification.methods[].decided").iter().sum();
    assert_eq!(sum, decided);
    assert!(number(&report["run"]["methods"][0], "seconds_max") > 0.0);
    let same = desk.report(&format!("--epsilon 1e-6 --reproducible --budget 60 {FEW}"));
    assert_eq!(same["run"], Value::Null);
    assert_eq!(at(&same, "certification.samples[].methods[]")[0].get("seconds"), None);
    desk.run("analyze --budget soon").ends(2).says(&["--budget", "soon"]);
    let alone = desk.report(&format!("--epsilon 1e-6 --method ibp {FEW}"));
    assert_eq!(at(&alone, "certification.methods[]").len(), 1);
}

#[test]
fn a_claim_about_the_last_layer_is_that_of_the_stream_which_enters_it() {
    let desk = Desk::new();
    let whole = desk.report(&format!("--epsilon 0 {FEW}"));
    let last = desk.report(&format!("--epsilon 0 --suffix 1 {FEW}"));
    let right = |report: &Value| {
        let radii = at(report, "certification.samples[]").into_iter();
        let radii = radii.filter(|s| s["correct"] == true).map(|s| number(s, "certified_radius"));
        radii.fold(f64::INFINITY, |least, radius| if radius < least { radius } else { least })
    };
    // Both searches end within a factor of 1.05.
    let layer = number(&whole["certification"]["layers"][1], "certified_radius");
    let (suffix, all) = (right(&last), right(&whole));
    assert!((suffix / layer - 1.0).abs() < 0.06, "{suffix} against {layer}");
    assert!(suffix > 1.5 * all, "{suffix} against {all}");
    assert_eq!(numbers(&last, "certification.layers[].index"), [1.0]);
    assert_eq!(number(&last, "certification.suffix"), 1.0);
    let rms = numbers(&last, "certification.samples[].stream_rms");
    assert_ne!(rms, numbers(&whole, "certification.samples[].stream_rms"));
    for sample in at(&last, "certification.samples[]").into_iter().filter(|s| s["correct"] == true)
    {
        assert_eq!(sample["margin_lower_bound"], sample["margin"], "{sample}");
        assert!(number(sample, "attack_radius") > number(sample, "certified_radius"));
    }
    let both = desk.report(&format!("--epsilon 0 --suffix 2 {FEW}"));
    for key in ["certified_radius", "attack_radius", "margin"] {
        let path = format!("certification.samples[].{key}");
        assert_eq!(numbers(&both, &path), numbers(&whole, &path));
    }
    desk.run("analyze --suffix 3").ends(2).says(&["--suffix 3", "2 layers"]);
    desk.run("analyze --suffix 0").ends(2).says(&["--suffix 0"]);
}

#[test]
fn affine_forms_prove_what_boxes_leave_open_and_auto_is_the_better_of_both() {
    let desk = Desk::new();
    let run = |method: &str| desk.report(&format!("--epsilon 1e-3 --method {method} {FEW}"));
    let (boxes, forms, auto) = (run("ibp"), run("zonotope"), run("auto"));
    let certified = |report: &Value| number(report, "certification.certified");
    assert_eq!(certified(&boxes), 0.0);
    assert!(certified(&forms) >= 4.0, "{}", certified(&forms));
    assert_eq!(certified(&auto), certified(&forms));
    for sample in at(&auto, "certification.samples[]") {
        let radii = numbers(sample, "radius_by_method[].certified_radius");
        assert!(radii[1] > 100.0 * radii[0], "{radii:?}");
        let decided = &sample["decided_by"];
        assert!(decided.is_null() || decided == "zonotope", "{decided}");
        assert!(number(at(sample, "methods[]")[1], "symbols") >= 144.0);
    }
    let widest = |report: &Value| numbers(report, "certification.samples[].certified_radius");
    assert!(widest(&auto).iter().zip(widest(&forms)).all(|(auto, forms)| auto * 1.02 > forms));
    // Without a budget nothing dearer than boxes pays.
    desk.run(&format!("analyze --epsilon 1e-3 --budget 0 {FEW} -q -o r.json")).ends(0);
    let poor = desk.json("r.json");
    let alike = |(a, b): (f64, f64)| a <= b * 1.06 && b <= a * 1.06;
    assert!(widest(&poor).into_iter().zip(widest(&boxes)).all(alike), "within both searches");
    assert!(at(&poor, "limits_hit[]").is_empty());
}

#[test]
fn forms_say_what_makes_a_margin_uncertain_and_bound_changes_more_closely() {
    let desk = Desk::new();
    let run = |method: &str| {
        let few = "--no-faults --limit 2 --attack-budget 10 --epsilon 0.01";
        desk.report(&format!("{few} --method {method}"))
    };
    let (boxes, forms) = (run("ibp"), run("zonotope"));
    assert_eq!(boxes["certification"]["growth_of_forms"], Value::Null);
    let growth = one(&forms, "certification.growth_of_forms");
    assert_eq!(number(growth, "samples"), 2.0);
    let steps = numbers(growth, "steps[].width_median");
    assert!(steps.len() > 10 && steps.iter().all(|&width| width > 0.0), "{steps:?}");
    let shares = numbers(growth, "sources[].share");
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{shares:?}");
    let kinds: Vec<&Value> = at(growth, "sources[].kind");
    for kind in ["input", "rounding", "remainder"] {
        assert!(kinds.contains(&&json!(kind)), "{kinds:?}");
    }
    // Over the whole ball the margin moves by less than half as far as boxes say.
    let most = |of: &Value| {
        let margin = one(of, "certification.margin_lipschitz");
        number(margin, "bound") * 0.02 + number(margin, "slack")
    };
    assert!(most(&forms) < 0.5 * most(&boxes), "{} {}", most(&forms), most(&boxes));
    assert_eq!(one(&forms, "certification.margin_lipschitz.method"), "zonotope");
    let method = one(&boxes, "certification.margin_lipschitz.method");
    assert_eq!(method, "interval-bound-propagation");
}
