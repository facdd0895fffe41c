//! Fault models: which bits flip together.
//!
//! | model | what flips |
//! |---|---|
//! | `random` | `flips` distinct bits, anywhere; `single` is the same with one |
//! | `adjacent` | a run of `bits` (2 to 8) neighbours in the stored bytes of one tensor |
//! | `byte`, `word` | an aligned 8, or `bits` (16, 32, 64, 128), of one tensor: some of them |
//! | `row` | an aligned `row_bits` of one tensor: a row of a memory array, some of it |
//! | `column` | one bit in each of `rows` consecutive rows of `row_bits`: some of them |
//! | `stuck-at-0`, `stuck-at-1` | `flips` distinct bits now hold that value; one that did is masked |
//! | `one-way` | of `flips` distinct bits those that are in their cell's vulnerable state |
//! | `row-hammer` | of the vulnerable cells of a page those in their vulnerable state |
//! | `poisson` | as many bits as a rate over a time, or a bit error rate, lets fall |
//!
//! *Some of them* is each with even chance, but at least one; or as many as `flips` says. A tensor
//! lies in memory as in its file, begins a row, and its lowest bit comes first (see [`Image`]);
//! bits of keys and values flip at one moment, so those of tokens that come later are not there to
//! flip. A cell's kind, and whether it is vulnerable, are fixed for a campaign; one kind loses
//! charge (1 to 0, a true cell), the other gains it.
//!
//! Invariant: a fault is a pure function of (identity, number of the trial), like its sample.

mod holds;
mod image;
mod keys;
mod poisson;
mod templates;

use std::collections::BTreeSet;

use engine::model::{KvKind, Model};

use crate::address::Address;
use crate::draw::{Identity, TrialRng};
use crate::mix::{FloatPart, Reach};
use crate::space::{Space, Target};

pub(crate) use holds::{holds, scale_of_row};
pub use image::Image;
pub use keys::FaultFile;
pub(crate) use keys::MODELS;
pub(crate) use poisson::Poisson;
use templates::Templates;

/// A fault model: what one trial flips.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    /// Distinct bits anywhere.
    Random {
        /// How many.
        flips: u32,
    },
    /// Neighbours in the stored bytes of one tensor.
    Adjacent {
        /// How many, 2 to 8.
        bits: u32,
    },
    /// Bits of an aligned part of one tensor: of a byte, a word, or a row of a memory array.
    Part {
        /// What such a part is called.
        name: PartName,
        /// Its bits.
        bits: u64,
        /// How many of them flip; `None` for each with even chance.
        flips: Option<u32>,
    },
    /// One bit in each of some consecutive rows of a memory array.
    Column {
        /// Bits of a row.
        row_bits: u64,
        /// Rows that share their columns.
        rows: u64,
        /// How many flip; `None` for each with even chance.
        flips: Option<u32>,
    },
    /// Bits that hold a value, whatever was written.
    StuckAt {
        /// The value.
        value: bool,
        /// How many bits.
        flips: u32,
    },
    /// Bits that flip in one direction only.
    OneWay {
        /// Which.
        direction: Direction,
        /// How many bits are disturbed.
        flips: u32,
    },
    /// A page whose vulnerable cells are disturbed.
    RowHammer {
        /// Bytes of a page.
        page_bytes: u64,
        /// Vulnerable cells of a whole page.
        cells: u32,
        /// How many of them are disturbed; `None` for all.
        flips: Option<u32>,
    },
    /// As many bits as chance lets fall.
    Poisson {
        /// How often.
        rate: Rate,
    },
}

/// What an aligned part of a memory is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartName {
    /// 8 bits.
    Byte,
    /// 16 to 128 bits.
    Word,
    /// A row of a memory array.
    Row,
}

/// Which way a disturbed bit can flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From 1 to 0 only: true cells.
    OneToZero,
    /// From 0 to 1 only: anti cells.
    ZeroToOne,
    /// Every cell is of one of these kinds, drawn evenly once and for all.
    Mixed,
}

/// How often bits flip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Failures in 10^9 hours for each 2^20 bits, over a number of hours.
    Fit {
        /// FIT/Mbit.
        fit_per_mbit: f64,
        /// Hours.
        hours: f64,
    },
    /// Expected flips for each bit.
    BitErrors(f64),
}

impl Rate {
    /// The expected flips of so many bits.
    #[must_use]
    pub fn mean(&self, bits: u64) -> f64 {
        let bits = bits as f64;
        match *self {
            Self::Fit { fit_per_mbit, hours } => fit_per_mbit * 1e-9 * hours * (bits / 1_048_576.0),
            Self::BitErrors(rate) => rate * bits,
        }
    }
}

/// What a trial draws in.
pub(crate) struct Scene<'a> {
    pub(crate) model: &'a Model,
    pub(crate) identity: &'a Identity,
    pub(crate) space: &'a Space,
    pub(crate) reach: &'a Reach,
    /// How many flips fall, where the pattern is of that kind.
    pub(crate) poisson: Option<&'a Poisson>,
    pub(crate) part: Option<FloatPart>,
    pub(crate) target: Target,
    pub(crate) kv: KvKind,
    pub(crate) tokens: usize,
}

impl Pattern {
    /// The fewest bits that it can be drawn among.
    #[must_use]
    pub fn needs(&self) -> u64 {
        match *self {
            Self::Random { flips } | Self::StuckAt { flips, .. } | Self::OneWay { flips, .. } => {
                flips.into()
            }
            Self::Adjacent { bits } => bits.into(),
            _ => 1,
        }
    }

    /// The expected flips for each bit, where that is what it is drawn by.
    #[must_use]
    pub fn bit_error_rate(&self) -> Option<f64> {
        match *self {
            Self::Poisson { rate } => Some(rate.mean(1)),
            _ => None,
        }
    }

    /// Over how many hours a trial lets bits fall, where it has failures in time.
    #[must_use]
    pub fn hours(&self) -> Option<f64> {
        match *self {
            Self::Poisson { rate: Rate::Fit { hours, .. } } => Some(hours),
            _ => None,
        }
    }

    /// Whether every bit that it flips is drawn by itself.
    #[must_use]
    pub fn is_scattered(&self) -> bool {
        matches!(
            self,
            Self::Random { .. } | Self::StuckAt { .. } | Self::OneWay { .. } | Self::Poisson { .. }
        )
    }

    /// Whether it asks where in memory bits lie.
    #[must_use]
    pub fn is_physical(&self) -> bool {
        !matches!(self, Self::Random { .. } | Self::StuckAt { .. } | Self::Poisson { .. })
    }

    /// The bits that flip in a trial.
    pub(crate) fn draw(&self, scene: &Scene, rng: &mut TrialRng) -> Vec<Address> {
        match *self {
            Self::Random { flips } => scene.distinct(flips.into(), rng),
            Self::Poisson { .. } => scene.distinct(scene.fallen(rng).min(scene.reach.bits), rng),
            Self::Adjacent { bits } => scene.run(bits.into(), rng),
            Self::Part { bits, flips, .. } => {
                let (image, place) = scene.anchor(rng);
                let start = place / bits * bits;
                let end = (start + bits).min(image.bits());
                let places: Vec<u64> = (start..end).collect();
                some(&places, flips, rng).into_iter().map(|place| image.address(place)).collect()
            }
            Self::Column { row_bits, rows, flips } => {
                let (image, place) = scene.anchor(rng);
                let first = place / row_bits / rows * rows;
                let column = (first..first + rows).map(|row| row * row_bits + place % row_bits);
                let places: Vec<u64> = column.filter(|&place| place < image.bits()).collect();
                some(&places, flips, rng).into_iter().map(|place| image.address(place)).collect()
            }
            Self::StuckAt { value, flips } => {
                let mut drawn = scene.distinct(flips.into(), rng);
                drawn.retain(|address| holds(scene.model, address) != value);
                drawn
            }
            Self::OneWay { direction, flips } => {
                let mut drawn = scene.distinct(flips.into(), rng);
                drawn.retain(|address| {
                    let vulnerable = match direction {
                        Direction::OneToZero => true,
                        Direction::ZeroToOne => false,
                        Direction::Mixed => {
                            let image = scene.image(address);
                            Templates::new(scene.model, scene.identity, address)
                                .is_true_cell(image.place(address))
                        }
                    };
                    holds(scene.model, address) == vulnerable
                });
                drawn
            }
            Self::RowHammer { page_bytes, cells, flips } => {
                scene.hammered(page_bytes, cells, flips, rng)
            }
        }
    }
}

impl Scene<'_> {
    /// One bit.
    fn bit(&self, rng: &mut TrialRng) -> Address {
        loop {
            let number = self.reach.number(rng.below(self.reach.count()));
            let address = self.space.address(self.target, self.tokens, number);
            if self.part.is_none_or(|part| part.has(self.model, self.kv, &address)) {
                return address;
            }
        }
    }

    /// How many bits fall by chance.
    pub(crate) fn fallen(&self, rng: &mut TrialRng) -> u64 {
        self.poisson.expect("a table for every rate").draw(rng.word())
    }

    /// Distinct bits, of which there must be as many.
    fn distinct(&self, wanted: u64, rng: &mut TrialRng) -> Vec<Address> {
        let (mut flips, mut bits) = (Vec::new(), BTreeSet::new());
        while (flips.len() as u64) < wanted {
            let address = self.bit(rng);
            if bits.insert(address.storage()) {
                flips.push(address);
            }
        }
        flips
    }

    fn image(&self, address: &Address) -> Image {
        Image::of(self.model, self.kv, address).expect("a layout that was checked")
    }

    /// A bit, with the memory around it.
    fn anchor(&self, rng: &mut TrialRng) -> (Image, u64) {
        let address = self.bit(rng);
        let image = self.image(&address);
        let place = image.place(&address);
        (image, place)
    }

    /// Neighbours, each run of a tensor as likely as any other.
    fn run(&self, bits: u64, rng: &mut TrialRng) -> Vec<Address> {
        loop {
            let (image, place) = self.anchor(rng);
            if place + bits <= image.bits() {
                return (place..place + bits).map(|place| image.address(place)).collect();
            }
        }
    }

    fn hammered(
        &self,
        page_bytes: u64,
        cells: u32,
        flips: Option<u32>,
        rng: &mut TrialRng,
    ) -> Vec<Address> {
        let address = self.bit(rng);
        let image = self.image(&address);
        let page_bits = 8 * page_bytes;
        let page = image.place(&address) / page_bits;
        let templates = Templates::new(self.model, self.identity, &address);
        let mut disturbed = templates.page(page, page_bits, image.bits(), cells);
        if let Some(flips) = flips {
            let all: Vec<u64> = (0..disturbed.len() as u64).collect();
            let chosen = some(&all, Some(flips), rng);
            disturbed = chosen.into_iter().map(|at| disturbed[at as usize]).collect();
        }
        let cells = disturbed.into_iter().map(|(place, kind)| (image.address(place), kind));
        cells
            .filter(|(address, true_cell)| holds(self.model, address) == *true_cell)
            .map(|(address, _)| address)
            .collect()
    }
}

/// So many of some places, or each with even chance but at least one.
fn some(places: &[u64], flips: Option<u32>, rng: &mut TrialRng) -> Vec<u64> {
    let Some(flips) = flips else {
        loop {
            let mut word = 0;
            let chosen: Vec<u64> = (places.iter().enumerate())
                .filter(|(at, _)| {
                    if at % 64 == 0 {
                        word = rng.word();
                    }
                    word >> (at % 64) & 1 == 1
                })
                .map(|(_, &place)| place)
                .collect();
            if !chosen.is_empty() {
                return chosen;
            }
        }
    };
    // The first steps of a Fisher-Yates shuffle.
    let mut places = places.to_vec();
    let wanted = (flips as usize).min(places.len());
    for at in 0..wanted {
        let other = at + rng.below((places.len() - at) as u64) as usize;
        places.swap(at, other);
    }
    places.truncate(wanted);
    places
}
