// SPDX-License-Identifier: GPL-2.0-only

//! A program for operators of xt_SYNPROXY: it asks a server for its options, writes rules, looks for
//! what is wrong on a running system, and shows counters.

#![forbid(unsafe_code)]

mod cli;
mod counters;
mod doctor;
mod generate;
mod probe;
mod rules;
mod top;

use clap::Parser;
use cli::{Args, Verb};
use std::{
    io::{self, ErrorKind, Write},
    process::ExitCode,
};

fn main() -> ExitCode {
    let result = match Args::parse().verb {
        Verb::Probe(args) => probe::run(&args),
        Verb::Rules { case } => rules::run(&case),
        Verb::Doctor => return doctor::run(),
        Verb::Top(args) => top::run(&args),
        Verb::Generate { directory } => generate::run(&directory),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Says on standard error what was wrong. If nobody listens there, there is nobody to tell.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "xt-synproxy: {text}");
}

/// Writes to standard output. A reader who has seen enough is no fault, but the end.
fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(format!("cannot write to standard output: {error}")),
        Ok(()) => Ok(()),
    }
}
