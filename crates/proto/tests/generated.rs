//! Keeps the checked-in bindings equal to what the `.proto` files say. `TICKWIRE_REGENERATE=1` (`make proto`) writes them anew.

use std::{fs, path::Path};

use prost::Message as _;

const PROTOS: [&str; 2] = ["tickwire/v1/market.proto", "tickwire/mesh/v1/mesh.proto"];
const GENERATED: [&str; 3] = ["tickwire.v1.rs", "tickwire.mesh.v1.rs", "descriptors.bin"];

#[test]
fn bindings_are_what_the_proto_files_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let checked_in = root.join("src/generated");
    let fresh = tempfile::tempdir().unwrap();
    let descriptors = protox::compile(PROTOS, [root.join("../../proto")]).unwrap();
    fs::write(fresh.path().join("descriptors.bin"), descriptors.encode_to_vec()).unwrap();
    tonic_prost_build::configure().out_dir(fresh.path()).bytes(".").compile_fds(descriptors).unwrap();
    for name in GENERATED {
        let generated = fs::read(fresh.path().join(name)).unwrap();
        if std::env::var_os("TICKWIRE_REGENERATE").is_some() {
            fs::write(checked_in.join(name), &generated).unwrap();
        }
        let kept = fs::read(checked_in.join(name)).unwrap_or_default();
        assert!(kept == generated, "{name} is not what the .proto files say: run `make proto`");
    }
}
