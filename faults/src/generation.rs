//! Texts under faults: each trial continues its sample's prompt greedily, and the continuation is
//! compared with the clean one of the same length.
//!
//! A fault of a weight stays for the whole text. A flip in the key-value store falls once, at its
//! own step of the prompt, and whatever reads that entry from then on reads it flipped.
//!
//! Most faults change no token, so one walk over the prompt and the clean text asks all places at
//! once; only from the first other token on is decoded token by token. Invariant: the text is that
//! of decoding under the fault from the prompt on, bit for bit. It holds since an output row
//! depends on its own prefix only, and up to the first other token the prefixes are the same.

mod counts;

use engine::kernels::Kernels;
use engine::model::{KvKind, Model};
use engine::numerics::argmax;
use engine::walk::{self, Exact, Read};
use ndarray::{Array2, s};

use crate::fault::{Fault, UnusedCode};
use crate::golden::{Golden, Sample};
use crate::inject::{Faulty, embed_with};
use crate::overlay::Overlay;
use crate::trial::{CleanWalk, faulty_stream, refused};

pub use counts::{Generated, Guarded, Texts, generated};

/// The most tokens that a trial generates.
pub const MOST_GENERATED: usize = 4096;
/// Places whose logits are computed together.
const BLOCK: usize = 16;

/// Why no texts can be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenerationError {
    /// A number of tokens that no text has.
    #[error("{got} tokens to generate, expected 1 to {MOST_GENERATED}")]
    Tokens {
        /// The number.
        got: usize,
    },
    /// A sample of rows of another front end.
    #[error("sample {sample} is embedded rows, and a text goes on from token ids")]
    Embedded {
        /// The sample.
        sample: usize,
    },
    /// The model cannot read what it says.
    #[error("the model has {logits} tokens to say and embeddings of {embeddings}")]
    Embeddings {
        /// Rows of the head.
        logits: usize,
        /// Rows of the embedding.
        embeddings: usize,
    },
    /// There are no positions for it; the first of the longest samples.
    #[error(
        "sample {sample} has {prompt} tokens, and {tokens} more are beyond the {positions} \
         positions of the model"
    )]
    Positions {
        /// The sample.
        sample: usize,
        /// Its tokens.
        prompt: usize,
        /// Tokens to generate.
        tokens: usize,
        /// The most that the model takes.
        positions: usize,
    },
}

/// Whether texts of so many tokens can be compared on these samples.
///
/// # Errors
/// The first reason why not.
pub fn check_generation(
    model: &Model,
    samples: &[Sample],
    tokens: usize,
) -> Result<(), GenerationError> {
    if !(1..=MOST_GENERATED).contains(&tokens) {
        return Err(GenerationError::Tokens { got: tokens });
    }
    if let Some(sample) = samples.iter().position(|sample| sample.ids().is_empty()) {
        return Err(GenerationError::Embedded { sample });
    }
    let positions = model.config.max_positions;
    let lengths = samples.iter().map(Sample::tokens).enumerate();
    // The longest, so that what fits it fits all.
    let longest = lengths.max_by_key(|&(sample, tokens)| (tokens, std::cmp::Reverse(sample)));
    if let Some((sample, prompt)) = longest.filter(|(_, prompt)| prompt + tokens > positions) {
        return Err(GenerationError::Positions { sample, prompt, tokens, positions });
    }
    let (logits, embeddings) = (model.head.rows(), model.embedding.rows());
    match embeddings < logits {
        true => Err(GenerationError::Embeddings { logits, embeddings }),
        false => Ok(()),
    }
}

/// A greedy continuation: at each place the token with the largest logit, the lowest on ties.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// Its tokens; one that ends a text is the last of them.
    pub tokens: Vec<u32>,
    /// Whether it broke off since a logit was NaN or infinite, or since a reader that checks codes
    /// refused the model.
    pub broken: bool,
}

/// How a text differs from the clean one, by place. Behind its end a text has no token, which is
/// the same as another text's having none there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// The first place that differs, from 0.
    pub first: usize,
    /// The number of places that differ.
    pub different: usize,
    /// Whether every place from the last quarter of the clean text on is the same again. The last
    /// quarter is a fourth of its tokens, rounded down, and one at least.
    pub recovered: bool,
    /// Whether the text broke off.
    pub broken: bool,
}

impl Text {
    /// How it differs from the clean text, where both were to have so many tokens.
    #[must_use]
    pub fn split_from(&self, clean: &Self, asked: usize) -> Option<Split> {
        let differs = |&place: &usize| self.tokens.get(place) != clean.tokens.get(place);
        let first = (0..asked).find(differs)?;
        let length = clean.tokens.len();
        let last = length - (length / 4).max(1).min(length);
        Some(Split {
            first,
            different: (first..asked).filter(differs).count(),
            recovered: !(last..asked).any(|place| differs(&place)),
            broken: self.broken,
        })
    }

    /// Adds what logits at a place say; whether the text goes on.
    fn take(&mut self, logits: &[f32], model: &Model) -> bool {
        let Some(token) = said(logits) else {
            self.broken = true;
            return false;
        };
        self.tokens.push(token);
        !model.config.end_tokens.contains(&token)
    }

    /// Goes on, in a walk that has read nothing yet, until so many tokens are there.
    fn go_on(
        &mut self,
        (model, overlay): (&Model, &Overlay),
        domain: &mut Faulty<Exact>,
        prompt: &[u32],
        asked: usize,
    ) {
        let mut next: Vec<u32> = prompt.iter().chain(&self.tokens).copied().collect();
        let mut stored = 0;
        while self.tokens.len() < asked {
            let rows = embed_with(model, &next, overlay).expect("checked tokens");
            let logits = walk::run(domain, model, &rows, 0, stored, Read::Last);
            stored += next.len();
            if !self.take(logits.as_slice().expect("standard rows"), model) {
                return;
            }
            next = self.tokens.last().copied().into_iter().collect();
        }
    }
}

/// The token of a row of logits; `None` if one of them is not finite.
fn said(logits: &[f32]) -> Option<u32> {
    let finite = logits.iter().all(|logit| logit.is_finite());
    let best = argmax(logits).filter(|_| finite)?;
    u32::try_from(best).ok()
}

/// The clean continuation of a sample, ready to be compared with.
#[derive(Clone, Debug)]
pub struct CleanText {
    /// The continuation.
    pub text: Text,
    asked: usize,
    kv: KvKind,
    /// The tokens of the prompt.
    prompt: usize,
    /// The prompt and all of the text whose logits are asked for.
    ids: Vec<u32>,
    streams: Vec<Array2<f32>>,
}

impl CleanText {
    /// Continues a sample by so many tokens.
    ///
    /// # Panics
    /// If [`check_generation`] refuses it.
    #[must_use]
    pub fn new(model: &Model, kernels: &'static Kernels, golden: &Golden, asked: usize) -> Self {
        let (prompt, kv) = (golden.sample.ids(), golden.kv);
        let nothing = Overlay::default();
        let mut text = Text::default();
        let mut domain = Faulty::new(Exact::new(kernels, model, kv), &nothing);
        text.go_on((model, &nothing), &mut domain, prompt, asked);
        // Behind the last token nothing is asked, unless the text broke off there.
        let read = text.tokens.len() - usize::from(!text.broken);
        let ids: Vec<u32> = prompt.iter().chain(&text.tokens[..read]).copied().collect();
        let embedded = model.embed(&ids).expect("checked tokens");
        let streams = walk::streams(&mut Exact::new(kernels, model, kv), model, &embedded);
        Self { text, asked, kv, prompt: prompt.len(), ids, streams }
    }

    /// The text under a fault.
    ///
    /// # Panics
    /// If a bit of the fault does not exist; see [`Fault::check`].
    #[must_use]
    pub fn under(
        &self,
        model: &Model,
        kernels: &'static Kernels,
        fault: &Fault,
        unused: UnusedCode,
    ) -> Text {
        if refused(model, fault, unused) {
            return Text { tokens: Vec::new(), broken: true };
        }
        let overlay = Overlay::new(model, fault, unused);
        let Self { kv, ids, streams, .. } = self;
        let clean = CleanWalk { ids, kv: *kv, read: Read::All, streams };
        let Some((mut domain, stream)) = faulty_stream(model, kernels, &clean, &overlay) else {
            return self.text.clone();
        };
        let Some((place, token)) = self.first_other(model, &mut domain, &stream) else {
            return self.text.clone();
        };
        let mut text = Text { tokens: self.text.tokens[..place].to_vec(), broken: false };
        match token {
            None => text.broken = true,
            Some(token) => {
                text.tokens.push(token);
                if !model.config.end_tokens.contains(&token) {
                    let mut domain = Faulty::new(Exact::new(kernels, model, *kv), &overlay);
                    text.go_on((model, &overlay), &mut domain, &ids[..self.prompt], self.asked);
                }
            }
        }
        text
    }

    /// How the text under a fault differs from this one.
    #[must_use]
    pub fn split(
        &self,
        model: &Model,
        kernels: &'static Kernels,
        fault: &Fault,
        unused: UnusedCode,
    ) -> Option<Split> {
        self.under(model, kernels, fault, unused).split_from(&self.text, self.asked)
    }

    /// The first place at which a stream behind all layers says something else, and what.
    fn first_other(
        &self,
        model: &Model,
        domain: &mut Faulty<Exact>,
        stream: &Array2<f32>,
    ) -> Option<(usize, Option<u32>)> {
        let places = stream.nrows() - (self.prompt - 1);
        for start in (0..places).step_by(BLOCK) {
            let rows = self.prompt - 1 + start..self.prompt - 1 + places.min(start + BLOCK);
            let logits = walk::head(domain, model, &stream.slice(s![rows, ..]).to_owned());
            for (place, row) in (start..).zip(logits.rows()) {
                let token = said(row.as_slice().expect("standard rows"));
                if token != self.text.tokens.get(place).copied() {
                    return Some((place, token));
                }
            }
        }
        None
    }
}
