//! Instruction sets: what the kernels of a table are compiled for, its door must have detected.

use crate::scan::Finding;

/// The features named in a list that follows a mark, with the number of the line.
fn named<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    text.lines().enumerate().flat_map(move |(index, line)| {
        let lists = line.split(mark).skip(1).filter_map(|rest| rest.split('"').next());
        lists.flat_map(|list| list.split(',')).map(move |feature| (index + 1, feature))
    })
}

/// Lines of kernels that enable what the function `door` does not detect.
pub(crate) fn undetected(kernels: &str, constructors: &str, door: &str) -> Vec<Finding> {
    let from = constructors.find(&format!("pub fn {door}(")).map_or("", |at| &constructors[at..]);
    let body = from.split("\n}").next().unwrap_or("");
    let detected: Vec<&str> =
        named(body, "is_x86_feature_detected!(\"").map(|(_, feature)| feature).collect();
    let enabled = named(kernels, "enable = \"").chain(named(kernels, "stamp_floats!(\""));
    let missing = enabled.filter(|(_, feature)| !detected.contains(feature));
    let finding = |(line, feature)| Finding { line, what: format!("{door}() misses {feature}") };
    missing.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_enabled_and_not_detected_is_found() {
        let doors = "pub fn a() {\n    is_x86_feature_detected!(\"x\")\n}\n\
                     pub fn b() {\n    is_x86_feature_detected!(\"y\")\n}\n";
        let kernels = "#[target_feature(enable = \"x,y\")]\nfn f() {}\nstamp_floats!(\"z\");\n";
        let lines = |door| undetected(kernels, doors, door).into_iter().map(|finding| finding.line);
        assert!(lines("a").eq([1, 3]) && lines("b").eq([1, 3]) && lines("c").eq([1, 1, 3]));
    }
}
