//! A code that survives the loss of a chip: Reed-Solomon (36, 32) over GF(256), polynomial 0x11d.
//!
//! A rank of 36 chips, each four bits wide, gives 144 bits a beat. Two beats make a word: each chip
//! gives a symbol of eight bits, 32 chips data and four checks.
//!
//! | bits of a word | are |
//! |---|---|
//! | data `4 c + i`, i < 4 | bit i of chip c in the first beat, c < 32 |
//! | data `128 + 4 c + i` | bit i of chip c in the second beat: bit 4 + i of its symbol |
//! | check `8 c + i`, i < 8 | bit i of the symbol of check chip c, c < 4 |
//!
//! A word is the polynomial with the check chips at the powers 0 to 3 and data chip c at the power
//! `c + 4`; words of the code vanish at 1, a, a^2, a^3, a = 2. Two of them differ in five chips or
//! more, so a decoder that corrects one chip flags any two or three.

use super::word::Data;

const CHIPS: usize = 32;
const CHECKS: usize = 4;

/// Powers of 2, twice over, and the logs of all but 0.
const TABLES: ([u8; 510], [u8; 256]) = tables();

const fn tables() -> ([u8; 510], [u8; 256]) {
    let (mut powers, mut logs) = ([0; 510], [0; 256]);
    let (mut value, mut power) = (1u32, 0);
    while power < 255 {
        powers[power] = value as u8;
        powers[power + 255] = value as u8;
        logs[value as usize] = power as u8;
        value <<= 1;
        if value & 0x100 != 0 {
            value ^= 0x11d;
        }
        power += 1;
    }
    (powers, logs)
}

fn log(a: u8) -> usize {
    usize::from(TABLES.1[usize::from(a)])
}

fn times(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 { 0 } else { TABLES.0[log(a) + log(b)] }
}

fn quotient(a: u8, b: u8) -> u8 {
    if a == 0 { 0 } else { TABLES.0[log(a) + 255 - log(b)] }
}

/// The symbol of a data chip.
fn symbol(data: &Data, chip: usize) -> u8 {
    let nibble = |bit: usize| (data[bit / 64] >> (bit % 64) & 15) as u8;
    nibble(4 * chip) | nibble(128 + 4 * chip) << 4
}

/// The check symbols: the remainder of the data by `(x - 1) (x - a) (x - a^2) (x - a^3)`.
pub(super) fn encode(data: &Data) -> u32 {
    let mut generator = [1u8, 0, 0, 0, 0];
    for root in 0..CHECKS {
        // Times x minus the root, lowest power first.
        for power in (0..=root + 1).rev() {
            let below = if power > 0 { generator[power - 1] } else { 0 };
            generator[power] = times(generator[power], TABLES.0[root]) ^ below;
        }
    }
    let mut rest = [0u8; CHECKS];
    for chip in (0..CHIPS).rev() {
        let lead = rest[CHECKS - 1] ^ symbol(data, chip);
        for power in (0..CHECKS).rev() {
            let below = if power > 0 { rest[power - 1] } else { 0 };
            rest[power] = below ^ times(lead, generator[power]);
        }
    }
    u32::from_le_bytes(rest)
}

/// The data with its one wrong chip put right; `None` if more are wrong. `difference`, not 0, is
/// what the check symbols of the data and the stored ones differ by.
pub(super) fn correct(data: &Data, difference: u32) -> Option<Data> {
    // Data and its own check symbols vanish at the roots, so the difference alone counts.
    let stray = difference.to_le_bytes();
    let at = |root: usize| {
        (0..CHECKS).fold(0, |sum, power| sum ^ times(stray[power], TABLES.0[root * power]))
    };
    let syndromes = [at(0), at(1), at(2), at(3)];
    if syndromes.contains(&0) {
        return None;
    }
    // One wrong symbol e at the power p gives e, e a^p, e a^2p, e a^3p.
    let ratio = quotient(syndromes[1], syndromes[0]);
    let single = (1..CHECKS).all(|i| times(syndromes[i - 1], ratio) == syndromes[i]);
    let power = log(ratio);
    if !single || power >= CHECKS + CHIPS {
        return None;
    }
    let (mut data, error) = (*data, u64::from(syndromes[0]));
    if power >= CHECKS {
        let bit = 4 * (power - CHECKS);
        data[bit / 64] ^= (error & 15) << (bit % 64);
        data[2 + bit / 64] ^= (error >> 4) << (bit % 64);
    }
    Some(data)
}
