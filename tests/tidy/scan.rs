//! Scanners of one text each. They rely on rustfmt for layout and on nothing else.

/// A line that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// 1-based.
    pub(crate) line: usize,
    pub(crate) what: String,
}

impl Finding {
    pub(crate) fn new(line: usize, what: &str) -> Self {
        Self { line, what: what.to_owned() }
    }
}

pub(crate) fn long_file(text: &str, most: usize) -> Vec<Finding> {
    let lines = text.lines().count();
    let long = lines > most;
    if long { vec![Finding::new(lines, &format!("{lines} lines"))] } else { Vec::new() }
}

pub(crate) fn long_lines(text: &str, most: usize, most_of_table: usize) -> Vec<Finding> {
    let columns = text.lines().map(|line| (line, line.chars().count())).enumerate();
    let limit = |line: &str| if line.starts_with("//! |") { most_of_table } else { most };
    let long = columns.filter(|(_, (line, columns))| *columns > limit(line));
    long.map(|(index, (_, columns))| Finding::new(index + 1, &format!("{columns} columns")))
        .collect()
}

pub(crate) fn no_head(text: &str) -> Vec<Finding> {
    let head = text.starts_with("//!");
    if head { Vec::new() } else { vec![Finding::new(1, "no //! at the top")] }
}

/// The text with the contents of comments, strings and characters blanked; lines stay where they
/// are.
pub(crate) fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let before = out.chars().next_back().unwrap_or(' ');
        let length = token(rest, before);
        let (token, behind) = rest.split_at(length.unwrap_or(first.len_utf8()));
        if length.is_some() {
            out.extend(token.chars().map(|c| if c == '\n' { c } else { ' ' }));
        } else {
            out.push_str(token);
        }
        rest = behind;
    }
    out
}

/// The length in bytes of a comment or literal that the text starts with.
fn token(text: &str, before: char) -> Option<usize> {
    let until = |end: &str, from: usize| {
        text[from..].find(end).map_or(text.len(), |at| from + at + end.len())
    };
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(until("*/", 2));
    }
    let word = before.is_alphanumeric() || before == '_';
    let raw = text.trim_start_matches('b');
    if !word && raw.starts_with('r') {
        let hashes = raw[1..].bytes().take_while(|&byte| byte == b'#').count();
        if raw[1 + hashes..].starts_with('"') {
            let from = text.len() - raw.len() + hashes + 2;
            return Some(until(&format!("\"{}", "#".repeat(hashes)), from));
        }
    }
    match text.chars().next() {
        Some('"') => Some(quoted(text, '"')),
        Some('\'') => {
            // A lifetime has no quote behind its first character.
            let mut inner = text[1..].chars();
            let escaped = inner.next() == Some('\\');
            (escaped || inner.next() == Some('\'')).then(|| quoted(text, '\''))
        }
        _ => None,
    }
}

/// The length of a literal up to its closing quote, escapes skipped.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where a word stands alone: neither neighbour is part of an identifier.
fn word_places<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        !text[..at].ends_with(is_word) && !text[at + word.len()..].starts_with(is_word)
    })
}

pub(crate) fn words(text: &str, words: &[&str]) -> Vec<Finding> {
    let places = words.iter().flat_map(|word| word_places(text, word).map(move |at| (at, word)));
    places.map(|(at, word)| Finding::new(line_of(text, at), word)).collect()
}

/// A pattern anywhere, letters in front of it excepted.
pub(crate) fn pieces(text: &str, pattern: &str) -> Vec<Finding> {
    let places = text.match_indices(pattern).map(|(at, _)| at);
    let alone = places.filter(|&at| !text[..at].ends_with(is_word));
    alone.map(|at| Finding::new(line_of(text, at), pattern)).collect()
}

/// A path that starts at the root of a machine, and not in the middle of another path.
pub(crate) fn absolute(text: &str, path: &str) -> Vec<Finding> {
    let inner = |c: char| is_word(c) || "./-}*".contains(c);
    let places = text.match_indices(path).map(|(at, _)| at);
    let rooted = places.filter(|&at| !text[..at].ends_with(inner));
    rooted.map(|at| Finding::new(line_of(text, at), path)).collect()
}

const TRANSCENDENTAL: [&str; 26] = [
    "exp", "exp2", "exp_m1", "ln", "ln_1p", "log", "log2", "log10", "powf", "powi", "sin", "cos",
    "tan", "sin_cos", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh", "asinh", "acosh",
    "cbrt", "hypot", "mul_add",
];

/// Calls of methods whose bits a platform chooses, and paths to them.
pub(crate) fn transcendental(code: &str) -> Vec<Finding> {
    let called = |name: &'static str| {
        word_places(code, name).filter(move |&at| {
            let method = code[..at].ends_with('.') && code[at + name.len()..].starts_with('(');
            method || code[..at].ends_with("f32::") || code[..at].ends_with("f64::")
        })
    };
    let all = TRANSCENDENTAL.into_iter().flat_map(|name| called(name).map(move |at| (at, name)));
    all.map(|(at, name)| Finding::new(line_of(code, at), name)).collect()
}

/// The names of modules that live in files of their own.
pub(crate) fn modules(code: &str) -> Vec<String> {
    let behind = word_places(code, "mod").map(|at| code[at + 3..].trim_start());
    let names = behind.filter_map(|rest| {
        let end = rest.find(|c| !is_word(c))?;
        rest[end..].starts_with(';').then(|| rest[..end].to_owned())
    });
    names.collect()
}

pub(crate) fn long_functions(text: &str, most: usize) -> Vec<Finding> {
    let code = code(text);
    let mut findings = Vec::new();
    for at in word_places(&code, "fn") {
        // A function pointer type has no name behind `fn`.
        if !code[at + 2..].trim_start().starts_with(is_word) {
            continue;
        }
        let lines = code[at..at + body_end(&code[at..])].matches('\n').count() + 1;
        if lines > most {
            findings.push(Finding::new(line_of(&code, at), &format!("{lines} lines")));
        }
    }
    findings
}

/// Where the body of the function ends that the code starts with; a declaration ends at its `;`.
fn body_end(code: &str) -> usize {
    let (mut round, mut curly) = (0i32, 0i32);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => round += 1,
            ')' | ']' => round -= 1,
            ';' if round == 0 && curly == 0 => return at,
            '{' => curly += 1,
            '}' if curly <= 1 => return at,
            '}' => curly -= 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(findings: Vec<Finding>) -> Vec<usize> {
        findings.into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn comments_strings_and_characters_are_no_code() {
        let text = "a /* b\n */ c // d\n\"e \\\" f\" g r#\"h \" i\"# 'j' '\\'' k<'l> br\"m\" \"n";
        let code = code(text);
        let left: String = code.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(left, "a c g k<'l>");
        assert_eq!(code.lines().count(), text.lines().count());
    }

    #[test]
    fn long_files_and_lines_are_found() {
        assert_eq!(lines(long_file("a\nb\n", 2)), []);
        assert_eq!(lines(long_file("a\nb\nc\n", 2)), [3]);
        assert_eq!(lines(long_lines("ääää\nabcde\n//! | a |\n//! ab", 4, 9)), [2, 4]);
        assert_eq!(lines(long_lines("//! | ab |\n", 4, 9)), [1]);
    }

    #[test]
    fn a_missing_head_is_found() {
        assert_eq!(lines(no_head("//! What it is.\n")), []);
        assert_eq!(lines(no_head("// What it is.\n")), [1]);
    }

    #[test]
    fn long_functions_are_found_whatever_is_in_them() {
        let text = "struct A;\nfn a(x: [u8; 2],\n) -> u8 {\n    let s = \"}\";\n    { 1 }\n}\n";
        assert_eq!(lines(long_functions(text, 4)), [2]);
        assert_eq!(lines(long_functions(text, 5)), []);
        assert_eq!(lines(long_functions("trait T {\n fn a();\n\n\n\n}\n", 2)), []);
        assert_eq!(lines(long_functions("type F = fn(u8);\n\n\n\n", 2)), []);
    }

    #[test]
    fn words_are_found_in_code_and_nowhere_else() {
        let text = "// unsafe\n#![deny(unsafe_code)]\nlet a = \"unsafe\";\nunsafe { b() }\n";
        assert_eq!(lines(words(&code(text), &["unsafe"])), [4]);
    }

    #[test]
    fn leftovers_are_found_in_comments_too() {
        let pattern = ["FIX", "ME"].concat();
        assert_eq!(lines(pieces(&format!("a\n// {pattern}: b"), &pattern)), [2]);
        assert_eq!(lines(pieces("a_stub!(x)", "stub!")), []);
    }

    #[test]
    fn calls_of_the_platforms_mathematics_are_found() {
        let text = "x.exp()\nnumerics::exp(x)\nf64::powf(x, y)\nx.explain()\nx\n    .sin_cos();\n";
        assert_eq!(lines(transcendental(text)), [1, 3, 6]);
    }

    #[test]
    fn paths_of_a_machine_are_found_only_at_a_root() {
        let path = ["/t", "mp/"].concat();
        let text = format!("\"{path}a\"\ntarget{path}b\n..{path}c\n{path}d");
        assert_eq!(lines(absolute(&text, &path)), [1, 4]);
    }

    #[test]
    fn modules_in_files_are_told_from_modules_in_place() {
        assert_eq!(modules("pub mod a;\nmod tests {\nmod b;\n}\nmodel;"), ["a", "b"]);
    }
}
