//! What a row of attention was made of, once its boxes are symbols.

use std::sync::Arc;

use super::super::form::{Form, Span};
use super::super::past::{Mix, Past};

/// A mix of four values, each with a box of 0.5 for what is not linear.
fn mix() -> Past {
    Past::Mixed(Arc::new(Mix {
        query: Arc::new(Form::constant(vec![0.0; 4])),
        seen: 1,
        shift: vec![0.0; 4],
        error: vec![0.0; 4],
        rest: vec![0.5; 4],
        span: None,
        values: Vec::new(),
    }))
}

#[test]
fn a_value_that_became_a_box_is_not_looked_through() {
    let input = Span { first: 0, count: 1 };
    let own = Span { first: 7, count: 3 };
    // Of the second value the linear part is gone, of the third the box is another one; the fourth
    // has none any more.
    let before = [0.5, 0.5, 0.25, 0.0];
    let mut g = vec![1.0, 0.0, 2.0, 0.0];
    for (k, rest) in before.iter().enumerate().take(3) {
        g.extend((0..4).map(|column| if column == k { *rest } else { 0.0 }));
    }
    let form = Form { c: vec![0.0; 4], spans: vec![input, own], g, rest: vec![0.0; 4] };
    let Past::Mixed(settled) = mix().settled(own, &before, &form) else { panic!("no mix") };
    assert_eq!(settled.rest, [0.5, 0.0, 0.0, 0.0]);
    assert_eq!((settled.span, &settled.values[..]), (Some(own), &[0, 1, 2][..]));
    assert_eq!(settled.rows(&form.spans), Some(1..4));
    assert_eq!(settled.rows(&[input]), None);
}
