//! The clean run of a sample: what every trial starts from and is compared with.

use engine::kernels::Kernels;
use engine::model::{KvKind, Model};
use engine::numerics::argmax;
use engine::walk::{self, Exact, Read};
use ndarray::{Array2, s};

use crate::outcome::ReadOut;

/// What enters the first layer.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Token ids; a fault of the embedding strikes the rows that they read.
    Ids(Vec<u32>),
    /// Rows `[tokens, hidden]` of another front end; the embedding is not read.
    Embedded(Array2<f32>),
}

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its tokens.
    pub input: Input,
    /// The right decision, if it is known.
    pub label: Option<u32>,
    /// The tokens among which is decided; `None` for the whole vocabulary.
    pub classes: Option<Vec<u32>>,
}

impl Sample {
    /// A sample of token ids, unlabelled, decided over the whole vocabulary.
    #[must_use]
    pub fn of_ids(ids: Vec<u32>) -> Self {
        Self { input: Input::Ids(ids), label: None, classes: None }
    }

    /// The number of tokens.
    #[must_use]
    pub fn tokens(&self) -> usize {
        match &self.input {
            Input::Ids(ids) => ids.len(),
            Input::Embedded(rows) => rows.nrows(),
        }
    }

    /// The token ids that the embedding is read for.
    pub(crate) fn ids(&self) -> &[u32] {
        match &self.input {
            Input::Ids(ids) => ids,
            Input::Embedded(_) => &[],
        }
    }
}

/// Why a sample has no clean run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// It has no tokens.
    #[error("the sample has no tokens, expected one or more")]
    Empty,
    /// An input token, a label or a class is not in the vocabulary.
    #[error("{what} {id} lies outside the vocabulary, expected less than {vocabulary}")]
    Token {
        /// `token`, `label` or `class`.
        what: &'static str,
        /// The id.
        id: u32,
        /// The size of the vocabulary.
        vocabulary: usize,
    },
    /// Rows of another width than the model's.
    #[error("the embedded rows are {got} wide, expected {expected}")]
    Width {
        /// Their width.
        got: usize,
        /// The model's.
        expected: usize,
    },
    /// There is nothing to decide.
    #[error("{got} distinct classes to decide among, expected two or more")]
    Classes {
        /// How many there are.
        got: usize,
    },
    /// The clean model computes NaN or infinity.
    #[error("the clean logits at the last position are not finite, so no fault can be judged")]
    NotFinite,
}

/// The clean run of a sample under one kind of key-value store.
#[derive(Clone, Debug)]
pub struct Golden {
    /// The sample.
    pub sample: Sample,
    /// How keys and values are stored.
    pub kv: KvKind,
    /// Which rows of logits are computed.
    pub read: Read,
    /// The streams that enter each layer, and behind them the one that leaves the last.
    pub(crate) streams: Vec<Array2<f32>>,
    pub(crate) logits: Array2<f32>,
    pub(crate) tokens: Vec<Option<usize>>,
    pub(crate) read_out: ReadOut,
}

impl Golden {
    /// Runs a sample.
    ///
    /// # Errors
    /// What is wrong with the sample, or that the clean read-out is not finite.
    pub fn new(
        model: &Model,
        kernels: &'static Kernels,
        kv: KvKind,
        read: Read,
        sample: Sample,
    ) -> Result<Self, SampleError> {
        let candidates = checked(model, &sample)?;
        let embedded = embedded(model, &sample)?;
        let mut exact = Exact::new(kernels, model, kv);
        let streams = walk::streams(&mut exact, model, &embedded);
        let left = streams.last().expect("the stream that leaves");
        let logits = walk::head(&mut exact, model, &rows_read(left, read));
        let row = last_row(&logits);
        let read_out =
            ReadOut::new(&row, candidates, sample.label).ok_or(SampleError::NotFinite)?;
        let tokens = tokens(&logits);
        Ok(Self { sample, kv, read, streams, logits, tokens, read_out })
    }

    /// The clean logits, `[rows read, vocabulary]`.
    #[must_use]
    pub fn logits(&self) -> &Array2<f32> {
        &self.logits
    }

    /// The clean decision.
    #[must_use]
    pub fn decision(&self) -> u32 {
        self.read_out.decision()
    }

    /// The margin of the clean decision over the best other candidate, in logits.
    #[must_use]
    pub fn margin(&self) -> f64 {
        self.read_out.margin()
    }
}

/// The rows of a stream of which logits are read.
pub(crate) fn rows_read(stream: &Array2<f32>, read: Read) -> Array2<f32> {
    match read {
        Read::All => stream.clone(),
        Read::Last => stream.slice(s![stream.nrows() - 1.., ..]).to_owned(),
    }
}

/// The logits at the last position.
pub(crate) fn last_row(logits: &Array2<f32>) -> Vec<f32> {
    logits.row(logits.nrows() - 1).to_vec()
}

/// The best token at each position; `None` where a logit is NaN.
pub(crate) fn tokens(logits: &Array2<f32>) -> Vec<Option<usize>> {
    let rows = logits.rows();
    rows.into_iter().map(|row| argmax(row.as_slice().expect("a standard row"))).collect()
}

/// Checks the sample and returns its candidates, sorted and distinct.
fn checked(model: &Model, sample: &Sample) -> Result<Option<Vec<u32>>, SampleError> {
    if sample.tokens() == 0 {
        return Err(SampleError::Empty);
    }
    let vocabulary = model.head.rows();
    let inside = |what, id: u32| {
        if (id as usize) < vocabulary {
            return Ok(());
        }
        Err(SampleError::Token { what, id, vocabulary })
    };
    sample.label.map_or(Ok(()), |label| inside("label", label))?;
    let Some(classes) = &sample.classes else {
        return if vocabulary < 2 {
            Err(SampleError::Classes { got: vocabulary })
        } else {
            Ok(None)
        };
    };
    classes.iter().try_for_each(|&class| inside("class", class))?;
    let mut classes = classes.clone();
    classes.sort_unstable();
    classes.dedup();
    if classes.len() < 2 {
        Err(SampleError::Classes { got: classes.len() })
    } else {
        Ok(Some(classes))
    }
}

fn embedded(model: &Model, sample: &Sample) -> Result<Array2<f32>, SampleError> {
    match &sample.input {
        Input::Ids(ids) => model.embed(ids).map_err(|id| SampleError::Token {
            what: "token",
            id,
            vocabulary: model.embedding.rows(),
        }),
        Input::Embedded(rows) if rows.ncols() == model.config.hidden => {
            Ok(rows.as_standard_layout().into_owned())
        }
        Input::Embedded(rows) => {
            Err(SampleError::Width { got: rows.ncols(), expected: model.config.hidden })
        }
    }
}
