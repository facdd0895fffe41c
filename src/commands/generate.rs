//! `generate`: greedy decoding, token by token, over the key-value store.
//!
//! It proves that the engine is one: the same prompt gives the same tokens on every machine, with
//! any number of threads and any kernel table. Nothing is drawn; ties go to the lowest token.

use std::io::{self, Write};
use std::ops::ControlFlow;

use engine::formats::{Loaded, Tokenizer};
use engine::kernels::Kernels;
use engine::model::{KvKind, Model};
use engine::numerics::argmax;
use engine::walk::{self, Exact, Read};

use super::{shown, told};
use crate::cli::GenerateArgs;
use crate::failure::Failure;
use crate::{machine, source};

/// Continues a prompt.
///
/// # Errors
/// If the model or the prompt is refused, or the logits are no numbers.
pub fn run(args: &GenerateArgs) -> Result<(), Failure> {
    let kernels = machine::kernels(args.kernels.as_deref())?;
    let pool = machine::pool(args.threads)?;
    let origin = source::resolve(&args.model)?;
    pool.install(|| {
        let loaded = source::load(&origin, None, args.mmap)?;
        let prompt = prompt(args, &loaded)?;
        let mut voice = Voice::new(args, &loaded, &prompt)?;
        let out = &mut io::stdout().lock();
        let limit = args.max_tokens;
        let end = greedy(&loaded.model, kernels, args.kv.kind(), &prompt, limit, |token| {
            voice.say(token, out)
        })?;
        if end != End::Reader {
            voice.finish(out)?;
        }
        if end == End::Positions {
            let positions = loaded.model.config.max_positions;
            eprintln!("stopped at {positions} tokens, the most that the model takes");
        }
        Ok(())
    })
}

/// Why a continuation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a token that ends a text; it is not given to the reader.
    EndToken,
    /// The model has no further position.
    Positions,
    /// As many tokens as were asked for.
    Asked,
    /// The reader wants no more.
    Reader,
}

/// Greedy decoding: each further token of a prompt goes to `each`, as soon as it is known.
///
/// # Errors
/// If a token lies outside the vocabulary, logits are no numbers, or `each` fails.
///
/// # Panics
/// If the prompt is empty or longer than the model takes.
pub fn greedy(
    model: &Model,
    kernels: &'static Kernels,
    kv: KvKind,
    prompt: &[u32],
    limit: usize,
    mut each: impl FnMut(u32) -> Result<ControlFlow<()>, Failure>,
) -> Result<End, Failure> {
    let positions = model.config.max_positions;
    assert!((1..=positions).contains(&prompt.len()), "a prompt that the model takes");
    let mut exact = Exact::new(kernels, model, kv);
    let (mut stored, mut next) = (0, prompt.to_vec());
    for _ in 0..limit {
        if stored + next.len() >= positions {
            return Ok(End::Positions);
        }
        let rows = model.embed(&next).map_err(|id| outside(id, model))?;
        let logits = walk::run(&mut exact, model, &rows, 0, stored, Read::Last);
        stored += next.len();
        let best = logits.as_slice().and_then(argmax);
        let token = best.and_then(|index| u32::try_from(index).ok()).ok_or_else(|| {
            Failure::refused(format!("the logits behind token {stored} are no numbers (NaN)"))
                .help("`bitnet-certify inspect` shows the weights and scales of the checkpoint")
        })?;
        if model.config.end_tokens.contains(&token) {
            return Ok(End::EndToken);
        }
        if each(token)?.is_break() {
            return Ok(End::Reader);
        }
        next = vec![token];
    }
    Ok(End::Asked)
}

fn outside(id: u32, model: &Model) -> Failure {
    let last = model.config.vocabulary - 1;
    Failure::refused(format!("token {id} lies outside the vocabulary, expected 0 to {last}"))
}

/// The token ids of the prompt, checked.
fn prompt(args: &GenerateArgs, loaded: &Loaded) -> Result<Vec<u32>, Failure> {
    let config = &loaded.model.config;
    let ids = match (&args.input_ids, &args.prompt) {
        (Some(ids), _) => ids.clone(),
        (None, Some(text)) => tokenizer(loaded, "a text prompt", "--input-ids ID,ID,...")?
            .encode(text)
            .map_err(Failure::from)?,
        (None, None) => Vec::new(),
    };
    if ids.is_empty() {
        return Err(
            Failure::usage("the prompt is empty").help("--prompt TEXT of one token or more")
        );
    }
    if ids.len() > config.max_positions {
        let (got, most) = (ids.len(), config.max_positions);
        let what = format!("the prompt has {got} tokens, expected at most {most}");
        return Err(Failure::refused(what).help("a shorter prompt"));
    }
    match ids.iter().find(|&&id| id as usize >= config.vocabulary) {
        Some(&id) => Err(outside(id, &loaded.model)),
        None => Ok(ids),
    }
}

fn tokenizer<'a>(loaded: &'a Loaded, what: &str, help: &str) -> Result<&'a Tokenizer, Failure> {
    loaded.tokenizer.as_ref().ok_or_else(|| {
        let name = shown(&loaded.manifest.name, &[]);
        Failure::refused(format!("{name}: {what} needs a tokenizer.json, and there is none"))
            .help(help)
    })
}

/// How tokens are told: as ids, or as the text that they add to the prompt.
enum Voice<'a> {
    Ids { first: bool },
    Text { tokenizer: &'a Tokenizer, ids: Vec<u32>, told: String },
}

impl<'a> Voice<'a> {
    fn new(args: &GenerateArgs, loaded: &'a Loaded, prompt: &[u32]) -> Result<Self, Failure> {
        if args.ids {
            return Ok(Self::Ids { first: true });
        }
        let tokenizer = tokenizer(loaded, "text", "--ids to print token ids instead")?;
        let told = tokenizer.decode(prompt)?;
        let told = told.trim_end_matches(char::REPLACEMENT_CHARACTER).to_owned();
        Ok(Self::Text { tokenizer, ids: prompt.to_vec(), told })
    }

    /// Tells what a token adds. A token may end within a character: that waits for the next one.
    fn say(&mut self, token: u32, out: &mut dyn Write) -> Result<ControlFlow<()>, Failure> {
        let new = match self {
            Self::Ids { first } => {
                let comma = if std::mem::take(first) { "" } else { "," };
                format!("{comma}{token}")
            }
            Self::Text { tokenizer, ids, told } => {
                ids.push(token);
                let text = tokenizer.decode(ids)?;
                match text.strip_prefix(told.as_str()) {
                    Some(new) if !new.ends_with(char::REPLACEMENT_CHARACTER) => {
                        let new = shown(new, &['\n', '\t']);
                        *told = text;
                        new
                    }
                    _ => return Ok(ControlFlow::Continue(())),
                }
            }
        };
        super::told(out.write_all(new.as_bytes()).and_then(|()| out.flush()))
    }

    /// Tells what still waits, and ends the line.
    fn finish(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let mut rest = String::new();
        if let Self::Text { tokenizer, ids, told } = self {
            let text = tokenizer.decode(ids)?;
            // A decoder may rewrite what it said before; then the whole text is told anew.
            let new = text.strip_prefix(told.as_str()).map(str::to_owned);
            rest = shown(&new.unwrap_or(format!("\n{text}")), &['\n', '\t']);
        }
        rest.push('\n');
        told(out.write_all(rest.as_bytes()).and_then(|()| out.flush())).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::kernels::{available, scalar};
    use engine::model::random::{Style, random_model, small_config};

    fn continued(model: &Model, kv: KvKind, limit: usize) -> (Vec<u32>, End) {
        let mut tokens = Vec::new();
        let end = greedy(model, scalar(), kv, &[1, 2, 3], limit, |token| {
            tokens.push(token);
            Ok(ControlFlow::Continue(()))
        });
        (tokens, end.unwrap())
    }

    #[test]
    fn decoding_over_the_store_equals_reading_the_whole_text_anew() {
        let model = random_model(&small_config(3, 32, 4, 2), Style::BITNET, 7);
        for kv in [KvKind::F32, KvKind::F16, KvKind::Int8, KvKind::OneBit] {
            let (tokens, end) = continued(&model, kv, 12);
            assert_eq!((tokens.len(), end), (12, End::Asked));
            let mut all = vec![1, 2, 3];
            for token in tokens {
                let mut exact = Exact::new(scalar(), &model, kv);
                let rows = model.embed(&all).unwrap();
                let logits = walk::run(&mut exact, &model, &rows, 0, 0, Read::Last);
                assert_eq!(argmax(logits.as_slice().unwrap()), Some(token as usize));
                all.push(token);
            }
        }
    }

    #[test]
    fn every_kernel_table_gives_the_same_tokens() {
        let model = random_model(&small_config(2, 48, 4, 4), Style::BITNET, 3);
        let (expected, _) = continued(&model, KvKind::Int8, 20);
        for table in available() {
            let mut tokens = Vec::new();
            let each = |token| {
                tokens.push(token);
                Ok(ControlFlow::Continue(()))
            };
            greedy(&model, table, KvKind::Int8, &[1, 2, 3], 20, each).unwrap();
            assert_eq!(tokens, expected, "{}", table.name);
        }
    }

    #[test]
    fn it_ends_at_the_last_position_at_an_end_token_and_when_nobody_listens() {
        let mut model = random_model(&small_config(1, 32, 4, 2), Style::BITNET, 7);
        let (tokens, end) = continued(&model, KvKind::F32, 1000);
        assert_eq!((tokens.len() + 3, end), (model.config.max_positions, End::Positions));
        let stop = |_| Ok(ControlFlow::Break(()));
        let end = greedy(&model, scalar(), KvKind::F32, &[1, 2, 3], 9, stop);
        assert_eq!(end.unwrap(), End::Reader);
        model.config.end_tokens = vec![tokens[0]];
        assert_eq!(continued(&model, KvKind::F32, 9), (vec![], End::EndToken));
    }

    #[test]
    fn logits_that_are_no_numbers_are_an_error() {
        let mut model = random_model(&small_config(1, 32, 4, 2), Style::BITNET, 7);
        model.final_norm.gains = vec![f32::NAN; 32].into();
        let each = |_| Ok(ControlFlow::Continue(()));
        let failure = greedy(&model, scalar(), KvKind::F32, &[1], 5, each).unwrap_err();
        assert!(failure.what.contains("NaN"), "{failure}");
    }
}
