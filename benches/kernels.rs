//! GEMV and GEMM of ternary weights, per kernel table, on one thread.
//!
//! The shape is that of the feed-forward block of BitNet b1.58 2B-4T: 6912 rows of 2560 columns,
//! two bits a weight. A multiplication and an addition count as two operations; the bytes are those
//! of the weights, read once. Before it is timed, each table's answer is held to the portable
//! one's: a fast wrong answer fails.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use engine::kernels::{self, Kernels};
use engine::model::random::SplitMix;
use engine::packing::TernaryRows;

const ROWS: usize = 6912;
const COLUMNS: usize = 2560;
/// Token rows: decoding, a small batch, a prompt.
const TOKENS: [usize; 3] = [1, 8, 128];

fn weights() -> TernaryRows {
    TernaryRows::pack(ROWS, COLUMNS, |row, codes| {
        let mut rng = SplitMix(row as u64);
        codes.iter_mut().for_each(|code| *code = rng.below(3) as u8);
    })
}

fn activations(tokens: usize) -> Vec<i8> {
    let mut rng = SplitMix(tokens as u64);
    (0..tokens * COLUMNS).map(|_| (rng.below(255) as i32 - 127) as i8).collect()
}

/// FNV-1a over the sums: order counts, so that swapped rows cannot pass.
fn checksum(sums: &[i32]) -> u64 {
    sums.iter().flat_map(|sum| sum.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn products(criterion: &mut Criterion) {
    let weights = weights();
    for tokens in TOKENS {
        let codes = activations(tokens);
        let expected = checksum(&weights.product(kernels::scalar(), &codes));
        let mut group = criterion.benchmark_group(format!("{COLUMNS}x{ROWS}-ternary/M{tokens}"));
        let operations = 2 * (ROWS * COLUMNS * tokens) as u64;
        let bytes = weights.bytes() as u64;
        group.throughput(Throughput::ElementsAndBytes { elements: operations, bytes });
        group.sample_size(10).warm_up_time(Duration::from_millis(500));
        group.measurement_time(Duration::from_secs(2));
        for table in kernels::available() {
            assert_eq!(checksum(&weights.product(table, &codes)), expected, "{}", table.name);
            group.bench_with_input(BenchmarkId::from_parameter(table.name), table, {
                |bencher, table: &Kernels| {
                    bencher.iter(|| weights.product(table, black_box(&codes)));
                }
            });
        }
        group.finish();
    }
}

fn main() {
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool of one thread");
    one.install(|| {
        let mut criterion = Criterion::default().configure_from_args();
        products(&mut criterion);
        criterion.final_summary();
    });
}
