//! What the members of the zoo cost, for people: how many there are, the slowest ten, and those
//! that ask for the most memory. `cargo run -p engine --example zoo`, best with `--release`; with a
//! folder behind `--`, it writes the seeds of the fuzz targets into it instead.

#[allow(dead_code, reason = "not every helper is of use here")]
#[path = "../checkpoints/checkpoint.rs"]
mod checkpoint;
#[allow(dead_code, reason = "not every helper is of use here")]
#[path = "../checkpoints/made_gguf.rs"]
mod made_gguf;
#[allow(dead_code, reason = "not every helper is of use here")]
#[path = "../checkpoints/reference.rs"]
mod reference;

mod config;
mod gguf;
mod gguf_lies;
mod index;
#[allow(dead_code, reason = "nobody else measures here")]
mod measure;
#[allow(dead_code, reason = "nobody reads messages here")]
mod member;
mod safetensors;
mod seeds;
mod tokenizers;

use std::time::{Duration, Instant};

use member::{Member, Zoo};

/// What a member cost.
struct Seen<'a> {
    member: &'a Member,
    time: Duration,
    bytes: usize,
}

impl Seen<'_> {
    fn ratio(&self) -> f64 {
        self.bytes as f64 / self.member.size().max(1) as f64
    }
}

/// The best of three loads: what another program does meanwhile is not the member's cost.
fn see(member: &Member) -> Seen<'_> {
    let once = || {
        let start = Instant::now();
        let (_, bytes) = measure::cost(|| member.load());
        (start.elapsed(), bytes)
    };
    let (time, bytes) = (0..3).map(|_| once()).min().expect("three loads");
    Seen { member, time, bytes }
}

fn main() {
    let zoo = Zoo::all();
    if let Some(folder) = std::env::args_os().nth(1) {
        seeds::write(&zoo, folder.as_ref()).expect("a folder that can be written");
        return;
    }
    std::panic::set_hook(Box::new(|_| ()));
    let mut seen: Vec<Seen> = zoo.members.iter().map(see).collect();
    let files: usize = zoo.members.iter().map(|member| member.files.len()).sum();
    println!("{} members, {files} files", seen.len());
    let all: Duration = seen.iter().map(|seen| seen.time).sum();
    println!("{all:?} for all of them\n\nthe slowest:");
    seen.sort_by_key(|seen| std::cmp::Reverse(seen.time));
    show(&seen);
    println!("\nthe most bytes asked for, by byte of the files (beyond 64 KiB):");
    seen.retain(|seen| seen.bytes > 64 << 10);
    seen.sort_by(|a, b| b.ratio().total_cmp(&a.ratio()));
    show(&seen);
}

fn show(seen: &[Seen]) {
    for seen in &seen[..seen.len().min(10)] {
        let name: String = seen.member.name.chars().take(80).collect();
        let (size, ratio) = (seen.member.size(), seen.ratio());
        println!("  {:>9.1?}  {size:>9} bytes  x{ratio:<6.1} {name}", seen.time);
    }
}
