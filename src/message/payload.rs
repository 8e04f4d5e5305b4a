//! What may be a message: plain data, of one size or a slice.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::node::TypeDescriptor;
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

/// A message type: a [`Message`] `T`, or a slice `[T]` whose length each message chooses.
///
/// It cannot be implemented outside this crate.
pub trait Payload: FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static + sealed::Sealed {
    /// The descriptor that travels in the handshake.
    fn descriptor() -> TypeDescriptor;
    /// Bytes of every message, if they are all of one size.
    const EXACT_BYTES: Option<usize>;
    /// Bytes of one element.
    const ELEMENT_BYTES: usize;
    /// Alignment of a message in bytes.
    const ALIGN: usize;
}

mod sealed {
    pub trait Sealed {}
    impl<T: super::Message> Sealed for T {}
    impl<T: super::Message> Sealed for [T] {}
}

impl<T: Message> Payload for T {
    fn descriptor() -> TypeDescriptor {
        <T as Message>::descriptor()
    }
    const EXACT_BYTES: Option<usize> = Some(size_of::<T>());
    const ELEMENT_BYTES: usize = size_of::<T>();
    const ALIGN: usize = align_of::<T>();
}

impl<T: Message> Payload for [T] {
    fn descriptor() -> TypeDescriptor {
        <T as Message>::descriptor().into_slice()
    }
    const EXACT_BYTES: Option<usize> = None;
    const ELEMENT_BYTES: usize = size_of::<T>();
    const ALIGN: usize = align_of::<T>();
}

/// The descriptor of a type, with what the compiler knows better than a hand-written one.
pub(super) fn descriptor<T: Payload + ?Sized>() -> TypeDescriptor {
    TypeDescriptor { size: T::ELEMENT_BYTES as u64, align: T::ALIGN as u64, ..T::descriptor() }
}

/// How long messages of this type are, as the receiving end checks it.
#[inline]
pub(super) const fn extent<T: Payload + ?Sized>() -> Extent {
    match T::EXACT_BYTES {
        Some(bytes) => Extent::Exact(bytes),
        None if T::ELEMENT_BYTES == 0 => Extent::Multiple(1),
        None => Extent::Multiple(T::ELEMENT_BYTES),
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
    use crate::node::Shape;

    #[test]
    fn arrays_and_slices_are_told_apart() {
        let array = <[u64; 7] as Payload>::descriptor();
        assert_eq!((array.name.as_ref(), array.size, array.align), ("[u64; 7]", 56, 8));
        let slice = <[u8] as Payload>::descriptor();
        assert_eq!((slice.name.as_ref(), slice.shape), ("u8", Shape::Slice));
    }
}
