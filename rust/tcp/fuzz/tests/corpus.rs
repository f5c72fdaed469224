// SPDX-License-Identifier: GPL-2.0-only

//! Every property, on the bytes by which the fuzzer has reached something new.

use std::{fs, path::Path};
use synproxy_tcp_fuzz::{check, PROPERTIES};

#[test]
fn corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, property) in PROPERTIES {
        let files = fs::read_dir(corpus.join(name)).expect("a directory for each");
        let mut count = 0;
        for file in files {
            let path = file.expect("a file").path();
            // Said only if it fails.
            println!("{}", path.display());
            check(property, &fs::read(path).expect("bytes"));
            count += 1;
        }
        assert_ne!(count, 0, "{name}");
    }
}
