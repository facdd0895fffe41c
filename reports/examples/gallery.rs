//! Writes every face of an invented report into a folder, to look at them:
//! `cargo run -p reports --example gallery -- FOLDER [SAMPLES LAYERS]`.

#[path = "../tests/example/mod.rs"]
mod example;

use std::error::Error;
use std::path::PathBuf;

use reports::model::{GateKind, LimitHit};
use reports::{Format, metrics, render};

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let folder = PathBuf::from(words.next().ok_or("usage: gallery FOLDER [SAMPLES LAYERS]")?);
    let size = words.map(|word| word.parse()).collect::<Result<Vec<u32>, _>>()?;
    let mut report = match size[..] {
        [samples, layers] => example::sized(u64::from(samples), layers),
        _ => example::report(),
    };
    report.request.gates = vec![
        metrics::parse_gate(GateKind::FailUnder, "clean_acc=0.9")?,
        metrics::parse_gate(GateKind::FailOver, "sdc_rate_high=0.05")?,
    ];
    report.limits_hit.push(LimitHit {
        limit: "time-limit".to_owned(),
        what: "the attack was cut short after 48 of 60 samples".to_owned(),
    });
    if let Some(violation) = report.validate().into_iter().next() {
        return Err(violation.into());
    }
    std::fs::create_dir_all(&folder)?;
    for extension in ["json", "html", "xml", "md", "txt"] {
        let text = render(&report, Format::from_extension(extension)?)?;
        std::fs::write(folder.join(format!("report.{extension}")), text)?;
    }
    Ok(())
}
