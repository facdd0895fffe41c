//! Memory of rows that nothing reads any more. A prompt's rows are megabytes, and the system would
//! take the pages of each back and clear them again.

use ndarray::Array2;

/// The most that is kept.
const MOST: usize = 8;

/// Memory of rows; a copy of it is empty.
#[derive(Debug)]
pub struct Spare<T>(Vec<Vec<T>>);

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Clone for Spare<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T: Copy + Default> Spare<T> {
    /// Rows of any values, as `(rows, columns)`.
    ///
    /// # Panics
    /// If so many values have no number.
    #[must_use]
    pub fn rows(&mut self, dim: (usize, usize)) -> Array2<T> {
        let len = dim.0 * dim.1;
        let fits = |(_, spare): &(usize, &Vec<T>)| spare.capacity() >= len;
        let found = self.0.iter().enumerate().filter(fits).min_by_key(|(_, one)| one.capacity());
        let mut data = found.map(|(at, _)| at).map_or_else(Vec::new, |at| self.0.swap_remove(at));
        data.resize(len, T::default());
        Array2::from_shape_vec(dim, data).expect("as many values")
    }

    /// Keeps the memory of rows, if there is not enough already.
    pub fn keep(&mut self, rows: Array2<T>) {
        if self.0.len() < MOST {
            self.0.push(rows.into_raw_vec_and_offset().0);
        }
    }
}
