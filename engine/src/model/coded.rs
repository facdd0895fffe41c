//! Integer weights under scales of rows or groups, and what their sums are worth.
//!
//! With `S_g` the exact integer sums of a row in rising groups `g`, and `t` the scale of the token:
//!
//! | scales | value |
//! |---|---|
//! | of groups | `y` adds `f64(d_g) f64(S_g)` to +0 in rising `g`, in f64; then `fl(y / f64(t))` |
//! | of rows | as under the scale of a tensor: [`scaled`] |
//!
//! A product of a group is exact: a scale has 24 bits, a sum fewer than 29 (asserted). So only the
//! additions, one division and one rounding to f32 are rounded, and each is monotone.

use std::ops::Range;

use crate::kernels::{GROUP_ROWS, Kernels, SignProduct, Signs};
use crate::model::{CodedFile, Float, Scale};
use crate::numerics::{INT8, absmax};
use crate::packing::{CodedRows, TernaryRows};
use crate::walk::scaled;

/// Tokens up to which signs under scales of rows are multiplied as bits, token by token; for more
/// they are expanded to ternary codes, which all tokens share.
const FEW_OF_ROWS: usize = 6;
/// The same under scales of groups, whose sums are short.
const FEW_OF_GROUPS: usize = 16;

/// The scales of an integer matrix.
#[derive(Clone, Debug, PartialEq)]
pub enum Scales {
    /// One a row, whose columns are one group.
    Rows(Vec<Scale>),
    /// One a group, row by row.
    Groups(Vec<f32>),
}

/// An integer matrix with its scales.
#[derive(Clone, Debug, PartialEq)]
pub struct Coded {
    rows: CodedRows,
    scales: Scales,
    /// Of signs: the scales of 16 rows for each group of columns, for each 16 rows; ones where each
    /// row has one scale.
    lanes: Vec<[f32; GROUP_ROWS]>,
    /// The name of the format that it was read from.
    kind: &'static str,
    /// How a file holds it; `None` where none does.
    file: Option<CodedFile>,
}

impl Coded {
    /// A matrix under its scales.
    ///
    /// # Panics
    /// If there are not as many scales as rows or groups, or products of groups would be rounded.
    #[must_use]
    pub fn new(kind: &'static str, rows: CodedRows, scales: Scales) -> Self {
        match &scales {
            Scales::Rows(scales) => {
                assert!(rows.groups() == 1 && scales.len() == rows.rows(), "a scale a row");
            }
            Scales::Groups(scales) => {
                assert_eq!(scales.len(), rows.rows() * rows.groups(), "a scale a group");
                assert!(rows.most() < 1 << 29, "products that are exact in f64");
            }
        }
        let lanes = if rows.signs(0..0).is_some() { lanes(&rows, &scales) } else { Vec::new() };
        Self { rows, scales, lanes, kind, file: None }
    }

    /// The matrix as a file holds it.
    #[must_use]
    pub fn of_file(self, file: CodedFile) -> Self {
        Self { file: Some(file), ..self }
    }

    /// int8 codes of a float matrix: a row of largest magnitude `a` has the scale `d = fl(a / 127)`
    /// and the codes `rne(clamp(fl(w / d)))`; all 0 where `d` is 0.
    #[must_use]
    pub fn of_float(float: &Float) -> Self {
        let (rows, columns) = (float.rows(), float.columns());
        let row = |index: usize| {
            let mut values = vec![0.0; columns];
            float.read_row(index, &mut values);
            let scale = absmax(&values) / INT8.most();
            (values, scale)
        };
        let codes = CodedRows::pack((rows, columns), columns, |index, out| {
            let (values, scale) = row(index);
            for (code, value) in out.iter_mut().zip(values).filter(|_| scale > 0.0) {
                let scaled = (value / scale).clamp(-INT8.most(), INT8.most());
                *code = scaled.round_ties_even() as i8;
            }
        });
        let scales = (0..rows).map(|index| Scale::Multiply(row(index).1)).collect();
        Self::new("int8 of floats", codes, Scales::Rows(scales))
    }

    /// The codes.
    #[must_use]
    pub fn rows(&self) -> &CodedRows {
        &self.rows
    }

    /// How a file holds it; `None` where its codes were made at load.
    #[must_use]
    pub fn file(&self) -> Option<&CodedFile> {
        self.file.as_ref()
    }

    /// The name of the format.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The scales.
    #[must_use]
    pub fn scales(&self) -> &Scales {
        &self.scales
    }

    /// What a step of the sum of a group is multiplied by, over the reals, before the scale of the
    /// token divides it.
    #[must_use]
    pub fn factor(&self, row: usize, group: usize) -> f64 {
        match &self.scales {
            Scales::Rows(scales) => match scales[row] {
                Scale::Multiply(ws) => ws.into(),
                Scale::Divide(ws) => 1.0 / f64::from(ws),
            },
            Scales::Groups(scales) => scales[row * self.rows.groups() + group].into(),
        }
    }

    /// The weights of a row, over the reals.
    pub fn weights(&self, row: usize) -> impl Iterator<Item = f64> {
        let group = self.rows.group();
        let codes = self.rows.row(row).into_iter().enumerate();
        codes.map(move |(column, code)| f64::from(code) * self.factor(row, column / group))
    }

    /// What the sums of a row are worth under the scale of a token.
    #[must_use]
    pub fn value(&self, row: usize, sums: &[i32], t: f32) -> f32 {
        match &self.scales {
            Scales::Rows(scales) => scaled(sums[0], t, scales[row]),
            Scales::Groups(scales) => {
                let scales = &scales[row * sums.len()..(row + 1) * sums.len()];
                let products = scales.iter().zip(sums).map(|(&d, &s)| f64::from(d) * f64::from(s));
                (products.fold(0.0, |y, product| y + product) / f64::from(t)) as f32
            }
        }
    }

    /// The kernel of signs and what it reads of some rows, if it is the fastest for so many tokens.
    fn by_signs(
        &self,
        kernels: &Kernels,
        tokens: usize,
        rows: Range<usize>,
    ) -> Option<(SignProduct, Signs<'_>)> {
        let few = match &self.scales {
            Scales::Rows(_) => FEW_OF_ROWS,
            Scales::Groups(_) => FEW_OF_GROUPS,
        };
        let kernel = kernels.signs.filter(|_| tokens <= few);
        let groups = rows.start / GROUP_ROWS..rows.end.div_ceil(GROUP_ROWS);
        let (product, packed) = kernel.zip(self.rows.signs(groups.clone()))?;
        let count = self.rows.groups();
        let scales = &self.lanes[groups.start * count..groups.end * count];
        Some((product, Signs { packed, scales, groups: count }))
    }

    /// The values of rows `first..`, as many as `out` has room for: `[row][token]`.
    ///
    /// # Panics
    /// If `first` is not the first of 16 rows.
    pub fn values(
        &self,
        kernels: &Kernels,
        (codes, tokens): (&[i8], &[f32]),
        first: usize,
        out: &mut [f32],
    ) {
        let count = tokens.len();
        let rows = first..first + out.len() / count;
        if let Some((product, signs)) = self.by_signs(kernels, count, rows.clone()) {
            let mut ys = vec![0.0; rows.len().next_multiple_of(GROUP_ROWS)];
            let each = codes.chunks_exact(codes.len() / count).zip(tokens);
            for (token, (codes, &t)) in each.enumerate() {
                product(&signs, codes, &mut ys);
                for (index, (row, &y)) in rows.clone().zip(&ys).enumerate() {
                    out[index * count + token] = match &self.scales {
                        Scales::Rows(scales) => scaled(y as i32, t, scales[row]),
                        Scales::Groups(_) => (y / f64::from(t)) as f32,
                    };
                }
            }
            return;
        }
        let at = |index: usize| TernaryRows::at(count, index % count, index / count);
        match &self.scales {
            Scales::Rows(scales) => self.rows.sums(kernels, (count, codes), rows, |_, sums| {
                for (index, value) in out.iter_mut().enumerate() {
                    let scale = scales[first + index / count];
                    *value = scaled(sums[at(index)], tokens[index % count], scale);
                }
            }),
            Scales::Groups(scales) => {
                let mut ys = vec![0.0; rows.len().div_ceil(GROUP_ROWS) * count * GROUP_ROWS];
                let groups = self.rows.groups();
                self.rows.sums(kernels, (count, codes), rows.clone(), |group, sums| {
                    let size = count * GROUP_ROWS;
                    let blocks = ys.chunks_exact_mut(size).zip(sums.chunks_exact(size));
                    for ((ys, sums), row) in blocks.zip(rows.clone().step_by(GROUP_ROWS)) {
                        let last = (row + GROUP_ROWS).min(rows.end);
                        let mut of_rows = [0.0; GROUP_ROWS];
                        for (d, row) in of_rows.iter_mut().zip(row..last) {
                            *d = f64::from(scales[row * groups + group]);
                        }
                        add_products(ys, &of_rows, sums);
                    }
                });
                for (index, value) in out.iter_mut().enumerate() {
                    *value = (ys[at(index)] / f64::from(tokens[index % count])) as f32;
                }
            }
        }
    }
}

/// The scales of 16 rows for each group of columns; see [`Coded`].
fn lanes(rows: &CodedRows, scales: &Scales) -> Vec<[f32; GROUP_ROWS]> {
    let groups = rows.groups();
    let lane = |at: usize, lane: usize| match scales {
        Scales::Rows(_) => 1.0,
        Scales::Groups(scales) => {
            let row = at / groups * GROUP_ROWS + lane;
            scales.get(row * groups + at % groups).copied().unwrap_or(0.0)
        }
    };
    let count = rows.rows().div_ceil(GROUP_ROWS) * groups;
    (0..count).map(|at| std::array::from_fn(|index| lane(at, index))).collect()
}

/// `y += d s` for the 16 rows of each token.
fn add_products(ys: &mut [f64], of_rows: &[f64; GROUP_ROWS], sums: &[i32]) {
    let sums = sums.as_chunks::<GROUP_ROWS>().0;
    for (ys, sums) in ys.as_chunks_mut::<GROUP_ROWS>().0.iter_mut().zip(sums) {
        for row in 0..GROUP_ROWS {
            ys[row] += of_rows[row] * f64::from(sums[row]);
        }
    }
}
