//! The engine of a running service's sagas.

use parking_lot::Mutex;
use trunkline_saga::Engine;

use super::SagaHost;

/// The sagas of a running service.
#[derive(Default)]
pub(crate) struct Sagas {
    /// The engine has the service, and the service the engine: whoever takes the service down closes this.
    engine: Mutex<Option<Engine<SagaHost>>>,
}

impl Sagas {
    pub(super) fn open(&self, engine: Engine<SagaHost>) {
        *self.engine.lock() = Some(engine);
    }

    pub(crate) fn close(&self) {
        let engine = self.engine.lock().take();
        drop(engine);
    }

    pub(super) fn engine(&self) -> Option<Engine<SagaHost>> {
        self.engine.lock().clone()
    }

    /// Something of theirs is committed that the engine does not know of.
    pub(crate) fn poke(&self) {
        if let Some(engine) = &*self.engine.lock() {
            engine.poke();
        }
    }
}
