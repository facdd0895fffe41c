//! What the program says about itself: the schema of its reports, completions, the manual page.
//!
//! All three are generated from what the program does, so they cannot lag behind it.

use std::io;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::tell;
use crate::cli::Cli;
use crate::failure::Failure;

/// The name that completions are for.
const NAME: &str = "bitnet-certify";

/// Prints the JSON schema of reports.
///
/// # Errors
/// If stdout cannot be written.
pub fn schema() -> Result<(), Failure> {
    tell(reports::schema::schema_text().as_bytes())
}

/// Prints a completion script.
///
/// # Errors
/// If stdout cannot be written.
pub fn completions(shell: Shell) -> Result<(), Failure> {
    tell(&completion_script(shell))
}

/// Prints the manual page, in roff.
///
/// # Errors
/// If stdout cannot be written.
pub fn page() -> Result<(), Failure> {
    let page = roff().map_err(|error| Failure::bug(format!("the manual page: {error}")))?;
    tell(&page)
}

fn completion_script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    script
}

/// One page for all verbs: each is a section, and what clap makes sections of it are parts of that.
fn roff() -> io::Result<Vec<u8>> {
    let mut root = Cli::command();
    root.build();
    let mut page = Vec::new();
    Man::new(root.clone()).render(&mut page)?;
    for verb in verbs(&root) {
        section(verb, verb.get_name(), &mut page)?;
        for below in verbs(verb) {
            section(below, &format!("{} {}", verb.get_name(), below.get_name()), &mut page)?;
        }
    }
    Ok(page)
}

/// What there is below a command, but for the help that clap adds.
fn verbs(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    command.get_subcommands().filter(|verb| verb.get_name() != "help")
}

fn section(verb: &clap::Command, name: &str, page: &mut Vec<u8>) -> io::Result<()> {
    let mut parts = Vec::new();
    let man = Man::new(verb.clone());
    man.render_synopsis_section(&mut parts)?;
    man.render_description_section(&mut parts)?;
    man.render_options_section(&mut parts)?;
    if verb.get_after_help().is_some() {
        man.render_extra_section(&mut parts)?;
    }
    let parts = String::from_utf8_lossy(&parts).replace(".SH ", ".SS ");
    page.extend_from_slice(format!(".SH \"{}\"\n{parts}", name.to_uppercase()).as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn the_page_has_a_section_for_every_verb() {
        let page = String::from_utf8(roff().unwrap()).unwrap();
        for verb in Cli::command().get_subcommands() {
            let section = format!(".SH \"{}\"\n", verb.get_name().to_uppercase());
            assert!(page.contains(&section), "{section}");
        }
        assert!(page.contains(".SH \"FAULTS RESUME\"\n") && page.contains("shard"));
        assert!(page.contains("epsilon"));
    }

    #[test]
    fn every_shell_gets_a_script_that_knows_the_verbs() {
        for &shell in Shell::value_variants() {
            let script = String::from_utf8(completion_script(shell)).unwrap();
            for verb in Cli::command().get_subcommands() {
                assert!(script.contains(verb.get_name()), "{shell} {}", verb.get_name());
            }
        }
    }
}
