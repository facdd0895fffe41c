//! The list of mutants: deliberate unsound edits of the bound code, as text.
//!
//! A mutant is a block of lines: `== name`, `file: path from the top`, `idea: what is unsound`, an
//! optional `first: test` (the test binary that likely kills it), then the text to find in lines
//! that begin with `-` and its replacement in lines that begin with `+`. What stands behind these
//! signs is taken to the letter, lines joined by line ends; the text may begin and end within
//! lines. Lines that begin with `#` and empty lines separate.
//!
//! Invariant: a text stands in its file exactly once, or the list has rotted; a test looks.

use std::fs;
use std::path::Path;

/// One unsound edit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mutant {
    pub(crate) name: String,
    /// The file, from the top of the tree.
    pub(crate) file: String,
    /// What is unsound about it.
    pub(crate) idea: String,
    /// The test binary to run first.
    pub(crate) first: Option<String>,
    pub(crate) find: Vec<String>,
    pub(crate) replace: Vec<String>,
}

impl Mutant {
    /// The file's contents with the edit.
    pub(crate) fn apply(&self, contents: &str) -> Result<String, String> {
        let (find, replace) = (self.find.join("\n"), self.replace.join("\n"));
        match contents.matches(&find).count() {
            _ if find.is_empty() => Err(format!("{}: nothing to find", self.name)),
            _ if find == replace => Err(format!("{}: changes nothing", self.name)),
            1 => Ok(contents.replacen(&find, &replace, 1)),
            count => Err(format!("{}: found {count} times in {}", self.name, self.file)),
        }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(text) = line.strip_prefix('-') {
            self.find.push(text.into());
        } else if let Some(text) = line.strip_prefix('+') {
            self.replace.push(text.into());
        } else {
            let (key, value) = line.split_once(": ").ok_or_else(|| format!("no key: {line}"))?;
            match key {
                "file" => self.file = value.into(),
                "idea" => self.idea = value.into(),
                "first" => self.first = Some(value.into()),
                _ => return Err(format!("no such key: {line}")),
            }
        }
        Ok(())
    }
}

/// The mutants of a list.
pub(crate) fn parse(text: &str) -> Result<Vec<Mutant>, String> {
    let mut mutants: Vec<Mutant> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match (line.strip_prefix("== "), mutants.last_mut()) {
            (Some(name), _) => mutants.push(Mutant { name: name.into(), ..Mutant::default() }),
            (None, Some(mutant)) => mutant.line(line)?,
            (None, None) => return Err(format!("before the first mutant: {line}")),
        }
    }
    Ok(mutants)
}

/// All mutants of the tree at `top`, in the order of the lists.
pub(crate) fn all(top: &Path) -> Result<Vec<Mutant>, String> {
    let folder = top.join("certify/mutants");
    let entries =
        fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut lists: Vec<_> = paths.filter(|p| p.extension().is_some_and(|e| e == "txt")).collect();
    lists.sort();
    let mut mutants = Vec::new();
    for list in lists {
        let text =
            fs::read_to_string(&list).map_err(|error| format!("{}: {error}", list.display()))?;
        mutants.extend(parse(&text)?);
    }
    Ok(mutants)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn every_mutant_finds_its_text_exactly_once_and_has_a_name_of_its_own() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mutants = all(&top).expect("lists that can be read");
        assert!(mutants.len() >= 40, "only {} mutants", mutants.len());
        let mut files: BTreeMap<&str, String> = BTreeMap::new();
        let mut names = BTreeSet::new();
        let mut rotten = Vec::new();
        for mutant in &mutants {
            let contents = files.entry(&mutant.file).or_insert_with(|| {
                fs::read_to_string(top.join(&mutant.file)).expect("the file of a mutant")
            });
            rotten.extend(mutant.apply(contents).err());
            if !names.insert(&mutant.name) || mutant.idea.is_empty() {
                rotten.push(format!("{}: name or idea", mutant.name));
            }
        }
        assert!(rotten.is_empty(), "{}", rotten.join("\n"));
    }

    #[test]
    fn a_list_is_read_to_the_letter_and_what_does_not_match_once_is_refused() {
        let text = "# c\n== a\nfile: f\nidea: i\nfirst: lib\n-x\n-  y\n+z\n\n== b\n-q\n";
        let mutants = parse(text).expect("a list");
        assert_eq!(mutants.len(), 2);
        assert_eq!(mutants[0].first.as_deref(), Some("lib"));
        assert_eq!(mutants[0].apply("1\nx\n  y2").as_deref(), Ok("1\nz2"));
        assert!(mutants[0].apply("x\n  y x\n  y").is_err() && mutants[0].apply("x y").is_err());
        assert!(parse("file: f").is_err() && parse("== a\nnokey").is_err());
    }
}
