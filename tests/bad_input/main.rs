//! Bad input of every kind: each ends with the documented exit code and a text that says what,
//! where, expected and got; nothing panics, and no file is left behind.

#[path = "../terminal/mod.rs"]
mod terminal;

mod campaigns;
mod checkpoints;
mod outputs;
mod samples;
mod words;

use terminal::Desk;

/// Runs a command that must end with a code and say all parts, and leave the folder as it was.
fn refused(desk: &Desk, words: &str, code: i32, parts: &[&str]) {
    let words: Vec<&str> = words.split_whitespace().collect();
    refused_words(desk, &words, code, parts);
}

fn refused_words(desk: &Desk, words: &[&str], code: i32, parts: &[&str]) {
    let before = desk.listing();
    let told = desk.words(words).ends(code).says(&["error: "]).says(parts);
    assert_eq!(told.out, "", "results on stdout");
    assert_eq!(desk.listing(), before, "{words:?} leaves something behind");
}
