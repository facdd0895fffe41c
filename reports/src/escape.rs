//! Text that came from a file, made safe to show.
//!
//! Names, reasons and addresses may hold anything. Before any face sees one, characters that a
//! terminal or a page would obey instead of show (controls, line separators, bidirectional marks)
//! are written as `\u{..}`, and what is longer than anyone reads is cut. Markup is escaped later,
//! by the face that knows its own.

const LONGEST: usize = 300;

/// The text with invisible characters made visible, cut after 300 characters.
pub(crate) fn shown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len().min(4 * LONGEST));
    for (i, c) in text.chars().enumerate() {
        if i == LONGEST {
            safe.push('…');
            break;
        }
        if obeyed(c) {
            safe.extend(c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
    safe
}

fn obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e007f}')
}

/// The same for GitHub flavoured Markdown, also inside a table cell: every character that could
/// begin markup is written as an entity, so that it shows and does nothing.
pub(crate) fn markdown(text: &str) -> String {
    let mut safe = String::new();
    for c in shown(text).chars() {
        if c.is_ascii_punctuation() && !matches!(c, '.' | ',' | ' ' | ';' | '%' | '-') {
            safe.push_str(&format!("&#{};", u32::from(c)));
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_as_an_escape() {
        assert_eq!(shown("a\u{1b}[31mb\0\u{2028}\u{202e}"), r"a\u{1b}[31mb\u{0}\u{2028}\u{202e}");
    }

    #[test]
    fn endless_names_are_cut() {
        assert_eq!(shown(&"é".repeat(1000)).chars().count(), LONGEST + 1);
    }

    #[test]
    fn markdown_cannot_leave_its_table_cell() {
        let safe = markdown("a|b`c`<img>[x](y)\n@user #1 $x$");
        for mark in ['|', '`', '<', '>', '[', ']', '(', '\n', '@', '$', '*'] {
            assert!(!safe.contains(mark), "{mark:?} in {safe}");
        }
    }
}
