//! The columns of the parity-check matrices: what each data bit adds to the check bits.
//!
//! A check bit's own column has one bit. A code corrects single flips if all columns differ, and a
//! decoder finds the flipped bit by its column.

/// A column of Hsiao's (72, 64) code: of odd weight, so that the sum of two is of even weight,
/// which no column is: two flips are never taken for one. The 56 of weight three in rising order,
/// then the eight rotations of five ones in a row; so each check bit covers 26 data bits.
pub(super) fn secded_column(bit: u64) -> u32 {
    SECDED[bit as usize]
}

const SECDED: [u32; 64] = secded();

const fn secded() -> [u32; 64] {
    let mut columns = [0; 64];
    let (mut filled, mut value) = (0, 0u32);
    while value < 256 {
        if value.count_ones() == 3 {
            columns[filled] = value;
            filled += 1;
        }
        value += 1;
    }
    while filled < 64 {
        columns[filled] = 0b0001_1111u8.rotate_left(filled as u32) as u32;
        filled += 1;
    }
    columns
}

/// A column of the on-die (136, 128) code: the smallest numbers that are no powers of two, in
/// rising order, 3, 5, 6, 7, 9, ... 136. So the sum of two columns is that of a third bit, which
/// the decoder flips (two flips become three, or two if it is a check bit), or of none, and they
/// stay two.
pub(super) fn on_die_column(bit: u64) -> u32 {
    ON_DIE[bit as usize]
}

const ON_DIE: [u32; 128] = on_die();

const fn on_die() -> [u32; 128] {
    let mut columns = [0; 128];
    let (mut filled, mut value) = (0, 3u32);
    while filled < 128 {
        if !value.is_power_of_two() {
            columns[filled] = value;
            filled += 1;
        }
        value += 1;
    }
    columns
}

/// The remainder of `x^(8 + power)` by `x^8 + x^2 + x + 1`. Its factor `x + 1` flags odd numbers of
/// flips, the other one, of degree seven, two flips within 127 bits.
pub(super) fn crc_column(power: u64) -> u32 {
    let mut value = 0x07;
    for _ in 0..power {
        value = (value << 1) ^ if value & 0x80 != 0 { 0x107 } else { 0 };
    }
    value
}
