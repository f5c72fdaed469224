// SPDX-License-Identifier: GPL-2.0-only

//! Every property, on bytes of which nothing is known.

use proptest::{collection::vec, prelude::any, test_runner};
use synproxy_tcp_fuzz::{check, PROPERTIES};

/// The same bytes each time: what is new is for the fuzzer to find.
#[test]
fn random_bytes() {
    for (name, property) in PROPERTIES {
        let mut runner = test_runner::TestRunner::new(test_runner::Config {
            cases: 5_000,
            failure_persistence: None,
            rng_seed: test_runner::RngSeed::Fixed(1),
            ..test_runner::Config::default()
        });
        let result = runner.run(&vec(any::<u8>(), 0..300), |bytes| {
            check(property, &bytes);
            Ok(())
        });
        if let Err(error) = result {
            panic!("{name}: {error}");
        }
    }
}
