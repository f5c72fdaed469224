// SPDX-License-Identifier: GPL-2.0-only

//! The manual and the completions of shells, from what the command line takes.

use crate::cli::Args;
use clap::{Command, CommandFactory};
use clap_complete::{aot, generate_to};
use clap_mangen::Man;
use std::{fs, path::Path};

/// What clap does not know: before the options, and behind them.
const BEFORE: &str = include_str!("../manual/before.man");
const AFTER: &str = include_str!("../manual/after.man");

const NAME: &str = "xt-synproxy";

/// The verb.
pub(crate) fn run(directory: &Path) -> Result<(), String> {
    let failed = |error| format!("{}: {error}", directory.display());
    fs::create_dir_all(directory).map_err(failed)?;
    fs::write(directory.join("xt-synproxy.8"), manual().map_err(failed)?).map_err(failed)?;
    let mut command = command();
    generate_to(aot::Bash, &mut command, NAME, directory).map_err(failed)?;
    generate_to(aot::Zsh, &mut command, NAME, directory).map_err(failed)?;
    generate_to(aot::Fish, &mut command, NAME, directory).map_err(failed)?;
    Ok(())
}

/// The command line without what is hidden.
fn command() -> Command {
    let all = Args::command();
    let shown = all.get_subcommands().filter(|verb| !verb.is_hide_set());
    Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .about(all.get_about().cloned().unwrap_or_default())
        .subcommands(shown.cloned())
}

fn manual() -> std::io::Result<String> {
    let mut page = Vec::new();
    let source = format!("xt_SYNPROXY {}", env!("CARGO_PKG_VERSION"));
    let mut command = command();
    command.build();
    Man::new(command.clone())
        .section("8")
        .title(NAME)
        .source(source)
        .manual("xt_SYNPROXY")
        .date("2026-11-22")
        .render_title(&mut page)?;
    let mut page = String::from_utf8_lossy(&page).into_owned();
    page.push_str(BEFORE);
    section(&command, "", &mut page)?;
    page.push_str(AFTER);
    Ok(format!(
        ".\\\" SPDX-License-Identifier: GPL-2.0-only\n{page}"
    ))
}

/// A part on each command that has no others, with what its help says.
fn section(command: &Command, above: &str, page: &mut String) -> std::io::Result<()> {
    let mut verbs = command.get_subcommands().peekable();
    if verbs.peek().is_some() {
        for verb in verbs {
            let name = format!("{above}{} ", verb.get_name());
            section(verb, &name, page)?;
        }
        return Ok(());
    }
    let mut text = Vec::new();
    let man = Man::new(command.clone().mut_args(|arg| {
        let is_help = arg.get_id() == "help";
        arg.hide(is_help)
    }));
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    page.push_str(&format!(".SS {}\n", above.trim_end().replace('-', "\\-")));
    // Headings are ours, and the preamble is there once.
    for line in String::from_utf8_lossy(&text).lines() {
        if ![".SH", ".ie", ".el"]
            .iter()
            .any(|start| line.starts_with(start))
        {
            page.push_str(line);
            page.push('\n');
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_every_verb_and_option() {
        let page = manual().unwrap().replace("\\-", "-");
        for heading in [
            ".TH xt-synproxy 8 2026-11-22",
            ".SH NAME",
            ".SH SYNOPSIS",
            ".SH DESCRIPTION",
            ".SH VERBS",
            ".SS probe\n",
            ".SS rules flood\n",
            ".SS rules one-rule\n",
            ".SS rules gate\n",
            ".SS doctor\n",
            ".SS top\n",
            ".SH EXAMPLES",
            ".SH \"EXIT STATUS\"",
            ".SH FILES",
            ".SH \"SEE ALSO\"",
            ".BR xt_SYNPROXY (8)",
            "--deny-mark",
            "--interval",
        ] {
            assert!(page.contains(heading), "{heading:?} in {page}");
        }
        assert!(!page.contains("generate"));
    }
}
