// SPDX-License-Identifier: GPL-2.0-only

//! Bindings of libxtables and of the match's ABI, and the C shim that registers the match.

use std::{env, error::Error, path::PathBuf};

const UAPI: &str = "../include/uapi";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=shim.c");
    println!("cargo::rerun-if-changed={UAPI}/linux/netfilter/xt_spstate.h");

    let xtables = pkg_config::Config::new()
        .atleast_version("1.8")
        .probe("xtables")?;
    let includes: Vec<PathBuf> = xtables
        .include_paths
        .into_iter()
        .chain([UAPI.into()])
        .collect();

    bindgen::builder()
        .header_contents(
            "spstate.h",
            "#include <xtables.h>\n#include <linux/netfilter/xt_spstate.h>\n",
        )
        .clang_args(includes.iter().map(|dir| format!("-I{}", dir.display())))
        .allowlist_function("xtables_option_parse")
        .allowlist_type("xt_(spstate_info|spstate_state|option_call|fcheck_call|entry_match)")
        .allowlist_var("xt_params")
        .prepend_enum_name(false)
        .formatter(bindgen::Formatter::None)
        .generate()?
        .write_to_file(PathBuf::from(env::var("OUT_DIR")?).join("xtables.rs"))?;

    // As an object and not as a library: nothing refers to the shim, so a linker would leave a
    // library's member out. And not in the unit tests, where no iptables is there to register at.
    let objects = cc::Build::new()
        .file("shim.c")
        .includes(&includes)
        .cargo_metadata(false)
        .warnings_into_errors(true)
        .compile_intermediates();
    for object in objects {
        println!("cargo::rustc-cdylib-link-arg={}", object.display());
    }
    Ok(())
}
