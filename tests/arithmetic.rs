//! What is said of a model's arithmetic behind its name: in reports, digests and refusals.

mod terminal;

use terminal::{Desk, one};

#[test]
fn reports_name_the_arithmetic_and_digests_tell_them_apart() {
    let desk = Desk::new();
    let report =
        |said: &str| desk.report(&format!("@digits{said} --epsilon 0.0001 --limit 2 --no-faults"));
    let usual = report("");
    let said = [
        (",activations=int8,head=as_stored", "per_token_int8", "as_stored", true),
        (",activations=int4", "per_token_int4", "as_stored", false),
        (",head=int8", "per_token_int8", "int8", false),
    ];
    for (words, activations, head, same) in said {
        let found = report(words);
        assert_eq!(one(&found, "model.activation_policy"), activations);
        assert_eq!(one(&found, "model.head"), head);
        let digests = [&found, &usual].map(|report| one(report, "model.digest"));
        assert_eq!(digests[0] == digests[1], same, "{words}");
    }
}

#[test]
fn what_a_head_of_integers_cannot_do_is_refused() {
    let desk = Desk::new();
    desk.run("inspect @digits,head=int4").ends(2).says(&["head=int4", "head=int8"]);
    desk.run("convert @digits,head=int8 --to hf-packed --out out").ends(3).says(&["head=int8"]);
}
