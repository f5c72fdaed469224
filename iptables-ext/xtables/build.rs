// SPDX-License-Identifier: GPL-2.0-only

//! Bindings of libxtables and of the ABI of match and target.

use std::{env, error::Error, path::PathBuf};

const UAPI: &str = "../../include/uapi";
const HEADERS: &str = "
#include <xtables.h>
#include <linux/netfilter/nf_synproxy.h>
#include <linux/netfilter/xt_SYNPROXY.h>
#include <linux/netfilter/xt_spstate.h>
";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={UAPI}/linux/netfilter");

    let xtables = pkg_config::Config::new()
        .atleast_version("1.8")
        .probe("xtables")?;

    // Ours first: the system has a header of one of the names, too.
    bindgen::builder()
        .header_contents("extensions.h", HEADERS)
        .clang_arg(format!("-I{UAPI}"))
        .clang_args(
            xtables
                .include_paths
                .iter()
                .map(|dir| format!("-I{}", dir.display())),
        )
        .allowlist_function("xtables_option_parse")
        .allowlist_type("xt_(option_(call|type)|fcheck_call|entry_(match|target))")
        .allowlist_type("xt_spstate_(info|state)|(nf|xt)_synproxy_info")
        .allowlist_var("xt_params|XT_SYNPROXY_.*")
        .derive_default(true)
        .prepend_enum_name(false)
        .formatter(bindgen::Formatter::None)
        .generate()?
        .write_to_file(PathBuf::from(env::var("OUT_DIR")?).join("xtables.rs"))?;
    Ok(())
}
