//! What may be a message: plain data, of one size or a slice.

use std::fmt;
use std::ops::{Deref, DerefMut};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::node::{Shape, TypeDescriptor};
use crate::sync::stream::Extent;

/// A plain-data type whose values may be messages: any bytes are a value, no byte is padding, nothing points
/// anywhere. So `bool`, `char`, enums and references are no fields of it, and gaps between fields are filled by hand.
///
/// `#[derive(Message)]` implements it for `#[repr(C)]` structs, next to zerocopy's derives, which check that. They need
/// to be told where zerocopy is, or the program depends on the crate `zerocopy` itself:
///
/// ```
/// use tidepost::Message;
/// use tidepost::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///
/// #[derive(Message, FromBytes, IntoBytes, Immutable, KnownLayout)]
/// #[zerocopy(crate = "tidepost::zerocopy")]
/// #[repr(C)]
/// struct Pose {
///     x: f64,
///     y: f64,
/// }
/// assert_eq!(Pose::descriptor().fields[1].offset, 8);
/// ```
pub trait Message: FromBytes + IntoBytes + Immutable + KnownLayout + Send + Sized + 'static {
    /// The type's name and layout, which both ends of a topic compare before a message is exchanged.
    fn descriptor() -> TypeDescriptor;
}

/// A message type: a [`Message`] `T`, a slice `[T]` whose length each message chooses, or [`Untyped`] bytes.
///
/// It cannot be implemented outside this crate.
pub trait Payload: FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static + sealed::Sealed {
    /// The descriptor that travels in the handshake; `None` if the type is known only when the program runs.
    fn descriptor() -> Option<TypeDescriptor>;
    /// Bytes of every message, if they are all of one size.
    const EXACT_BYTES: Option<usize>;
    /// Bytes of one element.
    const ELEMENT_BYTES: usize;
    /// Alignment of a message in bytes.
    const ALIGN: usize;
    /// Whether the type is known when the program is built.
    const IS_TYPED: bool = true;
}

mod sealed {
    pub trait Sealed {}
    impl<T: super::Message> Sealed for T {}
    impl<T: super::Message> Sealed for [T] {}
    impl Sealed for super::Untyped {}
    impl Sealed for super::Text {}
}

/// A message whose type is known only when the program runs: its bytes. For tools, gateways and recorders; topics of it are
/// made with [`Node::topic_dyn`](crate::Node::topic_dyn).
#[derive(Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Untyped([u8]);

impl Untyped {
    /// These bytes as a message. Whether they are one of the topic's type is checked when they are sent.
    pub fn new(bytes: &[u8]) -> &Self {
        Self::ref_from_bytes(bytes).expect("any bytes are bytes")
    }
}

impl Deref for Untyped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Untyped {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// Text as a message: UTF-8 by agreement, which nobody checks.
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Text([u8]);

impl Text {
    /// This text as a message.
    pub fn new(text: &str) -> &Self {
        Self::ref_from_bytes(text.as_bytes()).expect("any bytes are bytes")
    }

    /// The text, with what is no UTF-8 replaced.
    pub fn to_text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.to_text())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_text(), formatter)
    }
}

impl Payload for Text {
    fn descriptor() -> Option<TypeDescriptor> {
        Some(TypeDescriptor::of_primitive::<u8>("text").into_slice())
    }
    const EXACT_BYTES: Option<usize> = None;
    const ELEMENT_BYTES: usize = 1;
    const ALIGN: usize = 1;
}

impl Payload for Untyped {
    fn descriptor() -> Option<TypeDescriptor> {
        None
    }
    const EXACT_BYTES: Option<usize> = None;
    const ELEMENT_BYTES: usize = 1;
    const ALIGN: usize = 1;
    const IS_TYPED: bool = false;
}

impl<T: Message> Payload for T {
    fn descriptor() -> Option<TypeDescriptor> {
        let (size, align) = (size_of::<T>() as u64, align_of::<T>() as u64);
        Some(TypeDescriptor { size, align, ..<T as Message>::descriptor() })
    }
    const EXACT_BYTES: Option<usize> = Some(size_of::<T>());
    const ELEMENT_BYTES: usize = size_of::<T>();
    const ALIGN: usize = align_of::<T>();
}

impl<T: Message> Payload for [T] {
    fn descriptor() -> Option<TypeDescriptor> {
        <T as Payload>::descriptor().map(TypeDescriptor::into_slice)
    }
    const EXACT_BYTES: Option<usize> = None;
    const ELEMENT_BYTES: usize = size_of::<T>();
    const ALIGN: usize = align_of::<T>();
}

/// How long messages of this type are, as the receiving end checks it; `None` if each publisher says it.
#[inline]
pub(super) const fn extent<T: Payload + ?Sized>() -> Option<Extent> {
    match T::EXACT_BYTES {
        _ if !T::IS_TYPED => None,
        Some(bytes) => Some(Extent::Exact(bytes)),
        None if T::ELEMENT_BYTES == 0 => Some(Extent::Multiple(1)),
        None => Some(Extent::Multiple(T::ELEMENT_BYTES)),
    }
}

/// How long messages of a type are that is known only when the program runs.
pub(super) fn extent_of(descriptor: &TypeDescriptor) -> Extent {
    let bytes = descriptor.size as usize;
    match descriptor.shape {
        Shape::One => Extent::Exact(bytes),
        Shape::Slice => Extent::Multiple(bytes.max(1)),
    }
}

/// The message in these bytes, whose length and alignment have been checked.
#[inline]
pub(super) fn message_of<T: Payload + ?Sized>(bytes: &[u8]) -> &T {
    T::ref_from_bytes(bytes).expect("length and alignment were checked when the message came in")
}

macro_rules! primitive {
    ($($type:ident)*) => {$(
        impl Message for $type {
            fn descriptor() -> TypeDescriptor {
                TypeDescriptor::of_primitive::<$type>(stringify!($type))
            }
        }
    )*};
}

primitive!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64);

impl<T: Message, const N: usize> Message for [T; N] {
    fn descriptor() -> TypeDescriptor {
        let element = <T as Message>::descriptor();
        TypeDescriptor::of_struct::<[T; N]>(format!("[{}; {N}]", element.name), element.fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_and_slices_are_told_apart() {
        let array = <[u64; 7] as Payload>::descriptor().expect("it is typed");
        assert_eq!((array.name.as_ref(), array.size, array.align), ("[u64; 7]", 56, 8));
        let slice = <[u8] as Payload>::descriptor().expect("it is typed");
        assert_eq!((slice.name.as_ref(), slice.shape), ("u8", Shape::Slice));
    }
}
