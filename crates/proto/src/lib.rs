//! Generated protobuf and gRPC bindings from `/proto`, nothing else.
//!
//! The bindings are checked in, so that a build needs no `protoc`; a test generates them anew and compares. After a change of a `.proto`
//! file run `make proto`.

#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "generated"
)]
mod generated {
    pub mod market {
        include!("generated/tickwire.v1.rs");
    }
    pub mod mesh {
        include!("generated/tickwire.mesh.v1.rs");
    }
}

/// The public gRPC API (`proto/tickwire/v1`).
pub mod v1 {
    pub use crate::generated::market::*;
}

/// Node to node (`proto/tickwire/mesh`).
pub mod mesh {
    /// Version 1 of the mesh's messages.
    pub mod v1 {
        pub use crate::generated::mesh::*;
    }
}

/// All `.proto` files as a `FileDescriptorSet`, for the gRPC reflection service.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptors.bin");
