//! What can be an event's key.

use std::borrow::Cow;

use bytestring::ByteString;
use uuid::Uuid;

/// A value that can be the key of an event; `#[event(key = ...)]` calls it.
///
/// Texts are borrowed, ids and numbers are written out, and `None` is no key. For a type of your own
/// write the implementation for its reference, or name an expression: `key = self.id.to_string()`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the key of an event",
    note = "texts, UUIDs, integers and options of them can; else write `key = self.field.to_string()`, or implement `IntoKey` for `&{Self}`"
)]
pub trait IntoKey<'a> {
    /// The key, if there is one.
    fn into_key(self) -> Option<Cow<'a, str>>;
}

impl<'a> IntoKey<'a> for &'a str {
    fn into_key(self) -> Option<Cow<'a, str>> {
        Some(Cow::Borrowed(self))
    }
}

impl<'a> IntoKey<'a> for String {
    fn into_key(self) -> Option<Cow<'a, str>> {
        Some(Cow::Owned(self))
    }
}

impl<'a> IntoKey<'a> for Cow<'a, str> {
    fn into_key(self) -> Option<Cow<'a, str>> {
        Some(self)
    }
}

impl<'a> IntoKey<'a> for ByteString {
    fn into_key(self) -> Option<Cow<'a, str>> {
        Some(Cow::Owned(self.to_string()))
    }
}

impl<'a, T: IntoKey<'a>> IntoKey<'a> for Option<T> {
    fn into_key(self) -> Option<Cow<'a, str>> {
        self.and_then(T::into_key)
    }
}

impl<'a, T> IntoKey<'a> for &'a Option<T>
where
    &'a T: IntoKey<'a>,
{
    fn into_key(self) -> Option<Cow<'a, str>> {
        self.as_ref().and_then(IntoKey::into_key)
    }
}

macro_rules! borrowed {
    ($($text:ty),*) => {$(
        impl<'a> IntoKey<'a> for &'a $text {
            fn into_key(self) -> Option<Cow<'a, str>> {
                Some(Cow::Borrowed(self))
            }
        }
    )*};
}

borrowed!(
    String,
    ByteString,
    Cow<'_, str>,
    Box<str>,
    std::sync::Arc<str>,
    &str
);

macro_rules! written {
    ($($value:ty),*) => {$(
        impl<'a> IntoKey<'a> for $value {
            fn into_key(self) -> Option<Cow<'a, str>> {
                Some(Cow::Owned(self.to_string()))
            }
        }

        impl<'a> IntoKey<'a> for &'a $value {
            fn into_key(self) -> Option<Cow<'a, str>> {
                Some(Cow::Owned(self.to_string()))
            }
        }
    )*};
}

written!(
    Uuid, u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize
);
