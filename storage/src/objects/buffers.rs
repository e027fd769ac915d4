//! Buffers for bytes of files, used again by the thread that let go of them: memory that is fresh
//! from the operating system must be cleared, which costs more than filling it.

use std::cell::RefCell;

use bytes::Bytes;

/// A thread keeps so many, at most: a chunk for each of a few columns.
const SPARE_MAX: usize = 12;
/// Longer ones are not kept.
const BYTES_MAX: usize = 2 << 20;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes whose buffer is kept when the last reference to them goes.
struct Lent(Vec<u8>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        // At the end of a thread there is no place to keep it any more.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_MAX && buffer.capacity() <= BYTES_MAX {
                spare.push(buffer);
            }
        });
    }
}

/// A buffer of this length with any content, from those that are kept where one is large enough.
fn take(len: usize) -> Vec<u8> {
    let kept = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        let fits = spare.iter().enumerate().filter(|(_, buffer)| buffer.capacity() >= len);
        let (best, _) = fits.min_by_key(|(_, buffer)| buffer.capacity())?;
        Some(spare.swap_remove(best))
    });
    let mut buffer = kept.ok().flatten().unwrap_or_default();
    // Only what was never filled is set to zero.
    buffer.resize(len, 0);
    buffer
}

/// Bytes of this length as `fill` makes them.
///
/// # Errors
///
/// Those of `fill`.
pub(super) fn filled<E>(
    len: usize,
    fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
) -> Result<Bytes, E> {
    let mut buffer = take(len);
    fill(&mut buffer)?;
    Ok(Bytes::from_owner(Lent(buffer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_when_nothing_refers_to_it() {
        let of = |len: usize, byte: u8| {
            let fill = |bytes: &mut [u8]| {
                bytes.fill(byte);
                Ok::<(), ()>(())
            };
            filled(len, fill).unwrap()
        };
        let first = of(1_000, 1);
        let slice = first.slice(10..20);
        let place = first.as_ptr();
        drop(first);
        let second = of(1_000, 2);
        assert_ne!(second.as_ptr(), place, "it is still referred to");
        assert_eq!(slice, [1; 10][..]);
        drop(slice);
        let third = of(900, 3);
        assert_eq!((third.as_ptr(), third.len()), (place, 900));
        assert_eq!(second, [2; 1_000][..]);
        assert_eq!(filled(4, |_| Err(7)), Err(7));
    }
}
