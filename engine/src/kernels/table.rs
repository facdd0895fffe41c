//! A kernel table from its parts.

/// The kernels that only some tables have: of few widths, and of signs.
pub(super) type Own = (Option<super::SpreadSteps>, Option<super::SignProduct>);
/// None of them.
pub(super) const NONE: Own = (None, None);

/// A table from its kernels of packed rows, those that only some tables have, those of sparse
/// changes and of f16, and its module of other float entries.
macro_rules! table {
    ($name:literal, $integers:expr, $own:expr, $sparse:expr, $halves:expr, $floats:path) => {{
        use $floats as floats;
        $crate::kernels::Kernels {
            name: $name,
            ternary: $integers.0,
            ternary_groups: $integers.1,
            spread: $integers.2,
            spread_steps: $own.0,
            reach: None,
            signs: $own.1,
            expand_signs: floats::expand_signs,
            differ: $sparse.0,
            columns: $sparse.1,
            multiply: floats::multiply,
            divide: floats::divide,
            multiply_groups: floats::multiply_groups,
            divide_groups: floats::divide_groups,
            dot: floats::dot,
            dot_ends: floats::dot_ends,
            dot_rows: floats::dot_rows,
            dot_tile: floats::dot_tile,
            dot_rows_bf16: floats::dot_rows_bf16,
            halves: $halves,
            weighted_sum: floats::weighted_sum,
            rows: $crate::kernels::Rows {
                add: floats::add,
                scale: floats::scale,
                same: floats::same,
            },
            rms_norm: floats::rms_norm,
            dot_codes: floats::dot_codes,
            dots_codes: floats::dots_codes,
            absmax: floats::absmax,
            codes: floats::codes,
            softmax: floats::softmax,
            relu2_gate: floats::relu2_gate,
            silu_gate: floats::silu_gate,
            widen_bf16: floats::widen_bf16,
            forms: $crate::kernels::Forms {
                product: floats::product,
                dots: floats::dots,
                magnitudes: floats::magnitudes,
                combine: floats::combine,
                gram: floats::gram,
            },
            boxes: $crate::kernels::Boxes {
                dots: floats::box_dots,
                mix: floats::box_mix,
                shares: floats::box_shares,
                weights: floats::box_weights,
                greatest: floats::greatest,
                norm: floats::box_norm,
                codes: floats::box_codes,
                relu2_gate: floats::box_relu2_gate,
                gate_sums: floats::gate_sums,
                multiply: floats::box_multiply,
                divide: floats::box_divide,
            },
        }
    }};
}
pub(super) use table;
