// SPDX-License-Identifier: GPL-2.0-only

//! For each extension: the C shim that registers it.

use std::error::Error;

const UAPI: &str = "../../include/uapi";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=shim.c");
    println!("cargo::rerun-if-changed={UAPI}/linux/netfilter");

    let xtables = pkg_config::Config::new()
        .cargo_metadata(false)
        .probe("xtables")?;

    // As an object and not as a library: nothing refers to the shim, so a linker would leave a
    // library's member out.
    let objects = cc::Build::new()
        .file("shim.c")
        .include(UAPI)
        .includes(&xtables.include_paths)
        .cargo_metadata(false)
        .warnings_into_errors(true)
        .compile_intermediates();
    for object in objects {
        println!("cargo::rustc-cdylib-link-arg={}", object.display());
    }
    Ok(())
}
