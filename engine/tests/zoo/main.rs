//! The zoo: checkpoints that lie in every way that is known of their formats. Each is refused with
//! what is wrong, where, what was expected and what was there; and refusing it costs a small
//! multiple of its own size, in memory and in work.

#[allow(dead_code, reason = "not every helper is of use here")]
#[path = "../checkpoints/checkpoint.rs"]
mod checkpoint;
#[allow(dead_code, reason = "not every helper is of use here")]
#[path = "../checkpoints/made_gguf.rs"]
mod made_gguf;
#[allow(dead_code, reason = "not every helper is of use here")]
#[path = "../checkpoints/reference.rs"]
mod reference;

mod config;
mod fields;
mod gguf;
mod gguf_lies;
mod index;
mod measure;
mod member;
mod safetensors;
mod tokenizers;

use std::collections::BTreeSet;

use checkpoint::tiny;
use engine::formats::FormatError;
use member::{Member, Zoo};

/// What a refusal may cost: this many times the size of the files, and a little that does not
/// depend on them.
pub(crate) const TIMES: usize = 16;
pub(crate) const BESIDE: usize = 128 << 10;

/// What is wrong with how a member is met.
fn fault(member: &Member) -> Option<String> {
    let (result, cost) = measure::cost(|| member.load());
    let Err(error) = result else { return Some("it is accepted".into()) };
    let message = error.to_string();
    let missing = member.says.iter().find(|&part| !message.contains(part));
    let told = match error {
        FormatError::Json { .. } | FormatError::Tokenizer { .. } => true,
        FormatError::MissingFile { .. } | FormatError::UnusedCode { .. } => true,
        _ => message.contains("expected"),
    };
    let plain = message.len() < 2000 && !message.contains(char::is_control);
    if missing.is_some() || !told || !plain || !message.starts_with("made") {
        return Some(format!("it is refused without {missing:?}: {message}"));
    }
    let most = TIMES * member.size() + BESIDE;
    (cost > most).then(|| format!("{cost} bytes asked for, of {} in files", member.size()))
}

#[test]
fn every_member_is_refused_with_what_and_where_in_bounded_memory() {
    let _alone = measure::alone();
    tiny().load().expect("a sound checkpoint wakes the pool of threads");
    let (zoo, mut names) = (Zoo::all(), BTreeSet::new());
    assert!(zoo.members.len() >= 150, "{} members", zoo.members.len());
    let twice: Vec<_> = zoo.members.iter().filter(|member| !names.insert(&member.name)).collect();
    assert!(twice.is_empty(), "{} names stand twice, as {:?}", twice.len(), twice[0].name);
    let named = |member: &Member| fault(member).map(|fault| format!("{}: {fault}", member.name));
    // A panic inside the tokenizer is caught; telling of it costs more than the member.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let faults: Vec<String> = zoo.members.iter().filter_map(named).collect();
    std::panic::set_hook(hook);
    assert!(faults.is_empty(), "of {}:\n{}", zoo.members.len(), faults.join("\n"));
}
