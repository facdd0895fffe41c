//! Every field of a sound GGUF file, one by one, at the values that break readers: what comes out
//! is a refusal or another model, and never costs more than the file.

use crate::made_gguf::{Gguf, SOUND, read};
use crate::{BESIDE, TIMES, measure};

/// A place in a file that holds a number, and its width in bytes.
struct Field {
    at: usize,
    width: usize,
}

/// Reads on in a file that is known to be sound.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    fields: Vec<Field>,
}

impl Walk<'_> {
    fn number(&mut self, width: usize) -> usize {
        let mut word = [0; 8];
        word[..width].copy_from_slice(&self.bytes[self.at..self.at + width]);
        self.fields.push(Field { at: self.at, width });
        self.at += width;
        u64::from_le_bytes(word) as usize
    }

    fn text(&mut self) {
        self.at += self.number(8);
    }

    fn value(&mut self, kind: usize) {
        const WIDTHS: [usize; 13] = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
        match kind {
            8 => self.text(),
            9 => {
                let (kind, count) = (self.number(4), self.number(8));
                (0..count).for_each(|_| self.value(kind));
            }
            _ => drop(self.number(WIDTHS[kind])),
        }
    }
}

/// All numbers of the header.
fn fields(bytes: &[u8]) -> Vec<Field> {
    let mut walk = Walk { bytes, at: 4, fields: Vec::new() };
    walk.number(4);
    let (tensors, keys) = (walk.number(8), walk.number(8));
    for _ in 0..keys {
        walk.text();
        let kind = walk.number(4);
        walk.value(kind);
    }
    for _ in 0..tensors {
        walk.text();
        for _ in 0..walk.number(4) {
            walk.number(8);
        }
        walk.number(4);
        walk.number(8);
    }
    walk.fields
}

#[test]
fn every_number_of_a_header_at_every_breaking_value_costs_little() {
    const VALUES: [u64; 12] = [
        0,
        1,
        2,
        (1 << 31) - 1,
        1 << 31,
        (1 << 32) - 1,
        1 << 32,
        (1 << 32) + 1,
        1 << 62,
        1 << 63,
        u64::MAX - 1,
        u64::MAX,
    ];
    let _alone = measure::alone();
    let mut refused = 0;
    for sound in [SOUND.clone(), Gguf::small(34).bytes()] {
        let digest = read(&sound).expect("a sound file").manifest.digest;
        for Field { at, width } in fields(&sound) {
            for value in VALUES {
                let (mut bytes, value) = (sound.clone(), &value.to_le_bytes()[..width]);
                bytes[at..at + width].copy_from_slice(value);
                let (result, cost) = measure::cost(|| read(&bytes));
                let most = TIMES * bytes.len() + BESIDE;
                assert!(cost <= most, "byte {at} as {value:?}: {cost} of {most} bytes");
                match result {
                    Ok(loaded) if bytes == sound => assert_eq!(loaded.manifest.digest, digest),
                    Ok(_) => {}
                    Err(error) => {
                        assert!(error.to_string().starts_with("made"), "{error}");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(refused > 2000, "{refused} refusals");
}
