//! Which room may lean on which, read from the manifests.

use crate::scan::Finding;

/// Each room and the rooms below it.
const ROOMS: [(&str, &[&str]); 7] = [
    ("bitnet-certify", &["engine", "certify", "faults", "reports", "fixtures"]),
    ("certify", &["engine"]),
    ("faults", &["engine"]),
    ("reports", &[]),
    ("engine", &[]),
    ("fixtures", &[]),
    ("fuzz", &["engine"]),
];

/// Tests of any room may use these.
const FOR_TESTS: &str = "fixtures";

/// The arrows of a manifest that do not point down, and dependencies under a false name.
pub(crate) fn arrows(manifest: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(name) = package(manifest) else {
        return vec![Finding::new(1, "no package name")];
    };
    let Some((_, below)) = ROOMS.into_iter().find(|(room, _)| *room == name) else {
        return vec![Finding::new(1, &format!("no room is called {name}"))];
    };
    let mut section = String::new();
    for (index, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_owned();
            continue;
        }
        let Some(dependency) = dependency(&section, line) else { continue };
        if line.contains("package") {
            findings.push(Finding::new(index + 1, "a dependency under another name"));
        }
        let room = ROOMS.iter().any(|(room, _)| *room == dependency);
        let served = section.ends_with("dev-dependencies") && dependency == FOR_TESTS;
        if room && !served && !below.contains(&dependency) {
            findings.push(Finding::new(index + 1, &format!("{name} leans on {dependency}")));
        }
    }
    findings
}

fn package(manifest: &str) -> Option<&str> {
    let own = manifest.split("[package]").nth(1)?;
    let name = own.lines().find_map(|line| line.strip_prefix("name = "))?;
    Some(name.trim().trim_matches('"'))
}

/// The name on a line of a section of dependencies, but not of the table they are inherited from.
fn dependency<'a>(section: &'a str, line: &'a str) -> Option<&'a str> {
    if section.starts_with("workspace") {
        return None;
    }
    let (head, last) = section.rsplit_once('.').unwrap_or(("", section));
    if head.ends_with("dependencies") {
        // `[dependencies.engine]`: any line of it names the same room.
        return Some(last);
    }
    let name = line.split(['.', '=', ' ']).next()?;
    (last.ends_with("dependencies") && !name.is_empty() && !name.starts_with('#')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, rest: &str) -> usize {
        arrows(&format!("[package]\nname = \"{name}\"\n{rest}")).len()
    }

    #[test]
    fn an_arrow_down_is_allowed() {
        assert_eq!(found("certify", "[dependencies]\nengine.workspace = true\n"), 0);
        assert_eq!(found("bitnet-certify", "[dependencies]\nfaults = { path = \"faults\" }\n"), 0);
        assert_eq!(found("engine", "[dev-dependencies]\nfixtures.workspace = true\n"), 0);
        let inherited = "[workspace.dependencies]\nengine = { path = \"engine\" }\n[package]\n\
                         name = \"bitnet-certify\"\n";
        assert!(arrows(inherited).is_empty());
    }

    #[test]
    fn an_arrow_up_or_sideways_is_refused() {
        assert_eq!(found("certify", "[dependencies]\nfaults.workspace = true\n"), 1);
        assert_eq!(found("engine", "[dependencies]\ncertify = { path = \"../certify\" }\n"), 1);
        assert_eq!(found("engine", "[dependencies]\nfixtures.workspace = true\n"), 1);
        assert_eq!(found("reports", "[dev-dependencies]\nengine.workspace = true\n"), 1);
        assert_eq!(found("reports", "[dependencies.engine]\nworkspace = true\n"), 1);
        assert_eq!(found("fixtures", "[target.'cfg(unix)'.dependencies]\nengine.path = \"\"\n"), 1);
        assert_eq!(found("faults", "[build-dependencies]\nreports.workspace = true\n"), 1);
        assert_eq!(found("faults", "[dependencies]\nx = { package = \"certify\" }\n"), 1);
        assert_eq!(found("cellar", ""), 1);
    }
}
