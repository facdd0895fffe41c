//! The recorded steps, and the walk over them from the output back to an input.

use std::ops::Range;

use engine::kernels::Kernels;
use engine::model::{Gate, Norm, Slot};
use ndarray::{Array2, s};

use super::vjp::{self, Memory};
use super::weights::BackwardWeights;

/// Key and value rows that one step stored: the cached tokens `first..first + count`.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredRows {
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) keys: usize,
    pub(super) values: usize,
}

/// One recorded step: the nodes that it read, and the values that its derivative needs.
#[derive(Debug)]
pub(super) enum Op {
    Input,
    Norm {
        x: usize,
        values: Array2<f32>,
        norm: Norm,
    },
    Linear {
        x: usize,
        layer: usize,
        slot: Slot,
    },
    Rope {
        x: usize,
        turns: Vec<Vec<(f32, f32)>>,
    },
    Attend {
        queries: usize,
        values: Array2<f32>,
        first: usize,
        memory: Memory,
        sources: Vec<StoredRows>,
    },
    Gate {
        gate: usize,
        up: usize,
        values: (Array2<f32>, Array2<f32>),
        kind: Gate,
    },
    Add {
        stream: usize,
        update: usize,
    },
    Logits {
        x: usize,
    },
    Select {
        x: usize,
        of: usize,
        rows: Range<usize>,
    },
    Reshape {
        x: usize,
        width: usize,
    },
    Stack {
        above: usize,
        below: usize,
        split: usize,
    },
    ReplaceColumn {
        x: usize,
        column: usize,
        index: usize,
        width: usize,
    },
}

/// Gradients by node, as far as they have been reached.
struct Gradients(Vec<Option<Array2<f32>>>);

impl Gradients {
    fn add(&mut self, node: usize, gradient: Array2<f32>) {
        match &mut self.0[node] {
            Some(sum) => *sum += &gradient,
            empty => *empty = Some(gradient),
        }
    }
}

/// The gradient that reaches `input`, or `None` where the output does not depend on it.
pub(super) fn run(
    ops: &[Op],
    (kernels, weights): (&Kernels, &BackwardWeights<'_>),
    (output, seed): (usize, &Array2<f32>),
    input: usize,
) -> Option<Array2<f32>> {
    let mut gradients = Gradients(vec![None; output + 1]);
    gradients.add(output, seed.clone());
    for node in (input + 1..=output).rev() {
        if let Some(dy) = gradients.0[node].take() {
            step(&ops[node], dy, (kernels, weights), &mut gradients);
        }
    }
    gradients.0.get_mut(input)?.take()
}

/// Passes the gradient of one step on to the nodes that it read.
fn step(
    op: &Op,
    dy: Array2<f32>,
    (kernels, weights): (&Kernels, &BackwardWeights<'_>),
    gradients: &mut Gradients,
) {
    match op {
        Op::Input => {}
        Op::Norm { x, values, norm } => {
            gradients.add(*x, vjp::norm(kernels, values, norm, &dy));
        }
        Op::Linear { x, layer, slot } => {
            gradients.add(*x, vjp::linear(kernels, &weights.linear(*layer, *slot), &dy));
        }
        Op::Logits { x } => gradients.add(*x, vjp::linear(kernels, &weights.head(), &dy)),
        Op::Rope { x, turns } => gradients.add(*x, vjp::rope(turns, dy)),
        Op::Attend { queries, values, first, memory, sources } => {
            let d = vjp::attend(kernels, values, *first, memory, &dy);
            gradients.add(*queries, d.queries);
            for source in sources {
                let rows = source.first..source.first + source.count;
                gradients.add(source.keys, d.keys.slice(s![rows.clone(), ..]).to_owned());
                gradients.add(source.values, d.values.slice(s![rows, ..]).to_owned());
            }
        }
        Op::Gate { gate, up, values: (g, u), kind } => {
            let (dg, du) = vjp::gate(g, u, *kind, &dy);
            gradients.add(*gate, dg);
            gradients.add(*up, du);
        }
        Op::Add { stream, update } => {
            gradients.add(*stream, dy.clone());
            gradients.add(*update, dy);
        }
        Op::Select { x, of, rows } => {
            let mut dx = Array2::zeros((*of, dy.ncols()));
            dx.slice_mut(s![rows.clone(), ..]).assign(&dy);
            gradients.add(*x, dx);
        }
        Op::Reshape { x, width } => {
            let shape = (dy.len() / width, *width);
            let dx = dy.as_standard_layout().into_owned().into_shape_with_order(shape);
            gradients.add(*x, dx.expect("whole rows of another width"));
        }
        Op::Stack { above, below, split } => {
            gradients.add(*above, dy.slice(s![..*split, ..]).to_owned());
            gradients.add(*below, dy.slice(s![*split.., ..]).to_owned());
        }
        Op::ReplaceColumn { x, column, index, width } => {
            let mut dc = Array2::zeros((dy.nrows(), *width));
            dc.column_mut(0).assign(&dy.column(*index));
            gradients.add(*column, dc);
            let mut dx = dy;
            dx.column_mut(*index).fill(0.0);
            gradients.add(*x, dx);
        }
    }
}
