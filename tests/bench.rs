//! `bench` from outside.

mod terminal;

use terminal::Desk;

#[test]
fn the_engine_is_measured_beside_the_limits_of_the_machine() {
    let desk = Desk::new();
    let told = desk.run("bench --shape small --seconds 0.01 --only gem --json").ends(0).out;
    assert!(told.lines().count() >= 2, "{told}");
    for line in told.lines() {
        let figure: serde_json::Value = serde_json::from_str(line).expect("an object a line");
        assert!(figure["value"].as_f64().expect("a value") > 0.0, "{line}");
        for key in ["name", "unit", "limit", "threads", "kernels"] {
            assert!(figure.get(key).is_some(), "no {key} in {line}");
        }
    }
    desk.run("bench --seconds 0").ends(2).says(&["--seconds", "0 to 3600"]);
}
