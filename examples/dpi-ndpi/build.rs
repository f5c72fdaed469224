// SPDX-License-Identifier: GPL-2.0-only

//! Bindings of libndpi: the few functions that are called.

use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    // Functions and structures differ much between its versions.
    let ndpi = pkg_config::Config::new()
        .range_version("4.2".."4.3")
        .probe("libndpi")?;

    bindgen::builder()
        .header_contents("ndpi.h", "#include <ndpi_api.h>\n")
        .clang_args(
            ndpi.include_paths
                .iter()
                .map(|dir| format!("-I{}", dir.display())),
        )
        .allowlist_function(concat!(
            "ndpi_((init|exit)_detection_module|set_protocol_detection_bitmask2",
            "|finalize_initialization|detection_process_packet|free_flow_data",
            "|detection_get_sizeof_ndpi_flow_struct|get_api_version",
            "|get_proto_by_name|get_proto_name)"
        ))
        .allowlist_var("NDPI_API_VERSION")
        .allowlist_type(concat!(
            "ndpi_(prefs|init_prefs|protocol_category_t|proto|protocol",
            "|protocol_bitmask_struct|protocol_bitmask_struct_t|ndpi_mask)",
            "|(__uint|u_int)(8|16|32|64)_t"
        ))
        // Pointers to these are all that is needed, and nothing changes what is in them.
        .allowlist_recursively(false)
        .raw_line("#[repr(C)] pub struct ndpi_detection_module_struct([u8; 0]);")
        .raw_line("#[repr(C)] pub struct ndpi_flow_struct([u8; 0]);")
        .formatter(bindgen::Formatter::None)
        .generate()?
        .write_to_file(PathBuf::from(env::var("OUT_DIR")?).join("ndpi.rs"))?;
    Ok(())
}
