//! Where a list goes on: a signed, opaque text.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use trunkline::{Claims, Env, Error, Result, Signer};

const TAG_BYTES: usize = 16;

/// Makes and checks the cursors of one store, with its own key.
#[derive(Clone)]
pub struct Cursors {
    key: [u8; 32],
}

impl Cursors {
    /// Cursors of the store whose tokens this signer makes: their key follows from the signer's.
    ///
    /// # Errors
    /// Those of [`Signer::sign`].
    pub fn of(signer: &Signer, env: &Env) -> Result<Self> {
        let mut purpose = Claims::new("storefront-cursors", Duration::ZERO, env);
        (purpose.exp, purpose.iat) = (0, None);
        Ok(Self {
            key: Sha256::digest(signer.sign(&purpose)?).into(),
        })
    }

    /// The cursor of a list (named by everything that chooses its entries) after this place.
    pub(crate) fn write(&self, list: &str, place: &impl Serialize) -> Result<String> {
        let mut bytes = serde_json::to_vec(place)
            .map_err(|error| Error::internal("a cursor can't be written").with_source(error))?;
        let tag = self.mac(list, &bytes).finalize().into_bytes();
        bytes.extend(tag.iter().take(TAG_BYTES));
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The place that a cursor of this list holds.
    ///
    /// # Errors
    /// `InvalidInput` with code `cursor_foreign`: it was made by another store, for another list, or
    /// by nobody.
    pub(crate) fn read<T: DeserializeOwned>(&self, list: &str, cursor: &str) -> Result<T> {
        let foreign = || {
            let text = "the cursor is not one of this list; begin without a cursor";
            Error::invalid("cursor_foreign", text)
        };
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| foreign())?;
        let split = bytes.len().checked_sub(TAG_BYTES).ok_or_else(foreign)?;
        let (place, tag) = bytes.split_at(split);
        self.mac(list, place)
            .verify_truncated_left(tag)
            .map_err(|_| foreign())?;
        serde_json::from_slice(place).map_err(|_| foreign())
    }

    fn mac(&self, list: &str, place: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length is a key");
        mac.update(&(list.len() as u64).to_be_bytes());
        mac.update(list.as_bytes());
        mac.update(place);
        mac
    }
}

impl std::fmt::Debug for Cursors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cursors")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_to_its_own_list_only() {
        let cursors = Cursors { key: [7; 32] };
        let cursor = cursors.write("products?q=tea", &("Tea Set", "id")).unwrap();
        let place: (String, String) = cursors.read("products?q=tea", &cursor).unwrap();
        assert_eq!(place, ("Tea Set".to_owned(), "id".to_owned()));

        let other_store = Cursors { key: [8; 32] };
        let refused = [
            cursors.read::<(String, String)>("products?q=", &cursor),
            other_store.read("products?q=tea", &cursor),
            cursors.read("products?q=tea", &cursor[1..]),
            cursors.read("products?q=tea", ""),
            cursors.read("products?q=tea", "%%%"),
            cursors.read("products?q=tea", &cursor.repeat(2)),
        ];
        for answer in refused {
            assert_eq!(answer.unwrap_err().code(), "cursor_foreign");
        }
    }
}
