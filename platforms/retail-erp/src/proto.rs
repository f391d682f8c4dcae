//! The gRPC interfaces, as `proto/` declares them.

use trunkline::{Error, Result};

macro_rules! packages {
    ($($(#[$doc:meta])* $name:ident = $package:literal;)*) => {$(
        $(#[$doc])*
        pub mod $name {
            #![allow(
                missing_docs,
                missing_debug_implementations,
                unreachable_pub,
                clippy::all,
                clippy::pedantic,
                clippy::restriction,
                reason = "generated"
            )]
            tonic::include_proto!($package);
        }
    )*};
}

packages! {
    /// iot-gateway, as devices call it.
    device = "retail.device.v1";
    /// inventory-service, as order-service calls it.
    inventory = "retail.inventory.v1";
    /// payment-service, as order-service calls it.
    payment = "retail.payment.v1";
    /// shop-service, as iot-gateway and vm-service call it.
    shop = "retail.shop.v1";
    /// vm-service, as vending machines call it.
    vm = "retail.vm.v1";
}

/// What the interfaces declare, encoded: a `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// A call that has its effect once, however often it is made with this key, such as `order:step`.
///
/// # Errors
/// `Internal` when the key is no text for a header.
pub(crate) fn keyed<M>(key: &str, message: M) -> Result<tonic::Request<M>> {
    let mut request = tonic::Request::new(message);
    let key = key
        .parse()
        .map_err(|error| Error::internal("expected a key of visible ASCII").with_source(error))?;
    request.metadata_mut().insert("idempotency-key", key);
    Ok(request)
}
